"""Sessions, and taking back what dead ones held."""

from __future__ import annotations

import threading
from itertools import count
from uuid import UUID, uuid4

import pytest

from fairchild import Fairchild
from fairchild.db import lease
from fairchild.db.cancel import cancel
from fairchild.upkeep.observer import Observer
from fairchild.worker import Worker
from tests.support.store import Store, child_of, new_job, outcome


def kill(store: Store, session: UUID) -> None:
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]
    assert lease.declare_dead(store.link, seen)


def test_a_beat_is_counted_and_gives_the_sessions_state(store: Store) -> None:
    session = store.open_session()

    assert [lease.beat(store.link, session) for _ in range(3)] == [("running", False)] * 3
    lease.set_state(store.link, session, "draining")
    assert lease.beat(store.link, session) == ("draining", False)
    assert [each.beat for each in lease.watch(store.link) if each.id == session] == [4]


def test_a_session_that_has_beaten_since_is_not_declared_dead(store: Store) -> None:
    session = store.open_session()
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]
    lease.beat(store.link, session)

    assert not lease.declare_dead(store.link, seen)
    assert lease.beat(store.link, session) == ("running", False)


def test_a_dead_session_hears_of_it_with_its_next_beat(store: Store) -> None:
    session = store.open_session()
    kill(store, session)

    assert lease.beat(store.link, session) is None


def test_only_one_observer_declares_a_session_dead(fairchild: Fairchild, store: Store) -> None:
    session = store.open_session()
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]
    verdicts: list[bool] = []

    def run() -> None:
        with fairchild.database.link() as link:
            verdicts.append(lease.declare_dead(link, seen))

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(verdicts) == [False] * 4 + [True]


def test_what_a_dead_session_held_is_available_again_and_no_attempt_is_spent(store: Store) -> None:
    session = store.open_session()
    job, finished = store.add(), store.add()
    held = {each.job_id: each for each in store.claim(session=session)}
    store.finish(outcome(held[finished]))
    kill(store, session)

    assert lease.rescue(store.link) == [job]
    assert lease.rescue(store.link) == []
    assert store.states(job, finished) == ["available", "completed"]
    assert store.row(job, "attempt, losses, errors->0->>'kind', errors->0->>'attempt'") == (0, 1, "lost", "1")
    assert store.violations() == []


def test_claims_of_living_sessions_are_left_alone(store: Store) -> None:
    job = store.add()
    store.claim(session=store.open_session())

    assert lease.rescue(store.link) == []
    assert store.state(job) == "running"


def test_claims_of_a_session_that_is_unknown_are_given_back(store: Store) -> None:
    job = store.add()
    store.claim(session=(session := store.open_session()))
    store.sql("DELETE FROM {sessions} WHERE id = %(id)s", id=session)

    assert lease.rescue(store.link) == [job]


def test_the_late_outcome_of_a_rescued_attempt_is_stale(store: Store) -> None:
    session = store.open_session()
    job = store.add()
    old = store.claim_one(job, session)
    kill(store, session)
    lease.rescue(store.link)

    assert store.finish(outcome(old, result=b"1")).lost == {job: "stale"}
    assert store.state(job) == "available"

    new = store.claim_one(job)
    assert store.finish(outcome(old, result=b"1")).lost == {job: "stale"}
    assert store.finish(outcome(new, result=b"2")).lost == {}
    assert store.finish(outcome(old, result=b"1")).lost == {job: "stale"}
    assert store.row(job, "result, attempt") == (b"2", 1)


def test_a_late_outcome_is_accepted_as_long_as_nobody_took_over(store: Store) -> None:
    session = store.open_session()
    job = store.add()
    old = store.claim_one(job, session)
    kill(store, session)

    assert store.finish(outcome(old, result=b"1")).lost == {}
    assert lease.rescue(store.link) == []
    assert store.state(job) == "completed"


