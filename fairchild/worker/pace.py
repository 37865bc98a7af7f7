"""How fast jobs come to their end, and so how many may be claimed before a thread is free for them.

Claiming ahead hides the database's round trips where jobs are short, and would hoard them where they are long: what is
held ahead is what runs in about 50 ms. Jobs of a while ago say nothing about those that come now.
"""

from __future__ import annotations

from collections import deque

AHEAD_SECONDS = 0.05
MAX_AHEAD = 2000
FRESH_SECONDS = 0.25
MEASURED_SECONDS = 0.02


class Pace:
    """Jobs per second of late. ``moment``s are of one monotonic clock."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._ended: deque[tuple[float, int]] = deque(maxlen=32)

    def note(self, moment: float, jobs: int, seconds: float) -> None:
        """``jobs`` that ran have ended; together they took ``seconds``."""
        if not jobs:
            return  # jobs that were not started are no measure of speed
        if self._ended and moment - self._ended[-1][0] > FRESH_SECONDS:
            self._ended.clear()
        self._ended.append((moment, jobs))
        first = self._ended[0][0]
        if moment - first > MEASURED_SECONDS:
            self.rate = sum(ended for at, ended in self._ended if at > first) / (moment - first)
        elif seconds > 0:
            self.rate = jobs / seconds  # as if they ran one after the other: the least that a pool does

    def ahead(self, moment: float) -> int:
        """How many jobs may be held beyond those that have a thread."""
        if not self._ended or moment - self._ended[-1][0] > FRESH_SECONDS:
            return 0
        return min(MAX_AHEAD, int(self.rate * AHEAD_SECONDS))
