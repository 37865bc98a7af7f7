"""When a failed attempt is tried again, and when not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

MAX_DELAY_SECONDS = 366 * 86400.0

BackoffFunction = Callable[[int, BaseException], "float | timedelta"]


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after attempt 1, 2, 3 ...

    ``exponential``: ``min(limit, base * factor ** (attempt - 1))``, then up to ``jitter`` (a share of it) added or
    taken away at random, so that jobs which failed together do not come back together.
    """

    base: float
    step: float = 0.0
    factor: float = 1.0
    limit: float = 3600.0
    jitter: float = 0.0

    @staticmethod
    def none() -> Backoff:
        """Try again at once."""
        return Backoff(base=0.0)

    @staticmethod
    def linear(step: float = 10.0, *, limit: float = 3600.0, jitter: float = 0.0) -> Backoff:
        """``step``, ``2 * step``, ``3 * step`` ... seconds, at most ``limit``."""
        return Backoff(base=step, step=step, limit=limit, jitter=jitter)

    @staticmethod
    def exponential(base: float = 5.0, *, factor: float = 2.0, limit: float = 3600.0, jitter: float = 0.2) -> Backoff:
        """5, 10, 20, 40 ... seconds by default, at most an hour, each up to 20 % shorter or longer."""
        return Backoff(base=base, factor=factor, limit=limit, jitter=jitter)

    def __post_init__(self) -> None:
        if self.base < 0 or self.step < 0 or self.limit < 0 or self.factor < 0 or not 0 <= self.jitter <= 1:
            raise ValueError("a backoff's numbers must not be negative, and jitter is a share between 0 and 1")

    def delay(self, attempt: int, random_share: float = 0.5) -> float:
        """Seconds after attempt number ``attempt`` (from 1); ``random_share`` in [0, 1) decides the jitter."""
        if not self.base and not self.step:
            return 0.0
        try:
            plain = (self.base + self.step * (attempt - 1)) * self.factor ** (attempt - 1)
        except OverflowError:
            plain = self.limit
        plain = min(plain, self.limit)
        return plain * (1.0 + self.jitter * (2.0 * random_share - 1.0))


BackoffOption = "str | Backoff | Sequence[float | timedelta] | BackoffFunction"

_NAMED = {
    "none": Backoff.none,
    "linear": Backoff.linear,
    "exponential": Backoff.exponential,
}


def parse_backoff(option: object) -> Backoff | tuple[float, ...] | BackoffFunction:
    """What ``@task(backoff=...)`` was given, checked: a name, a Backoff, a list of seconds, or a function."""
    if isinstance(option, Backoff):
        return option
    if isinstance(option, str):
        if option not in _NAMED:
            raise ValueError(f"backoff {option!r} is not known; choose one of {', '.join(_NAMED)}")
        return _NAMED[option]()
    if isinstance(option, (list, tuple)):
        delays = tuple(_seconds(each) for each in option)
        if not delays or min(delays) < 0:
            raise ValueError("a list of backoff delays needs at least one, none of them negative")
        return delays
    if callable(option):
        return cast("BackoffFunction", option)
    raise ValueError(f"backoff must be a name, a Backoff, a list of seconds or a function, not {option!r}")


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def delay_after(
    backoff: Backoff | tuple[float, ...] | BackoffFunction,
    attempt: int,
    error: BaseException,
    random_share: float | None = None,
) -> float:
    """Seconds until the next attempt. A list's last entry holds for all further attempts."""
    if isinstance(backoff, Backoff):
        seconds = backoff.delay(attempt, random.random() if random_share is None else random_share)
    elif isinstance(backoff, tuple):
        seconds = backoff[min(attempt, len(backoff)) - 1]
    else:
        seconds = _seconds(backoff(attempt, error))
    return min(max(0.0, seconds), MAX_DELAY_SECONDS)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job after an attempt that raised: tried again after ``delay`` seconds, or failed."""

    retry: bool
    delay: float = 0.0
    reason: str = "error"


def after_error(
    error: BaseException,
    *,
    attempt: int,
    max_attempts: int,
    retry_on: tuple[type[BaseException], ...],
    discard_on: tuple[type[BaseException], ...],
    backoff: Backoff | tuple[float, ...] | BackoffFunction,
    reason: str = "error",
) -> Verdict:
    """The verdict on attempt number ``attempt`` that ended with ``error``."""
    if discard_on and isinstance(error, discard_on):
        return Verdict(retry=False, reason="discarded")
    if not isinstance(error, retry_on):
        return Verdict(retry=False, reason=reason)
    if attempt >= max_attempts:
        return Verdict(retry=False, reason=reason)
    return Verdict(retry=True, delay=delay_after(backoff, attempt, error), reason=reason)
