"""Where a worker's threads are: asked for and answered through its session's row.

Whoever asks sets ``stacks_asked_at`` and notifies; the worker hears it with its next beat, which that notification
brings at once, and writes what it has seen. One answer is kept for each session, with the time it was given, so it can
be looked at again and says how old it is. No variable's value is in it: files, lines, functions and the lines' text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.statement import Sql
from fairchild.db.workers import CHOSEN, LIVING

# For people: the sessions of one worker, by primary key or by a walk over all sessions, which are few.
ASK_STACKS = Sql(
    "ask_stacks",
    f"""
WITH asked AS (
  UPDATE {{sessions}} s SET stacks_asked_at = statement_timestamp() WHERE {LIVING} AND {CHOSEN} RETURNING s.id),
told AS (
  SELECT pg_notify(%(channel)s, %(beat)s) FROM (SELECT count(*) AS n FROM asked) a WHERE a.n > 0)
SELECT id FROM asked UNION ALL SELECT NULL FROM told""",
)

# By the worker, once for each time it was asked.
ANSWER_STACKS = Sql(
    "answer_stacks",
    "UPDATE {sessions} SET stacks = %(stacks)s::jsonb, stacks_at = statement_timestamp() WHERE id = %(id)s::uuid",
)

READ_STACKS = Sql(
    "read_stacks",
    """
SELECT id, name, hostname, pid, stacks_asked_at, stacks_at, stacks FROM {sessions}
 WHERE id = ANY(%(ids)s::uuid[]) AND stacks_asked_at IS NOT NULL ORDER BY name, started_at""",
)


class Frame(msgspec.Struct, frozen=True):
    """A place in code that a thread is at, or will return to."""

    file: str
    line: int
    function: str
    code: str = ""
    """The text of the line, if the file is there."""


class ThreadStack(msgspec.Struct, frozen=True):
    """One thread, its outermost frame first."""

    name: str
    frames: list[Frame]
    job: UUID | None = None
    """The job that it runs."""
    task: str | None = None
    attempt: int | None = None
    note: str = ""
    """Where these frames are, if not in the thread itself, or why there are none."""

    def __str__(self) -> str:
        runs = "" if self.job is None else f", job {self.job} ({self.task}, attempt {self.attempt})"
        return f"{self.name}{runs}{f': {self.note}' if self.note else ''}\n{self.traceback}"

    @property
    def traceback(self) -> str:
        """The frames as Python prints those of a traceback."""
        return "".join(
            f'  File "{each.file}", line {each.line}, in {each.function}\n'
            + (f"    {each.code}\n" if each.code else "")
            for each in self.frames
        )


@dataclass(frozen=True)
class Stacks:
    """What a worker has said of its threads; ``at`` is None, and ``threads`` are none, while it has said nothing."""

    id: UUID
    """Of the session."""
    worker: str
    hostname: str
    pid: int
    asked_at: datetime
    at: datetime | None
    threads: list[ThreadStack] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether this answers the last question."""
        return self.at is not None and self.at >= self.asked_at

    def of_job(self, job: UUID) -> ThreadStack | None:
        """The thread that ran a job."""
        return next((each for each in self.threads if each.job == job), None)

    def __str__(self) -> str:
        when = "has not answered yet" if self.at is None else f"as of {self.at:%Y-%m-%d %H:%M:%S %Z}"
        return "\n".join([f"{self.worker} ({self.hostname}, process {self.pid}), {when}", "", *map(str, self.threads)])

    def to_dict(self) -> dict[str, Any]:
        """All of it, in JSON's own types."""
        return {
            "id": str(self.id), "worker": self.worker, "hostname": self.hostname, "pid": self.pid,
            "asked_at": self.asked_at.isoformat(), "at": None if self.at is None else self.at.isoformat(),
            "threads": msgspec.to_builtins(self.threads),
        }  # fmt: skip


class _Row(NamedTuple):
    id: UUID
    name: str
    hostname: str
    pid: int
    asked_at: datetime
    at: datetime | None
    stacks: bytes | str | None


_threads = msgspec.json.Decoder(list[ThreadStack])


def ask(link: Link, names: list[str]) -> list[UUID]:
    """Ask sessions by their ids or their workers' names; those that were asked."""
    params = {"names": names, "channel": wake.channel(link.schema), "beat": wake.BEAT}
    return [row[0] for row in link.rows(ASK_STACKS, params) if row[0] is not None]


def answer(link: Link, session: UUID, threads: list[ThreadStack]) -> None:
    """Keep what a session has seen, in place of what it has said before."""
    link.rows(ANSWER_STACKS, {"id": session, "stacks": msgspec.json.encode(threads).decode()})


def read(link: Link, ids: list[UUID]) -> list[Stacks]:
    """What sessions were asked and have said, of those that were."""
    return [
        Stacks(*row[:6], threads=[] if row.stacks is None else _threads.decode(row.stacks))
        for row in map(_Row._make, link.rows(READ_STACKS, {"ids": ids}))
    ]
