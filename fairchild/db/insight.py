"""What the pages show of the whole besides counts: kinds of errors, what runs longest, what comes next, the server.

Everything here reads a bounded number of rows, however many jobs there are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.search import FINGERPRINT
from fairchild.db.statement import NAMES, PREFIX, Sql

ERRORS_READ = 5000
NEXT_READ = 5000
RUNS_READ = 5000

DATABASE_TIME = Sql("database_time", "SELECT statement_timestamp()")
# Every two seconds while somebody looks at pages.
MAY_WRITE = Sql(
    "may_write",
    """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean,
       (SELECT has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %(schema)s AND c.relname = %(jobs)s)""",
)

# The newest failed jobs by index fairchild_jobs_by_reason, by the fingerprint of what ended them; all, or one of them.
ERROR_GROUPS = Sql(
    "error_groups",
    f"""
WITH failed AS MATERIALIZED (
  SELECT id, task, tenant, ended_at, errors -> -1 AS error FROM {{jobs}}
   WHERE reason IS NOT NULL AND state = 'failed' ORDER BY id DESC LIMIT {ERRORS_READ}),
printed AS (
  SELECT *, {FINGERPRINT.format(error="error", task="task")} AS fp FROM failed)
SELECT fp, task,
       coalesce(error ->> 'type', error ->> 'kind', 'failed'),
       left((array_agg(error ->> 'message' ORDER BY id DESC))[1], 300),
       count(*), min(ended_at), max(ended_at), (array_agg(id ORDER BY id DESC))[1], count(DISTINCT tenant),
       array_agg(least(greatest(23 - floor(extract(epoch FROM statement_timestamp() - ended_at) / 3600), -1), 23)::int),
       (SELECT at FROM {{muted}} WHERE fingerprint = fp), (SELECT who FROM {{muted}} WHERE fingerprint = fp)
  FROM printed WHERE fp = %(fingerprint)s::text OR %(fingerprint)s::text IS NULL
 GROUP BY 1, 2, 3 ORDER BY max(ended_at) DESC LIMIT 100""",
)

MUTE = Sql(
    "mute",
    "INSERT INTO {muted} (fingerprint, who) VALUES (%(fingerprint)s, %(who)s) ON CONFLICT (fingerprint) DO NOTHING"
    " RETURNING true",
)
UNMUTE = Sql("unmute", "DELETE FROM {muted} WHERE fingerprint = %(fingerprint)s RETURNING true")

# Who has run longest. fairchild_claims holds no more rows than workers have threads.
LONGEST = Sql("longest_running", "SELECT job_id FROM {claims} ORDER BY claimed_at LIMIT %(limit)s")

# How many of the next jobs to come due have attempts behind them. Index fairchild_due_by_time.
COMING = Sql(
    "coming",
    f"""
SELECT count(*) FILTER (WHERE j.attempt > 0), count(*), min(d.run_at), min(d.run_at) FILTER (WHERE j.attempt > 0)
  FROM (SELECT job_id, run_at FROM {{due}} ORDER BY run_at LIMIT {NEXT_READ}) d JOIN {{jobs}} j ON j.id = d.job_id""",
)

# The same by queue, for the list of queues.
RETRYING = Sql(
    "retrying_by_queue",
    f"""
SELECT d.queue, count(*) FROM (SELECT job_id, queue FROM {{due}} ORDER BY run_at LIMIT {NEXT_READ}) d
  JOIN {{jobs}} j ON j.id = d.job_id WHERE j.attempt > 0 GROUP BY d.queue""",
)

# What a banner says, with each look at the overview. Transactions that keep vacuum from removing what is dead, also
# those that were prepared and left; and up to when the workers have counted what was inserted, which they do each
# minute: index fairchild_minutes_by_minute, the newest first.
TROUBLE = Sql(
    "trouble",
    """
