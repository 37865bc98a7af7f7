"""Recording outcomes: the fence, all or nothing, and what an end sets in motion."""

from __future__ import annotations

import threading
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from fairchild import Fairchild
from fairchild.db.cancel import cancel
from fairchild.db.claim import Claimed
from fairchild.db.connect import retrying
from fairchild.db.finish import Ended, finish
from fairchild.db.settle import settle, sweep
from fairchild.errors import UnknownJob, UsageError
from fairchild.ids import uuid7
from tests.support.eventually import eventually
from tests.support.store import Store, child_of, new_job, outcome, store_of


def test_a_completed_job_keeps_its_result_its_claim_and_one_attempt(store: Store) -> None:
    job = store.add()
    claimed = store.claim_one(job)

    applied = store.finish(outcome(claimed, result=b'{"a": 1}'))

    assert applied == ({}, [], 0, ())
    assert store.state(job) == "completed"
    assert store.row(job, "result, attempt, claim_id, reason, errors") == (b'{"a": 1}', 1, claimed.claim_id, None, None)
    assert store.violations() == []


def test_the_result_none_is_not_the_same_as_no_result(store: Store) -> None:
    first, second = store.add(), store.add()

    store.end(first, result=b"null")
    store.end(second)

    assert store.row(first, "result IS NULL, result")[0] is False
    assert store.row(second, "result IS NULL")[0] is True


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "ready", "due", "waiting"])
def test_an_outcome_under_another_claim_changes_nothing(store: Store, state: str) -> None:
    job = store.add()
    claimed = store.claim_one(job)
    before = store.sql("SELECT * FROM {jobs}")
    wrong = outcome(claimed._replace(claim_id=uuid4()), state, result=b"1", children=[child_of(claimed)])

    applied = store.finish(wrong)

    assert applied.lost == {job: "stale"}
    assert store.sql("SELECT * FROM {jobs}") == before
    assert store.state(job) == "running"


def test_a_repeated_outcome_is_reported_as_already_recorded(store: Store) -> None:
    job = store.add()
    mine = outcome(store.claim_one(job), result=b"1")

    store.finish(mine)

    assert store.finish(mine).lost == {job: "already"}
    assert store.row(job, "attempt")[0] == 1


def test_an_outcome_of_a_deleted_job_is_reported_as_missing(store: Store) -> None:
    job = store.add()
    claimed = store.claim_one(job)
    store.sql("DELETE FROM {jobs}")
    store.sql("DELETE FROM {claims}")

    assert store.finish(outcome(claimed)).lost == {job: "missing"}


def test_a_job_deleted_while_it_ran_leaves_no_children(store: Store) -> None:
    job = store.add()
    claimed = store.claim_one(job)
    store.sql("DELETE FROM {jobs}")

    applied = store.finish(outcome(claimed, "waiting", children=[child_of(claimed)]))

    assert applied.lost == {job: "missing"}
    assert store.sql("SELECT count(*) FROM {jobs}") == [(0,)]
    assert store.sql("SELECT count(*) FROM {waiting}") == [(0,)]


def test_of_two_attempts_of_one_job_in_one_batch_the_one_with_the_claim_counts(store: Store) -> None:
    job = store.add()
    old = store.claim_one(job)
    store.finish(outcome(old, "ready", spent=False))
    new = store.claim_one(job)

    applied = store.finish(outcome(old, result=b'"old"'), outcome(new, result=b'"new"'))

    assert applied.lost == {job: "stale"}
    assert store.row(job, "result, attempt") == (b'"new"', 1)


def test_of_two_outcomes_of_one_attempt_in_one_batch_the_first_counts(store: Store) -> None:
    job = store.add()
    claimed = store.claim_one(job)

    store.finish(outcome(claimed, result=b"1"), outcome(claimed, "ready", spent=False))

    assert store.state(job) == "completed"
    assert store.row(job, "result, attempt") == (b"1", 1)
    assert store.violations() == []


