"""What is deleted, and what stays because others need it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from fairchild import Fairchild
from fairchild.db import browse, prune
from tests.support.store import Store, child_of, new_job, outcome, store_of

ALL = ["completed", "failed", "cancelled"]


@pytest.fixture
def store(fairchild: Fairchild) -> Iterator[Store]:
    with store_of(fairchild) as made:
        yield made


def age(store: Store, *jobs: UUID) -> None:
    store.sql("UPDATE {jobs} SET ended_at = ended_at - interval '10 days' WHERE id = ANY(%(ids)s)", ids=list(jobs))


def test_jobs_that_ended_long_ago_are_deleted_in_batches(store: Store, fairchild: Fairchild) -> None:
    jobs = [store.add() for _ in range(25)]
    for job in jobs[:20]:
        store.end(job)
    age(store, *jobs[:15])
    after: UUID | None = UUID(int=0)
    deleted = []
    while after is not None:
        store.sql("SELECT pg_sleep(0.002)")  # ids of the same millisecond are not older than now
        number, after = prune.prune_page(store.link, after, 0.0, ["completed"], most=4)
        deleted.append(number)
    assert sum(deleted) == 20
    assert browse.count_by_queue(store.link) == {"default": {"available": 5, "completed": 0}}
    assert store.violations() == []


def test_what_ended_lately_or_otherwise_stays(store: Store, fairchild: Fairchild) -> None:
    old, young, failed = (store.add() for _ in range(3))
    store.end(old)
    store.end(young)
    store.end(failed, "failed", error=True, reason="error")
    age(store, old, failed)
    store.sql(
        "UPDATE {jobs} SET id = ('00000000' || right(id::text, 28))::uuid WHERE id = ANY(%(ids)s)", ids=[old, failed]
    )
    assert fairchild.prune(states=["completed"]) == 1
    assert {job.state for job in fairchild.jobs()} == {"completed", "failed"}
    assert fairchild.prune() == 1


def test_f90_a_job_stays_while_another_needs_it(store: Store, fairchild: Fairchild) -> None:
    upstream = store.add()
    store.end(upstream)
    waiting_for = store.add()
    dependent = store.insert(new_job(depends_on=[upstream, waiting_for]))[0]
    assert fairchild.delete([upstream, dependent]) == []
    assert fairchild.prune(0) == 0
    store.end(waiting_for)
    store.end(dependent)
    assert set(fairchild.delete([upstream, dependent])) == {upstream, dependent}
    assert store.sql("SELECT FROM {edges} WHERE upstream = %(id)s", id=upstream) == []


def test_f90_a_child_stays_until_its_parent_has_ended(store: Store, fairchild: Fairchild) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    first, second = child_of(claimed), child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[first, second]))
    store.end(first.id)
    assert fairchild.delete([parent, first.id, second.id]) == []
    store.end(second.id)
    assert store.state(parent) == "completed"
    assert set(fairchild.delete([parent, first.id, second.id])) == {parent, first.id, second.id}
    assert store.violations() == []


def test_a_parent_that_was_cancelled_stays_while_a_child_runs(store: Store, fairchild: Fairchild) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[child]))
    running = store.claim_one(child.id)
    fairchild.cancel(parent)
    assert store.state(parent) == "cancelled"
    assert fairchild.delete(parent) == []
    store.finish(outcome(running, "cancelled", reason="asked"))
    assert fairchild.delete(parent) == [parent]


@pytest.mark.parametrize("way", ["deleted", "pruned"])
def test_nothing_of_a_job_is_left_behind(store: Store, fairchild: Fairchild, way: str) -> None:
    upstream, job = store.add(), store.add()
    store.end(upstream)
    store.end(job)
    store.sql("INSERT INTO {edges} (upstream, downstream, policy) VALUES (%(up)s, %(id)s, 'need')", up=upstream, id=job)
    store.sql("INSERT INTO {progress} (job_id, attempt, value, at) VALUES (%(id)s, 1, 1, now())", id=job)
    store.sql(
        "INSERT INTO {logs} (job_id, attempt, at, level, logger, message) VALUES (%(id)s, 1, now(), 20, '', '')", id=job
    )
    store.sql("INSERT INTO {xcom} (workflow_id, namespace, key, value) VALUES (%(id)s, '', 'k', '1')", id=job)
    if way == "pruned":
        store.sql("SELECT pg_sleep(0.002)")
        prune.prune_page(store.link, UUID(int=0), 0.0, ALL)
    else:
        prune.delete_jobs(store.link, [job, upstream])
    for table in ("jobs", "edges", "progress", "logs", "xcom"):
        assert store.sql(f"SELECT count(*) FROM {{{table}}}") == [(0,)], table
