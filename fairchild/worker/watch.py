"""Watching attempts that must end: past their time limit, or asked to stop.

A task that calls ``job.check()`` ends by itself. In one that does not, the same interrupt is raised from outside, in
the middle of whatever Python code its thread runs (``PyThreadState_SetAsyncExc``), and again each second if it was
swallowed. Code outside of Python cannot be reached: ``time.sleep``, a query, a C library. A thread that goes on all the
same is stuck: its place is given to another thread, its job stays what it is, running, and its claim stays held.

One thread for all attempts of a worker, which sleeps until the first of them is due and is not even started before
there is one.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from fairchild.db.claim import Claimed

POLITE_SECONDS = 0.5
"""What a task that was asked to stop gets to notice it with ``job.check()``."""
AGAIN_SECONDS = 1.0
STUCK_SECONDS = 10.0
MANY = 4000

log = logging.getLogger("fairchild.worker")


class Watched(Protocol):
    """What can be watched: an attempt in a thread of this process, or one in a child process."""

    claimed: Claimed
    ended: bool
    stuck: bool
    interrupted_at: float | None

    def due(self, now: float, polite: float) -> float | None: ...
    def interrupt_thread(self, now: float) -> bool: ...


class Watch:
    """``add`` an attempt that has a deadline or was asked to stop. ``on_stuck``: told once of each that goes on."""

    def __init__(
        self,
        start_thread: Callable[[str, Callable[[], None]], None],
        on_stuck: Callable[[Watched], None],
    ) -> None:
        self._start_thread = start_thread
        self._on_stuck = on_stuck
        self.stuck_seconds = STUCK_SECONDS
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Watched]] = []
        self._numbers = itertools.count()
        self._running = False
        self._stopping = False

    def add(self, attempt: Watched) -> None:
        """Look at an attempt when it is due. May be repeated."""
        self._push(attempt, attempt.due(time.monotonic(), POLITE_SECONDS))

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _push(self, attempt: Watched, moment: float | None) -> None:
        if moment is None:
            return
        entry = (moment, next(self._numbers), attempt)
        with self._changed:
            if len(self._due) >= MANY:  # mostly of jobs that have ended long before their time was up
                self._due = [each for each in self._due if not each[2].ended]
                heapq.heapify(self._due)
            heapq.heappush(self._due, entry)
            if not self._running and not self._stopping:
                self._running = True
                self._start_thread("watch", self._run)
            if self._due[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._stopping:
                    return
                _, _, attempt = heapq.heappop(self._due)
            try:
                self._look(attempt)
            except Exception:
                log.exception("job %s: its attempt could not be interrupted", attempt.claimed.job_id)

    def _look(self, attempt: Watched) -> None:
        now = time.monotonic()
        if not attempt.interrupt_thread(now) or attempt.interrupted_at is None:
            return
        if not attempt.stuck and now - attempt.interrupted_at >= self.stuck_seconds:
            self._on_stuck(attempt)
        self._push(attempt, now + AGAIN_SECONDS)
