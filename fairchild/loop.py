"""A named thread that repeats a step until it is told to stop."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from fairchild.config import hide_password
from fairchild.events import emit

log = logging.getLogger("fairchild.worker")

MAX_PAUSE = 0.5
SAY_AGAIN_SECONDS = 60.0
MOST_TEXTS = 5


class Complaints:
    """What to say of something that goes on failing: each of a few different texts once, and one of them each minute.

    An outage of hours is then some lines in a log and not some hundred thousand.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._said_at = 0.0

    def worth(self, text: str) -> bool:
        """Whether to say this now."""
        now = time.monotonic()
        if (text in self._said or len(self._said) >= MOST_TEXTS) and now - self._said_at < SAY_AGAIN_SECONDS:
            return False
        self._said.add(text)
        self._said_at = now
        return True

    def over(self) -> bool:
        """It works again; whether anything had been said."""
        said, self._said = bool(self._said), set()
        return said


class Loop:
    """Repeats ``step`` in a thread of its own. ``step`` returns seconds to rest (None: until woken).

    A step that raises is reported and repeated after a pause that grows from 50 ms to ``max_pause`` seconds, with full
    jitter, as long as it goes on failing: what a database's restart breaks, its return mends. Connecting has longer
    pauses of its own, see db/gate.py. Starting and stopping may be repeated and may come from any thread, also before
    the start. Steps never overlap.
    """

    def __init__(self, name: str, step: Callable[[], float | None], *, max_pause: float = MAX_PAUSE) -> None:
        self.name = name
        self._step = step
        self._max_pause = max_pause
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._called = False
        self._until: float | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.moved = time.monotonic()
        """When it last began or ended a step."""
        self._complaints = Complaints()
        self.failures = 0
        """Steps failed in a row."""

    def start(self) -> None:
        """Start the thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"fairchild-{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """End the rest that the loop is taking, or the next one."""
        self._called = True
        self._wake.set()

    def take(self) -> None:
        """Take the next step here and now if the loop is at rest, or wake it: saves the way to another thread."""
        if not self._turn.acquire(blocking=False):
            self.wake()
            return
        try:
            if self._thread is not None and not self._stopping:
                self._take_step()
        finally:
            self._turn.release()
        self._wake.set()  # it is to rest for as long as this step said

    def stop(self) -> None:
        """Let the current step be the last. Does not wait; see ``join``."""
        self._stopping = True
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; whether it has."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        if thread.is_alive() or not self._turn.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._turn.release()
        return True

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            with self._turn:
                self._take_step()
            self._rest()

    def _take_step(self) -> None:
        self._called = False
        self._wake.clear()
        self.moved = time.monotonic()
        try:
            rest = self._step()
            if self._complaints.over():
                log.warning("%s: works again after %d failures", self.name, self.failures)
            self.failures = 0
        except Exception as error:  # noqa: BLE001 - every failure of a step is reported and tried again
            self.failures += 1
            rest = random.uniform(0, min(self._max_pause, 0.05 * 2 ** min(self.failures, 12)))
            self._report(error)
        self.moved = time.monotonic()
        self._until = None if rest is None else self.moved + rest

    def _rest(self) -> None:
        while not self._stopping and not self._called:
            until = self._until
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            self._wake.wait(left)
            self._wake.clear()

    def _report(self, error: Exception) -> None:
        emit("loop_failed", loop=self.name, error=error, failures=self.failures)
        text = hide_password(" ".join(str(error).split()))
        if not self._complaints.worth(text):
            return
        if self.failures == 1:
            log.warning("%s: %s: %s; trying again", self.name, type(error).__name__, text, exc_info=error)
        else:
            log.warning(
                "%s: %s: %s; failure %d in a row, it is tried again for as long as it takes",
                self.name, type(error).__name__, text, self.failures,
            )  # fmt: skip
