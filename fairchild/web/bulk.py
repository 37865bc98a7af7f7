"""Changing many jobs: in batches, each a transaction of its own, for as long as one request may take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from fairchild import clock
from fairchild.client import Fairchild
from fairchild.errors import UsageError
from fairchild.job import JobState

BATCH = 500
ACTION_SECONDS = 1.0
"""For which a request goes on before its last batch."""
Change = Callable[[list[UUID]], list[UUID]]
RIGHTS = {
    "retry": "jobs:retry", "run": "jobs:edit", "move": "jobs:edit", "cancel": "jobs:cancel", "delete": "jobs:delete",
}  # fmt: skip
"""What can be done to many jobs, and the right it needs."""

AFTER: dict[str, dict[str, Any] | None] = {
    "retry": {"state": "available"}, "run": {"state": "available"}, "cancel": {"state": "cancelled"}, "delete": None,
}  # fmt: skip
"""What jobs are told to be then. Those that run when they are cancelled are so a little later."""


def fits(action: str, state: JobState) -> bool:
    """Whether a job in this state may be changed so."""
    if action == "run":
        return state is JobState.SCHEDULED
    if action == "move":
        return state in (JobState.SCHEDULED, JobState.AVAILABLE)
    return state.ended != (action == "cancel")


def bulk_change(
    fc: Fairchild, action: str, reason: str, queue: str | None = None, priority: int | None = None
) -> Change:
    """What one of RIGHTS does to jobs; it gives those that it has changed. ``queue``, ``priority``: where to move."""
    if action == "move":
        return partial(fc.move, queue=queue, priority=priority)
    if action == "cancel":
        return partial(_cancel, fc, reason=reason)
    return {"retry": fc.retry, "run": fc.run_now, "delete": fc.delete}[action]


def _cancel(fc: Fairchild, ids: list[UUID], reason: str) -> list[UUID]:
    """All of them, if there is no time for what they have called: once begun it is done, by workers if not here."""
    reached: list[UUID] = []
    over = fc.cancel_within(ACTION_SECONDS, ids, reason, reached.extend)
    return reached if over else ids


def in_batches(ids: list[UUID], change: Change) -> tuple[int, int, int]:
    """Change jobs batch by batch for about a second, those of a batch that is refused one by one.

    How many were changed, how many were not, and how many are left.
    """
    changed: set[UUID] = set()
    end, place = clock.now() + ACTION_SECONDS, 0
    while place < len(ids) and (place == 0 or clock.now() < end):
        batch = ids[place : place + BATCH]
        place += len(batch)
        try:
            changed.update(change(batch))
        except UsageError:
            for each in batch:
                try:
                    changed.update(change([each]))
                except UsageError:
                    continue
    return len(changed), sum(each not in changed for each in ids[:place]), len(ids) - place
