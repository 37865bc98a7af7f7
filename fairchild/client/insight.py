"""``fc.insight``: what the pages show besides jobs and counts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from fairchild.db import insight, shape
from fairchild.db.insight import Coming, ErrorGroup, Server, TableFacts
from fairchild.job import Job
from fairchild.rules.shape import MOST_NODES, ROOT, Group, Shape, build

__all__ = ["Coming", "ErrorGroup", "Insight", "Server", "TableFacts"]

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild


class Insight:
    """Reads of bounded cost, however many jobs there are."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def now(self) -> datetime:
        """The time by the database's clock."""
        return self._client.ask(insight.database_time)

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
