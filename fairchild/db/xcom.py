"""Values shared inside a workflow, each under a namespace and a key.

What an attempt does to them is kept with its outcome and done in the transaction that records it, in the order of the
calls; an attempt that fails does nothing. ``@task(xcom_key=...)`` stores which job's result the value is, not the
result: that is there as soon as the job has completed, and for a job that failed after all there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from fairchild import codec
from fairchild.db.connect import Link
from fairchild.db.statement import Sql


@dataclass(slots=True)
class Change:
    """One change of a shared value. ``kind``: set, absent (set unless there is one), result, incr, append, clear."""

    kind: str
    namespace: str
    key: str | None = None
    """None clears the namespace."""
    value: bytes | None = None
    """JSON text; for 'incr' a number, for 'append' a list."""
    ttl: float | None = None
    """Seconds after which the value is gone."""


# What an expired value leaves behind is as good as nothing, until the sweep takes it away.
_GONE = "x.expires_at <= statement_timestamp()"
_INSERT = """
INSERT INTO {xcom} AS x (workflow_id, namespace, key, value, job_id, expires_at)
SELECT workflow_id, namespace, key, coalesce(value, 'null'::jsonb), job_id,
       statement_timestamp() + ttl * interval '1 second'
  FROM jsonb_to_recordset(%(changes)s::jsonb) AS t(
    workflow_id uuid, namespace text, key text, value jsonb, job_id uuid, ttl float8)
 ORDER BY workflow_id, namespace, key
ON CONFLICT (workflow_id, namespace, key) DO UPDATE
   SET job_id = excluded.job_id, expires_at = """
_NEW = "excluded.expires_at, value = excluded.value"
_KEPT = (
    "CASE WHEN " + _GONE + " THEN excluded.expires_at ELSE coalesce(excluded.expires_at, x.expires_at) END, value = "
)

# The finish of attempts that share values; primary key only, locks in order of the keys.
CHANGES = {
    "set": Sql("xcom_set", _INSERT + _NEW),
    "absent": Sql("xcom_set_absent", _INSERT + _NEW + " WHERE " + _GONE),
    "incr": Sql(
        "xcom_incr",
        _INSERT
        + _KEPT
        + "CASE WHEN "
        + _GONE
        + " THEN excluded.value ELSE to_jsonb(x.value::numeric + excluded.value::numeric) END",
    ),
    "append": Sql(
        "xcom_append",
        _INSERT + _KEPT + "CASE WHEN " + _GONE + " THEN excluded.value ELSE x.value || excluded.value END",
    ),
    "clear": Sql(
        "xcom_clear",
        """
DELETE FROM {xcom} x
 USING jsonb_to_recordset(%(changes)s::jsonb) AS t(workflow_id uuid, namespace text, key text)
 WHERE x.workflow_id = t.workflow_id AND x.namespace = t.namespace AND (t.key IS NULL OR x.key = t.key)""",
    ),
}
CHANGES["result"] = CHANGES["set"]

# A running job, once for each value it asks for; and the client. One probe of the primary key, one of the job's row.
PULL = Sql(
    "xcom_pull",
    """
SELECT CASE WHEN x.job_id IS NULL THEN x.value::text
            ELSE (SELECT result::text FROM {jobs} WHERE id = x.job_id AND state = 'completed') END
  FROM {xcom} x
 WHERE x.workflow_id = %(workflow)s::uuid AND x.namespace = %(namespace)s AND x.key = %(key)s
   AND NOT coalesce("""
    + _GONE
    + ", false)",
)
KEYS = Sql(
    "xcom_keys",
    """
SELECT x.key FROM {xcom} x
 WHERE x.workflow_id = %(workflow)s::uuid AND x.namespace = %(namespace)s AND NOT coalesce("""
    + _GONE
    + ", false) ORDER BY x.key",
)
# Any worker, once a minute. Index fairchild_xcom_by_expiry.
DROP_EXPIRED = Sql(
    "xcom_drop_expired",
    """
DELETE FROM {xcom} WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM {xcom} WHERE expires_at <= statement_timestamp() LIMIT 10000 FOR UPDATE SKIP LOCKED))""",
)


def apply(link: Link, workflow_id: UUID, job_id: UUID | None, changes: Iterable[Change]) -> None:
    """Do to a workflow's values what a job (or nobody) has asked for, in that order, in the caller's transaction."""
    for kind, group in groupby(changes, key=lambda change: change.kind):
        rows: dict[tuple[str, str | None], dict[str, Any]] = {}
        for change in group:
            place = (change.namespace, change.key)
            row = {
                "workflow_id": workflow_id,
                "namespace": change.namespace,
                "key": change.key,
                "ttl": change.ttl,
                "job_id": job_id if kind == "result" else None,
                "value": None if change.value is None else msgspec.Raw(_merged(kind, rows.get(place), change.value)),
            }
            if kind != "absent" or place not in rows:
                rows[place] = row
        link.rows(CHANGES[kind], {"changes": msgspec.json.encode(list(rows.values())).decode()})


def _merged(kind: str, before: dict[str, Any] | None, value: bytes) -> bytes:
    """A statement changes a key once: what several calls add to it is added up first."""
    if before is None or kind not in ("incr", "append"):
        return value
    return codec.encode(codec.decode(bytes(before["value"])) + codec.decode(value)).json


def pull(link: Link, workflow_id: UUID, namespace: str, key: str) -> bytes | None:
    """A value as JSON text; None if there is none."""
    rows = link.rows(PULL, {"workflow": workflow_id, "namespace": namespace, "key": key})
    return rows[0][0].encode() if rows and rows[0][0] is not None else None


def keys(link: Link, workflow_id: UUID, namespace: str) -> list[str]:
    """The keys that hold a value, in order."""
    return [row[0] for row in link.rows(KEYS, {"workflow": workflow_id, "namespace": namespace})]


def drop_expired(link: Link) -> None:
    """Delete a batch of values whose time is over."""
    link.rows(DROP_EXPIRED)