def test_a_batch_applies_the_rest_when_some_are_lost(store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(50)))
    claimed = store.claim()
    batch = [outcome(each if number % 2 else each._replace(claim_id=uuid4())) for number, each in enumerate(claimed)]

    applied = store.finish(*batch)

    assert len(applied.lost) == 25
    assert sorted(map(str, store.states(*jobs))) == ["completed"] * 25 + ["running"] * 25


@pytest.mark.parametrize(
    ("state", "place", "spent"), [("ready", "available", 0), ("due", "scheduled", 1), ("waiting", "completed", 1)]
)
def test_a_job_that_goes_on_is_in_its_next_place(store: Store, state: str, place: str, spent: int) -> None:
    job = store.add()
    claimed = store.claim_one(job)

    applied = store.finish(outcome(claimed, state, spent=bool(spent), delay=60.0))

    # One that waits for nothing is ended at once.
    assert applied.settled == ([job] if state == "waiting" else [])
    assert store.state(job) == place
    assert store.row(job, "attempt")[0] == spent
    assert store.violations() == []


def test_a_job_that_is_put_off_is_due_after_its_delay_by_the_databases_clock(store: Store) -> None:
    job = store.add()
    store.end(job, "due", delay=3600.0)

    ((seconds,),) = store.sql("SELECT extract(epoch FROM run_at - statement_timestamp()) FROM {due}")

    assert 3590 < seconds <= 3600


def test_errors_keep_the_first_five_and_the_last_ones(store: Store) -> None:
    job = store.add(max_attempts=100)
    for number in range(40):
        claimed = store.claim_one(job)
        ended = outcome(claimed, "ready", error=True)
        assert ended.error is not None
        ended.error["message"] = str(number)
        store.finish(ended)

    ((found,),) = store.sql("SELECT array_agg(e->>'message') FROM {jobs}, jsonb_array_elements(errors) e")

    assert found == [*map(str, range(5)), *map(str, range(25, 40))]
    assert store.row(job, "attempt")[0] == 40


def test_each_error_carries_when_it_was_recorded(store: Store) -> None:
    job = store.add()
    store.end(job, "failed", reason="error", error=True)

    ((entry,),) = store.sql("SELECT array_agg(k ORDER BY k) FROM {jobs}, jsonb_object_keys(errors->0) k")

    assert entry == ["at", "attempt", "kind", "message", "traceback", "type", "worker"]