SELECT least((SELECT min(xact_start) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                 AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)),
             (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database())),
       (SELECT minute + interval '2 minutes' FROM {minutes}
         WHERE minute > statement_timestamp() - interval '1 hour' AND queue = '' AND task = ''
         ORDER BY minute DESC LIMIT 1),
       pg_notification_queue_usage()""",
)

# The runs of one task among the newest jobs of all: no index is by task, and one would cost every job. Primary key.
PAST_RUNS = Sql(
    "past_runs",
    f"""
SELECT id, state, greatest(date_part('epoch', ended_at - attempted_at), 0)
  FROM (SELECT id, task, state, attempted_at, ended_at FROM {{jobs}} ORDER BY id DESC LIMIT {RUNS_READ}) j
 WHERE task = %(task)s AND ended_at IS NOT NULL AND attempted_at IS NOT NULL ORDER BY id DESC LIMIT %(limit)s""",
)

SERVER = Sql(
    "server",
    """
SELECT current_setting('server_version'), pg_database_size(current_database()), pg_postmaster_start_time(),
       (SELECT min(xact_start) FROM pg_stat_activity
         WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()),
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
       current_setting('max_connections')::int, pg_notification_queue_usage()""",
)
TABLES = Sql(
    "tables",
    """
SELECT relname, greatest(n_live_tup, 0), n_dead_tup, pg_total_relation_size(relid),
       greatest(last_vacuum, last_autovacuum)
  FROM pg_stat_user_tables WHERE schemaname = %(schema)s AND relname LIKE %(prefix)s ORDER BY 4 DESC""",
)


# The menu of the pages, four times a minute in each process. Workflows by a loose scan of fairchild_jobs_by_workflow,
# the newest failures by fairchild_jobs_by_reason; sessions and their catalogues are few.
MENU = Sql(
    "menu",
    f"""
WITH RECURSIVE w AS (
  (SELECT workflow_id AS id, 1 AS n FROM {{jobs}} WHERE parent_id IS NOT NULL ORDER BY workflow_id DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT workflow_id FROM {{jobs}}
           WHERE parent_id IS NOT NULL AND workflow_id < w.id ORDER BY workflow_id DESC LIMIT 1), w.n + 1
    FROM w WHERE w.id IS NOT NULL AND w.n <= %(most)s::int),
failed AS MATERIALIZED (
  SELECT task, errors -> -1 AS error FROM {{jobs}}
   WHERE reason IS NOT NULL AND state = 'failed' ORDER BY id DESC LIMIT {ERRORS_READ}),
living AS MATERIALIZED (
  SELECT catalog FROM {{sessions}}
   WHERE state IN ('running', 'paused', 'draining')
     AND beat_at > statement_timestamp() - make_interval(secs => lease_seconds))
SELECT (SELECT count(id) FROM w)::int, (SELECT count(*) FROM living)::int,
       (SELECT count(DISTINCT fp)
          FROM (SELECT {FINGERPRINT.format(error="error", task="task")} AS fp FROM failed) f
         WHERE NOT EXISTS (SELECT FROM {{muted}} WHERE fingerprint = f.fp))::int,
       (SELECT count(DISTINCT t ->> 'name') FROM {{catalogs}} c CROSS JOIN jsonb_array_elements(c.schemas) t
         WHERE c.hash IN (SELECT catalog FROM living))::int,
       split_part(current_setting('server_version'), ' ', 1)""",
)


class Menu(NamedTuple):
    """How many there are of what no counter counts. ``workflows`` is at most one more than was asked for."""

    workflows: int
    workers: int
    errors: int
    tasks: int
    server: str
    """PostgreSQL's version."""


class ErrorGroup(NamedTuple):
    """Failed jobs that ended by the same error, as rules/fingerprint.py says what that is."""

    fingerprint: str
    task: str
    type: str
    message: str | None
    """Of the newest of them."""
    jobs: int
    first_at: datetime
    last_at: datetime
    sample: UUID
    tenants: int
    hours: list[int]
    """For each job, the place from 0 to 23 of its hour in the last day; -1 before it."""
    muted_at: datetime | None = None
    """Since when nobody wants to be shown it."""
    muted_by: str | None = None

    def by_hour(self) -> list[int]:
        """How many failed in each of the last 24 hours, oldest first."""
        return [self.hours.count(hour) for hour in range(24)]


