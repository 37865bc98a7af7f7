"""Jobs by a query of the filter language (``rules/query.py``): a page of them, and how many there are.

A statement is put together from one fragment a term; values are always bound. Whoever asks bounds the time it may take:
what no index leads to is walked from the newest job back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from fairchild.db.browse import find_jobs, finding
from fairchild.db.connect import Link
from fairchild.db.shape import GROUP_KEY
from fairchild.db.statement import Sql
from fairchild.job import Job
from fairchild.rules.query import EVER, RETRYING, Query, Term

FINGERPRINT = (
    "coalesce({error} ->> 'fingerprint',"
    " left(md5({task} || ' ' || coalesce({error} ->> 'type', {error} ->> 'kind', '')), 12))"
)
"""Of an entry of ``errors``; from the task and the kind of error where it has none: lost jobs, and those of old."""
FEW_READY = 5000
_SLACK_HOURS = 1
"""By which the clock of whoever made an id may be off."""

# Whether available jobs are few enough to begin with them. fairchild_ready has no index by job, so many are better
# found on a walk over all jobs.
COUNT_READY = Sql("count_ready", f"SELECT count(*) FROM (SELECT FROM {{ready}} LIMIT {FEW_READY + 1}) few")

_LIVE = {
    "running": "SELECT job_id FROM {claims}",
    "scheduled": "SELECT job_id FROM {due}",
    "waiting": "SELECT job_id FROM {waiting}",
    RETRYING: "SELECT d.job_id FROM {due} d JOIN {jobs} r ON r.id = d.job_id WHERE r.attempt > 0",
}


class Found(NamedTuple):
    """Jobs newest first, and whether there are more in the direction asked for."""

    jobs: list[Job]
    more: bool


Statement = tuple[Sql, dict[str, Any]]


def search(
    link: Link, query: Query, *, limit: int, cursor: UUID | None = None, newer: bool = False, short: bool = False
) -> Found:
    """At most ``limit`` jobs older (or ``newer``) than the job ``cursor``; ``short`` as in ``browse.list_jobs``."""
    jobs = find_jobs(link, *searching(link, query, limit, cursor, newer=newer, short=short))
    more = len(jobs) > limit
    del jobs[limit:]
    return Found(jobs[::-1] if newer else jobs, more)


def searching(
    link: Link, query: Query, limit: int, cursor: UUID | None = None, *, newer: bool = False, short: bool = False
) -> Statement:
    """The statement of ``search``, which asks for one more."""
    conditions, params = _conditions(link, query)
    if cursor is not None:
        conditions.append("v.id > %(cursor)s" if newer else "v.id < %(cursor)s")
        params["cursor"] = cursor
    return finding(conditions, oldest_first=newer, short=short), {**params, "limit": limit + 1}


def count(link: Link, query: Query, cap: int) -> int:
    """How many jobs match, or ``cap + 1`` if more than ``cap`` do."""
    return int(link.rows(*counting(link, query, cap))[0][0])


def counting(link: Link, query: Query, cap: int) -> Statement:
    """The statement of ``count``."""
    conditions, params = _conditions(link, query)
    where = " AND ".join(conditions) or "true"
    text = f"SELECT count(*) FROM (SELECT FROM {{view}} v WHERE {where} LIMIT %(limit)s) found"
    return Sql("count_search", text), {**params, "limit": cap + 1}


def count_states(link: Link, query: Query, cap: int) -> dict[str, int]:
    """How many jobs match by shown state, of the newest ``cap + 1`` that do: all of them, if they are fewer."""
    return {state: int(n) for state, n in link.rows(*counting_states(link, query, cap))}


def counting_states(link: Link, query: Query, cap: int) -> Statement:
    """The statement of ``count_states``."""
    conditions, params = _conditions(link, query)
    where = " AND ".join(conditions) or "true"
    text = f"""
