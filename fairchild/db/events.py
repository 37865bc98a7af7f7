"""The log of what happens to jobs, for those who listen.

It is written only while somebody listens, or has in the last minutes: each statement that moves jobs asks once, of a
table that is mostly empty, and then adds one row for all of its jobs, in its own transaction. A row's number is drawn
before its transaction commits, so a reader may see a later row first: see ``Follower``. Rows are kept for ten minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild.db.connect import Link
from fairchild.db.statement import Sql
from fairchild.errors import UsageError

GIVE_UP_SECONDS = 10.0
PAGE = 500

_LISTENED = "(SELECT true FROM {listeners} WHERE until > statement_timestamp() LIMIT 1)"


def tell(name: str, source: str, event: str, id: str = "id", condition: str = "true") -> str:
    """A CTE that adds a row for the jobs of another; ``event`` and ``condition`` are expressions of its columns."""
    return (
        f"{name} AS (\n  INSERT INTO {{events}} (jobs) SELECT jsonb_agg(jsonb_build_array({id}, {event})) FROM {source}"
        f"\n   WHERE {_LISTENED} AND {condition} HAVING count(*) > 0)"
    )


ABOUT_WORKER = "'worker_id', id, 'name', name, 'hostname', hostname"


def tell_others(name: str, source: str, event: str, about: str, condition: str = "true") -> str:
    """The same of what is no job: ``event`` as ``worker_started`` is, ``about`` the arguments of a JSON object."""
    return (
        f"{name} AS (\n  INSERT INTO {{events}} (jobs, others)"
        f" SELECT '[]', jsonb_agg(jsonb_build_object('event', {event}, {about})) FROM {source}"
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
    "SELECT seq, at, jobs, others::text FROM {events} WHERE seq > %(after)s::bigint ORDER BY seq LIMIT %(most)s::int",
)
# Who asks now and then. Index fairchild_events_pkey.
READ_AFTER = Sql(
    "read_events_after",
    """
SELECT seq, at, jobs, others::text FROM {events} WHERE seq = ANY(%(missing)s::bigint[])
UNION ALL
(SELECT seq, at, jobs, others::text FROM {events} WHERE seq > %(after)s::bigint ORDER BY seq LIMIT %(most)s::int)
ORDER BY 1""",
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
    """What one statement did to jobs, ``[(id, event), ...]``, or to others."""

    seq: int
    at: datetime
    jobs: list[tuple[UUID, str]]
    others: list[dict[str, Any]]
    """What happened to workers and queues: ``{event, ...}``."""


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
            rows += [
                Row(seq, at, _jobs.decode(jobs), [] if others is None else msgspec.json.decode(others))
                for seq, at, jobs, others in page
                if seq not in self._seen
            ]
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


class Place(NamedTuple):
    """Up to where somebody has read who asks now and then, as the text that they keep meanwhile.

    A number below ``high`` that is missing may be of a transaction that has not committed: it is looked for for ten
    seconds from when it was missed. As long as ``at`` is not long ago, all that came since is kept.
    """

    high: int
    at: int | None = None
    """When, in seconds; None: not known, as for the number of an event."""
    missing: tuple[tuple[int, int], ...] = ()
    """Numbers, and when they were missed."""

    @staticmethod
    def parse(text: str) -> Place:
        """Raises UsageError for what is none."""
        if not _PLACE.fullmatch(text):
            raise UsageError("after is what an answer gave as such, or the seq of an event")
        high, *more = text.split(".")
        pairs = (each.split("-") for each in more[1:])
        return Place(int(high), int(more[0]) if more else None, tuple((int(a), int(b)) for a, b in pairs))

    def __str__(self) -> str:
        return ".".join([str(self.high), str(self.at or 0), *(f"{number}-{since}" for number, since in self.missing)])

    @property
    def low(self) -> int:
        """The row up to which all are known."""
        return min([number for number, _ in self.missing], default=self.high + 1) - 1

    def read(self, link: Link, now: float, most: int) -> tuple[list[Row], Place]:
        """The rows that are new, about as many as have ``most`` events, and the place after them."""
        missing = [number for number, _ in self.missing]
        rows: list[Row] = []
        number = 0
        for seq, at, jobs, others in link.rows(READ_AFTER, {"after": self.high, "missing": missing, "most": PAGE}):
            row = Row(seq, at, _jobs.decode(jobs), [] if others is None else msgspec.json.decode(others))
            rows.append(row)
            number += len(row.jobs) + len(row.others)
            if number >= most and seq > self.high:
                break
        found = {row.seq for row in rows}
        high = max([self.high, *found])
        gaps = [(each, int(now)) for each in range(max(self.high + 1, high - _MOST_MISSING), high) if each not in found]
        left = [each for each in self.missing if each[0] not in found and now - each[1] < GIVE_UP_SECONDS]
        return rows, Place(high, int(now), tuple([*left, *gaps][-_MOST_MISSING:]))


_PLACE = re.compile(r"[0-9]{1,18}(\.[0-9]{1,11}(\.[0-9]{1,18}-[0-9]{1,11}){0,50})?", re.ASCII)
_MOST_MISSING = 50


JOB_EVENTS = (
    "job_created", "job_ready", "job_started", "job_progress", "job_waiting", "job_timeout", "job_retrying",
    "job_completed", "job_failed", "job_cancelled",
)  # fmt: skip
OTHER_EVENTS = (
    "worker_started", "worker_paused", "worker_resumed", "worker_stopping", "worker_stopped", "worker_lost",
    "queue_paused", "queue_resumed",
)  # fmt: skip


class Filter(NamedTuple):
    """Which events a listener wants."""

    names: frozenset[str]
    queue: str | None
    job: UUID | None

    @staticmethod
    def of(events: str | Iterable[str] | None, queue: str | None, job: UUID | None) -> Filter:
        """``events``: names, also with ``*`` at the end; None: all of jobs. Raises UsageError if none is called so."""
        if events is None:
            return Filter(frozenset(JOB_EVENTS), queue, job)
        names: set[str] = set()
        for each in [events] if isinstance(events, str) else events:
            start, star, rest = each.partition("*")
            found = {
                name for name in (*JOB_EVENTS, *OTHER_EVENTS) if (name.startswith(start) if star else name == each)
            }
            if not found or rest:
                raise UsageError(f"no event is called {each!r}; there are {', '.join((*JOB_EVENTS, *OTHER_EVENTS))}")
            names |= found
        return Filter(frozenset(names), queue, job)

    def takes_job(self, job_id: UUID, event: str) -> bool:
        """Whether what happened to a job is wanted, as far as can be said without its queue."""
        return event in self.names and self.job in (None, job_id)

    def takes_other(self, other: dict[str, Any]) -> bool:
        """Whether what happened to a worker or a queue is wanted."""
        if self.job is not None or other.get("event") not in self.names:
            return False
        return self.queue is None or other.get("queue") == self.queue


def listen(link: Link, id: UUID) -> int:
    """Have events written for ten minutes more; the number of the last there is."""
    return int(link.rows(LISTEN, {"id": id})[0][0])


def is_kept(link: Link, seq: int) -> bool:
    """Whether a row is still there, so that all after it are, too."""
    return bool(link.rows(FIND_EVENT, {"seq": seq}))


def forget(link: Link) -> None:
    """Delete what is old, and listeners that have gone."""
    link.rows(FORGET_EVENTS)
