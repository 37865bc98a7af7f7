"""``fc.insight``: what the pages show besides jobs and counts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from fairchild.db import insight, shape, workflows
from fairchild.db.insight import Coming, ErrorGroup, Server, TableFacts
from fairchild.db.workflows import Some, Wanted
from fairchild.job import Job
from fairchild.rules.shape import MOST_NODES, ROOT, Group, Shape, build

__all__ = ["Coming", "ErrorGroup", "Insight", "Listed", "Server", "Some", "TableFacts", "Wanted"]

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

    def errors(self) -> list[ErrorGroup]:
        """The newest 5,000 failed jobs by the fingerprint of their last error, the latest first."""
        return self._client.ask(insight.error_groups)

    def error(self, fingerprint: str) -> ErrorGroup | None:
        """One of those groups."""
        found = self._client.ask(lambda link: insight.error_groups(link, fingerprint))
        return found[0] if found else None

    def longest_running(self, limit: int = 5) -> list[Job]:
        """The jobs that have run longest."""
        return self._jobs(self._client.ask(lambda link: insight.longest_running(link, limit)))

    def coming(self) -> Coming:
        """What is due next."""
        return self._client.ask(insight.coming)

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
