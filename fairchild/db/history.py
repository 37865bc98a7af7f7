"""What was inserted, ended, waited and ran per minute, so that no chart and no count reads jobs.

Every end of a job adds to ``counters`` in its own transaction (db/ending.py). Once a minute one of the workers moves
what is over from there into ``minutes``, leaving one total per queue, task and state, so that ``counters`` stays small
and its sum is the number of ended jobs there are. Workers add how long jobs waited and ran (worker/tally.py). How many
were inserted is counted a minute later, from the range of primary keys of that minute: ids begin with their time. Only
jobs whose id was chosen by a caller, and those of transactions that took minutes to commit, are missed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from fairchild.db import wake
from fairchild.db.connect import Link
from fairchild.db.statement import Sql
from fairchild.rules.histogram import add, empty

# Every worker, with a beat, if it ran anything. One row for each task it ran.
ADD_TIMINGS = Sql(
    "add_timings",
    """
INSERT INTO {minutes} (minute, queue, task, waits, runs)
SELECT date_trunc('minute', statement_timestamp()), queue, task, waits, runs
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS t(queue text, task text, waits bigint[], runs bigint[])""",
)

# One worker at a time, once a minute each; the lock is the transaction's, so the statements after it see all that the
# one before has done.
LOCK_HISTORY = Sql("lock_history", "SELECT pg_try_advisory_xact_lock(%(key)s)")
MOVE_COUNTS = Sql(
    "move_counts",
    """
WITH over AS MATERIALIZED (
  SELECT ctid AS tid FROM {counters}
   WHERE minute < date_trunc('minute', statement_timestamp())
     AND EXISTS (SELECT FROM {counters} WHERE minute > 'epoch' AND minute < date_trunc('minute', statement_timestamp()))
   ORDER BY minute LIMIT 20000 FOR UPDATE SKIP LOCKED),
gone AS (
  DELETE FROM {counters} WHERE ctid = ANY(ARRAY(SELECT tid FROM over)) RETURNING minute, queue, task, state, n),
total AS (
  INSERT INTO {counters} (minute, queue, task, state, n)
  SELECT 'epoch', queue, task, state, sum(n) FROM gone GROUP BY queue, task, state HAVING sum(n) <> 0)
INSERT INTO {minutes} (minute, queue, task, completed, failed, cancelled)
SELECT minute, queue, task,
       coalesce(sum(n) FILTER (WHERE state = 'completed'), 0), coalesce(sum(n) FILTER (WHERE state = 'failed'), 0),
       coalesce(sum(n) FILTER (WHERE state = 'cancelled'), 0)
  FROM gone WHERE minute > 'epoch' AND n > 0 GROUP BY minute, queue, task""",
)
# A row of no queue and no task says that a minute has been counted. Index fairchild_jobs_base_pkey, the range of each
# minute with ten seconds more for clocks of clients that differ.
_ID = "(lpad(to_hex((extract(epoch FROM %s) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid"
COUNT_INSERTED = Sql(
    "count_inserted",
    """
WITH m AS MATERIALIZED (
  SELECT generate_series(
    greatest((SELECT max(minute) + interval '1 minute' FROM {minutes}
               WHERE minute > statement_timestamp() - interval '1 hour' AND queue = '' AND task = ''),
             date_trunc('minute', statement_timestamp()) - interval '5 minutes'),
    date_trunc('minute', statement_timestamp()) - interval '2 minutes', interval '1 minute') AS minute)
INSERT INTO {minutes} (minute, queue, task, inserted)
SELECT m.minute, j.queue, j.task, count(*)
  FROM m CROSS JOIN LATERAL (
    SELECT queue, task FROM {jobs}
     WHERE id >= """
    + _ID % "m.minute - interval '10 seconds'"
    + " AND id < "
    + _ID % "m.minute + interval '70 seconds'"
    + """
       AND inserted_at >= m.minute AND inserted_at < m.minute + interval '1 minute' OFFSET 0) j
 GROUP BY m.minute, j.queue, j.task
