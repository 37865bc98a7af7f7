"""``WorkerPool``: workers as a program or a command starts them: with signals, and in one process or several."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from fairchild.context import refuse_while_importing
from fairchild.errors import UsageError
from fairchild.worker import process
from fairchild.worker.probe import Probe
from fairchild.worker.supervisor import RECYCLED, STOPPED, Supervisor, resident_bytes
from fairchild.worker.worker import Queues, Worker

if TYPE_CHECKING:
    from fairchild.client import Fairchild

POLL_SECONDS = 0.1  # a signal handler may only set a flag; an Event's lock could be held by the code it interrupts
MAX_PROCESSES = 256
MAX_PORT = 65_536
MEGABYTE = 1024 * 1024
log = logging.getLogger("fairchild.worker")


class WorkerPool:
    """Runs a ``Worker``, here or in each of several processes; takes its options.

    ``start()`` blocks until the pool is stopped, by ``stop()`` from another thread or by SIGTERM or SIGINT: the first
    drains, a second one gives running jobs back now. ``start(block=False)``, or ``with pool:``, embeds it.

    ``processes``: more than one runs that many child processes, starts another when one dies, and needs ``start()`` to
    block. One that is stopped through the database is not replaced, and the pool ends with the last of them.
    ``max_jobs_per_process`` and ``max_memory_mb`` have a child drain and be replaced once it has run so many jobs or
    holds so much memory; with them, one process is a child as well.

    ``exit_when_unhealthy``: end, with ``ended_well`` False (a child process: be replaced), when no look for jobs has
    succeeded for so many seconds, for whoever restarts programs to have a try. Without it a worker tries for ever.

    ``health_port``: answer HTTP probes at ``/livez`` and ``/readyz`` there, on ``health_host``; ``health_file``: touch
    that file as long as the worker is alive (worker/probe.py). Of several processes, number n from 0 has the port
    ``health_port + n`` and a file with ``.n`` at its end.
    """

    def __init__(
        self,
        client: Fairchild,
        queues: Queues = None,
        concurrency: int = 10,
        *,
        processes: int = 1,
        max_jobs_per_process: int | None = None,
        max_memory_mb: float | None = None,
        exit_when_unhealthy: float | None = None,
        health_port: int | None = None,
        health_host: str = "0.0.0.0",  # noqa: S104 - probes come from other hosts
        health_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        if not 1 <= processes <= MAX_PROCESSES:
            raise UsageError(f"processes is a whole number from 1 to {MAX_PROCESSES}, got {processes!r}")
        for name, limit in (
            ("max_jobs_per_process", max_jobs_per_process),
            ("max_memory_mb", max_memory_mb),
            ("exit_when_unhealthy", exit_when_unhealthy),
        ):
            if limit is not None and limit <= 0:
                raise UsageError(f"{name} must be positive, got {limit!r}")
        self.worker = Worker(client, queues, concurrency, **options)
        if health_port is not None and not 0 <= health_port <= MAX_PORT - processes:
            raise UsageError(f"health_port is a port number, got {health_port!r}")
        self._health = (health_host, health_port, health_file)
        self._probe = self._make_probe(None)
        self._patience = exit_when_unhealthy
        self._max_jobs = max_jobs_per_process
        self._max_bytes = None if max_memory_mb is None else max_memory_mb * MEGABYTE
        self._supervisor: Supervisor | None = None
        if processes > 1 or max_jobs_per_process is not None or max_memory_mb is not None:
            self._supervisor = Supervisor(processes, self._run_child, shutdown_timeout=self.worker.shutdown_timeout)
        self._stopped = threading.Event()
        self.signals = 0
        """SIGTERM and SIGINT received while ``start()`` blocked."""
        self.asked_to_stop = False
        """Whether it was stopped through the database."""
        self.ended_well = True
        """False when ``start()`` returned because a loop died or a child process had to be killed or failed."""

    def start(self, block: bool = True) -> WorkerPool:
        """Start working; return when stopped, or at once with ``block=False``."""
        refuse_while_importing("work")
        self._stopped.clear()
        self.signals = 0
        self.ended_well = True
        self.asked_to_stop = False
        if self._supervisor is not None:
            if not block or threading.current_thread() is not threading.main_thread():
                raise UsageError(
                    "several processes, or processes that are replaced, need start() to block in the main thread: "
                    "forking a program that is busy in threads is not safe. Use the command, or one process"
                )
            self.worker.client.database.close()  # its pool has threads, and a fork takes none of them along
            with process.tuned():  # the children inherit it, and share what it has frozen
                self.ended_well = self._supervisor.supervise()
            self.signals = self._supervisor.signals
            self.asked_to_stop = self._supervisor.deserted
            self._stopped.set()
            return self
        if block:
            with process.tuned():
                self._work()
        else:
            self._probe.start()
            try:
                self.worker.start()
            except BaseException:
                self._probe.stop()
                raise
        return self

    def _make_probe(self, slot: int | None) -> Probe:
        host, port, file = self._health
        if slot is not None:
            port = None if port is None else port + slot
            file = None if file is None else f"{os.fspath(file)}.{slot}"
        return Probe(self.worker, host=host, port=port, file=None if file is None else Path(file))

    def stop(self, timeout: float | None = None, *, cancel: bool = False) -> bool:
        """Drain for up to ``timeout`` seconds (default: shutdown_timeout) and stop; whether every job ended.

        ``cancel``: what runs after that is cancelled instead of given back. Several processes drain for their
        shutdown_timeout, and cannot be asked to cancel.
        """
        if self._supervisor is not None:
            if cancel:
                raise UsageError("several processes give back what runs when they stop; cancel the jobs by fc.cancel()")
            self._supervisor.stop()
            return self._stopped.wait()
        ended = self.worker.stop(timeout, cancel=cancel)
        self._probe.stop()
        self._stopped.set()
        return ended

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the pool has stopped; whether it has."""
        return self._stopped.wait(timeout)

    def __enter__(self) -> WorkerPool:
        return self.start(block=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _work(self) -> None:
        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._probe.start()
            self.worker.start()
            while not self.signals and not self._stopped.wait(POLL_SECONDS):
                if self.worker.asked_to_stop:
                    self.asked_to_stop = True
                    break
                if not self.worker.alive:
                    log.error("a loop of the worker has died; stopping")
                    self.ended_well = False
                    break
                if self._given_up():
                    log.error("no look for jobs has succeeded for %.0f s; stopping", self.worker.silent_for)
                    self.ended_well = False
                    break
                if self.worker.worn_out:
                    log.error(
                        "more than %d threads are stuck in jobs that do not stop; stopping", self.worker.max_stuck
                    )
                    self.ended_well = False
                    break
            if not self._stopped.is_set():
                self.stop()
            if not self.worker.flushed:
                self.ended_well = False  # what it could not record was said; the others find those jobs by its lease
        finally:
            self._probe.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run_child(self, slot: int) -> int:
        """A child process of the supervisor: its exit code."""
        signal.signal(signal.SIGTERM, self._signalled)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent passes on what it means
        parent = os.getppid()
        worker = self.worker
        worker.number(slot)
        probe = self._make_probe(slot)
        probe.start()
        worker.start()
        code = 0
        while not self.signals:
            if self._stopped.wait(POLL_SECONDS) or os.getppid() != parent:
                break
            if worker.asked_to_stop:
                code = STOPPED
                break
            if not worker.alive:
                code = 1
                break
            if self._given_up():
                code = 1
                break
            if self._used_up() or worker.worn_out:
                code = RECYCLED
                break
        worker.stop()
        probe.stop()
        return code if worker.flushed else 1

    def _given_up(self) -> bool:
        return self._patience is not None and self.worker.silent_for > self._patience

    def _used_up(self) -> bool:
        if self._max_jobs is not None and sum(self.worker.counts.values()) >= self._max_jobs:
            return True
        held = resident_bytes() if self._max_bytes is not None else None
        return held is not None and self._max_bytes is not None and held >= self._max_bytes

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        """Sets flags and returns; what they mean is done elsewhere."""
        self.signals += 1
        if self.signals > 1:
            self.worker.quit()
