"""How much one may ask for: a token bucket for each who asks, kept in this process.

A bucket fills at a steady rate up to a burst, and each request takes one from it. It is there against a script that has
gone wild and against guessing; what a process may not do at all is said by rights.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable

from fairchild import clock
from fairchild.web.problems import Problem

MOST_KNOWN = 10_000
BURST_SECONDS = 10.0


class Rates:
    """``take(kind, who)`` raises Problem 429 with Retry-After when ``who`` has asked for too much of ``kind``.

    ``each``: requests a second by kind; a kind that is not named is not limited. Ten seconds' worth may come at once.
    """

    def __init__(self, each: dict[str, float], now: Callable[[], float] = clock.now) -> None:
        self._each = each
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        """What was in it, and when."""

    def take(self, kind: str, who: str) -> None:
        """Count one request."""
        rate = self._each.get(kind)
        if rate is None:
            return
        burst = max(1.0, rate * BURST_SECONDS)
        now = self._now()
        with self._lock:
            held, then = self._buckets.pop((kind, who), (burst, now))
            held = min(burst, held + (now - then) * rate)
            spent = held >= 1
            self._buckets[kind, who] = (held - spent, now)
            if len(self._buckets) > MOST_KNOWN:
                self._buckets.popitem(last=False)
        if not spent:
            wait = math.ceil((1 - held) / rate)
            raise Problem(429, f"too many requests; at most {rate:g} a second are taken from each who asks", after=wait)