UNION ALL
SELECT minute, '', '', 0 FROM m""",
)
# Rows of `gone` that are of one minute, queue and task become one.
_SUM_UP = """sums AS (
  SELECT minute, queue, task, sum(inserted) AS inserted, sum(completed) AS completed, sum(failed) AS failed,
         sum(cancelled) AS cancelled FROM gone GROUP BY minute, queue, task),
buckets AS (
  SELECT g.minute, g.queue, g.task, b.kind, b.place, sum(b.n)::bigint AS n
    FROM gone g CROSS JOIN LATERAL (
      SELECT 'waits' AS kind, n, place FROM unnest(g.waits) WITH ORDINALITY w(n, place)
      UNION ALL
      SELECT 'runs', n, place FROM unnest(g.runs) WITH ORDINALITY r(n, place)) b
   GROUP BY g.minute, g.queue, g.task, b.kind, b.place),
shapes AS (
  SELECT minute, queue, task,
         array_agg(n ORDER BY place) FILTER (WHERE kind = 'waits') AS waits,
         array_agg(n ORDER BY place) FILTER (WHERE kind = 'runs') AS runs
    FROM buckets GROUP BY minute, queue, task)
INSERT INTO {minutes} (minute, queue, task, inserted, completed, failed, cancelled, waits, runs)
SELECT minute, queue, task, inserted, completed, failed, cancelled, waits, runs
  FROM sums LEFT JOIN shapes USING (minute, queue, task)"""
# Rows that belong together become one: soon after their minute, and by the hour after two days.
COMPACT = Sql(
    "compact_minutes",
    """
WITH keys AS MATERIALIZED (
  (SELECT minute, queue, task, minute AS target FROM {minutes}
    WHERE minute >= statement_timestamp() - interval '15 minutes'
      AND minute < date_trunc('minute', statement_timestamp()) - interval '3 minutes'
    GROUP BY minute, queue, task HAVING count(*) > 1)
  UNION ALL
  (SELECT DISTINCT minute, queue, task, date_trunc('hour', minute) FROM {minutes}
    WHERE minute < date_trunc('hour', statement_timestamp()) - interval '2 days'
      AND minute <> date_trunc('hour', minute) LIMIT 5000)),
gone AS (
  DELETE FROM {minutes} m USING keys k WHERE m.minute = k.minute AND m.queue = k.queue AND m.task = k.task
  RETURNING k.target AS minute, m.queue, m.task, m.inserted, m.completed, m.failed, m.cancelled, m.waits, m.runs),
"""
    + _SUM_UP,
)
# What the totals do not hold yet and will not change any more is added to them. They are kept in rows of their own, of
# the minute 'epoch'; the one of no queue and no task says up to when, in seconds.
_MARK = """
mark AS MATERIALIZED (
  SELECT coalesce((SELECT to_timestamp(inserted) FROM {minutes} WHERE minute = 'epoch' AND task = ''), 'epoch') AS low,
         least(date_trunc('minute', statement_timestamp()) - interval '5 minutes',
               (SELECT min(minute) FROM {counters} WHERE minute > 'epoch') - interval '1 minute') AS high)"""
ADD_TO_TOTALS = Sql(
    "add_to_totals",
    "WITH"
    + _MARK
    + """,
old AS (
  DELETE FROM {minutes} WHERE minute = 'epoch' AND (SELECT low < high FROM mark)
  RETURNING minute, queue, task, inserted, completed, failed, cancelled, waits, runs),
marked AS (
  INSERT INTO {minutes} (minute, queue, task, inserted)
  SELECT 'epoch', '', '', extract(epoch FROM high)::bigint FROM mark WHERE low < high),
gone AS (
  SELECT * FROM old WHERE task <> ''
  UNION ALL
  SELECT 'epoch', queue, task, inserted, completed, failed, cancelled, waits, runs FROM {minutes}
   WHERE minute > (SELECT low FROM mark) AND minute <= (SELECT high FROM mark) AND task <> ''),
