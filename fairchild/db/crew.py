"""The workers as others see them, and the tasks that they know."""

from __future__ import annotations

from typing import Any

import msgspec

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

# A page. A session that has not beaten for its lease is shown as lost before anybody has declared it dead.
READ_WORKERS = Sql(
    "read_workers",
    """
SELECT s.id, s.name, s.hostname, s.pid,
       CASE WHEN s.state IN ('dead', 'stopped') THEN s.state
            WHEN s.beat_at <= statement_timestamp() - make_interval(secs => s.lease_seconds) THEN 'lost'
            ELSE s.state END,
       s.queues, s.concurrency, coalesce(c.n, 0), s.started_at, s.beat_at,
       date_part('epoch', statement_timestamp() - s.beat_at), s.paused_at, s.ended_at, s.lease_seconds, s.catalog,
       s.metadata, s.vitals, c.queues
  FROM {sessions} s
  LEFT JOIN (SELECT session, sum(n)::bigint AS n, jsonb_object_agg(queue, n) AS queues
               FROM (SELECT session, queue, count(*) AS n FROM {claims} GROUP BY session, queue) q
              GROUP BY session) c ON c.session = s.id
 ORDER BY s.ended_at IS NOT NULL, s.name, s.started_at DESC LIMIT 1000""",
)
_WORKER = (
    "id", "name", "hostname", "pid", "state", "queues", "concurrency", "running", "started_at", "beat_at",
    "beat_seconds", "paused_at", "ended_at", "lease", "catalog", "metadata", "vitals", "running_by_queue",
)  # fmt: skip

# What an enqueue by name needs, and the page of tasks.
READ_CATALOGS = Sql(
    "read_catalogs",
    """
SELECT c.schemas, count(*) FROM {sessions} s JOIN {catalogs} c ON c.hash = s.catalog
 WHERE s.state IN ('running', 'paused', 'draining')
   AND s.beat_at > statement_timestamp() - make_interval(secs => s.lease_seconds)
 GROUP BY c.hash, c.schemas ORDER BY min(s.started_at)""",
)


# The page of a worker.
READ_CATALOG = Sql("read_catalog", "SELECT schemas FROM {catalogs} WHERE hash = %(hash)s")


def read_catalog(link: Link, digest: str | None) -> list[dict[str, Any]]:
    """The tasks of one catalogue by name; none if it is not kept any more."""
    rows = link.rows(READ_CATALOG, {"hash": digest})
    return sorted(msgspec.json.decode(rows[0][0]), key=lambda each: each["name"]) if rows else []


def read_workers(link: Link) -> list[dict[str, Any]]:
    """Each session, those that are over last; ``running`` is how many jobs it holds, ``vitals`` its last ones."""
    workers = []
    for row in link.rows(READ_WORKERS):
        worker = dict(zip(_WORKER, row, strict=True))
        for name in ("metadata", "vitals", "running_by_queue"):
            worker[name] = {} if worker[name] is None else msgspec.json.decode(worker[name])
        workers.append(worker)
    return workers


def read_tasks(link: Link) -> list[dict[str, Any]]:
    """The tasks of all live workers by name, each as its newest worker describes it, with the number of ``workers``."""
    tasks: dict[str, dict[str, Any]] = {}
    for schemas, workers in link.rows(READ_CATALOGS):
        for task in msgspec.json.decode(schemas):
            known = tasks.get(task["name"], {"workers": 0})
            tasks[task["name"]] = {**task, "workers": known["workers"] + workers}
    return [tasks[name] for name in sorted(tasks)]
