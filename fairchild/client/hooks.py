"""``@fairchild.on("job_failed")``: what to call when the attempts of this program's workers come to something."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from fairchild.errors import UsageError

log = logging.getLogger("fairchild.hooks")

EVENTS = (
    "job_started", "job_completed", "job_failed", "job_retrying", "job_waiting", "job_ready", "job_cancelled",
    "job_timeout", "job_discarded",
)  # fmt: skip


@dataclass(frozen=True)
class JobEvent:
    """What an attempt came to, or that it starts."""

    event: str
    """``job_started``, ``job_completed``, ``job_failed`` (for good), ``job_retrying`` (an attempt is spent, and
    there will be another), ``job_waiting`` (for other jobs), ``job_ready`` (snoozed or given back, nothing is spent) or
    ``job_cancelled``. Before one of these may come ``job_timeout`` (the attempt was past its time limit) or
    ``job_discarded`` (it failed for good though attempts were left: the task or its ``discard_on`` said so)."""
    job_id: UUID
    task: str
    queue: str
    tenant: str
    workflow_id: UUID | None
    attempt: int
    max_attempts: int
    seconds: float
    """How long it ran; 0 when it starts."""
    error: dict[str, Any] | None
    """As the last of ``job.errors``: ``{kind, type, message, traceback, ...}``; its kind is "timeout" past a limit."""
    reason: str | None
    """Of an end that is not a success."""


Hook = Callable[[JobEvent], object]
H = TypeVar("H", bound=Hook)


class Hooks:
    """By event, in the order in which they were added."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Hook]] = {}

    def __contains__(self, event: str) -> bool:
        return event in self._hooks

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def add(self, events: tuple[str, ...], hook: Hook) -> None:
        """Call ``hook`` at these events. Raises UsageError for one that there is not."""
        for event in events:
            if event not in EVENTS:
                raise UsageError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
        for event in events:
            self._hooks.setdefault(event, []).append(hook)

    def call(self, event: JobEvent) -> None:
        """Call the hooks of an event. What one of them raises is logged and changes nothing."""
        for hook in self._hooks.get(event.event, ()):
            try:
                hook(event)
            except Exception:
                log.exception("a hook failed at %s of job %s (%s)", event.event, event.job_id, event.task)
