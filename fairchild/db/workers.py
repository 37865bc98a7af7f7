"""Worker sessions as people see and steer them. What they ask is heard with the next beat, and at once by NOTIFY.

The claim statement looks at the session's state itself, so a pause or a stop counts from the moment it is committed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from fairchild import codec
from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.events import ABOUT_WORKER, tell_others
from fairchild.db.statement import Sql


class WorkerState(str, Enum):
    """What a worker does. A plain string compares equal."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class WorkerInfo:
    """One session of a worker, as it stood when it was read."""

    id: UUID
    """Of the session: every start of a worker has another."""
    name: str
    hostname: str
    pid: int
    queues: list[str] | None
    """None: all."""
    state: WorkerState
    """``dead`` also when nobody has noticed yet that its last beat is older than its lease."""
    concurrency: int
    busy: int
    """Jobs that it holds."""
    started_at: datetime
    beat_at: datetime
    paused_at: datetime | None
    ended_at: datetime | None
    lease: float
    metadata: dict[str, Any]
    """``kind`` ("worker", or "consumer" for a program that claims by hand), ``version``, ``python``, ``platform``."""
    tasks: list[str]
    """The names of the tasks that it runs."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's own types."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (UUID, WorkerState)):
                value = str(value)
            elif isinstance(value, datetime):
                value = value.isoformat()
            plain[each.name] = value
        return plain


# By a session's id or by a worker's name; the name of a worker of several processes stands for all of them.
CHOSEN = """EXISTS (SELECT 1 FROM unnest(%(names)s::text[]) n
                 WHERE n = s.id::text OR n = s.name OR n || '.' = left(s.name, length(n) + 1))"""
LIVING = "s.state IN ('running', 'paused', 'draining')"

# For people and pages: sessions are few, and claims holds what runs now.
LIST_WORKERS = Sql(
    "list_workers",
    """
SELECT s.id, s.name, s.hostname, s.pid, s.queues,
       CASE WHEN """
    + LIVING
    + """ AND s.beat_at < statement_timestamp() - make_interval(secs => s.lease_seconds)
            THEN 'dead' ELSE s.state END,
       s.concurrency, coalesce(h.n, 0), s.started_at, s.beat_at, s.paused_at, s.ended_at, s.lease_seconds,
       coalesce(s.metadata, '{{}}')::text,
       ARRAY(SELECT t->>'name' FROM jsonb_array_elements(c.schemas) t)
  FROM {sessions} s LEFT JOIN {catalogs} c ON c.hash = s.catalog
  LEFT JOIN (SELECT session, count(*)::int AS n FROM {claims} GROUP BY session) h ON h.session = s.id
 WHERE (%(ended)s OR """
    + LIVING
    + ") AND (%(names)s::text[] IS NULL OR "
    + CHOSEN
    + """)
 ORDER BY s.name, s.started_at""",
)

CHANGE_STATE = Sql(
    "change_worker_state",
    """
WITH changed AS (
  UPDATE {sessions} s
     SET state = %(state)s,
         paused_at = CASE %(state)s WHEN 'paused' THEN statement_timestamp() WHEN 'draining' THEN s.paused_at END
   WHERE s.state = ANY(%(before)s::text[]) AND """
    + CHOSEN
    + """
  RETURNING s.id, s.name, s.hostname, s.state),
"""
    + tell_others(
        "told",
        "changed",
        "CASE state WHEN 'paused' THEN 'worker_paused' WHEN 'running' THEN 'worker_resumed' ELSE 'worker_stopping' END",
        ABOUT_WORKER,
    )
    + """
SELECT pg_notify(%(channel)s, %(beat)s) FROM (SELECT count(*) AS n FROM changed) c WHERE c.n > 0""",
)

_BEFORE = {
    WorkerState.PAUSED: ["running"],
    WorkerState.RUNNING: ["paused"],
    WorkerState.DRAINING: ["running", "paused"],
}


def list_workers(link: Link, names: list[str] | None = None, *, ended: bool = False) -> list[WorkerInfo]:
    """The sessions that are not over, and with ``ended`` those that have ended within the hour."""
    found = []
    for row in link.rows(LIST_WORKERS, {"names": names, "ended": ended}):
        values = dict(zip((each.name for each in fields(WorkerInfo)), row, strict=True))
        values["state"] = WorkerState(values["state"])
        values["metadata"] = codec.decode(values["metadata"])
        found.append(WorkerInfo(**values))
    return found


def change_state(link: Link, names: list[str], state: WorkerState) -> None:
    """Pause, resume (RUNNING) or stop (DRAINING) sessions; those that are so already are left as they are."""
    link.rows(
        CHANGE_STATE,
        {
            "names": names,
            "state": state.value,
            "before": _BEFORE[state],
            "channel": wake.channel(link.schema),
            "beat": wake.BEAT,
        },
    )