"""
    + _SUM_UP,
)
FORGET = Sql(
    "forget_minutes",
    "DELETE FROM {minutes} WHERE minute > 'epoch' AND minute < statement_timestamp() - interval '90 days'",
)

# A page, at most once a second. What is over but not moved yet, and the minute at hand, are still in counters.
_KNOWN = """
known AS (
  SELECT minute, queue, task, inserted, completed, failed, cancelled FROM {minutes}
   WHERE minute >= (SELECT since FROM span)
  UNION ALL
  SELECT minute, queue, task, 0, CASE WHEN state = 'completed' THEN n ELSE 0 END,
         CASE WHEN state = 'failed' THEN n ELSE 0 END, CASE WHEN state = 'cancelled' THEN n ELSE 0 END
    FROM {counters} WHERE minute >= (SELECT since FROM span) AND n > 0)"""
READ_POINTS = Sql(
    "read_points",
    """
WITH span AS (
  SELECT date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s::int - 1) AS since),"""
    + _KNOWN
    + """,
sums AS (
  SELECT (extract(epoch FROM minute - (SELECT since FROM span)) / 60)::int / %(step)s::int AS place,
         sum(inserted) AS inserted, sum(completed) AS completed, sum(failed) AS failed,
         sum(cancelled) AS cancelled, bool_or(queue = '' AND task = '') AS counted
    FROM known
   WHERE (queue = '' AND task = '') OR (queue = coalesce(%(queue)s::text, queue)
                                        AND task = coalesce(%(task)s::text, task))
   GROUP BY place)
SELECT (SELECT since FROM span) + make_interval(mins => p.place * %(step)s::int),
       CASE WHEN s.counted THEN s.inserted::bigint END, coalesce(s.completed, 0)::bigint,
       coalesce(s.failed, 0)::bigint, coalesce(s.cancelled, 0)::bigint
  FROM generate_series(0, (%(minutes)s::int - 1) / %(step)s::int) AS p(place)
  LEFT JOIN sums s ON s.place = p.place ORDER BY p.place""",
)
READ_ENDED = Sql(
    "read_ended",
    """
WITH span AS (
  SELECT date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s::int - 1) AS since),"""
    + _KNOWN
    + """
SELECT queue, (extract(epoch FROM minute - (SELECT since FROM span)) / 60)::int,
       sum(completed + failed + cancelled)::bigint
  FROM known WHERE queue <> '' GROUP BY 1, 2""",
)
READ_TIMINGS = Sql(
    "read_timings",
    """
SELECT queue, task, sum(inserted)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(cancelled)::bigint,
       jsonb_agg(jsonb_build_array(waits, runs)) FILTER (WHERE waits IS NOT NULL)
  FROM {minutes}
 WHERE minute >= date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s::int - 1)
   AND task <> '' AND queue = coalesce(%(queue)s::text, queue) AND task = coalesce(%(task)s::text, task)
 GROUP BY queue, task ORDER BY queue, task""",
)

# A page, at most once a second. Index fairchild_minutes_by_minute. Arrays are added up by the client, which has them by
# column, task and queue; their number is bounded by the span.
READ_WAITS = Sql(
    "read_waits",
    """
WITH span AS (
  SELECT date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s::int - 1) AS since)
SELECT (extract(epoch FROM minute - (SELECT since FROM span)) / 60)::int / %(step)s::int, jsonb_agg(waits)
  FROM {minutes}
 WHERE minute >= (SELECT since FROM span) AND waits IS NOT NULL AND queue = coalesce(%(queue)s::text, queue)
 GROUP BY 1""",
)

# Whoever collects metrics, some times a minute.
READ_TOTALS = Sql(
    "read_totals",
    "WITH"
    + _MARK
    + """
SELECT queue, task, inserted::bigint, completed::bigint, failed::bigint, cancelled::bigint, waits, runs FROM {minutes}
 WHERE task <> '' AND (minute = 'epoch' OR minute > (SELECT low FROM mark))
