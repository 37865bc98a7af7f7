"""``WorkerPool``: workers as a program or a command starts them, with signals."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from fairchild.errors import UsageError
from fairchild.worker.worker import Queues, Worker

if TYPE_CHECKING:
    from fairchild.client import Fairchild

POLL_SECONDS = 0.1  # a signal handler may only set a flag; an Event's lock could be held by the code it interrupts
log = logging.getLogger("fairchild.worker")


class WorkerPool:
    """Runs a ``Worker``; takes the same options.

    ``start()`` blocks until the pool is stopped, by ``stop()`` from another thread or by SIGTERM or SIGINT: the first
    drains, a second one gives running jobs back now. ``start(block=False)``, or ``with pool:``, embeds it.
    """

    def __init__(
        self, client: Fairchild, queues: Queues = None, concurrency: int = 10, *, processes: int = 1, **options: Any
    ) -> None:
        if processes != 1:
            raise UsageError(f"processes={processes!r}: this release runs one process; start the command several times")
        self.worker = Worker(client, queues, concurrency, **options)
        self._stopped = threading.Event()
        self._signals = 0
        self._outcome = True

    def start(self, block: bool = True) -> WorkerPool:
        """Start working; return when stopped, or at once with ``block=False``."""
        self._stopped.clear()
        self._signals = 0
        self.worker.start()
        if block:
            self._wait()
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Drain for up to ``timeout`` seconds (default: shutdown_timeout) and stop; whether every job ended."""
        self._outcome = self.worker.stop(timeout)
        self._stopped.set()
        return self._outcome

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the pool has stopped; whether it has."""
        return self._stopped.wait(timeout)

    def __enter__(self) -> WorkerPool:
        return self.start(block=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._signals and not self._stopped.wait(POLL_SECONDS):
                if not self.worker.alive:
                    log.error("a loop of the worker has died; stopping")
                    break
            if not self._stopped.is_set():
                self.stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        """Sets flags and returns; what they mean is done elsewhere."""
        self._signals += 1
        if self._signals > 1:
            self.worker.quit()
