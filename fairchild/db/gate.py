"""Connecting to a server that may be away: one attempt at a time for a whole process, about one in a second.

As long as the server answers nobody waits. After a failure the threads of a process stand at the gate together: one of
them tries, at moments drawn at random so that a thousand processes do not come at once, and all learn what came of it.
So an outage costs the network and the server no more than one attempt in a second of each process, and everybody goes
on within a second and a half of the server's return.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from fairchild import clock

T = TypeVar("T")

FIRST_PAUSE = 0.05
LAST_PAUSE = 1.3


class Gate:
    """``connect(attempt)`` makes a connection, or raises what the last attempt of any thread raised."""

    def __init__(self) -> None:
        self.longest = LAST_PAUSE
        """Seconds from one attempt to the next, at most."""
        self._shut(0)

    def _shut(self, pid: int) -> None:
        self._changed = threading.Condition()
        self._pid = pid
        self._error = psycopg.OperationalError()
        self._failures = 0
        self._next = 0.0
        self._trying = False

    def connect(self, attempt: Callable[[], T], until: float | None = None) -> T:
        """What ``attempt`` makes. Raises psycopg.OperationalError when it, or another thread's meanwhile, failed.

        ``until``: by ``clock.now()``, when to wait no longer for another thread's.
        """
        if self._pid != os.getpid():  # whoever tried before a fork tries in another process
            self._shut(os.getpid())
        chosen = self._wait(until)
        error: psycopg.OperationalError | None = None
        answered = False
        try:
            made = attempt()
            answered = True
        except psycopg.OperationalError as failure:
            error = failure
            raise
        finally:
            self._note(chosen, answered, error)
        return made

    def _wait(self, until: float | None) -> bool:
        """Until this thread may try; whether it is the only one. Raises what another one's attempt came to."""
        with self._changed:
            seen = self._failures
            while self._failures and (self._trying or self._next > time.monotonic()):
                pause = None if self._trying else self._next - time.monotonic()
                if until is not None:
                    left = until - clock.now()
                    pause = left if pause is None else min(left, pause)
                self._changed.wait(pause)
                if self._failures > seen or (until is not None and until <= clock.now()):
                    raise type(self._error)(str(self._error))
            self._trying = self._failures > 0
            return self._trying

    def _note(self, chosen: bool, answered: bool, error: psycopg.OperationalError | None) -> None:
        with self._changed:
            if chosen:
                self._trying = False
            if error is not None:
                self._error = error
                pause = min(self.longest, FIRST_PAUSE * 2 ** min(self._failures, 12))
                self._failures += 1
                self._next = time.monotonic() + pause * random.uniform(0.5, 1.0)
            elif answered:
                self._failures = 0
            self._changed.notify_all()
