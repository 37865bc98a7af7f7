"""What a task may hand back besides a plain value: a ``Record``, or a planned ending."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Record(Generic[T]):
    """A result that must be kept: one that is not JSON fails the attempt instead of being dropped."""

    value: T


class Ending(Exception):
    """A planned ending of an attempt. Return it or raise it; both mean the same."""


def _seconds(delay: float | timedelta | None, parts: dict[str, float]) -> float:
    seconds = timedelta(**parts).total_seconds()
    if isinstance(delay, timedelta):
        seconds += delay.total_seconds()
    elif delay is not None:
        seconds += float(delay)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a delay must be a number of seconds that is not negative, got {seconds}")
    return seconds


class Snooze(Ending):
    """Run again later. No attempt is spent. ``Snooze(30)`` means seconds; ``minutes=5`` and a timedelta work too."""

    def __init__(
        self,
        delay: float | timedelta | None = None,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        self.delay = _seconds(
            delay, {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        )
        super().__init__(self.delay)

    def __str__(self) -> str:
        return f"snooze for {self.delay} s"


class Retry(Ending):
    """Fail this attempt and try again after ``delay`` seconds (by the task's backoff when not given)."""

    def __init__(self, reason: str = "retry", *, delay: float | timedelta | None = None) -> None:
        self.reason = reason
        self.delay = None if delay is None else _seconds(delay, {})
        super().__init__(reason)


class Cancel(Ending):
    """End the job as cancelled, with this reason."""

    def __init__(self, reason: str = "cancelled by the task") -> None:
        self.reason = reason
        super().__init__(reason)


class Discard(Ending):
    """End the job as failed: trying again is useless."""

    def __init__(self, reason: str = "discarded by the task") -> None:
        self.reason = reason
        super().__init__(reason)
