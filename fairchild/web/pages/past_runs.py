"""The last runs of a job's task, drawn as dots: how long each took, and where the job at hand is among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fairchild.client.insight import PastRun
from fairchild.job import Job
from fairchild.web import words
from fairchild.web.pages.site import Site

WIDTH, HEIGHT, ROOM = 600.0, 72.0, 8.0
MOST = 60


class Dot(NamedTuple):
    """One run. ``here``: it is the job at hand."""

    x: float
    y: float
    state: str
    said: str
    here: bool


class PastRuns(NamedTuple):
    """The drawing, oldest on the left; ``lines`` are (y, name) of the percentiles."""

    dots: list[Dot]
    lines: list[tuple[float, str]]
    p50: float
    p95: float
    own: float | None
    said: str


def runs_like(site: Site, job: Job) -> PastRuns | None:
    """The runs of a job's task, with itself among them if it has ended."""
    runs = site.kept(("runs", job.task), lambda: site.fc.insight.past_runs(job.task, MOST))
    own = None
    if job.ended_at is not None and job.attempted_at is not None:
        took = max((job.ended_at - job.attempted_at).total_seconds(), 0.0)
        own = PastRun(job.id, job.state.value, took)
    return draw(runs, own)


def draw(runs: Sequence[PastRun], own: PastRun | None) -> PastRuns | None:
    """Runs of one task, newest first, and the job at hand if it has ended; None if there are none to compare."""
    shown = list(runs[:MOST])
    if own is not None and all(each.id != own.id for each in shown):
        shown = sorted([*shown[: MOST - 1], own], key=lambda each: each.id, reverse=True)
    shown.reverse()
    if len(shown) < 2:
        return None
    took = sorted(each.seconds for each in shown)
    p50, p95 = _percentile(took, 0.5), _percentile(took, 0.95)
    low, high = _scaled(took[0]), _scaled(took[-1])

    def y(seconds: float) -> float:
        part = (_scaled(seconds) - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - ROOM - part * (HEIGHT - 2 * ROOM), 1)

    pitch = (WIDTH - 2 * ROOM) / max(MOST - 1, 1)
    dots = []
    for place, each in enumerate(shown):
        here = own is not None and each.id == own.id
        said = f"{each.state} after {words.duration(each.seconds)}{', this job' if here else ''}"
        x = WIDTH - ROOM - pitch * (len(shown) - 1 - place)
        dots.append(Dot(round(x, 1), y(each.seconds), each.state, said, here))
    bad = sum(each.state != "completed" for each in shown)
    said = f"{words.plural(len(shown), 'run')}, {bad} not completed; half took at most {words.duration(p50)}"
    lines = [(y(p50), "p50"), (y(p95), "p95")]
    return PastRuns(dots, lines, p50, p95, None if own is None else own.seconds, said)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _scaled(seconds: float) -> float:
    """Runs of one task may take milliseconds and hours."""
    return math.log10(max(seconds, 0.001))
