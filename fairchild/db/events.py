"""The log of what happens to jobs, for those who listen.

It is written only while somebody listens, or has in the last minutes: each statement that moves jobs asks once, of a
table that is mostly empty, and then adds one row for all of its jobs, in its own transaction. A row's number is drawn
before its transaction commits, so a reader may see a later row first: see ``Follower``. Rows are kept for ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

GIVE_UP_SECONDS = 10.0
PAGE = 500

_LISTENED = "(SELECT true FROM {listeners} WHERE until > statement_timestamp() LIMIT 1)"


def tell(name: str, source: str, event: str, id: str = "id", condition: str = "true") -> str:
    """A CTE that adds a row for the jobs of another; ``event`` and ``condition`` are expressions of its columns."""
    return (
        f"{name} AS (\n  INSERT INTO {{events}} (jobs) SELECT jsonb_agg(jsonb_build_array({id}, {event})) FROM {source}"
        f"\n   WHERE {_LISTENED} AND {condition} HAVING count(*) > 0)"
    )


LISTEN = Sql(
    "listen",
    """
WITH heard AS (
  INSERT INTO {listeners} (id, until) VALUES (%(id)s, statement_timestamp() + interval '10 minutes')
  ON CONFLICT (id) DO UPDATE SET until = excluded.until)
SELECT coalesce((SELECT seq FROM {events} ORDER BY seq DESC LIMIT 1), 0)""",
)
# Each listener, twice a second. Index fairchild_events_pkey.
READ_EVENTS = Sql(
    "read_events",
    "SELECT seq, at, jobs FROM {events} WHERE seq > %(after)s::bigint ORDER BY seq LIMIT %(most)s::int",
)
FIND_EVENT = Sql("find_event", "SELECT true FROM {events} WHERE seq = %(seq)s::bigint")
BULK_CREATED = Sql(
    "bulk_created",
    "WITH " + tell("told", "unnest(%(ids)s::uuid[]) AS t(id)", "'job_created'") + " SELECT NULL::int",
)
FORGET_EVENTS = Sql(
    "forget_events",
    """
WITH silent AS (DELETE FROM {listeners} WHERE until < statement_timestamp())
DELETE FROM {events} WHERE at < statement_timestamp() - interval '10 minutes'""",
)


class Row(NamedTuple):
    """What one statement did to jobs: ``[(id, event), ...]``."""

    seq: int
    at: datetime
    jobs: list[tuple[UUID, str]]


_jobs = msgspec.json.Decoder(list[tuple[UUID, str]])


class Follower:
    """Reads each row once, whatever the order of commits.

    ``low``: all rows up to it have been seen or given up. A number that is missing may be of a transaction that has not
    committed; it is waited for ten seconds, and then taken for one that never will.
    """

    def __init__(self, low: int, now: Callable[[], float]) -> None:
        self.low = low
        self._now = now
        self._seen: dict[int, float] = {}
        """Rows above ``low`` that were seen, and when."""

    def read(self, link: Link) -> list[Row]:
        """The rows that are new, in order of their numbers."""
        rows = []
        after = self.low
        while True:
            page = link.rows(READ_EVENTS, {"after": after, "most": PAGE})
            rows += [Row(seq, at, _jobs.decode(jobs)) for seq, at, jobs in page if seq not in self._seen]
            if len(page) < PAGE:
                break
            after = page[-1][0]
        now = self._now()
        self._seen.update((row.seq, now) for row in rows)
        self._advance(now)
        return rows

    def _advance(self, now: float) -> None:
        for seq in sorted(self._seen):
            if seq != self.low + 1 and now - self._seen[seq] < GIVE_UP_SECONDS:
                break
            self.low = seq
            del self._seen[seq]


def listen(link: Link, id: UUID) -> int:
    """Have events written for ten minutes more; the number of the last there is."""
    return int(link.rows(LISTEN, {"id": id})[0][0])


def is_kept(link: Link, seq: int) -> bool:
    """Whether a row is still there, so that all after it are, too."""
    return bool(link.rows(FIND_EVENT, {"seq": seq}))


def forget(link: Link) -> None:
    """Delete what is old, and listeners that have gone."""
    link.rows(FORGET_EVENTS)
