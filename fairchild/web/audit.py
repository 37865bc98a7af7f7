"""Who did what in which request, and what was before and after. Kept for those with the right ``tokens:edit``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fairchild.client import Fairchild
from fairchild.errors import StoreError
from fairchild.job import Job
from fairchild.web.auth import Gate, request_id

log = logging.getLogger("fairchild.web")

Facts = Mapping[str, Any] | None


def note(
    fc: Fairchild,
    gate: Gate,
    action: str,
    target: object,
    number: int = 1,
    *,
    before: Facts = None,
    after: Facts = None,
) -> None:
    """Keep what this request has done. What was done stays done if that cannot be written."""
    try:
        fc.add_audit_entry(gate.who(), action, str(target), number, request_id=request_id(), before=before, after=after)
    except StoreError as error:
        log.error(
            "%s %s by %s in request %s is missing in the audit log: %s", action, target, gate.who(), request_id(), error
        )


def state_of(job: Job | None) -> Facts:
    """How a job is, for the entry of what changes that."""
    return None if job is None else {"state": job.state.value}


def after_of(fc: Fairchild, id: UUID) -> Facts:
    """How a job is now. The entry is written without, if that cannot be read."""
    try:
        return state_of(fc.get_job(id))
    except StoreError:
        return None


def place_of(job: Job | None) -> Facts:
    """Where a job is, for the entry of what moves it."""
    return None if job is None else {"queue": job.queue, "priority": job.priority}


def changes(before: Facts, after: Facts) -> list[tuple[str, Any, Any]]:
    """``(name, before, after)`` of each fact, for people; None where there was or is none."""
    was, now = before or {}, after or {}
    names = [*was, *(name for name in now if name not in was)]
    return [(name, was.get(name), now.get(name)) for name in names]
