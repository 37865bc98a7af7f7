"""``fc.insight``: what the pages show besides jobs and counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from fairchild.client.settings import Setting, settings
from fairchild.db import flow_tasks, insight, marks, migrate, sample, shape, workflows
from fairchild.db.connect import Link
from fairchild.db.flow_tasks import MOST_RUNS, TaskRuns
from fairchild.db.insight import ERRORS_READ, Coming, ErrorGroup, Menu, PastRun, Server, TableFacts, Trouble
from fairchild.db.marks import Mark
from fairchild.db.sample import Sampled
from fairchild.db.shape import Spread, StepRow
from fairchild.db.workflows import Relatives, Some, Wanted
from fairchild.job import Job
from fairchild.rules.shape import MOST_NODES, ROOT, Group, Shape, build
from fairchild.tasks import check_text

__all__ = [
    "ERRORS_READ",
    "MOST_RUNS",
    "Coming",
    "ErrorGroup",
    "Insight",
    "Listed",
    "Mark",
    "Menu",
    "PastRun",
    "Relatives",
    "Sampled",
    "Server",
    "Setting",
    "Some",
    "Spread",
    "Step",
    "TableFacts",
    "TaskRuns",
    "Trouble",
    "Wanted",
]

LOOK = 200
LOOK_MOST = 1000
"""Workflows that are looked at for one page of those that are wanted."""
MOST_STEPS = 60
SOME_JOBS = 1000
"""Jobs of each that are counted for a list."""

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild


class Step(NamedTuple):
    """A job of the way to a workflow's end: it could begin, began, and ended or called the next."""

    id: UUID
    task: str
    group: str
    ready_at: datetime
    started_at: datetime | None
    until: datetime | None

    @property
    def waited(self) -> timedelta:
        """For a worker."""
        return timedelta() if self.started_at is None else max(self.started_at - self.ready_at, timedelta())

    @property
    def ran(self) -> timedelta:
        """Its last attempt."""
        if self.started_at is None or self.until is None:
            return timedelta()
        return max(self.until - self.started_at, timedelta())


class Listed(NamedTuple):
    """A page of workflows, newest first: roots and some of their jobs; where it goes on, and from where it came."""

    found: list[tuple[Job, Some]]
    older: UUID | None
    newer: UUID | None
    looked_at: int


class Walked(NamedTuple):
    """Workflows, from where a further look goes on (None: there are no more), and how many were looked at."""

    ids: list[UUID]
    further: UUID | None
    seen: int


