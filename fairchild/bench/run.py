"""A run: all probes in each round, one round after another, so that a bad minute of the machine hits all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import psycopg

from fairchild import __version__
from fairchild.bench import catalogue, machine
from fairchild.bench.arena import Arena
from fairchild.bench.catalogue import Probe
from fairchild.bench.figures import Measurement
from fairchild.bench.plan import Plan
from fairchild.bench.processes import Unavailable
from fairchild.db.connect import translate
from fairchild.errors import FairchildError

Say = Callable[[str], None]


@dataclass
class Run:
    """What a run came to."""

    at: datetime
    seconds: float
    plan: Plan
    measurements: list[Measurement]
    server: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    notes: list[str]

    def find(self, name: str) -> Measurement | None:
        """The measurement of this name."""
        return next((each for each in self.measurements if each.measure.name == name), None)

    @property
    def failed(self) -> bool:
        """Whether a measurement has failed, and not only could not be made."""
        return any(each.failed for each in self.measurements)


def run(
    url: str, plan: Plan, *, only: Iterable[str] = (), more: Sequence[Probe] = (), say: Say = lambda _text: None
) -> Run:
    """Measure on the server of a libpq URL, in throwaway schemas. ``more``: probes besides our own, such as of others.

    A probe that fails leaves its samples out, with the reason, and the run goes on. Raises UsageError for an unknown
    name in ``only``, DatabaseUnavailable or StoreError if the schemas cannot be made.
    """
    chosen, names = catalogue.select(catalogue.merged(catalogue.probes(plan), more), only)
    found = {measure.name: Measurement(measure) for probe in chosen for measure in probe.measures}
    at, started = datetime.now(timezone.utc), time.monotonic()
    with Arena(url, plan) as arena:
        server = arena.describe()
        for number in range(1, plan.rounds + 1):
            for probe in chosen:
                say(f"round {number} of {plan.rounds}: {probe.measures[0].name}, {probe.measures[0].title}")
                _take(arena, probe, number, found)
        notes = arena.notes
    return Run(
        at=at,
        seconds=time.monotonic() - started,
        plan=plan,
        measurements=[each for name, each in found.items() if name in names],
        server=server,
        versions={"fairchild": __version__, "python": platform.python_version(), "psycopg": version("psycopg")},
        machine=machine.describe(),
        notes=notes,
    )


def _take(arena: Arena, probe: Probe, number: int, found: dict[str, Measurement]) -> None:
    before, started = _others(arena), time.monotonic()
    reason, failed = "it cannot be known here", False
    samples: catalogue.Samples = {}
    try:
        samples = probe.take(arena)
    except Unavailable as error:
        reason = str(error)
    except psycopg.Error as error:
        reason, failed = str(translate(error)), True
    except FairchildError as error:
        reason, failed = str(error), True
    after, seconds = _others(arena), time.monotonic() - started
    for measure in probe.measures:
        measurement = found[measure.name]
        value = samples.get(measure.name)
        if value is None:
            measurement.missing = reason
            measurement.failed |= failed
            continue
        measurement.samples[number] = value
        if before is not None and after is not None:
            measurement.noise[number] = max(0.0, after - before) / seconds / (os.cpu_count() or 1)


def _others(arena: Arena) -> float | None:
    """CPU seconds of everybody but us and the server; None where that is not known."""
    busy, server = machine.busy_seconds(), arena.server_seconds()
    return None if busy is None or server is None else busy - server - machine.own_seconds()
