"""Nothing waits for ever: failed upstreams, late edges, jobs that other hands deleted."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from fairchild import Fairchild
from fairchild.db import finish as finishing
from fairchild.db import settle
from fairchild.db.cancel import cancel
from fairchild.db.control import retry
from fairchild.db.enqueue import insert_jobs
from tests.support.eventually import eventually
from tests.support.store import Store, child_of, fresh_link, new_job, outcome

NOWHERE = UUID(int=0)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_dependents_of_a_job_that_ends_badly_are_cancelled_all_the_way(store: Store, how: str) -> None:
    first = store.add()
    second = store.add(refs=[(("x",), first)])
    third = store.add(depends_on=[second])

    applied = store.end(first, how, reason="error" if how == "failed" else "by hand")

    assert set(applied.settled) == {second, third}
    assert store.row(second, "state, reason") == ("cancelled", "upstream_failed")
    assert store.row(third, "state, reason") == ("cancelled", "upstream_failed")
    ((message,),) = store.sql("SELECT errors->0->>'message' FROM {jobs} WHERE id = %(id)s", id=second)
    assert str(first) in message
    assert store.violations() == []


def test_a_job_cancelled_while_it_waits_takes_its_dependents_along(store: Store) -> None:
    first = store.add()
    second = store.add(refs=[(("x",), first)])
    third = store.add(refs=[(("x",), second)])

    assert cancel(store.link, [second], "by hand") == ([second], [])

    assert store.row(third, "state, reason") == ("cancelled", "upstream_failed")
    assert store.state(first) == "available"
    assert store.violations() == []


def test_a_job_enqueued_after_its_upstream_failed_is_cancelled_at_once(store: Store) -> None:
    first = store.add()
    store.end(first, "failed", reason="error")

    second = store.add(refs=[(("x",), first)])

    assert store.row(second, "state, reason") == ("cancelled", "upstream_failed")
    assert store.violations() == []


@pytest.mark.parametrize("depth", [60])
def test_a_long_chain_falls_in_one_transaction(store: Store, depth: int) -> None:
    chain = [new_job()]
    for _ in range(depth):
        chain.append(new_job(refs=[(("x",), chain[-1].id)]))
    store.insert(*chain)

    applied = store.end(chain[0].id, "failed", reason="error")

    assert len(applied.settled) == depth
    assert store.violations() == []


@pytest.mark.parametrize(("policy", "verdict"), [("fail", ("failed", "child_failed")), ("ignore", ("completed", None))])
def test_a_failed_child_ends_its_parent_by_the_parents_policy(
    store: Store, policy: str, verdict: tuple[str, str | None]
) -> None:
    parent = store.add(on_child_failure=policy)
    claimed = store.claim_one(parent)
    bad, good = child_of(claimed), child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"1", children=[bad, good]))

    store.end(bad.id, "failed", reason="error")
    assert store.state(parent) == "waiting"
    store.end(good.id)

    assert store.row(parent, "state, reason") == verdict
    assert store.violations() == []


def test_a_parent_whose_policy_is_to_ignore_fails_if_it_needs_the_value_of_the_failed_child(store: Store) -> None:
    parent = store.add(on_child_failure="ignore")
    claimed = store.claim_one(parent)
    bad = child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"null", value_refs=[((), bad.id)], children=[bad]))

    store.end(bad.id, "failed", reason="error")

    assert store.row(parent, "state, reason") == ("failed", "upstream_failed")


def test_a_parent_that_returns_the_value_of_a_child_without_one_fails_and_says_why(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"null", value_refs=[((), child.id)], children=[child]))

    store.end(child.id)

    assert store.row(parent, "state, reason") == ("failed", "upstream_failed")
    ((message,),) = store.sql("SELECT errors->0->>'message' FROM {jobs} WHERE id = %(id)s", id=parent)
    assert "kept no result" in message


@pytest.mark.parametrize(
    "refs", ['[["a", "b", "c"]]', '"x"', "5", '[[["no"], "{child}"]]', '[[[7], "{child}"]]', "[[[], 3]]"]
)
def test_a_parent_whose_row_was_spoilt_fails_alone(store: Store, refs: str) -> None:
    parent, other = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}
    children = {job: child_of(claims[job]) for job in (parent, other)}
    for job in (parent, other):
        child = children[job]
        store.finish(outcome(claims[job], "waiting", result=b"[]", value_refs=[((), child.id)], children=[child]))
    store.sql(
        "UPDATE {jobs} SET value_refs = %(refs)s::jsonb WHERE id = %(id)s",
        refs=refs.replace("{child}", str(children[parent].id)),
        id=parent,
    )
    claimed = {each.job_id: each for each in store.claim()}

    store.finish(*(outcome(claimed[child.id], result=b"1") for child in children.values()))

    assert store.row(parent, "state, reason") == ("failed", "error")
    assert store.state(other) == "completed"
    assert store.violations() == []


@pytest.mark.parametrize(
    ("how", "verdict"), [("completed", "available"), ("failed", "cancelled"), ("cancelled", "cancelled")]
)
def test_an_upstream_that_ends_while_the_enqueuing_transaction_is_open_is_found_by_the_sweep(
    fairchild: Fairchild, store: Store, how: str, verdict: str
) -> None:
    upstream = store.add()
    claimed = store.claim_one(upstream)
    late = new_job(refs=[(("x",), upstream)])
    other = fairchild.database.open("tests")
    with other.connection.transaction():
        insert_jobs(other, [late])
        store.finish(
            outcome(
                claimed, how, result=b"1" if how == "completed" else None, reason=None if how == "completed" else "e"
            )
        )
    other.connection.close()
    assert store.state(late.id) == "waiting"

    settle.sweep(store.link)

    assert store.state(late.id) == verdict
    assert store.violations() == []


def test_more_late_jobs_than_a_page_do_not_hide_one_that_can_go_on(fairchild: Fairchild, store: Store) -> None:
    never, upstream = store.add(), store.add()
    claims = {each.job_id: each for each in store.claim()}
    store.insert(*(new_job(refs=[(("x",), never)]) for _ in range(1200)))
    late = new_job(refs=[(("x",), upstream)])
    other = fairchild.database.open("tests")
    with other.connection.transaction():
        insert_jobs(other, [late])
        store.finish(outcome(claims[upstream], result=b"1"))
    other.connection.close()

    settle.sweep(store.link)

    assert store.state(late.id) == "available"


def test_a_sweep_at_the_moment_an_upstream_ends_counts_it_once(fairchild: Fairchild, store: Store) -> None:
    for _ in range(20):
        first, second = store.add(), store.add()
        claims = {each.job_id: each for each in store.claim()}
        late = store.add(refs=[(("x",), first), (("y",), second)])
        store.sql("UPDATE {waiting} SET deps = 5 WHERE job_id = %(id)s", id=late)  # what a lost countdown looks like
        start = threading.Barrier(2)

        def run(start: threading.Barrier = start) -> None:
            with fairchild.database.link() as link:
                start.wait()
                settle.sweep(link)

        thread = threading.Thread(target=run)
        thread.start()
        start.wait()
        store.finish(outcome(claims[first], result=b"1"))
        thread.join()
        settle.sweep(store.link)
        row = store.wait_row(late)
        assert row is not None
        assert row[0] == 1
        store.finish(outcome(claims[second], result=b"1"))
        assert store.state(late) == "available"
        assert store.violations() == []
        store.finish(*(outcome(each) for each in store.claim()))


def test_a_job_whose_upstream_was_deleted_goes_on(store: Store) -> None:
    first, second = new_job(), new_job()
    dependent = new_job(refs=[(("x",), first.id), (("y",), second.id)])
    store.insert(first, second, dependent)
    store.end(second.id)
    store.sql("DELETE FROM {ready} WHERE job_id = %(id)s", id=first.id)
    store.sql("DELETE FROM {jobs} WHERE id = %(id)s", id=first.id)
    assert store.state(dependent.id) == "waiting"

    last, wrong = settle.audit(store.link, NOWHERE)

    assert (last, wrong) == (dependent.id, [dependent.id])
    assert store.state(dependent.id) == "available"


def test_a_parent_whose_child_was_deleted_ends(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"1", children=[child]))
    store.sql("DELETE FROM {ready} WHERE job_id = %(id)s", id=child.id)
    store.sql("DELETE FROM {jobs} WHERE id = %(id)s", id=child.id)

    settle.audit(store.link, NOWHERE)

    assert store.state(parent) == "completed"
    assert settle.audit(store.link, NOWHERE) == (None, [])


def test_an_audit_finds_nothing_wrong_with_jobs_that_simply_wait(store: Store) -> None:
    never = store.add()
    dependents = store.insert(*(new_job(refs=[(("x",), never)]) for _ in range(700)))
    parent = store.add(priority=0)
    claimed = store.claim(1)[0]
    assert claimed.job_id == parent
    store.finish(outcome(claimed, "waiting", children=[child_of(claimed) for _ in range(30)]))

    found = []
    after: UUID | None = NOWHERE
    while after is not None:
        after, wrong = settle.audit(store.link, after)
        assert wrong == []
        found.append(after)

    assert len(found) == 3
    assert store.state(dependents[-1]) == "waiting"


def test_a_settled_parent_releases_those_who_need_it_in_the_same_transaction(store: Store) -> None:
    root = store.add()
    claimed = store.claim_one(root)
    middle = child_of(claimed)
    last = child_of(claimed, refs=[(("x",), middle.id)])
    store.finish(outcome(claimed, "waiting", children=[middle, last]))
    inner = store.claim_one(middle.id)
    leaf = child_of(inner)
    store.finish(outcome(inner, "waiting", result=b"null", value_refs=[((), leaf.id)], children=[leaf]))

    applied = store.end(leaf.id, result=b"42")

    assert applied.settled == [middle.id]
    assert store.row(middle.id, "state, result") == ("completed", b"42")
    assert store.state(last.id) == "available"
    assert store.violations() == []


def test_a_job_that_was_put_off_waits_for_its_time_after_its_upstreams(store: Store) -> None:
    first = store.add()
    later = store.add(refs=[(("x",), first)], delay=3600.0)

    store.end(first)

    assert store.state(later) == "scheduled"
    assert store.violations() == []


def test_two_workers_that_sweep_at_once_end_a_marked_job_once(fairchild: Fairchild, store: Store) -> None:
    for _ in range(10):
        parents = store.insert(*(new_job() for _ in range(5)))
        claims = store.claim()
        store.finish(*(outcome(each, "waiting", children=[child_of(each, queue="never")]) for each in claims))
        with store.link.connection.transaction():
            store.sql("DELETE FROM {ready} WHERE queue = 'never'")
            store.sql("DELETE FROM {jobs} WHERE queue = 'never'")
            store.sql("UPDATE {waiting} SET children = 0, settle = true")
        ended: list[int] = []

        def run(ended: list[int] = ended) -> None:
            with fairchild.database.link() as link:
                ended.append(settle.sweep(link))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sum(ended) == 5
        assert store.states(*parents) == ["completed"] * 5
    assert eventually(lambda: store.violations() == [])


def test_what_is_marked_for_a_failure_that_was_retried_since_goes_on(store: Store) -> None:
    upstream, other = store.add(), store.add()
    dependent = store.add(refs=[(("x",), upstream), (("y",), other)])
    store.end(upstream, result=b'{"cause": {"what": "not an error"}}')
    # As of an enqueuer who read that it had failed, in a transaction that ends after it was retried and has completed.
    store.sql(
        "UPDATE {waiting} SET failed_dep = %(up)s, settle = true WHERE job_id = %(id)s", up=upstream, id=dependent
    )

    assert settle.sweep(store.link) == 0

    assert store.state(dependent) == "waiting"
    store.end(other, result=b"1")
    assert store.state(dependent) == "available"
    assert store.violations() == []


def test_a_parent_marked_for_a_child_that_was_retried_since_waits_for_it(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", result=b"1", children=[child]))
    store.sql(
        "UPDATE {waiting} SET failed_child = %(child)s, children = 0, settle = true WHERE job_id = %(id)s",
        child=child.id, id=parent,
    )  # fmt: skip

    assert settle.sweep(store.link) == 0

    assert store.state(parent) == "waiting"
    store.end(child.id, result=b"2")
    assert store.state(parent) == "completed"
    assert store.violations() == []


def test_dependents_that_fall_in_the_moment_of_a_retry_come_back_with_it(store: Store) -> None:
    upstream = store.add()
    dependent = store.add(refs=[(("x",), upstream)])
    last = store.add(refs=[(("x",), dependent)])
    claimed = store.claim_one(upstream)
    # Recorded as a worker does it: that it failed, and then, in a transaction of its own, what that entails.
    written = finishing._write(store.link, [outcome(claimed, "failed", reason="error", error=True)], 0)
    assert written.marked == [dependent]
    worker, person = fresh_link(store.database), fresh_link(store.database)
    backend = person.connection.info.backend_pid
    thread = threading.Thread(target=retry, args=(person, [upstream]))
    with worker.connection.transaction():
        settle.settle(worker, written.marked)
        thread.start()
        eventually(
            lambda: store.sql("SELECT 1 FROM pg_locks WHERE pid = %(pid)s AND NOT granted", pid=backend) == [(1,)]
        )
    thread.join()
    for link in (worker, person):
        link.connection.close()

    assert store.states(upstream, dependent, last) == ["available", "waiting", "waiting"]
    assert store.violations() == []