SELECT CASE WHEN state = 'scheduled' AND attempt > 0 THEN '{RETRYING}' ELSE state END, count(*)
  FROM (SELECT v.state, v.attempt FROM {{view}} v WHERE {where} ORDER BY v.id DESC LIMIT %(limit)s) found GROUP BY 1"""
    return Sql("count_states_of_search", text), {**params, "limit": cap + 1}


def _conditions(link: Link, query: Query) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    params: dict[str, Any] = {}
    for number, term in enumerate(query.terms):
        name = f"p_{number}"
        if term.key == "state":
            condition = _states(link, set(map(str, term.values)))
        elif term.key in ("args", "meta"):
            params[f"{name}_path"] = list(term.path)
            condition = _json(term, name)
        else:
            condition = _FRAGMENTS[term.key](term, name)
        params[name] = _bound(term)
        conditions.append(f"({condition}) IS NOT TRUE" if term.negated else f"({condition})")
    return conditions, params


def _bound(term: Term) -> Any:
    values = [value for value in term.values if value != EVER or term.key not in ("after", "before")]
    if term.key == "text":
        escape = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
        return [f"%{str(value).translate(escape)}%" for value in values]
    if term.operator == "=" and term.key not in ("after", "before"):
        return values
    return values[0] if values else None


def _states(link: Link, wanted: set[str]) -> str:
    parts = []
    live = [_LIVE[state] for state in sorted(wanted & _LIVE.keys())]
    if "available" in wanted:
        if link.rows(COUNT_READY)[0][0] <= FEW_READY:
            live.append("SELECT job_id FROM {ready}")
        else:
            parts.append("v.state = 'available'")
    if live:
        parts.append(f"v.id IN ({' UNION ALL '.join(live)})")
    badly = [f"'{state}'" for state in ("failed", "cancelled") if state in wanted]
    if badly:
        parts.append(f"v.reason IS NOT NULL AND v.state IN ({', '.join(badly)})")
    if "completed" in wanted:
        parts.append("v.state = 'completed'")
    return " OR ".join(f"({part})" for part in parts)


def _json(term: Term, name: str) -> str:
    where = f"%({name}_path)s::text[]"
    if term.operator == "=":
        return f"v.{term.key} #>> {where} = ANY(%({name})s::text[])"
    return (
        f"CASE WHEN jsonb_typeof(v.{term.key} #> {where}) = 'number' THEN (v.{term.key} #>> {where})::numeric END"
        f" {term.operator} %({name})s::text::numeric"
    )


def _equal(column: str, kind: str = "text") -> Callable[[Term, str], str]:
    return lambda term, name: (
        f"v.{column} = ANY(%({name})s::{kind}[])" if term.operator == "=" else f"v.{column} {term.operator} %({name})s"
    )


def _elapsed(since: str, until: str) -> Callable[[Term, str], str]:
    return lambda term, name: f"{until} - {since} {term.operator} %({name})s::interval"


def _moment(term: Term, name: str) -> str:
    if isinstance(term.values[0], timedelta):
        return f"statement_timestamp() - %({name})s::interval"
    return f"%({name})s::timestamptz"


def _after(term: Term, name: str) -> str:
    if term.values[0] == EVER:
        return f"%({name})s::text IS NULL"
    moment = _moment(term, name)
    # Ids begin with the milliseconds at which they were made, so the walk from the newest job back can stop there.
    milliseconds = f"greatest(extract(epoch FROM {moment} - interval '{_SLACK_HOURS} hour') * 1000, 0)::bigint"
    floor = f"(lpad(to_hex({milliseconds}), 12, '0') || repeat('0', 20))::uuid"
    return f"v.id >= {floor} AND v.inserted_at >= {moment}"


_FRAGMENTS: dict[str, Callable[[Term, str], str]] = {
    "id": _equal("id", "uuid"),
    "queue": _equal("queue"),
    "task": _equal("task"),
    "text": lambda _, name: f"v.task ILIKE ANY(%({name})s::text[])",
    "tag": lambda _, name: f"v.tags && %({name})s::text[]",
    "tenant": _equal("tenant"),
    "worker": _equal("worker", "uuid"),
    "workflow": lambda _, name: (
        f"v.id = ANY(%({name})s::uuid[]) OR (v.workflow_id = ANY(%({name})s::uuid[]) AND v.parent_id IS NOT NULL)"
    ),
    "parent": lambda _, name: (
        f"v.workflow_id IN (SELECT workflow_id FROM {{jobs}} WHERE id = ANY(%({name})s::uuid[]))"
        f" AND v.parent_id = ANY(%({name})s::uuid[])"
    ),
    "group": lambda _, name: (
        f"EXISTS (SELECT FROM {{jobs}} g WHERE g.id = v.id AND {GROUP_KEY.format('g')} = ANY(%({name})s::bigint[]))"
    ),
    "priority": _equal("priority", "int"),
    "attempt": _equal("attempt", "int"),
    "error": lambda _, name: (
        f"v.errors -> -1 ->> 'type' = ANY(%({name})s::text[]) OR EXISTS (SELECT FROM unnest(%({name})s::text[]) part"
        " WHERE strpos(lower(v.errors -> -1 ->> 'message'), lower(part)) > 0)"
    ),
    "fp": lambda _, name: (
        f"v.errors -> -1 IS NOT NULL AND {FINGERPRINT.format(error='(v.errors -> -1)', task='v.task')}"
        f" = ANY(%({name})s::text[])"
    ),
    "reason": _equal("reason"),
    "unique": _equal("unique_key"),
    "ran": _elapsed("v.attempted_at", "coalesce(v.ended_at, CASE WHEN v.state = 'running' THEN now() END)"),
    "waited": _elapsed("v.scheduled_at", "coalesce(v.attempted_at, now())"),
    "due": lambda term, name: (
        f"v.id IN (SELECT job_id FROM {{due}}"
        f" WHERE run_at {term.operator} statement_timestamp() + %({name})s::interval)"
    ),
    "after": _after,
    "before": lambda term, name: f"v.inserted_at < {_moment(term, name)}",
}