def test_the_third_loss_fails_a_job_as_poison_and_its_dependents_with_it(store: Store) -> None:
    job = store.add()
    dependent = store.add(refs=[(("x",), job)])
    for _ in range(3):
        session = store.open_session()
        store.claim_one(job, session)
        kill(store, session)
        lease.rescue(store.link)

    assert store.row(job, "state, reason, attempt, losses") == ("failed", "poison", 0, 3)
    assert store.row(dependent, "state, reason") == ("cancelled", "upstream_failed")
    assert [store.row(job, f"errors->{number}->>'kind'")[0] for number in range(3)] == ["lost"] * 3
    assert store.violations() == []


def test_jobs_that_share_deaths_are_suspects_and_never_more(store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(3)))
    for _ in range(5):
        session = store.open_session()
        assert len(store.claim(session=session)) == 3
        kill(store, session)
        assert sorted(lease.rescue(store.link)) == sorted(jobs)

    assert [store.row(job, "attempt, losses, jsonb_array_length(errors)") for job in jobs] == [(0, 1, 5)] * 3
    assert {each.losses for each in store.claim()} == {1}


def test_the_last_job_of_a_long_rescue_was_not_alone(store: Store) -> None:
    jobs = store.insert(*(new_job() for _ in range(501)))
    for _ in range(2):
        session = store.open_session()
        assert len(store.claim(1000, session=session)) == 501
        kill(store, session)
        assert [len(lease.rescue(store.link)) for _ in range(2)] == [500, 1]

    assert store.row(max(jobs), "losses") == (1,)
    assert store.sql("SELECT max(losses) FROM {jobs}") == [(1,)]


def test_the_job_that_is_left_when_others_were_recorded_late_was_not_alone(store: Store) -> None:
    session = store.open_session()
    jobs = store.insert(new_job(), new_job())
    held = {each.job_id: each for each in store.claim(session=session)}
    store.sql("UPDATE {jobs} SET losses = 1")
    kill(store, session)
    store.finish(outcome(held[jobs[0]]))

    assert lease.rescue(store.link) == [jobs[1]]
    assert store.row(jobs[1], "losses") == (1,)


def test_what_a_session_left_that_stopped_in_good_order_is_under_no_suspicion(store: Store) -> None:
    session = store.open_session()
    job = store.add()
    store.claim(session=session)
    lease.set_state(store.link, session, "stopped")

    assert lease.rescue(store.link) == [job]
    assert store.row(job, "losses, errors->0->>'kind'") == (0, "lost")


def test_a_loss_that_a_worker_records_itself_is_counted_with_the_outcome(store: Store) -> None:
    job = store.add()
    for losses in (1, 2):
        store.finish(outcome(store.claim_one(job), "ready", spent=False, lost=True))
        assert store.row(job, "attempt, losses") == (0, losses)
    store.finish(outcome(store.claim_one(job), "failed", spent=False, lost=True, reason="poison"))

    assert store.row(job, "state, reason, attempt, losses") == ("failed", "poison", 0, 3)


def test_a_child_that_is_poison_fails_its_parent(store: Store) -> None:
    parent = store.add()
    claimed = store.claim_one(parent)
    child = child_of(claimed)
    store.finish(outcome(claimed, "waiting", children=[child]))
    for _ in range(3):
        session = store.open_session()
        store.claim_one(child.id, session)
        kill(store, session)
        lease.rescue(store.link)

    assert store.row(parent, "state, reason") == ("failed", "child_failed")


def test_a_lost_attempt_that_was_asked_to_stop_is_cancelled_and_not_run_again(store: Store) -> None:
    session = store.open_session()
    job = store.add()
    store.claim_one(job, session)
    cancel(store.link, [job], "enough")
    kill(store, session)

    assert lease.rescue(store.link) == [job]
    assert store.row(job, "state, reason, attempt") == ("cancelled", "enough", 0)
    assert store.violations() == []


