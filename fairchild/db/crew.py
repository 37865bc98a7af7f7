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
       s.metadata
  FROM {sessions} s LEFT JOIN (SELECT session, count(*) AS n FROM {claims} GROUP BY session) c ON c.session = s.id
 ORDER BY s.ended_at IS NOT NULL, s.name, s.started_at DESC LIMIT 1000""",
)
_WORKER = (
    "id", "name", "hostname", "pid", "state", "queues", "concurrency", "running", "started_at", "beat_at",
    "beat_seconds", "paused_at", "ended_at", "lease", "catalog", "metadata",
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


def read_workers(link: Link) -> list[dict[str, Any]]:
    """Each session, those that are over last; ``running`` is how many jobs it holds."""
    workers = []
    for row in link.rows(READ_WORKERS):
        worker = dict(zip(_WORKER, row, strict=True))
        worker["metadata"] = {} if worker["metadata"] is None else msgspec.json.decode(worker["metadata"])
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