UNION ALL
SELECT queue, task, 0, CASE WHEN state = 'completed' THEN n ELSE 0 END, CASE WHEN state = 'failed' THEN n ELSE 0 END,
       CASE WHEN state = 'cancelled' THEN n ELSE 0 END, NULL, NULL
  FROM {counters} WHERE minute > 'epoch' AND n > 0""",
)


class Point(NamedTuple):
    """What happened from ``minute`` on, in one minute or some. ``inserted`` is None until it has been counted."""

    minute: datetime
    inserted: int | None
    completed: int
    failed: int
    cancelled: int


class Timing(NamedTuple):
    """What a task did in a queue over some time; ``waits`` and ``runs`` are counts by bucket (rules/histogram.py)."""

    queue: str
    task: str
    inserted: int
    completed: int
    failed: int
    cancelled: int
    waits: list[int]
    runs: list[int]


def add_timings(link: Link, counts: dict[tuple[str, str], tuple[list[int], list[int]]]) -> None:
    """Add what a worker has seen: (waits, runs) by (queue, task)."""
    rows = [{"queue": queue, "task": task, "waits": w, "runs": r} for (queue, task), (w, r) in counts.items()]
    link.rows(ADD_TIMINGS, {"rows": msgspec.json.encode(rows).decode()})


def roll_up(link: Link) -> bool:
    """Move, count and compact what is over; False if another worker is doing so."""
    with link.atomic():
        if not link.rows(LOCK_HISTORY, {"key": wake.gate(link.schema + " history")})[0][0]:
            return False
        link.rows(MOVE_COUNTS)
        link.rows(COUNT_INSERTED)
        link.rows(COMPACT)
        link.rows(ADD_TO_TOTALS)
        link.rows(FORGET)
    return True


def read_points(link: Link, minutes: int, step: int, queue: str | None, task: str | None) -> list[Point]:
    """The last ``minutes``, ``step`` of them in each point, oldest first; the last point holds the minute at hand."""
    params = {"minutes": minutes, "step": step, "queue": queue, "task": task}
    return [Point(*row) for row in link.rows(READ_POINTS, params)]


def read_ended(link: Link, minutes: int) -> dict[str, list[int]]:
    """How many jobs of each queue ended in each of the last ``minutes``."""
    found: dict[str, list[int]] = {}
    for queue, place, number in link.rows(READ_ENDED, {"minutes": minutes}):
        found.setdefault(queue, [0] * minutes)[min(place, minutes - 1)] += number
    return found


def read_timings(link: Link, minutes: int, queue: str | None, task: str | None) -> list[Timing]:
    """What each task did in each queue in the last ``minutes``."""
    found = []
    for *first, shapes in link.rows(READ_TIMINGS, {"minutes": minutes, "queue": queue, "task": task}):
        waits, runs = empty(), empty()
        parts: list[Any] = [] if shapes is None else msgspec.json.decode(shapes)
        for some_waits, some_runs in parts:
            add(waits, some_waits)
            add(runs, some_runs)
        found.append(Timing._make([*first, waits, runs]))
    return found


def read_waits(link: Link, minutes: int, step: int, queue: str | None) -> list[list[int] | None]:
    """For each of the points that ``read_points`` gives, how long attempts had waited, as counts by bucket."""
    found: list[list[int] | None] = [None] * ((minutes - 1) // step + 1)
    for place, parts in link.rows(READ_WAITS, {"minutes": minutes, "step": step, "queue": queue}):
        sums = empty()
        for waits in msgspec.json.decode(parts):
            add(sums, waits)
        found[min(place, len(found) - 1)] = sums
    return found


def read_totals(link: Link) -> list[Timing]:
    """What each task has done in each queue since the tables were made; these numbers only grow."""
    found: dict[tuple[str, str], Timing] = {}
    for queue, task, *counts, waits, runs in link.rows(READ_TOTALS):
        own = found.get((queue, task)) or Timing(queue, task, 0, 0, 0, 0, empty(), empty())
        add(own.waits, waits or ())
        add(own.runs, runs or ())
        found[queue, task] = own._replace(
            inserted=own.inserted + counts[0], completed=own.completed + counts[1],
            failed=own.failed + counts[2], cancelled=own.cancelled + counts[3],
        )  # fmt: skip
    return [found[key] for key in sorted(found)]
