"""Retrying a whole workflow in portions: each is a transaction that takes a fraction of a second.

For who may not take longer than a second or two at a time, such as a request. What has been done is done, so that going
on is doing it again: each asks the tables what is left.

Reopened are, as ``control.retry_workflow`` does, what the failure began with and, along with each, some of what was
cancelled because of it. The rest of that is what needs nothing any more that ended badly; it comes after.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from fairchild.db.connect import Link, again
from fairchild.db.control import ENDS, reopen
from fairchild.db.statement import Sql

Scope = Literal["failed", "all"]
PORTION = 500
ROOM = 1500
"""What was cancelled because of others that one portion reopens with them."""
_LOOK = 20_000
_ROUNDS = 3

# Who retries one. Children of a parent that runs anew are not theirs to retry: it calls its tasks again.
_OURS = """
 FROM ends e LEFT JOIN ends p ON p.id = e.parent_id LEFT JOIN {jobs} q ON q.id = e.parent_id
      LEFT JOIN {waiting} w ON w.job_id = e.parent_id
WHERE (q.state IS DISTINCT FROM 'pending' OR coalesce(w.ran, false))"""
OURS = Sql(
    "ends_to_retry",
    ENDS
    + " SELECT e.id, e.ran"
    + _OURS
    + """
   AND (%(all)s::boolean OR e.state = 'failed') AND e.ended_at < %(before)s::timestamptz
   AND NOT coalesce(NOT p.ran AND (%(all)s::boolean OR p.state = 'failed') AND p.ended_at < %(before)s::timestamptz,
                    false)
 ORDER BY e.id <> %(id)s::uuid, e.depth DESC, e.id LIMIT %(most)s::bigint""",
)
# What was cancelled because of others, and is not any more: all that it needs is there or will be. A scalar sub-select,
# so that it is a look-up by fairchild_edges_by_downstream for each, whatever the planner thinks of their number.
_FREED = """
 FROM {jobs} j LEFT JOIN {jobs} q ON q.id = j.parent_id LEFT JOIN {waiting} w ON w.job_id = j.parent_id
WHERE (q.state IS DISTINCT FROM 'pending' OR coalesce(w.ran, false))
  AND j.workflow_id = %(id)s::uuid AND j.parent_id IS NOT NULL AND j.state = 'cancelled'
  AND j.reason = 'upstream_failed'
  AND (SELECT true FROM {edges} e JOIN {jobs} u ON u.id = e.upstream
        WHERE e.downstream = j.id AND e.policy = 'need' AND u.state IN ('failed', 'cancelled') LIMIT 1) IS NULL"""
FREED = Sql("freed_by_retry", "SELECT j.id" + _FREED + " ORDER BY j.id LIMIT %(most)s::bigint")

# The question before a retry: what would run. ``also``: what was cancelled because of others.
COUNTS = Sql(
    "count_retry",
    ENDS
    + """
SELECT count(*) FILTER (WHERE e.state = 'failed' AND NOT coalesce(NOT p.ran AND p.state = 'failed', false)),
       count(*) FILTER (WHERE NOT coalesce(NOT p.ran, false)),
       coalesce(bool_or(e.state = 'failed'), false), coalesce(bool_or(e.id = %(id)s::uuid), false),
       (SELECT count(*) FROM {jobs} WHERE workflow_id = %(id)s::uuid AND parent_id IS NOT NULL AND state = 'cancelled'
           AND reason = 'upstream_failed'),
       statement_timestamp()"""
    + _OURS,
)


class Retriable(NamedTuple):
    """What a retry of a workflow would run again; ``at``: as of when."""

    failed: int
    """That failed by themselves."""
    all: int
    """And that somebody cancelled."""
    whole: bool
    """Without being told which, all of these: the whole was cancelled, or nothing has failed."""
    also: int
    """That were cancelled because of others."""
    at: datetime


def count_retriable(link: Link, root: UUID) -> Retriable:
    """What a retry would run again."""
    failed, every, any_failed, is_root, also, at = link.rows(COUNTS, {"id": root})[0]
    return Retriable(failed, every, is_root or not any_failed, also, at)


def retry_portions(link: Link, root: UUID, scope: Scope, before: datetime) -> Iterator[int]:
    """Reopen what ended badly ``before`` then, and what was cancelled because of it; how many each portion began with.

    Raises UsageError as ``control.retry``. Comes to its end when nothing is left.
    """
    asked = {"id": root, "all": scope == "all", "before": before, "most": _LOOK}
    while found := link.rows(OURS, asked):
        reopened = 0
        for start in range(0, len(found), PORTION):
            portion = found[start : start + PORTION]
            kept = {job_id for job_id, ran in portion if ran}
            ids = [job_id for job_id, _ in portion]
            done = len(again(link, lambda ids=ids, kept=kept: reopen(link, ids, kept, ROOM)))  # type: ignore[misc]
            reopened += done
            yield done
        if not reopened:  # others were faster
            break
    idle = 0
    while idle < _ROUNDS and (freed := [row[0] for row in link.rows(FREED, {"id": root, "most": ROOM})]):
        done = len(again(link, lambda freed=freed: reopen(link, freed, frozenset(), ROOM)))  # type: ignore[misc]
        idle = 0 if done else idle + 1
        yield done