def test_children_wait_their_parent_waits_and_all_end(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    first, second = child_of(claimed), child_of(claimed)
    last = child_of(claimed, refs=[(("x",), first.id), (("y",), second.id)])

    store.finish(outcome(claimed, "waiting", result=b'"done"', children=[first, second, last]))
    assert store.states(parent, first.id, second.id, last.id) == ["waiting", "available", "available", "waiting"]
    assert store.wait_row(parent) == (0, 3, None, None, True, False)
    assert store.violations() == []

    store.end(first.id, result=b"1")
    assert store.wait_row(last.id) == (1, 0, None, None, False, False)
    applied = store.end(second.id, result=b"2")
    assert applied.promoted == 1
    assert store.violations() == []

    applied = store.end(last.id)
    assert applied.settled == [parent]
    assert store.row(parent, "state, result") == ("completed", b'"done"')


def test_the_last_two_children_finishing_together_end_their_parent_once(fairchild: Fairchild, store: Store) -> None:
    for _ in range(20):
        parent = store.add()
        claimed = store.claim_one(parent)
        children = [child_of(claimed) for _ in range(2)]
        store.finish(outcome(claimed, "waiting", children=children))
        held = {each.job_id: each for each in store.claim()}
        start = threading.Barrier(2)
        settled: list[UUID] = []

        def run(child: UUID, held: dict[UUID, Claimed] = held, settled: list[UUID] = settled) -> None:
            with fairchild.database.link() as link:
                start.wait()  # noqa: B023
                settled.extend(finish(link, [outcome(held[child])]).settled)

        threads = [threading.Thread(target=run, args=(child.id,)) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert settled == [parent]
        assert store.state(parent) == "completed"
        assert store.sql("SELECT sum(n) FROM {counters} WHERE state = 'completed'")[0][0] % 3 == 0


@pytest.mark.parametrize("table", ["edges", "ready", "waiting", "jobs"])
def test_children_edges_result_and_state_come_together_or_not_at_all(store: Store, table: str) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    children = [child_of(claimed), child_of(claimed)]
    children.append(child_of(claimed, refs=[(("x",), children[0].id)]))
    ended = outcome(claimed, "waiting", result=b"1", children=children)
    store.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
    store.sql(f"CREATE TRIGGER refuse AFTER INSERT ON {{{table}}} FOR EACH ROW EXECUTE FUNCTION refuse()")

    with pytest.raises(psycopg.errors.RaiseException):
        store.finish(ended)

    assert store.state(parent) == "running"
    assert store.row(parent, "result, attempt") == (None, 0)
    assert store.sql("SELECT count(*) FROM {jobs}") == [(1,)]
    assert store.sql("SELECT count(*) FROM {edges}") == [(0,)]

    store.sql(f"DROP TRIGGER refuse ON {{{table}}}")
    assert store.finish(ended).lost == {}
    assert store.sql("SELECT count(*) FROM {jobs}") == [(4,)]
    assert store.violations() == []


def test_a_finisher_killed_between_its_statements_leaves_nothing_behind(fairchild: Fairchild, store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    children = [child_of(claimed)]
    children.append(child_of(claimed, refs=[(("x",), children[0].id)]))
    ended = outcome(claimed, "waiting", children=children)
    link = fairchild.database.open("victim")
    pid = link.connection.info.backend_pid
    failures: list[BaseException] = []

    def run() -> None:
        try:
            finish(link, [ended])
        except psycopg.OperationalError as error:
            failures.append(error)

    with store.link.connection.transaction():
        # The edges come after the job's row, its children and theirs: there it stops.
        store.sql("LOCK TABLE {edges}")
        thread = threading.Thread(target=run)
        thread.start()
        with fairchild.database.link() as other:
            eventually(
                lambda: other.script(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'relation'")
            )
            other.script(f"SELECT pg_terminate_backend({pid})")
        thread.join()
    link.connection.close()

    assert len(failures) == 1
    assert store.state(parent) == "running"
    assert store.sql("SELECT count(*) FROM {jobs}") == [(1,)]
    assert store.finish(ended).lost == {}
    assert store.violations() == []


def test_a_failed_attempt_leaves_no_children(store: Store) -> None:
    parent = store.add()

    store.end(parent, "ready", error=True)

    assert store.sql("SELECT count(*) FROM {jobs}") == [(1,)]


def test_a_child_that_needs_an_unknown_job_is_refused_and_nothing_is_written(store: Store) -> None:
    first, second = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}
    bad = child_of(claims[first], refs=[(("x",), uuid7())])

    with pytest.raises(UnknownJob, match="nothing was enqueued"):
        store.finish(outcome(claims[first], "waiting", children=[bad]), outcome(claims[second]))

    assert store.states(first, second) == ["running", "running"]


def test_a_child_may_wait_for_an_older_job(store: Store) -> None:
    older, parent = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}
    child = child_of(claims[parent], refs=[(("x",), older)])

    store.finish(outcome(claims[parent], "waiting", children=[child]))
    assert store.state(child.id) == "waiting"
    store.finish(outcome(claims[older], result=b"1"))

    assert store.state(child.id) == "available"
    assert store.violations() == []


def test_a_job_may_return_the_value_of_an_older_job(store: Store) -> None:
    older, parent = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}

    store.finish(outcome(claims[parent], "waiting", result=b"null", value_refs=[((), older)]))
    assert store.state(parent) == "waiting"
    store.finish(outcome(claims[older], result=b"[1, 2]"))

    assert store.row(parent, "state, result") == ("completed", b"[1, 2]")


def test_a_job_may_return_the_value_of_a_job_that_has_completed(store: Store) -> None:
    older = store.add()
    store.end(older, result=b"7")
    parent = store.add()

    applied = store.end(parent, "waiting", result=b"[null]", value_refs=[((0,), older)])

    assert applied.settled == [parent]
    assert store.row(parent, "state, result") == ("completed", b"[7]")


def test_a_job_that_returns_the_value_of_a_deleted_job_fails(store: Store) -> None:
    parent = store.add()

    store.end(parent, "waiting", result=b"null", value_refs=[((), uuid7())])

    assert store.row(parent, "state, reason") == ("failed", "upstream_failed")


def test_a_child_that_would_wait_for_its_parent_is_refused(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed, depends_on=[parent])

    with pytest.raises(UsageError, match="wait for each other"):
        store.finish(outcome(claimed, "waiting", children=[child]))

    assert store.state(parent) == "running"


def test_a_child_that_would_wait_for_what_waits_for_its_parent_is_refused(store: Store) -> None:
    root = store.add()
    claimed = store.claim_one(root)
    middle = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[middle]))
    dependent = store.add(refs=[(("x",), root)])
    inner = store.claim_one(middle.id)

    with pytest.raises(UsageError, match="wait for each other") as raised:
        store.finish(outcome(inner, "waiting", children=[child_of(inner, refs=[(("x",), dependent)])]))

    assert str(dependent) in str(raised.value)
    assert store.state(middle.id) == "running"


