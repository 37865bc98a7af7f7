"""How large a run is: the full one, and the quick one of about a minute."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. Times are in seconds."""

    rounds: int = 3
    single: int = 2000
    """Jobs enqueued one at a time."""
    bulk: int = 20_000
    """Jobs enqueued in bulk."""
    drain: int = 100_000
    """Jobs of a drain."""
    slow_drain: int = 20_000
    long: int = 100_000
    """Jobs drained while another session holds an old snapshot."""
    ended: int = 1_000_000
    """Rows of ended jobs in the store."""
    delays: int = 200
    """Jobs whose delay is measured, one each ``pace``."""
    pace: float = 0.05
    turn: float = 0.6
    """Rest between raw jobs and fairchild's, so that an idle worker has stopped looking again."""
    poll_delays: int = 30
    fan: int = 1000
    wide: int = 10_000
    memory: int = 200_000
    """Jobs after which a worker's memory is read again."""
    settle: float = 3.0
    """Rest of a worker that has been started, before anything about it is measured."""
    counted: float = 11.0
    """After so long the server's statistics know of all that a session did before it came to rest."""
    idle: float = 10.0
    """How long an idle worker is watched."""
    tuned_concurrency: int = 4
    limit: float = 600.0
    """After so long a single measurement has failed."""


FULL = Plan()
QUICK = Plan(
    rounds=1,
    single=500,
    drain=10_000,
    slow_drain=5_000,
    long=10_000,
    ended=50_000,
    delays=40,
    poll_delays=4,
    wide=3000,
    memory=20_000,
    settle=1.5,
    idle=3.0,
)


def of_jobs(plan: Plan, jobs: int) -> Plan:
    """The plan with no more than ``jobs`` jobs in any measurement."""
    return replace(
        plan,
        single=min(plan.single, jobs),
        bulk=min(plan.bulk, jobs),
        drain=min(plan.drain, jobs),
        slow_drain=min(plan.slow_drain, jobs),
        long=min(plan.long, jobs),
        delays=min(plan.delays, jobs),
        poll_delays=min(plan.poll_delays, jobs),
        fan=min(plan.fan, jobs),
        wide=min(plan.wide, jobs),
        memory=min(plan.memory, jobs),
    )
