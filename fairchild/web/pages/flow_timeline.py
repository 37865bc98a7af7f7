"""A workflow over time: a row for each group, the slowest jobs of one, the way that led to the end, the run before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from fairchild.client.insight import Spread
from fairchild.job import Job
from fairchild.rules.shape import Group, Shape
from fairchild.web import words
from fairchild.web.pages.site import Site

PARTS = 24
"""Of the time, for each of which it is shown how many jobs of a group began in it."""
TICKS = 4
MOST_DENSE = 60
"""Groups on one page for which that is shown."""


class Part(NamedTuple):
    """A part of a bar, in hundredths of the whole; ``dense`` from 0 to 1."""

    x: float
    width: float
    dense: float


class Span(NamedTuple):
    """A group or a job on the timeline: its wait, and its run in parts of different density."""

    key: str
    name: str
    state: str
    said: str
    wait: Part | None
    runs: list[Part]
    took: str
    on_way: bool


class Tick(NamedTuple):
    """A mark on the axis of time."""

    moment: datetime
    after: str


class Compared(NamedTuple):
    """A task now and in the run before."""

    task: str
    now: float
    before: float | None


class Timeline:
    """The time from a workflow's first job to its last end, or to now, as a hundred parts."""

    def __init__(self, shape: Shape, now: datetime) -> None:
        starts = [group.inserted_at for group in shape.groups if group.inserted_at is not None]
        ends = [group.ended_at for group in shape.groups if group.ended and group.ended_at is not None]
        self.now = now
        self.start = min(starts, default=now)
        self.end = max(ends, default=now) if all(group.ended for group in shape.groups) else now
        self.whole = max((self.end - self.start).total_seconds(), 0.001)

    def at(self, moment: datetime) -> float:
        """Where a moment lies."""
        return min(max((moment - self.start).total_seconds() / self.whole, 0.0), 1.0) * 100

    def part(self, first: datetime, last: datetime, dense: float = 1.0) -> Part:
        """The part from one moment to another, wide enough to be seen."""
        x = min(self.at(first), 99.6)
        return Part(round(x, 2), round(max(self.at(last) - x, 0.4), 2), dense)

    def ticks(self) -> list[Tick]:
        """The axis."""
        return [
            Tick(self.start + timedelta(seconds=self.whole * n / TICKS), words.duration(self.whole * n / TICKS))
            for n in range(TICKS + 1)
        ]

    def of_groups(self, shape: Shape, spread: Mapping[str, Spread], way: Collection[str]) -> list[Span]:
        """A row for each group, in the order in which they began."""
        dense = len(shape.groups) <= MOST_DENSE
        ordered = sorted(shape.groups, key=lambda each: (each.level >= (0, 0), each.started_at or self.now))
        return [self._of_group(each, spread.get(each.key) if dense else None, each.key in way) for each in ordered]

    def _of_group(self, group: Group, spread: Spread | None, on_way: bool) -> Span:
        until = group.ended_at if group.ended and group.ended_at is not None else self.now
        wait = None
        runs: list[Part] = []
        took = ""
        if group.inserted_at is not None:
            wait = self.part(group.inserted_at, group.started_at or until)
        if group.started_at is not None:
            runs = self._dense(group.started_at, until, spread.density if spread and group.jobs > 1 else {})
            took = words.duration(until - group.started_at)
        said = (
            f"{words.short_task(group.task)}, {words.plural(group.jobs, 'job')}: "
            + (f"from first start to last end {took}" if took else "none has started")
            + (", on the critical path" if on_way else "")
        )
        return Span(group.key, group.task, words.worst(group.counts), said, wait, runs, took, on_way)

    def _dense(self, first: datetime, last: datetime, density: Mapping[int, int]) -> list[Part]:
        """The bar in parts: the more jobs began in one, the more solid. Neighbours that look alike are one."""
        whole = self.part(first, last)
        if len(density) < 2:
            return [whole]
        top, step, end = max(density.values()), 100 / PARTS, whole.x + whole.width
        parts: list[Part] = []
        for number in range(PARTS):
            x, right = max(number * step, whole.x), min((number + 1) * step, end)
            if right - x <= 0.01:
                continue
            dense = round(0.3 + 0.7 * round(4 * density.get(number + 1, 0) / top) / 4, 2)
            if parts and parts[-1].dense == dense:
                parts[-1] = parts[-1]._replace(width=round(right - parts[-1].x, 2))
            else:
                parts.append(Part(round(x, 2), round(right - x, 2), dense))
        return parts

    def of_jobs(self, jobs: list[Job]) -> list[Span]:
        """A row for each job: what it waited once it was due, and its last attempt."""
        spans = []
        for job in jobs:
            began = job.attempted_at
            until = job.ended_at or self.now
            due = max(job.inserted_at or self.start, job.scheduled_at or self.start)
            wait = self.part(due, began or until)
            ran = words.duration(until - began) if began is not None else ""
            said = f"{words.short_task(job.task)} {job.id}: waited {words.duration((began or until) - due)}" + (
                f", ran {ran}" if ran else ""
            )
            runs = [self.part(began, until)] if began is not None else []
            spans.append(Span(str(job.id), str(job.id)[-12:], words.shown_state(job), said, wait, runs, ran, False))
        return spans


def compare(site: Site, root: Job, shape: Shape, spread: Mapping[str, Spread], line: Timeline) -> dict[str, object]:
    """The run before of the same task: how long it took, and half of each task's jobs, then and now."""
    before = site.fc.insight.previous(root)
    if before is None or before.inserted_at is None or before.ended_at is None:
        return {"root": None, "took": None, "tasks": []}
    theirs = site.fc.insight.spread(before.id, before.inserted_at, before.ended_at)
    names = {group.key: group.task for group in shape.groups}
    # Jobs of the same place in the same program are of the same group in each of its runs.
    tasks = [
        Compared(names[key], each.p50, theirs[key].p50 if key in theirs else None)
        for key, each in spread.items()
        if key in names and each.p50 is not None
    ]
    tasks.sort(key=lambda each: -abs(each.now - (each.before or 0.0)))
    return {"root": before, "took": before.ended_at - before.inserted_at, "now": line.whole, "tasks": tasks[:12]}