def test_a_job_cannot_return_the_value_of_its_own_ancestor(store: Store) -> None:
    root = store.add()
    claimed = store.claim_one(root)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[child]))
    inner = store.claim_one(child.id)

    with pytest.raises(UsageError, match="wait for each other"):
        store.finish(outcome(inner, "waiting", result=b"null", value_refs=[((), root)]))

    assert store.states(root, child.id) == ["waiting", "running"]


def test_a_child_whose_chosen_id_exists_is_that_job_and_is_not_waited_for_as_a_child(store: Store) -> None:
    existing = store.add(queue="elsewhere")
    parent = store.add()
    claimed = store.claim_one(parent)
    same = child_of(claimed, id=existing, given_id=True)
    user = child_of(claimed, refs=[(("x",), existing)])

    store.finish(outcome(claimed, "waiting", result=b"null", children=[same, user], value_refs=[((), user.id)]))

    assert store.wait_row(parent) == (0, 1, None, None, True, False)
    assert store.wait_row(user.id) == (1, 0, None, None, False, False)
    ((elsewhere,),) = [store.claim(queue="elsewhere")]
    store.finish(outcome(elsewhere, result=b"1"))
    store.end(user.id, result=b"2")
    assert store.row(parent, "state, result") == ("completed", b"2")
    assert store.violations() == []


def test_two_parents_that_choose_the_same_id_for_a_child_at_once_both_end(fairchild: Fairchild, store: Store) -> None:
    for _ in range(10):
        parents = [store.add(), store.add()]
        claims = {each.job_id: each for each in store.claim()}
        chosen = uuid7()
        start = threading.Barrier(2)

        def run(claimed: Claimed, chosen: UUID = chosen, start: threading.Barrier = start) -> None:
            child = child_of(claimed, id=chosen, given_id=True)
            with fairchild.database.link() as link:
                start.wait()
                finish(link, [outcome(claimed, "waiting", children=[child])])

        threads = [threading.Thread(target=run, args=(claims[parent],)) for parent in parents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.end(chosen)

        assert store.states(*parents) == ["completed", "completed"]
        assert store.violations() == []


def test_an_attempt_that_was_asked_to_stop_is_not_tried_again(store: Store) -> None:
    for state in ("ready", "due", "waiting"):
        job = store.add()
        claimed = store.claim_one(job)
        assert cancel(store.link, [job], "no longer needed") == ([], [job])
        child = child_of(claimed)

        store.finish(
            outcome(claimed, state, delay=1.0, error=state != "waiting", children=[child] if state == "waiting" else [])
        )

        assert store.row(job, "state, reason") == ("cancelled", "no longer needed")
        assert store.state(child.id) is None
        assert store.violations() == []


def test_an_attempt_that_was_asked_to_stop_may_still_complete(store: Store) -> None:
    job = store.add()
    claimed = store.claim_one(job)
    cancel(store.link, [job], "no longer needed")

    store.finish(outcome(claimed, result=b"1"))

    assert store.row(job, "state, reason, result") == ("completed", None, b"1")


def test_a_mark_left_by_a_worker_that_died_before_settling_is_swept(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[child]))
    # As the end of the child leaves it, had its worker died before the next statement.
    store.end(child.id, "ready")
    store.sql("UPDATE {waiting} SET children = 0, settle = true")

    assert sweep(store.link) == 1
    assert store.state(parent) == "completed"
    assert settle(store.link, [parent]) == []


