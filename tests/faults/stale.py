"""Everything that an attempt or a worker may still write after it has lost its claim or its session: none of it counts.

For each kind, jobs are claimed, taken away by a rescue, and then stand in one of three ways when the old attempt
writes: available again, running under another claim, or ended by that. Nothing in any table may be changed by it, and
what is written in the same batch by those who may is done.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from uuid import UUID

from fairchild import Fairchild
from fairchild.db import lease
from fairchild.db.claim import Claimed
from fairchild.db.finish import Ended
from fairchild.db.unit import Unit
from tests.faults.cluster import cluster
from tests.faults.ledger import WITNESS_TABLES
from tests.faults.report import Report
from tests.support.store import Store, child_of, new_job, outcome, store_of

WRITES = 10_000
BATCH = 100

# All that a write could touch, as one value.
FINGERPRINT = " || ".join(
    f"coalesce((SELECT md5(string_agg(x::text, '|' ORDER BY x::text)) FROM {{{name}}} x), '-')"
    for name in ("jobs", "claims", "ready", "due", "waiting", "edges", "counters", "sessions")
)

OUTCOMES: dict[str, Callable[[Claimed, UUID], Ended]] = {
    "finish completed": lambda old, _: outcome(old, result=b'"stale"'),
    "finish failed": lambda old, _: outcome(old, "failed", reason="error", error=True),
    "finish cancelled": lambda old, _: outcome(old, "cancelled", reason="stale"),
    "retry after a delay": lambda old, _: outcome(old, "due", delay=3600.0, error=True),
    "retry at once": lambda old, _: outcome(old, "ready", error=True),
    "snooze": lambda old, _: outcome(old, "due", delay=3600.0, spent=False),
    "release": lambda old, _: outcome(old, "ready", spent=False),
    "death of its own process": lambda old, _: Ended(old.job_id, old.claim_id, "ready", spent=False, lost=True),
    "spawn children": lambda old, _: outcome(old, "waiting", children=[child_of(old), child_of(old)]),
    "return the value of another job": lambda old, other: outcome(old, "waiting", value_refs=[((), other)]),
    "update meta": lambda old, _: outcome(old, meta=b'{"stale": true}'),
}


def run(size: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    accepted = 0
    with cluster() as server, Fairchild(server.url) as client, store_of(client) as store:
        server.rows(WITNESS_TABLES)
        attempts = _stale_attempts(store, rng)
        for name, make in OUTCOMES.items():
            count = _outcomes(store, attempts, make, int(size))
            report.figure(name, f"{int(size):,} written, {count} accepted")
            accepted += count
        for name, write in _others(client, store, attempts).items():
            count = _each(store, write, int(size))
            report.figure(name, f"{int(size):,} tried, {count} accepted")
            accepted += count
        left = store.sql("SELECT count(*) FROM fx_tx")[0][0]
        violations = store.violations()
    report.promise(f"0 of {int(size):,} stale writes of each of {len(report.figures)} kinds accepted", accepted == 0)
    report.promise("0 rows of job.transaction() left by them", left == 0)
    report.promise("what was written beside them by those who hold their claims was done", not violations)
    report.details = [str(each) for each in violations]
    return report


def _stale_attempts(store: Store, rng: random.Random) -> list[Claimed]:
    """Attempts that have lost their claims: a third each of jobs available, running elsewhere, ended elsewhere."""
    dead = store.open_session()
    store.insert(*(new_job() for _ in range(BATCH)))
    old = store.claim(session=dead)
    assert len(old) == BATCH
    _bury(store, dead)
    while lease.rescue(store.link):
        pass
    new = store.claim()
    rng.shuffle(new)
    third = BATCH // 3
    store.finish(*(outcome(each, result=b'"good"') for each in new[:third]))
    store.finish(*(outcome(each, "ready", spent=False) for each in new[third : 2 * third]))
    return old


def _bury(store: Store, session: UUID) -> None:
    (seen,) = [each for each in lease.watch(store.link) if each.id == session]
    assert lease.declare_dead(store.link, seen)


def _outcomes(store: Store, attempts: list[Claimed], make: Callable[[Claimed, UUID], Ended], size: int) -> int:
    """Write so many stale outcomes, each batch with one good one in it; how many were accepted."""
    accepted = 0
    other = store.add(task="other")
    written = 0
    while written < size:
        batch = attempts[: size - written]
        good = store.add(task="good")
        (held,) = store.claim(tasks=("good",))
        before = _fingerprint(store, good)
        applied = store.finish(*(make(each, other) for each in batch), outcome(held))
        refused = {job_id for job_id, why in applied.lost.items() if why == "stale"}
        accepted += len(batch) - len(refused)
        accepted += store.state(good) != "completed" or good in applied.lost
        accepted += _fingerprint(store, good) != before
        written += len(batch)
    return accepted


def _each(store: Store, write: Callable[[], bool], size: int) -> int:
    """Try a write so often; how many were accepted."""
    before = _fingerprint(store)
    accepted = sum(write() for _ in range(size))
    return accepted + (_fingerprint(store) != before)


def _others(client: Fairchild, store: Store, attempts: list[Claimed]) -> dict[str, Callable[[], bool]]:
    """Writes that are not outcomes in a batch. Each says whether it was accepted."""
    dead, alive = store.open_session(), store.open_session()
    (seen,) = [each for each in lease.watch(store.link) if each.id == alive]
    lease.beat(store.link, alive)
    _bury(store, dead)
    numbers = iter(range(10**9))

    def commit() -> bool:
        old = attempts[next(numbers) % len(attempts)]
        unit = Unit(client.database)
        unit.connection.execute(
            "INSERT INTO fx_tx (job, attempt, fence) VALUES (%s, %s, %s)", [old.job_id, old.attempt, old.fence]
        )
        return not unit.complete(outcome(old, result=b'"stale"')).lost

    def set_state() -> bool:
        lease.set_state(store.link, dead, "draining")
        return False  # a session that moved shows in the fingerprint

    return {
        "commit of job.transaction()": commit,
        "beat of a dead session": lambda: lease.beat(store.link, dead) is not None,
        "claim by a dead session": lambda: bool(store.claim(session=dead)),
        "state of a dead session": set_state,
        "death declared by an observer of an old beat": lambda: lease.declare_dead(store.link, seen),
    }


def _fingerprint(store: Store, besides: UUID | None = None) -> str:
    """All rows of all tables but those of one job, in few bytes."""
    # What is done to that job is done in these tables and no others.
    text = FINGERPRINT.replace("FROM {jobs} x", "FROM {jobs} x WHERE x.id IS DISTINCT FROM %(besides)s")
    text = text.replace("FROM {claims} x", "FROM {claims} x WHERE x.job_id IS DISTINCT FROM %(besides)s")
    text = text.replace("FROM {counters} x", "FROM {counters} x WHERE x.task <> 'good'")
    found: str = store.sql(f"SELECT {text}", besides=besides)[0][0]
    return found
