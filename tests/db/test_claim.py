"""Claiming: each job once, in order, only what was asked for; and jobs whose time has come."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import psycopg
import pytest

from fairchild import Fairchild
from fairchild.db.claim import Lane, claim, find_claim, look, promote_due
from fairchild.db.enqueue import insert_stream
from fairchild.db.wake import channel
from tests.support.store import Store, new_job, outcome


def test_a_claim_gives_all_that_is_needed_to_run_a_job(store: Store) -> None:
    job = store.add(
        args=b'{"x": 1}', tags=["a", "b"], meta=b'{"m": null}', timeout=2.5, priority=3, tenant="acme", max_attempts=7
    )

    (claimed,) = store.claim()

    assert (claimed.job_id, claimed.queue, claimed.priority, claimed.tenant) == (job, "default", 3, "acme")
    assert (claimed.task, claimed.args, claimed.refs, claimed.tags) == ("t", b'{"x": 1}', None, ["a", "b"])
    assert (claimed.meta, claimed.timeout, claimed.attempt, claimed.max_attempts) == (b'{"m": null}', 2.5, 1, 7)
    assert (claimed.workflow_id, claimed.parent_id, claimed.depth, claimed.expired) == (job, None, 0, False)
    assert store.state(job) == "running"
    assert find_claim(store.link, claimed.claim_id) == [job]


def test_lower_priorities_come_first_then_the_order_of_entry(store: Store) -> None:
    jobs = [store.add(priority=priority) for priority in (5, 9, 0, 5, 0)]

    claimed = [each.job_id for each in store.claim()]

    assert claimed == [jobs[2], jobs[4], jobs[0], jobs[3], jobs[1]]


def test_only_known_tasks_in_the_lanes_given_are_claimed(store: Store) -> None:
    mine = store.add()
    store.add(task="other")
    store.add(queue="elsewhere")

    assert [each.job_id for each in store.claim()] == [mine]
    assert store.claim() == []


def test_a_claim_takes_no_more_than_there_is_room_for(store: Store) -> None:
    store.insert(*(new_job(priority=number % 10) for number in range(30)))

    assert len(store.claim(7)) == 7
    assert store.sql("SELECT count(*) FROM {ready}") == [(23,)]


@pytest.mark.parametrize("state", ["paused", "draining", "stopped", "dead"])
def test_a_session_that_does_not_run_claims_nothing(store: Store, state: str) -> None:
    job = store.add()
    session = store.open_session()
    store.sql("UPDATE {sessions} SET state = %(state)s", state=state)

    assert store.claim(session=session) == []
    assert store.state(job) == "available"


def test_jobs_behind_the_floor_are_left_and_found_without_it(store: Store) -> None:
    job = store.add()
    common = {"tasks": ["t"], "room": 5, "session": store.session}

    assert claim(store.link, lanes=[Lane("default", 5, 10**9)], claim_id=uuid4(), **common) == []  # type: ignore[arg-type]
    (found,) = claim(store.link, lanes=[Lane("default", 5, 0)], claim_id=uuid4(), **common)  # type: ignore[arg-type]

    assert found.job_id == job


def test_the_fence_grows_with_every_claim_of_a_job(store: Store) -> None:
    job = store.add()
    fences = []
    for _ in range(3):
        claimed = store.claim_one(job)
        fences.append(claimed.fence)
        store.finish(outcome(claimed, "ready", spent=False))

    assert fences == sorted(set(fences))


def test_many_claimers_at_once_give_each_job_to_one_of_them(fairchild: Fairchild, store: Store) -> None:
    ids = insert_stream(store.link, (new_job(priority=number % 3) for number in range(2000)))
    claimed: list[UUID] = []

    def run() -> None:
        link = fairchild.database.open("tests")
        lanes = [Lane("default", priority, 0) for priority in range(3)]
        while got := claim(link, lanes=lanes, tasks=["t"], room=37, claim_id=uuid4(), session=store.session):
            claimed.extend(each.job_id for each in got)
        link.connection.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # One that meets only rows others are taking comes back with nothing though some are left; nothing is taken twice.
    claimed += [each.job_id for each in store.claim(2000)]
    assert sorted(claimed) == sorted(ids)
    assert store.violations() == []


def test_jobs_that_another_transaction_holds_are_passed_over(fairchild: Fairchild, store: Store) -> None:
    first, second = store.add(), store.add()
    other = fairchild.database.open("tests")
    with other.connection.transaction():
        other.script(f"SELECT 1 FROM fairchild_ready WHERE job_id = '{first}' FOR UPDATE")

        assert [each.job_id for each in store.claim()] == [second]

    assert [each.job_id for each in store.claim()] == [first]
    other.connection.close()


def test_a_claim_that_waited_too_long_is_marked_as_expired(store: Store) -> None:
    fresh, late = store.add(expires=60.0), store.add(expires=60.0)
    store.sql("UPDATE {ready} SET at = at - interval '2 minutes' WHERE job_id = %(id)s", id=late)

    expired = {each.job_id: each.expired for each in store.claim()}

    assert expired == {fresh: False, late: True}


def test_a_job_whose_row_was_deleted_does_not_disturb_the_others(store: Store) -> None:
    gone, kept = store.add(), store.add()
    store.sql("DELETE FROM {jobs} WHERE id = %(id)s", id=gone)

    assert [each.job_id for each in store.claim()] == [kept]


def test_due_jobs_become_available_in_the_order_of_their_time(store: Store) -> None:
    now = datetime.now(timezone.utc)
    later, last, future = store.insert(
        new_job(scheduled_at=now + timedelta(hours=2)),
        new_job(scheduled_at=now + timedelta(hours=3)),
        new_job(scheduled_at=now + timedelta(days=9)),
    )
    assert promote_due(store.link)[0] == 0
    store.sql("UPDATE {due} SET run_at = run_at - interval '4 hours'")

    promoted, left = promote_due(store.link)

    assert promoted == 2
    assert left is not None
    assert 8 * 86400 < left < 9 * 86400
    assert [each.job_id for each in store.claim()] == [later, last]
    assert store.state(future) == "scheduled"


def test_promoting_says_when_nothing_is_scheduled(store: Store) -> None:
    assert promote_due(store.link) == (0, None)


def test_many_at_once_promote_each_due_job_once(fairchild: Fairchild, store: Store) -> None:
    insert_stream(store.link, (new_job(delay=3600.0) for _ in range(3000)))
    store.sql("UPDATE {due} SET run_at = run_at - interval '2 hours'")
    counts: list[int] = []

    def run() -> None:
        with fairchild.database.link() as link:
            counts.extend(promote_due(link)[0] for _ in range(4))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 3000
    assert store.sql("SELECT count(*), count(DISTINCT job_id) FROM {ready}") == [(3000, 3000)]


def test_the_queues_that_hold_jobs_are_found(store: Store) -> None:
    store.insert(*(new_job(queue=f"q{number % 5}") for number in range(50)))

    assert look(store.link) == (["q0", "q1", "q2", "q3", "q4"], None)
    assert look(store.link, most=2) == (["q0", "q1"], None)
    assert look(store.link, ["q3", "none", "q1"]) == (["q3", "q1"], None)


def test_promoting_more_than_there_is_room_for_wakes_other_workers(fairchild_db: str, store: Store) -> None:
    with psycopg.connect(fairchild_db, autocommit=True) as listener:
        listener.execute(f'LISTEN "{channel(store.link.schema)}"'.encode())
        insert_stream(store.link, [new_job(delay=3600.0)], notify=False)
        store.sql("UPDATE {due} SET run_at = run_at - interval '2 hours'")
        promote_due(store.link, room=1)
        assert list(listener.notifies(timeout=0)) == []

        insert_stream(store.link, [new_job(delay=3600.0)], notify=False)
        store.sql("UPDATE {due} SET run_at = run_at - interval '2 hours'")
        promote_due(store.link, room=0)

        assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1


def test_claim_needs_no_prepared_statement_and_no_session_state(fairchild: Fairchild, store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(5)))
    found = []
    for _ in jobs:
        link = fairchild.database.open("tests")
        lanes = [Lane("default", 5, 0)]
        found += claim(link, lanes=lanes, tasks=["t"], room=1, claim_id=uuid4(), session=store.session)
        link.connection.close()

    assert [each.job_id for each in found] == jobs