class PastRun(NamedTuple):
    """The last run of a job that has ended."""

    id: UUID
    state: str
    seconds: float


class Coming(NamedTuple):
    """The scheduled jobs that come due next, at most ``NEXT_READ`` of them."""

    retrying: int
    read: int
    next_at: datetime | None
    next_retry_at: datetime | None


class Trouble(NamedTuple):
    """What keeps the store from being in order."""

    oldest_transaction_at: datetime | None
    """Since when vacuum is held back, of what the role may see."""
    upkeep_at: datetime | None
    """When the workers have last rolled up the history, if they have in the last hour."""
    notify_used: float
    """Of the server's queue of notifications; 1 is full."""


class Server(NamedTuple):
    """The PostgreSQL server and its database."""

    version: str
    database_bytes: int
    started_at: datetime
    oldest_transaction_at: datetime | None
    connections: int
    max_connections: int
    notify_used: float


class TableFacts(NamedTuple):
    """One of fairchild's tables, as the server's statistics have it."""

    name: str
    rows: int
    dead: int
    size: int
    vacuumed_at: datetime | None


def database_time(link: Link) -> datetime:
    """Now, by the clock that decides."""
    moment: datetime = link.rows(DATABASE_TIME)[0][0]
    return moment


def menu(link: Link, most: int) -> Menu:
    """What the menu says; workflows are counted up to ``most`` and one more."""
    return Menu(*link.rows(MENU, {"most": most})[0])


def refusal(link: Link) -> str | None:
    """Why nothing can be written here now, if that is so."""
    standby, reads_only, granted = link.rows(MAY_WRITE, {"schema": link.schema, "jobs": NAMES["jobs"]})[0]
    if standby:
        return "this database is a standby, which only reads"
    if reads_only:
        return "default_transaction_read_only is set here, so the database only reads"
    return "the database lets its user here only read" if granted is False else None


def error_groups(link: Link, fingerprint: str | None = None) -> list[ErrorGroup]:
    """The newest failures by their fingerprints, the latest first; of one fingerprint if it is given."""
    return [ErrorGroup(*row) for row in link.rows(ERROR_GROUPS, {"fingerprint": fingerprint})]


def mute(link: Link, fingerprint: str, who: str) -> bool:
    """Show an error no more among those that need attention, until ``unmute``. Whether it was shown before."""
    return bool(link.rows(MUTE, {"fingerprint": fingerprint, "who": who}))


def unmute(link: Link, fingerprint: str) -> bool:
    """Show it again. Whether it was not shown before."""
    return bool(link.rows(UNMUTE, {"fingerprint": fingerprint}))


def longest_running(link: Link, limit: int) -> list[UUID]:
    """The jobs that have run longest."""
    return [row[0] for row in link.rows(LONGEST, {"limit": limit})]


def past_runs(link: Link, task: str, limit: int) -> list[PastRun]:
    """The newest jobs of a task that have run and ended, newest first, as far as they are among the newest of all."""
    return [PastRun(*row) for row in link.rows(PAST_RUNS, {"task": task, "limit": limit})]


def coming(link: Link) -> Coming:
    """What is due next."""
    return Coming(*link.rows(COMING)[0])


def retrying(link: Link) -> dict[str, int]:
    """By queue, how many of the next jobs to come due have attempts behind them."""
    return dict(link.rows(RETRYING))


def trouble(link: Link) -> Trouble:
    """What banners and health checks look at."""
    return Trouble(*link.rows(TROUBLE)[0])


def server(link: Link) -> tuple[Server, list[TableFacts]]:
    """The server, and fairchild's tables, the largest first."""
    params: dict[str, Any] = {"schema": link.schema, "prefix": PREFIX.replace("_", r"\_") + "%"}
    return Server(*link.rows(SERVER)[0]), [TableFacts(*row) for row in link.rows(TABLES, params)]
