"""The sections of ``make faults``, each with the size at which its promise is given and one for a quick look."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import eaten, innocents, memory, recovery, rescues, restarts, sigterm, stale, storm
from tests.faults.report import Report


@dataclass(frozen=True)
class Section:
    """``run(size, rng)``; ``size`` counts ``unit``."""

    name: str
    title: str
    unit: str
    full: float
    quick: float
    run: Callable[[float, random.Random], Report]


_ALL = [
    Section("storm", "A storm over workers and their server", "minutes", storm.MINUTES, 0.5, storm.run),
    Section(
        "stale", "Writes of attempts that have lost their claim", "writes of each kind", stale.WRITES, 200, stale.run
    ),
    Section("eaten", "Replies that never come", "replies", eaten.REPLIES, 110, eaten.run),
    Section("recovery", "From kill -9 to the start elsewhere", "kills", recovery.KILLS, 5, recovery.run),
    Section("recovery-short", "The same with a lease of two seconds", "kills", recovery.KILLS, 5, recovery.run_short),
    Section("rescues", "What looks like death and is none", "seconds of lease", rescues.LEASE, 3.0, rescues.run),
    Section("restarts", "Claiming again after a restart of the server", "restarts", restarts.RESTARTS, 4, restarts.run),
    Section("sigterm", "Stopping while jobs run", "workers told to stop", sigterm.ROUNDS, 20, sigterm.run),
    Section("innocents", "Innocent jobs beside one that segfaults", "jobs", innocents.INNOCENTS, 100, innocents.run),
    Section("memory", "What a worker holds after very many jobs", "jobs", memory.JOBS, 20_000, memory.run),
]

SECTIONS = {each.name: each for each in _ALL}