def test_finish_needs_no_prepared_statement_and_no_session(fairchild: Fairchild, store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(3)))
    claims = store.claim()
    for each in claims:
        link = fairchild.database.open("tests")
        try:
            finish(link, [outcome(each)])
        finally:
            link.connection.close()

    assert store.states(*jobs) == ["completed"] * 3


@pytest.mark.parametrize("ends", ["by itself", "by its child"])
def test_a_job_whose_row_is_changed_by_other_hands_while_it_ends_is_not_lost(
    fairchild: Fairchild, store: Store, ends: str
) -> None:
    job = store.add()
    claimed = store.claim_one(job)
    ended = outcome(claimed, result=b"1")
    if ends == "by its child":
        child = child_of(claimed)
        store.finish(outcome(claimed, "waiting", result=b"1", children=[child]))
        ended = outcome(store.claim_one(child.id))
    other = fairchild.database.open("tests")
    failures: list[BaseException] = []

    def run() -> None:
        with fairchild.database.link() as link:
            pids.append(link.connection.info.backend_pid)
            try:
                retrying(lambda: finish(link, [ended]))
                settle(link, [job])
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    pids: list[int] = []
    with other.connection.transaction():
        other.script(f"UPDATE fairchild_jobs_base SET priority = 3 WHERE id = '{job}'")
        thread = threading.Thread(target=run)
        thread.start()
        eventually(
            lambda: store.sql(
                "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%(pids)s) AND wait_event_type = 'Lock'", pids=pids
            )
        )
    thread.join()
    other.connection.close()
    sweep(store.link)

    assert failures == []
    assert store.row(job, "state, result, priority") == ("completed", b"1", 3)
    assert store.violations() == []


def test_counters_add_up_to_the_jobs_that_ended(store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(10)))
    claims = {each.job_id: each for each in store.claim()}
    states = ["completed"] * 5 + ["failed"] * 3 + ["cancelled"] * 2

    store.finish(
        *(
            outcome(claims[job], state, reason=None if state == "completed" else "error")
            for job, state in zip(jobs, states, strict=True)
        )
    )

    found = dict(store.sql("SELECT state, sum(n)::int FROM {counters} GROUP BY state"))
    assert found == {"completed": 5, "failed": 3, "cancelled": 2}


def test_ended_is_not_changed_by_finish(store: Store) -> None:
    job = store.add()
    ended = Ended(job, uuid4(), "completed")
    copy = replace(ended)

    store.finish(ended)

    assert ended == copy


def test_outcomes_with_children_are_committed_before_the_parents_that_they_end(
    fairchild: Fairchild, store: Store
) -> None:
    root = store.add()
    claimed = store.claim_one(root)
    middle = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[middle]))
    claimed = store.claim_one(middle.id)
    leaf = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[leaf]))
    other = store.add()
    claims = {each.job_id: each for each in store.claim()}
    batch = [outcome(claims[leaf.id]), outcome(claims[other], "waiting", children=[child_of(claims[other])])]
    with store_of(fairchild) as busy, store_of(fairchild) as finisher:
        thread = threading.Thread(target=lambda: finisher.finish(*batch))
        with busy.link.connection.transaction():
            busy.sql("SELECT 1 FROM {waiting} WHERE job_id = %(id)s FOR UPDATE", id=root)
            thread.start()
            # With the locks of its leaf still held, two that go up one workflow would wait for each other.
            eventually(lambda: store.state(leaf.id) == "completed")
        thread.join()

    assert store.states(root, middle.id) == ["completed", "completed"]
    assert store.violations() == []
