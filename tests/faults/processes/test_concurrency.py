"""Everything that changes jobs at once: no deadlock, no job in two places, none lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from fairchild import Fairchild
from fairchild.db import cancel, control, lease, settle
from fairchild.db.claim import promote_due
from fairchild.db.connect import Link, retrying
from fairchild.db.finish import finish
from fairchild.errors import UsageError
from fairchild.upkeep.observer import Observer
from tests.support.eventually import eventually
from tests.support.store import Store, child_of, fresh_link, new_job, outcome

SECONDS = 5.0
THREADS = 8


class Storm:
    """What one thread does, again and again, to jobs that all others change as well."""

    def __init__(self, fairchild: Fairchild, seed: int, shared: list[UUID]) -> None:
        self.store = Store(fairchild.database)
        self.random = random.Random(seed)
        self.shared = shared
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []

    def run(self, until: float) -> None:
        try:
            while time.monotonic() < until:
                act = self.random.choice(
                    [self.enqueue, self.work, self.work, self.work, self.cancel, self.retry, self.die, self.upkeep]
                )
                act()
                self.done[act.__name__] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.errors.append(error)

    def some(self, most: int) -> list[UUID]:
        known = list(self.shared)
        return self.random.sample(known, min(len(known), self.random.randint(1, most)))

    def enqueue(self) -> None:
        ids = self.store.insert(*(new_job() for _ in range(self.random.randint(1, 20))))
        upstreams = [(("x",), up) for up in self.some(1) if self.store.state(up) is not None]
        ids += self.store.insert(new_job(refs=upstreams))
        self.shared.extend(ids)

    def work(self) -> None:
        batch = []
        for each in self.store.claim(self.random.randint(1, 40)):
            state = self.random.choice(["completed", "completed", "failed", "ready", "cancelled", "due", "waiting"])
            if state == "waiting" and each.depth < 3:
                children = [child_of(each) for _ in range(self.random.randint(1, 4))]
                self.shared.extend(child.id for child in children)
                batch.append(outcome(each, "waiting", result=b"1", children=children))
            elif state in ("due", "ready"):
                batch.append(outcome(each, state, spent=False, delay=0.01 if state == "due" else None))
            else:
                batch.append(outcome(each, "completed" if state == "waiting" else state, error=state == "failed"))
        self.random.shuffle(batch)
        retrying(lambda: self.store.finish(*batch))  # as a finisher does

    def cancel(self) -> None:
        cancel.cancel(self.store.link, self.some(15), "storm")

    def retry(self) -> None:
        try:
            control.retry(self.store.link, self.some(15))
        except UsageError:
            self.done["refused: a parent that runs anew will call its tasks again"] += 1

    def die(self) -> None:
        """Claim, die, be rescued; then come back late with outcomes."""
        session = self.store.open_session()
        held = self.store.claim(self.random.randint(1, 10), session=session)
        declare_dead(self.store, session)
        while lease.rescue(self.store.link):
            pass
        retrying(lambda: self.store.finish(*(outcome(each) for each in held)))

    def upkeep(self) -> None:
        promote_due(self.store.link)
        settle.sweep(self.store.link)
        settle.audit(self.store.link, UUID(int=0))


def declare_dead(store: Store, session: UUID) -> None:
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]
    assert lease.declare_dead(store.link, seen)


@pytest.mark.slow
def test_f56_everything_at_once_by_eight_threads_fails_nobody_and_keeps_every_job(
    fairchild: Fairchild, store: Store
) -> None:
    shared = store.insert(*(new_job() for _ in range(50)))
    storms = [Storm(fairchild, seed, shared) for seed in range(THREADS)]
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=storm.run, args=(until,)) for storm in storms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for storm in storms:
        storm.store.close()

    assert [f"{type(error).__name__}: {error}" for storm in storms for error in storm.errors] == []
    # A child that is retried by hand runs again though its parent has ended.
    found = [each for each in store.violations(late=True) if each[0] != "a parent has ended before its child"]
    assert found == []

    # And then it all comes to an end.
    def all_have_ended() -> bool:
        promote_due(store.link)
        store.finish(*(outcome(each) for each in store.claim(500)))
        settle.sweep(store.link)
        settle.audit(store.link, UUID(int=0))
        return store.sql("SELECT count(*) FROM {jobs} WHERE state = 'pending'") == [(0,)]

    eventually(all_have_ended, 60.0)
    assert store.violations() == []


def blocked(store: Store) -> bool:
    """Whether somebody waits for a lock in this database."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(store.sql(waits))


@pytest.mark.parametrize("first", ["finish", "rescue"])
def test_f58_whoever_comes_first_of_a_rescue_and_a_late_finish_decides(
    fairchild: Fairchild, store: Store, first: str
) -> None:
    session = store.open_session()
    job = store.add()
    claimed = store.claim_one(job, session=session)
    declare_dead(store, session)
    acts: dict[str, Callable[[Link], Any]] = {
        "finish": lambda link: finish(link, [outcome(claimed, result=b"1")]),
        "rescue": lease.rescue,
    }
    second = "rescue" if first == "finish" else "finish"
    ours, theirs = fresh_link(fairchild.database), fresh_link(fairchild.database)
    thread = threading.Thread(target=lambda: acts[second](theirs))

    with ours.connection.transaction():
        acts[first](ours)
        thread.start()
        eventually(lambda: blocked(store) or not thread.is_alive())  # it waits, or it passes what is locked over
    thread.join()
    for link in (ours, theirs):
        link.connection.close()

    assert store.state(job) == ("completed" if first == "finish" else "available")
    assert store.row(job, "attempt, losses") == ((1, 0) if first == "finish" else (0, 1))
    assert store.violations() == []


def test_f59_an_observer_that_was_paused_after_its_verdict_declares_nobody_dead(store: Store) -> None:
    session = store.open_session()
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]  # and then it sleeps
    lease.beat(store.link, session)

    assert not lease.declare_dead(store.link, seen)
    assert store.sql("SELECT state FROM {sessions} WHERE id = %(id)s", id=session) == [("running",)]


def test_f69_claims_of_many_who_live_do_not_hide_those_of_one_who_is_dead(store: Store) -> None:
    living, dead = store.open_session(), store.open_session()
    store.insert(*(new_job() for _ in range(2500)))
    assert len(store.claim(2500, session=living)) == 2500
    store.insert(*(new_job() for _ in range(3)))
    lost = {each.job_id for each in store.claim(session=dead)}
    declare_dead(store, dead)

    Observer(store.session, interval=1.0).look(store.link)

    assert {row[0] for row in store.sql("SELECT job_id FROM {ready}")} == lost
    assert store.sql("SELECT count(*) FROM {claims}") == [(2500,)]
