"""Several worker processes under one: start them, restart those that die, recycle those that have had their share.

The parent runs no jobs, holds no lease and opens no connection; it forks, waits, and passes signals on. It forks before
any thread of ours exists, which is why it only works as the main business of its process. A child is a ``Worker``
like any other; the lease covers whatever happens to it, so the parent's death or its own kill -9 loses nothing:
children notice that they have a new parent and drain.

    parent --fork--> child: worker runs --SIGTERM--> drains, exits 0
       |                       |--is asked to stop through the database--> drains, exits STOPPED
       |                       |--has run max_jobs or grown past max_memory--> drains, exits RECYCLED
       '--waitpid--> exited on its own: start another, after a pause if it lived less than a few seconds
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

log = logging.getLogger("fairchild.worker")

POLL_SECONDS = 0.1
SHORT_LIFE = 5.0
MAX_PAUSE = 30.0
KILL_AFTER = 15.0
"""Seconds that a child gets beyond its shutdown_timeout before it is killed."""
RECYCLED = 75
STOPPED = 76
"""The exit code of a child that was stopped through the database: it is not to be replaced."""


@dataclass
class _Child:
    slot: int
    pid: int
    started: float


class Supervisor:
    """Keeps ``processes`` children of ``run(slot)`` alive until it is told to stop.

    ``run`` is called in the child and gives its exit code. ``shutdown_timeout``: seconds that a child takes to drain at
    most.
    """

    def __init__(self, processes: int, run: Callable[[int], int], *, shutdown_timeout: float) -> None:
        self._processes = processes
        self._run = run
        self._limit = shutdown_timeout + KILL_AFTER
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._quick_deaths: dict[int, int] = {}
        self.signals = 0
        """SIGTERM and SIGINT received so far."""
        self._asked = False
        self.deserted = False
        """Whether all children were stopped through the database."""
        self.restarts = 0

    def stop(self) -> None:
        """Let the children drain. Only sets a flag; may be called from anywhere."""
        self._asked = True

    def pids(self) -> list[int]:
        """The children that run now."""
        return [child.pid for child in list(self._children.values())]

    def supervise(self) -> bool:
        """Run until stopped by ``stop()``, SIGTERM or SIGINT; whether every child ended well."""
        previous = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._due = dict.fromkeys(range(self._processes), 0.0)
            while not self._asked and not self.signals:
                self._start_due()
                self._reap()
                if not self._children and not self._due:
                    self.deserted = True
                    break
                time.sleep(POLL_SECONDS)
            return self._drain()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, when in self._due.items() if when <= now]:
            del self._due[slot]
            self._start(slot)

    def _start(self, slot: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                code = self._run(slot)
            except BaseException:
                log.exception("worker process %d ended by an error", slot)
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        self._children[pid] = _Child(slot, pid, time.monotonic())

    def _reap(self) -> None:
        for child, code in self._ended():
            lived = time.monotonic() - child.started
            if code == STOPPED:
                log.info("worker process %d was stopped through the database and is not replaced", child.slot)
                continue
            if code == RECYCLED:
                log.info("worker process %d has had its share and is replaced", child.slot)
                self._due[child.slot] = 0.0
                continue
            quick = self._quick_deaths.get(child.slot, 0) + 1 if lived < SHORT_LIFE else 0
            self._quick_deaths[child.slot] = quick
            pause = min(MAX_PAUSE, 0.5 * 2**quick) if quick else 0.0
            self.restarts += 1
            log.error(
                "worker process %d (pid %d) ended with %s after %.1f s; another one is started%s",
                child.slot, child.pid, describe(code), lived, f" in {pause:.1f} s" if pause else "",
            )  # fmt: skip
            self._due[child.slot] = time.monotonic() + pause

    def _ended(self) -> list[tuple[_Child, int]]:
        """Children that have ended since the last look, and how. Other children of the process are left alone."""
        ended = []
        for pid, child in list(self._children.items()):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                done, status = pid, 0
            if done:
                del self._children[pid]
                ended.append((child, os.waitstatus_to_exitcode(status)))
        return ended

    def _drain(self) -> bool:
        well = True
        self._signal_all(signal.SIGTERM)
        passed = min(self.signals, 1)
        deadline = time.monotonic() + self._limit
        while self._children:
            for child, code in self._ended():
                if code not in (0, RECYCLED, STOPPED):
                    well = False
                    log.error("worker process %d (pid %d) ended with %s", child.slot, child.pid, describe(code))
            if self.signals > passed:
                passed = self.signals
                self._signal_all(signal.SIGTERM)
            if time.monotonic() > deadline:
                log.error("%d worker processes did not end in time and are killed", len(self._children))
                self._signal_all(signal.SIGKILL)
                deadline = float("inf")
            time.sleep(POLL_SECONDS / 4)
        return well

    def _signal_all(self, number: int) -> None:
        for pid in list(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def describe(code: int) -> str:
    """How a process has ended, from its exit code as subprocess gives it."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def resident_bytes() -> int | None:
    """The memory that this process holds now, in bytes; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
