"""How many jobs a workflow has, so that one that grows without end is stopped: near enough, and without a hot row.

A counter of the workflow's would be a row that all its parents write. Instead each process remembers the number it has
counted last, by index, and how many it has added since. It counts again when it has added a sixteenth of what was
missing to the limit then: seldom while there is room, at every attempt that calls tasks when there is hardly any. What
other processes add meanwhile is found by the next count. So the limit is exceeded by no more than what is recorded at
the same time. What a root calls is bounded by what one attempt may call, so a workflow of one level is never counted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from fairchild.config import Limits
from fairchild.db.statement import Sql
from fairchild.errors import UsageError

if TYPE_CHECKING:
    from fairchild.db.connect import Link

REMEMBERED = 1000
_SHARE = 16

# Finishers, seldom: see above. Index fairchild_jobs_by_workflow, of which it reads these workflows' parts.
COUNT_DESCENDANTS = Sql(
    "count_descendants",
    """
SELECT w.id, d.n FROM unnest(%(ids)s::uuid[]) AS w(id) CROSS JOIN LATERAL (
  SELECT count(*) AS n FROM (
    SELECT FROM {jobs} WHERE workflow_id = w.id AND parent_id IS NOT NULL LIMIT %(most)s::bigint) x) d""",
)


@dataclass
class _Count:
    counted: int
    added: int = 0


class Census:
    """What one process knows of the sizes of workflows. For all its threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._counts: OrderedDict[UUID, _Count] = OrderedDict()
        self._lock = threading.Lock()

    def room(self, workflow_id: UUID) -> int | None:
        """How many jobs may be added, as far as is known; None: nothing is."""
        with self._lock:
            count = self._counts.get(workflow_id)
            return None if count is None else max(0, self.limits.max_descendants - count.counted - count.added)

    def admit(self, link: Link, adding: Mapping[UUID, int]) -> None:
        """Before so many jobs are added to these workflows. Raises UsageError if one would have too many."""
        most = self.limits.max_descendants
        with self._lock:
            unsure = [each for each, number in adding.items() if self._is_unsure(each, number)]
        if unsure:
            rows = link.rows(COUNT_DESCENDANTS, {"ids": unsure, "most": most + 1})
            with self._lock:
                self._counts.update({each: _Count(int(number)) for each, number in rows})
        with self._lock:
            for each, number in adding.items():
                count = self._counts.setdefault(each, _Count(0))
                if count.counted + count.added + number > most:
                    raise too_many(each, self.limits)
                count.added += number
                self._counts.move_to_end(each)
            while len(self._counts) > REMEMBERED:
                self._counts.popitem(last=False)

    def _is_unsure(self, workflow_id: UUID, number: int) -> bool:
        count = self._counts.get(workflow_id)
        return count is None or count.added + number > (self.limits.max_descendants - count.counted) // _SHARE


def too_many(workflow_id: UUID | None, limits: Limits) -> UsageError:
    """The error of a workflow that is full."""
    return UsageError(
        f"workflow {workflow_id} would have more than {limits.max_descendants:,} jobs (max_descendants); nothing was "
        "enqueued. If it calls itself without end, cancel it; else raise the limit"
    )
