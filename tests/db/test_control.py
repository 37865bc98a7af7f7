"""Cancelling, retrying and running ahead of time, by hand."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest

from fairchild import Fairchild
from fairchild.db.cancel import cancel
from fairchild.db.claim import Lane, claim
from fairchild.db.control import move, retry, run_now
from fairchild.db.finish import finish
from fairchild.errors import UsageError
from tests.support.store import Store, child_of, new_job, outcome


def family(store: Store, children: int = 2, **options: object) -> tuple[UUID, list[UUID]]:
    """A parent that waits for its children."""
    parent = store.add(**options)
    claimed = store.claim_one(parent)
    made = [child_of(claimed) for _ in range(children)]
    store.finish(outcome(claimed, "waiting", result=b'"kept"', children=made))
    return parent, [child.id for child in made]


def test_jobs_that_do_not_run_are_cancelled_at_once_wherever_they_are(store: Store) -> None:
    available, scheduled = store.add(), store.add(delay=60.0)
    waiting = store.add(refs=[(("x",), available)])

    assert cancel(store.link, [available, scheduled, waiting], "no") == ([available, scheduled, waiting], [])

    assert store.states(available, scheduled, waiting) == ["cancelled"] * 3
    assert store.row(available, "reason")[0] == "no"
    assert store.claim() == []
    assert store.violations() == []


def test_a_running_job_is_asked_and_the_first_reason_stays(store: Store) -> None:
    job = store.add()
    store.claim_one(job)

    assert cancel(store.link, [job], "first") == ([], [job])
    assert cancel(store.link, [job], "second") == ([], [job])

    assert store.state(job) == "running"
    assert store.sql("SELECT cancel_reason FROM {claims}") == [("first",)]


def test_jobs_that_have_ended_are_left_alone(store: Store) -> None:
    done = store.add()
    store.end(done, result=b"1")

    assert cancel(store.link, [done, uuid4()], "no") == ([], [])
    assert store.row(done, "state, result") == ("completed", b"1")


def test_cancelling_a_parent_cancels_all_that_came_of_it(store: Store) -> None:
    parent, (first, second) = family(store)
    inner = store.claim_one(first)
    leaf = child_of(inner)
    store.finish(outcome(inner, "waiting", children=[leaf]))
    store.claim_one(second)

    cancelled, asked = cancel(store.link, [parent], "no")

    assert set(cancelled) == {parent, first, leaf.id}
    assert asked == [second]
    assert store.violations() == []


def test_cancelling_a_child_fails_its_parent(store: Store) -> None:
    parent, (first, second) = family(store)

    cancel(store.link, [first], "no")
    store.end(second)

    assert store.row(parent, "state, reason") == ("failed", "child_failed")


def test_a_claim_and_a_cancellation_at_once_never_both_have_a_job(fairchild: Fairchild, store: Store) -> None:
    for _ in range(15):
        jobs = store.insert(*(new_job() for _ in range(20)))
        start = threading.Barrier(2)
        claimed: list[UUID] = []

        def run(start: threading.Barrier = start, claimed: list[UUID] = claimed) -> None:
            with fairchild.database.link() as link:
                start.wait()
                for _ in range(5):
                    lanes = [Lane("default", 5, 0)]
                    got = claim(link, lanes=lanes, tasks=["t"], room=4, claim_id=uuid4(), session=store.session)
                    claimed.extend(each.job_id for each in got)

        thread = threading.Thread(target=run)
        thread.start()
        start.wait()
        cancelled, asked = cancel(store.link, jobs, "no")
        thread.join()

        assert sorted([*cancelled, *asked]) == sorted(jobs)
        assert set(claimed) == set(asked)
        assert store.violations() == []
        store.sql("DELETE FROM {claims}")
        store.sql("DELETE FROM {jobs}")


def test_finishing_children_and_cancelling_their_family_at_once_settle_everything(
    fairchild: Fairchild, store: Store
) -> None:
    for _ in range(15):
        parent, children = family(store, 6)
        dependent = store.add(refs=[(("x",), parent)])
        claims = {each.job_id: each for each in store.claim(3)}
        start = threading.Barrier(2)

        def run(start: threading.Barrier = start, claims: dict[UUID, object] = claims) -> None:  # type: ignore[assignment]
            with fairchild.database.link() as link:
                start.wait()
                finish(link, [outcome(each) for each in claims.values()])  # type: ignore[arg-type]

        thread = threading.Thread(target=run)
        thread.start()
        start.wait()
        cancel(store.link, [parent], "no")
        thread.join()

        assert store.states(parent, dependent) == ["cancelled", "cancelled"]
        assert set(store.states(*children)) <= {"cancelled", "completed"}
        assert store.violations() == []


def test_a_failed_job_is_available_again_with_an_attempt_left(store: Store) -> None:
    job = store.add(max_attempts=1)
    store.end(job, "failed", reason="error", error=True)

    assert retry(store.link, [job]) == [job]

    assert store.row(job, "state, reason, attempt, max_attempts, result IS NULL, jsonb_array_length(errors)") == (
        "pending", None, 1, 2, True, 1,
    )  # fmt: skip
    assert store.state(job) == "available"
    store.end(job, result=b"1")
    assert store.state(job) == "completed"
    assert store.sql("SELECT state, sum(n)::int FROM {counters} GROUP BY state HAVING sum(n) <> 0") == [
        ("completed", 1)
    ]


def test_jobs_that_have_not_ended_are_not_retried(store: Store) -> None:
    running, available = store.add(), store.add(queue="other")
    store.claim_one(running)

    assert retry(store.link, [running, available, uuid4()]) == []
    assert store.violations() == []


def test_what_was_cancelled_because_of_a_job_waits_for_it_again(store: Store) -> None:
    first = store.add()
    second = store.add(refs=[(("x",), first)])
    third = store.add(refs=[(("x",), second)])
    store.end(first, "failed", reason="error")

    assert retry(store.link, [first]) == [first]

    assert store.states(first, second, third) == ["available", "waiting", "waiting"]
    assert store.violations() == []
    store.end(first, result=b"1")
    store.end(second, result=b"1")
    store.end(third)
    assert store.states(first, second, third) == ["completed"] * 3


def test_a_dependent_of_two_failures_is_cancelled_again_when_only_one_is_retried(store: Store) -> None:
    first, second = store.add(), store.add()
    dependent = store.add(refs=[(("x",), first), (("y",), second)])
    store.end(first, "failed", reason="error")
    store.end(second, "failed", reason="error")

    retry(store.link, [first])

    assert store.row(dependent, "state, reason") == ("cancelled", "upstream_failed")
    retry(store.link, [second])
    assert store.state(dependent) == "waiting"
    store.end(first, result=b"1")
    store.end(second, result=b"1")
    assert store.state(dependent) == "available"
    assert store.violations() == []


def test_retrying_a_child_reopens_the_parents_above_and_keeps_what_completed(store: Store) -> None:
    root, (middle, good) = family(store)
    inner = store.claim_one(middle)
    leaf = child_of(inner)
    store.finish(outcome(inner, "waiting", children=[leaf]))
    store.end(good, result=b"1")
    store.end(leaf.id, "failed", reason="error")
    assert store.states(root, middle) == ["failed", "failed"]

    retry(store.link, [leaf.id])

    assert store.states(root, middle, leaf.id, good) == ["waiting", "waiting", "available", "completed"]
    assert store.violations() == []
    store.end(leaf.id)
    assert store.states(root, middle) == ["completed", "completed"]
    assert store.row(root, "result")[0] == b'"kept"'


def test_a_parent_fails_again_if_another_child_is_still_failed(store: Store) -> None:
    parent, (first, second) = family(store)
    store.end(first, "failed", reason="error")
    store.end(second, "failed", reason="error")

    retry(store.link, [first])
    store.end(first)

    assert store.row(parent, "state, reason") == ("failed", "child_failed")
    retry(store.link, [second])
    store.end(second)
    assert store.state(parent) == "completed"


def test_a_child_that_is_retried_while_its_parent_still_waits_is_waited_for(store: Store) -> None:
    parent, (first, second) = family(store)
    store.end(first, "failed", reason="error")

    retry(store.link, [first])

    assert store.wait_row(parent) == (0, 2, None, None, True, False)
    store.end(second)
    assert store.state(parent) == "waiting"
    store.end(first)
    assert store.state(parent) == "completed"


def test_a_parent_that_failed_for_a_value_it_returned_waits_for_it_again_and_does_not_run(store: Store) -> None:
    other, parent = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}
    store.finish(outcome(claims[parent], "waiting", result=b"[null]", value_refs=[((0,), other)]))
    store.finish(outcome(claims[other], "failed", reason="error"))
    assert store.row(parent, "state, reason") == ("failed", "upstream_failed")

    retry(store.link, [other])

    assert store.states(other, parent) == ["available", "waiting"]
    store.end(other, result=b"5")
    assert store.row(parent, "state, result, attempt") == ("completed", b"[5]", 1)


def test_retrying_a_completed_upstream_makes_those_who_still_wait_wait_for_it_too(store: Store) -> None:
    first, second = store.add(), store.add()
    dependent = store.add(refs=[(("x",), first), (("y",), second)])
    store.end(first, result=b"1")

    retry(store.link, [first])

    assert store.wait_row(dependent) == (2, 0, None, None, False, False)
    store.end(first, result=b"2")
    assert store.state(dependent) == "waiting"
    store.end(second, result=b"2")
    assert store.state(dependent) == "available"
    assert store.violations() == []


def test_a_parent_that_is_retried_itself_runs_anew_and_is_judged_by_its_new_children(store: Store) -> None:
    parent, (first, second) = family(store)
    store.end(first, "failed", reason="error")
    store.end(second)
    assert store.state(parent) == "failed"

    retry(store.link, [parent])
    claimed = store.claim_one(parent)
    new = child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"2", children=[new]))
    assert store.wait_row(parent) == (0, 1, None, None, True, False)
    store.end(new.id)

    assert store.row(parent, "state, result") == ("completed", b"2")
    assert store.state(first) == "failed"


def test_a_parent_of_which_children_still_run_is_not_run_anew(store: Store) -> None:
    parent, (first, _) = family(store)
    store.claim_one(first)
    cancel(store.link, [parent], "no")
    assert store.states(parent, first) == ["cancelled", "running"]

    with pytest.raises(UsageError, match="still run; nothing was retried"):
        retry(store.link, [parent])

    assert store.state(parent) == "cancelled"


def test_a_child_of_a_parent_that_runs_anew_is_not_retried(store: Store) -> None:
    parent, (first, second) = family(store)
    store.end(first, "failed", reason="error")
    store.end(second)
    retry(store.link, [parent])

    with pytest.raises(UsageError, match="runs anew"):
        retry(store.link, [first])


def test_retrying_two_children_at_once_leaves_the_right_counts(fairchild: Fairchild, store: Store) -> None:
    for _ in range(15):
        parent, children = family(store, 4)
        for child in children:
            store.end(child, "failed", reason="error")
        start = threading.Barrier(len(children))

        def run(child: UUID, start: threading.Barrier = start) -> None:
            with fairchild.database.link() as link:
                start.wait()
                retry(link, [child])

        threads = [threading.Thread(target=run, args=(child,)) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert store.violations() == []
        assert store.wait_row(parent) == (0, 4, None, None, True, False)
        for child in children:
            store.end(child)
        assert store.state(parent) == "completed"


def test_retrying_a_child_while_its_last_sibling_ends_leaves_the_right_counts(
    fairchild: Fairchild, store: Store
) -> None:
    for _ in range(20):
        parent, (bad, good) = family(store)
        store.end(bad, "failed", reason="error")
        claimed = store.claim_one(good)
        start = threading.Barrier(2)

        def run(bad: UUID = bad, start: threading.Barrier = start) -> None:
            with fairchild.database.link() as link:
                start.wait()
                retry(link, [bad])

        thread = threading.Thread(target=run)
        thread.start()
        start.wait()
        store.finish(outcome(claimed))
        thread.join()

        assert store.violations() == []
        assert store.states(parent, bad) == ["waiting", "available"]
        store.end(bad)
        assert store.state(parent) == "completed"


def test_retrying_a_child_brings_back_those_who_needed_its_parent(store: Store) -> None:
    parent = store.claim_one(store.add())
    child = child_of(parent)
    store.finish(outcome(parent, "waiting", children=[child]))
    needs = store.add(refs=[(("x",), parent.job_id)])
    further = store.add(refs=[(("x",), needs)])
    store.end(child.id, "failed", reason="error", error=True)
    assert store.states(parent.job_id, needs, further) == ["failed", "cancelled", "cancelled"]

    retry(store.link, [child.id])

    assert store.states(child.id, parent.job_id, needs, further) == ["available", "waiting", "waiting", "waiting"]
    store.end(child.id)
    assert store.states(parent.job_id, needs, further) == ["completed", "available", "waiting"]
    assert store.violations() == []


def test_what_is_only_put_off_runs_now(store: Store) -> None:
    later, again, ready = store.add(delay=3600.0), store.add(max_attempts=2), store.add()
    store.finish(outcome(store.claim_one(again), "due", delay=600.0))
    assert store.states(later, again, ready) == ["scheduled", "scheduled", "available"]

    assert run_now(store.link, [again, later, ready, uuid4(), later]) == [again, later]

    assert store.states(later, again) == ["available", "available"]
    assert store.row(later, "scheduled_at <= statement_timestamp()") == (True,)
    assert {each.job_id for each in store.claim()} == {later, again, ready}
    assert store.violations() == []


def test_what_waits_for_more_than_time_is_not_let_through(store: Store) -> None:
    upstream = store.add(delay=3600.0)
    waiting = store.add(refs=[(("x",), upstream)])
    both = store.add(delay=3600.0, refs=[(("x",), upstream)])
    done, running = store.add(), store.add()
    store.end(done)
    store.claim_one(running)
    parent, _ = family(store)
    before = store.states(waiting, both, done, running, parent)
    assert before == ["waiting", "waiting", "completed", "running", "waiting"]

    assert run_now(store.link, [waiting, both, done, running, parent]) == []

    assert store.states(waiting, both, done, running, parent) == before
    assert store.violations() == []


def test_a_paused_queue_holds_what_is_run_now_as_any_other(fairchild: Fairchild, store: Store) -> None:
    later = store.add(delay=3600.0)
    fairchild.queues.pause("default")

    assert run_now(store.link, [later]) == [later]

    assert store.state(later) == "available"
    assert store.claim() == []
    assert [each.code for each in fairchild.why(later).blockers] == ["queue_paused", "no_worker"]


def test_running_now_and_cancelling_at_once_do_one_of_both(fairchild: Fairchild, store: Store) -> None:
    for _ in range(20):
        job = store.add(delay=3600.0)
        barrier = threading.Barrier(2)

        def stop(job: UUID = job, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            fairchild.cancel(job, "no")

        other = threading.Thread(target=stop)
        other.start()
        barrier.wait(10)
        run_now(store.link, [job])
        other.join(10)
        assert store.state(job) == "cancelled"
    assert store.violations() == []


def test_what_does_not_run_yet_is_moved_and_comes_behind_what_is_there(store: Store) -> None:
    later, ready = store.add(delay=3600.0), store.add(priority=3)
    there = store.add(queue="other", priority=7)
    waiting, running = store.add(refs=[(("x",), later)]), store.add()
    store.claim_one(running)
    since = store.sql("SELECT at FROM {ready} WHERE job_id = %(id)s", id=ready)

    assert move(store.link, [ready, waiting, later, running, uuid4()], "other", 7) == [ready, later]

    assert [store.row(each, "queue, priority") for each in (later, ready)] == [("other", 7)] * 2
    assert [store.row(each, "queue, priority") for each in (waiting, running)] == [("default", 5)] * 2
    assert store.sql("SELECT at FROM {ready} WHERE job_id = %(id)s", id=ready) == since
    assert run_now(store.link, [later]) == [later]
    assert [each.job_id for each in store.claim(queue="other")] == [there, ready, later]
    assert store.violations() == []


def test_moving_leaves_what_is_not_named_and_what_is_there_already(store: Store) -> None:
    first, second = store.add(), store.add()
    assert move(store.link, [first], None, 5) == []
    assert move(store.link, [first], "default", None) == []
    assert [each.job_id for each in store.claim(1)] == [first]
    assert move(store.link, [second], None, 1) == [second]
    assert store.row(second, "queue, priority") == ("default", 1)
    assert cancel(store.link, [second], "no") == ([second], [])
    assert store.violations() == []
