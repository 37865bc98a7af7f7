"""What attempts note while they run: progress, a cursor, lines of log. All of it names (job, claim) and is fenced.

A cursor is written at once, under a lock of the claim, so that an attempt whose claim is gone writes none. Progress and
lines come in batches, a moment later: they count while the claim is held, or if that claim's outcome is the one that
was recorded last. What comes from any other attempt is dropped and counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db.connect import Link
from fairchild.db.events import tell
from fairchild.db.statement import Sql
from fairchild.job import LogLine, level_name

# A task that asks for its cursor first, and each time it sets one. Keys only; waits for a finish of this very claim.
READ_CURSOR = Sql("read_cursor", "SELECT cursor::text FROM {progress} WHERE job_id = %(id)s::uuid")
WRITE_CURSOR = Sql(
    "write_cursor",
    """
WITH held AS MATERIALIZED (
  SELECT job_id FROM {claims} WHERE job_id = %(id)s::uuid AND claim_id = %(claim_id)s::uuid FOR KEY SHARE)
INSERT INTO {progress} (job_id, attempt, cursor, at)
SELECT job_id, %(attempt)s, %(cursor)s::jsonb, statement_timestamp() FROM held
ON CONFLICT (job_id) DO UPDATE SET cursor = excluded.cursor, at = excluded.at
RETURNING job_id""",
)

# Whether notes of an attempt a count; a probe of two primary keys.
_COUNTS = """CROSS JOIN LATERAL (
    SELECT FROM (
      SELECT FROM {claims} WHERE job_id = a.job_id AND claim_id = a.claim_id
      UNION ALL
      SELECT FROM {jobs} WHERE id = a.job_id AND claim_id = a.claim_id) c LIMIT 1) counts"""

# Each worker whose jobs note something, some times a second at most.
WRITE_PROGRESS = Sql(
    "write_progress",
    """
WITH noted AS (
INSERT INTO {progress} (job_id, attempt, value, total, message, at)
SELECT a.job_id, a.attempt, a.value, a.total, a.message, statement_timestamp()
  FROM jsonb_to_recordset(%(notes)s::jsonb) AS a(
    job_id uuid, claim_id uuid, attempt int, value float8, total float8, message text) """
    + _COUNTS
    + """
 ORDER BY a.job_id
ON CONFLICT (job_id) DO UPDATE
   SET attempt = excluded.attempt, value = excluded.value, total = excluded.total, message = excluded.message,
       at = excluded.at
RETURNING job_id),
"""
    + tell("told", "noted", "'job_progress'", "job_id")
    + "\nSELECT job_id FROM noted",
)
WRITE_LINES = Sql(
    "write_lines",
    """
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(notes)s::jsonb) AS t(
    n int, job_id uuid, claim_id uuid, attempt int, at float8, level smallint, logger text, message text,
    fields jsonb)),
counted AS MATERIALIZED (
  SELECT a.job_id, a.claim_id FROM (SELECT DISTINCT job_id, claim_id FROM input) a """
    + _COUNTS
    + """)
INSERT INTO {logs} (job_id, attempt, at, level, logger, message, fields)
SELECT i.job_id, i.attempt, to_timestamp(i.at), i.level, i.logger, i.message, i.fields
  FROM input i JOIN counted c ON c.job_id = i.job_id AND c.claim_id = i.claim_id ORDER BY i.n
RETURNING id""",
)

# For readers. Index fairchild_logs_by_job; an attempt has at most a thousand lines, so those of others are few.
READ_LINES = Sql(
    "read_lines",
    """
SELECT id, attempt, at, level, logger, message, fields::text FROM {logs}
 WHERE job_id = %(id)s::uuid AND id > %(after)s AND level >= %(level)s
   AND (attempt = %(attempt)s::int OR %(attempt)s::int IS NULL) ORDER BY id LIMIT %(limit)s""",
)
READ_LAST_LINES = Sql("read_last_lines", READ_LINES.text.replace("ORDER BY id", "ORDER BY id DESC"))


class ProgressNote(NamedTuple):
    """How far an attempt has come."""

    job_id: UUID
    claim_id: UUID
    attempt: int
    value: float
    total: float | None
    message: str | None


class LineNote(NamedTuple):
    """A line of an attempt's log. ``at``: seconds since the epoch, by the worker's clock."""

    job_id: UUID
    claim_id: UUID
    attempt: int
    at: float
    level: int
    logger: str
    message: str
    fields: dict[str, Any]


def read_cursor(link: Link, job_id: UUID) -> Any:
    """The last cursor that was set; None without one."""
    rows = link.rows(READ_CURSOR, {"id": job_id})
    return codec.decode(rows[0][0]) if rows and rows[0][0] is not None else None


def write_cursor(link: Link, job_id: UUID, claim_id: UUID, attempt: int, cursor: bytes) -> bool:
    """Set the cursor; False if the claim is gone, and then nothing is changed."""
    params = {"id": job_id, "claim_id": claim_id, "attempt": attempt, "cursor": cursor.decode()}
    return bool(link.rows(WRITE_CURSOR, params))


def write_progress(link: Link, notes: list[ProgressNote]) -> int:
    """Write progress, one note per job; how many counted."""
    return len(link.rows(WRITE_PROGRESS, {"notes": _document([each._asdict() for each in notes])}))


def write_lines(link: Link, notes: list[LineNote]) -> int:
    """Write lines, in their order; how many counted."""
    rows = [{**each._asdict(), "n": n, "fields": each.fields or None} for n, each in enumerate(notes)]
    return len(link.rows(WRITE_LINES, {"notes": _document(rows)}))


def read_lines(
    link: Link, job_id: UUID, *, after: int, level: int, attempt: int | None, limit: int, newest: bool
) -> list[LogLine]:
    """Lines behind ``after``, oldest first: the first ``limit`` of them, or the last with ``newest``."""
    params = {"id": job_id, "after": after, "level": level, "attempt": attempt, "limit": limit}
    rows = link.rows(READ_LAST_LINES, params)[::-1] if newest else link.rows(READ_LINES, params)
    return [
        LogLine(id_, attempt, at, level_name(level), logger, message, {} if fields is None else codec.decode(fields))
        for id_, attempt, at, level, logger, message, fields in rows
    ]


def _document(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()
