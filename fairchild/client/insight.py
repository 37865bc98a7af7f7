"""``fc.insight``: what the pages show besides jobs and counts."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from fairchild.client.settings import Setting, settings
from fairchild.db import insight, marks, migrate, sample, shape, workflows
from fairchild.db.insight import ERRORS_READ, Coming, ErrorGroup, Menu, PastRun, Server, TableFacts, Trouble
from fairchild.db.marks import Mark
from fairchild.db.sample import Sampled
from fairchild.db.workflows import Relatives, Some, Wanted
from fairchild.job import Job
from fairchild.rules.shape import MOST_NODES, ROOT, Group, Shape, build
from fairchild.tasks import check_text

__all__ = [
    "ERRORS_READ",
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
    "TableFacts",
    "Trouble",
    "Wanted",
]

LOOK = 200
LOOK_MOST = 1000
"""Workflows that are looked at for one page of those that are wanted."""
SOME_JOBS = 1000
"""Jobs of each that are counted for a list."""

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild


class Listed(NamedTuple):
    """A page of workflows, newest first: roots and some of their jobs; where it goes on, and from where it came."""

    found: list[tuple[Job, Some]]
    older: UUID | None
    newer: UUID | None
    looked_at: int


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

    def mute(self, fingerprint: str, by: str = "") -> None:
        """Leave an error out of what needs attention, also if more jobs fail by it. It stays in ``errors()``."""
        with self._client.database.link() as link:
            insight.mute(link, check_text("fingerprint", fingerprint), by)

    def unmute(self, fingerprint: str) -> None:
        """Undo that."""
        with self._client.database.link() as link:
            insight.unmute(link, check_text("fingerprint", fingerprint))

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

    def shape(self, root: Job, most: int = MOST_NODES) -> Shape:
        """The workflow of a root as at most ``most`` nodes, whatever its size; the root is the first."""
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
        links = self._client.ask(lambda link: shape.links(link, root.id, list(samples)))
        return build(
            groups.values(),
            ((ROOT if each.source is None else str(each.source), samples[each.sample], each.called) for each in links),
            most,
        )

    def workflows(self, wanted: Wanted, limit: int, start: UUID | None = None, *, newer: bool = False) -> Listed:
        """Workflows older (or ``newer``) than ``start``, some hundred looked at for one page at most.

        Where few pass, a page has less than ``limit``, and ``older`` or ``newer`` still leads on.
        """
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
        further = place if more else None
        back = start if not newer else None
        ids = ids[::-1] if newer else ids
        jobs = self._client._read(ids)
        some = self._client.ask(lambda link: workflows.count_some(link, ids, SOME_JOBS))
        found = [(jobs[each], some[each]) for each in ids if each in jobs]
        first = ids[0] if ids else start
        if newer:
            return Listed(found, ids[-1] if ids else start, further, seen)
        return Listed(found, further, first if back is not None else None, seen)

    def group_jobs(self, workflow: UUID, group: str, limit: int = 50) -> list[Job]:
        """Some jobs of one of ``shape()``'s groups, those that ended badly first; none of one that was folded."""
        try:
            key = int(group)
        except ValueError:
            return []
        if not -(2**63) <= key < 2**63:
            return []
        return self._jobs(self._client.ask(lambda link: shape.group_jobs(link, workflow, key, limit)))

    def _jobs(self, ids: list[UUID]) -> list[Job]:
        found = self._client._read(ids)
        return [found[each] for each in ids if each in found]