class Insight:
    """Reads of bounded cost, however many jobs there are."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def now(self) -> datetime:
        """The time by the database's clock."""
        return self._client.ask(insight.database_time)

    def menu(self, most: int) -> Menu:
        """How many workflows (up to ``most`` and one more), workers, kinds of errors and known tasks there are."""
        return self._client.ask(lambda link: insight.menu(link, most))

    def refusal(self) -> str | None:
        """Why the database would take no write now, in some words; None if it would."""
        return self._client.ask(insight.refusal)

    def errors(self) -> list[ErrorGroup]:
        """The newest 5,000 failed jobs by the fingerprint of their last error, the latest first."""
        return self._client.ask(insight.error_groups)

    def error(self, fingerprint: str) -> ErrorGroup | None:
        """One of those groups."""
        found = self._client.ask(lambda link: insight.error_groups(link, fingerprint))
        return found[0] if found else None

    def mute(self, fingerprint: str, by: str = "") -> bool:
        """Leave an error out of what needs attention, also if more jobs fail by it. It stays in ``errors()``.

        Whether it was not muted before.
        """
        with self._client.database.link() as link:
            return insight.mute(link, check_text("fingerprint", fingerprint), by)

    def unmute(self, fingerprint: str) -> bool:
        """Undo that. Whether it was muted."""
        with self._client.database.link() as link:
            return insight.unmute(link, check_text("fingerprint", fingerprint))

    def longest_running(self, limit: int = 5) -> list[Job]:
        """The jobs that have run longest."""
        return self._jobs(self._client.ask(lambda link: insight.longest_running(link, limit)))

    def past_runs(self, task: str, limit: int = 60) -> list[PastRun]:
        """How the last jobs of a task ran that have ended, newest first: those among the newest 5,000 of all jobs."""
        return self._client.ask(lambda link: insight.past_runs(link, task, limit))

    def relatives(self, id: UUID, most: int = 10_000) -> Relatives:
        """How many jobs a job waits for, and how many wait or waited for it, up to ``most + 1``."""
        return self._client.ask(lambda link: workflows.count_relatives(link, id, most + 1))

    def coming(self) -> Coming:
        """What is due next."""
        return self._client.ask(insight.coming)

    def retrying(self) -> dict[str, int]:
        """By queue, how many of the next 5,000 jobs to come due have attempts behind them."""
        return self._client.ask(insight.retrying)

    def trouble(self) -> Trouble:
        """Transactions that hold back vacuum, the last upkeep, the queue of notifications."""
        return self._client.ask(insight.trouble)

    def marks(self) -> dict[str, Mark]:
        """When what is done now and then was done last: ``prune``."""
        return self._client.ask(marks.read_marks)

    def revision(self) -> str | None:
        """The revision of the tables."""
        return self._client.ask(migrate.current_on)

    def pool_use(self) -> tuple[int, int, int]:
        """Of this client's connections: how many are open, how many of those in use, and how many wait for one."""
        return self._client.database.pool_use()

    def settings(self) -> list[Setting]:
        """The settings of this client and where each comes from, without secrets."""
        return settings(self._client.config, self._client.options, os.environ)

    def sample(self) -> list[Sampled]:
        """What the 5,000 newest jobs have in their columns and arguments, the most frequent first."""
        return self._client.ask(sample.sample)

    def server(self) -> tuple[Server, list[TableFacts]]:
        """The server, and fairchild's tables, the largest first."""
        return self._client.ask(insight.server)

    def shape(
        self,
        root: Job,
        most: int = MOST_NODES,
        opened: Collection[str] = (),
        start: tuple[int, int] | None = None,
        room: Callable[[Shape], int] | None = None,
    ) -> Shape:
        """The workflow of a root as at most ``most`` nodes, whatever its size; the root is the first.

        ``opened``, ``start``: see ``rules.shape.build``. ``room``: for how many of a shape's nodes there is room;
        if not for all, they are folded further.
        """
        rows = self._client.ask(lambda link: shape.groups(link, root.id))
        state = "retrying" if root.state == "scheduled" and root.attempt else root.state.value
        first = Group(ROOT, root.task, (-1, 0), root.id, {state: 1}, root.inserted_at, root.attempted_at, root.ended_at)
        groups = {ROOT: first}
        for row in rows:
            group = Group(
                str(row.key), row.task, (row.depth, row.rank), row.sample, {row.state: row.jobs}, row.inserted_at,
                row.started_at, row.ended_at, row.mean_seconds,
            )  # fmt: skip
            if str(row.key) in groups:
                groups[str(row.key)].take(group)
            else:
                groups[str(row.key)] = group
        samples = {group.sample: key for key, group in groups.items() if key != ROOT}
        found = self._client.ask(lambda link: shape.links(link, root.id, list(samples)))
        links = [
            (ROOT if each.source is None else str(each.source), samples[each.sample], each.called) for each in found
        ]
        made = build([group.copy() for group in groups.values()], links, most, opened, start)
        while room is not None and (fewer := room(made)) < len(made.groups):
            before = len(made.groups)
            made = build([group.copy() for group in groups.values()], links, fewer, opened, start)
            if len(made.groups) >= before:  # it cannot be folded further
                break
        return made

    def workflows(self, wanted: Wanted, limit: int, start: UUID | None = None, *, newer: bool = False) -> Listed:
        """Workflows older (or ``newer``) than ``start``, some hundred looked at for one page at most.

        Where few pass, a page has less than ``limit``, and ``older`` or ``newer`` still leads on.
        """
        ids, further, seen = self.walk(wanted, limit, start, newer=newer)
        back = start if not newer else None
        ids = ids[::-1] if newer else ids
        jobs = self._client._read(ids)
        some = self._client.ask(lambda link: workflows.count_some(link, ids, SOME_JOBS))
        found = [(jobs[each], some[each]) for each in ids if each in jobs]
        first = ids[0] if ids else start
        if newer:
            return Listed(found, ids[-1] if ids else start, further, seen)
        return Listed(found, further, first if back is not None else None, seen)

    def walk(self, wanted: Wanted, limit: int, start: UUID | None = None, *, newer: bool = False) -> Walked:
        """The same, as ids alone, the nearest to ``start`` first."""
        ids: list[UUID] = []
        seen, place, more = 0, start, True
        most = LOOK if wanted != Wanted() else limit + 1
        while more and len(ids) <= limit and seen < LOOK_MOST:
            stretch = self._client.ask(
                lambda link, here=place: workflows.walk(link, wanted, here, most, newer=newer)  # type: ignore[misc]
            )
            seen, more = seen + len(stretch), len(stretch) == most
            place = stretch[-1][0] if stretch else place
            ids += [each for each, passes in stretch if passes]
        if len(ids) > limit:
            del ids[limit:]
            place, more = ids[-1], True
        return Walked(ids, place if more else None, seen)

    def group_jobs(
        self, workflow: UUID, group: str, limit: int = 50, *, state: str = "", after: UUID | None = None
    ) -> list[Job]:
        """Jobs of one of ``shape()``'s groups in the order in which they were made; none of one that was folded."""
        key = _group(group)
        if key is None:
            return []
        first = after or UUID(int=0)
        return self._jobs(self._client.ask(lambda link: shape.group_jobs(link, workflow, key, state, first, limit)))

    def slowest(self, workflow: UUID, group: str, limit: int = 50) -> list[Job]:
        """Jobs of a group: those that failed, then those that ran longest."""
        key = _group(group)
        if key is None:
            return []
        return self._jobs(self._client.ask(lambda link: shape.slowest(link, workflow, key, limit)))

    def runs(self, workflow: UUID, group: str, limit: int = 2000) -> list[float]:
        """Seconds that some completed jobs of a group ran."""
        key = _group(group)
        return [] if key is None else self._client.ask(lambda link: shape.runs(link, workflow, key, limit))

    def spread(self, workflow: UUID, since: datetime, until: datetime) -> dict[str, Spread]:
        """By group, of 10,000 jobs of a workflow at most: how long they ran, and when in this time they began."""
        found = self._client.ask(lambda link: shape.spread(link, workflow, since, until))
        return {str(key): each for key, each in found.items()}

    def task_runs(self, workflow: UUID) -> dict[str, TaskRuns]:
        """By task, how long completed jobs of a workflow ran, of ``MOST_RUNS`` at most."""
        return self._client.ask(lambda link: flow_tasks.task_runs(link, workflow))

    def group_of(self, id: UUID) -> str | None:
        """The key in ``shape()`` of the group that a job of a workflow is in."""
        found = self._client.ask(lambda link: shape.step(link, id))
        return None if found is None else ROOT if found.group is None else str(found.group)

    def previous(self, root: Job) -> Job | None:
        """The root of the same task that ran before, if it is among some hundred workflows before this one."""
        wanted = Wanted(task=root.task)
        found = self._client.ask(lambda link: workflows.walk(link, wanted, root.id, LOOK, newer=False))
        return next(iter(self._jobs([each for each, passes in found if passes][:1])), None)

    def way(self, root: Job, parents: Collection[str]) -> list[Step]:
        """The jobs that determined when a workflow ended, or how far it is: from the root to the last that ended.

        Each began because the one before ended or called it. ``parents``: the groups that have called others. At most
        ``MOST_STEPS``, the last ones.
        """
        return self._client.ask(lambda link: _way(link, root, parents))

    def _jobs(self, ids: list[UUID]) -> list[Job]:
        found = self._client._read(ids)
        return [found[each] for each in ids if each in found]


def _group(key: str) -> int | None:
    """A group's key as it is stored; None if it is none."""
    try:
        number = int(key)
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _way(link: Link, root: Job, parents: Collection[str]) -> list[Step]:
    """See Insight.way."""

    def last(row: StepRow) -> StepRow:
        """What ended last of a job with all that it called."""
        while row.group is None or str(row.group) in parents:
            child = shape.last_child(link, root.id, row.id)
            if child is None:
                break
            row = child
        return row

    steps: list[Step] = []
    start = shape.step(link, root.id)
    row = None if start is None else last(start)
    until = None if row is None else row.ended_at
    while row is not None and len(steps) < MOST_STEPS:
        before = None if row.group is None else shape.last_before(link, root.id, row.id)
        ended = None if before is None else before.ended_at
        waited = ended is not None and ended > row.inserted_at
        ready = ended if waited and ended is not None else row.inserted_at
        group = ROOT if row.group is None else str(row.group)
        steps.append(Step(row.id, row.task, group, ready, row.started_at, until))
        if waited and before is not None:
            row = last(before)
            until = row.ended_at
        else:
            until = row.inserted_at
            row = None if row.parent_id is None else shape.step(link, row.parent_id)
    return steps[::-1]