def test_rescue_and_a_late_finish_at_once_leave_one_truth(fairchild: Fairchild, store: Store) -> None:
    for _ in range(20):
        session = store.open_session()
        jobs = store.insert(*(new_job() for _ in range(10)))
        claims = [each for each in store.claim(session=session) if each.job_id in jobs]
        kill(store, session)
        start = threading.Barrier(2)

        def run(start: threading.Barrier = start) -> None:
            with fairchild.database.link() as link:
                start.wait()
                lease.rescue(link)

        thread = threading.Thread(target=run)
        thread.start()
        start.wait()
        applied = store.finish(*(outcome(each) for each in claims))
        thread.join()

        for job in jobs:
            assert store.state(job) == ("available" if job in applied.lost else "completed")
        assert store.violations() == []
        store.finish(*(outcome(each) for each in store.claim()))


def test_more_orphans_than_a_batch_are_all_given_back(store: Store) -> None:
    session = store.open_session()
    store.insert(*(new_job() for _ in range(1200)))
    store.claim(1200, session=session)
    kill(store, session)
    observer = Observer(store.session, interval=1.0)

    assert observer.look(store.link) == 1200
    assert store.sql("SELECT count(*) FROM {ready}") == [(1200,)]


def test_an_observer_judges_by_its_own_clock_over_five_looks() -> None:
    observer = Observer(uuid4(), interval=2.5)
    other = lease.Watched(uuid4(), 7, 30.0)

    assert [observer.judge([other], now) for now in (0.0, 2.5, 5.0, 7.5, 10.0, 12.5)] == [[]] * 6
    assert observer.judge([other], 15.0) == [other]


def test_an_observer_does_not_judge_itself_nor_those_that_beat() -> None:
    observer = Observer(own := uuid4(), interval=5.0)
    other = uuid4()
    for number in range(20):
        seen = [lease.Watched(own, 1, 30.0), lease.Watched(other, number, 30.0)]
        assert observer.judge(seen, number * 5.0) == []


@pytest.mark.parametrize("away", [15.0, 60.0])
def test_a_time_in_which_an_observer_did_not_look_does_not_count_against_the_others(away: float) -> None:
    """The database was away, or this process was frozen: who could not beat meanwhile gets two beats' time to do so."""
    observer = Observer(uuid4(), interval=2.5)
    other = lease.Watched(uuid4(), 7, 30.0)
    assert observer.judge([other], 0.0) == []

    assert [observer.judge([other], away + late) for late in (0.0, 2.5, 5.0, 7.5)] == [[]] * 4
    looks = (away + 10.0 + number * 2.5 for number in count())
    assert next(now for now in looks if observer.judge([other], now)) <= away + 15.0


@pytest.mark.parametrize("late", [0.0, 0.01, 0.5, 0.99])
def test_a_death_is_declared_soon_after_half_a_lease_however_the_looks_fall(late: float) -> None:
    """A beat, then none; a look is due at any time after that, and each is a moment late."""
    worker = Worker(Fairchild("postgresql://nowhere"))
    observer = Observer(uuid4(), worker.look_interval)
    other = lease.Watched(uuid4(), 7, worker.lease)
    looks = (late * worker.look_interval + number * (worker.look_interval + 0.01) - 0.005 for number in count())

    declared = next(now for now in looks if observer.judge([other], now))

    # From a kill just after the beat to the start elsewhere in at most 20 s: two seconds are left for the start.
    assert worker.lease / 2 <= declared <= 18.0


def test_sessions_long_over_are_pruned_with_their_catalogues(store: Store) -> None:
    over, living = store.open_session(), store.open_session()
    lease.set_state(store.link, over, "stopped")
    store.sql("UPDATE {sessions} SET ended_at = ended_at - interval '2 hours' WHERE id = %(id)s", id=over)

    lease.tidy(store.link)

    found = {row[0] for row in store.sql("SELECT id FROM {sessions}")}
    assert over not in found
    assert living in found


def test_a_beat_needs_no_session_state(fairchild: Fairchild, store: Store) -> None:
    session = store.open_session()
    for _ in range(3):
        link = fairchild.database.open("tests")
        assert lease.beat(link, session) == ("running", False)
        link.connection.close()
