"""Jobs that run alone, each in a child process: what happens in the worker.

Two kinds of job come here: those of tasks with ``isolation="process"``, and every job that was held in a death of a
worker (see db/lease.py). A runner thread hands the job to a child, waits for the outcome, and gives that on as its
own. A child is a fresh Python that imports the task's module; nothing is forked, so threads and connections of the
worker do not matter. It is kept for further jobs, up to a number of them, and ends by itself when it is idle for long.
Only as many as there are processors start at once: of many short jobs most find a child that another has left.

A child that does not stop is killed, with all processes of its group:

    timeout      the interrupt is raised in the child first, as in a thread; then SIGTERM, then SIGKILL
    cancelled    the same, after the time that job.check() gets to notice
    shutdown     the same; SIGKILL at the latest when the worker gives its jobs back
    worker dies  by the kernel, at once: see worker/child.py

A child that dies although nobody killed it is its job's loss: nothing else ran there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from fairchild.client import Fairchild
from fairchild.context import INTERRUPTS, entered
from fairchild.db.finish import Ended
from fairchild.db.lease import MAX_LOSSES
from fairchild.db.stacks import Frame
from fairchild.errors import AttemptTimedOut, TaskError
from fairchild.tasks import Home, Task, home_of
from fairchild.worker.attempt import Attempt
from fairchild.worker.supervisor import describe
from fairchild.worker.watch import Watch
from fairchild.worker.wire import (
    Ask,
    AskFrames,
    Begun,
    Done,
    Frames,
    Logged,
    Noted,
    Program,
    Run,
    ToWorker,
    Unfit,
    Wire,
)

START_SECONDS = 60.0
"""What a child gets to start and to import the task's module."""
GRACE_SECONDS = 0.5
"""What an interrupt raised in the child gets to end the task before the child is killed."""
MAX_RUNS = 100
MAX_STARTING = max(2, os.cpu_count() or 1)
AGAIN_SECONDS = 5.0
END_SECONDS = 1.0
BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from fairchild.worker.child import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)

log = logging.getLogger("fairchild.worker")


class NotIsolated(TaskError):
    """A task that wants a process of its own could not be found in one."""


class Children:
    """The child processes of one worker: never more than runner threads that wait for one."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._starting = 0
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._stopping = False

    def run(self, attempt: Attempt, task: Task[Any, Any], watch: Watch) -> Ended | None:
        """Run an attempt in a child; what it came to. None: its task only runs in this process, and does not mind."""
        home = home_of(task.fn)
        if home is None:
            return None
        while True:
            try:
                process = self._take(fresh=attempt.claimed.losses + 1 >= MAX_LOSSES)
            except OSError as error:
                return attempt.put_off(f"no process could be started for it: {error}", AGAIN_SECONDS)
            if process is None:
                return attempt.give_back("the worker is shutting down")
            turn = _Turn(attempt, task, process, watch, self._started)
            attempt.move(turn)
            try:
                ended = turn.run(home)
            except _Gone:
                continue  # it was idle, and just ending
            except _Unfit as unfit:
                return self._unfit(attempt, task, str(unfit))
            finally:
                attempt.elsewhere = None
                self._give_back(process, usable=turn.over())
            return ended

    def _unfit(self, attempt: Attempt, task: Task[Any, Any], why: str) -> Ended | None:
        if task.settings.isolation == "process":
            return attempt.failed(task, NotIsolated(f"the task could not be run in a process of its own: {why}"))
        log.warning(
            "job %s (%s) was held in a death of a worker and should run in a process of its own, which its task "
            "cannot (%s); it runs among others",
            attempt.claimed.job_id, task.name, why,
        )  # fmt: skip
        return None

    def stop(self) -> None:
        """End all children."""
        with self._lock:
            self._stopping = True
            left = list(self._all)
            self._idle.clear()
            self._room.notify_all()
        for process in left:
            process.signal(signal.SIGTERM)
        for process in left:
            process.end()
        with self._lock:
            self._all.difference_update(left)

    def _take(self, *, fresh: bool) -> _Process | None:
        """An idle child, or a new one. ``fresh``: one in which nothing has run. Raises OSError. None while stopping."""
        with self._lock:
            gone = [each for each in self._idle if not each.alive()]
            self._idle = [each for each in self._idle if each not in gone]
            self._all.difference_update(gone)
            while not self._stopping and self._starting >= MAX_STARTING and (fresh or not self._idle):
                self._room.wait()
            if self._stopping:
                found = None
            elif self._idle and not fresh:
                found = self._idle.pop()
            else:
                found = None
                self._starting += 1
            stopping = self._stopping
        for process in gone:
            process.end()
        if found is not None or stopping:
            return found
        return self._start()

    def _start(self) -> _Process | None:
        try:
            process = _Process(self._client)
        except BaseException:
            with self._lock:
                self._starting -= 1
                self._room.notify()
            raise
        with self._lock:
            self._all.add(process)
            if not self._stopping:
                return process
        self._give_back(process, usable=False)
        return None

    def _started(self, process: _Process) -> None:
        """It has imported what it needs, or ended."""
        with self._lock:
            if process.starting:
                process.starting = False
                self._starting -= 1
                self._room.notify()

    def _give_back(self, process: _Process, *, usable: bool) -> None:
        self._started(process)
        with self._lock:
            if usable and process.runs < MAX_RUNS and not self._stopping:
                self._idle.append(process)
                self._room.notify()
                return
            self._all.discard(process)
        process.signal(signal.SIGTERM)
        process.end()


class _Gone(Exception):
    """The child ended before it heard of its job."""


class _Unfit(Exception):
    """The child cannot find the task."""


class _Turn:
    """One attempt in one child. What watches attempts may watch this."""

    def __init__(
        self,
        attempt: Attempt,
        task: Task[Any, Any],
        process: _Process,
        watch: Watch,
        started: Callable[[_Process], None],
    ) -> None:
        self.claimed = attempt.claimed
        self.ended = False
        self.stuck = False
        self.interrupted_at: float | None = None
        self._attempt = attempt
        self._task = task
        self._process = process
        self._watch = watch
        self._started = started
        self._lock = threading.Lock()
        self._asked: tuple[str, str] | None = None
        self._begun = False
        self._deadline = time.monotonic() + START_SECONDS
        self._heard = False
        self._frames: list[Frame] = []
        self._answered = threading.Event()

    # Asked by others

    def ask(self, kind: str, message: str) -> None:
        """Pass on that the attempt is to stop."""
        self._asked = (kind, message)
        with contextlib.suppress(OSError):  # it is gone already, which its runner is about to hear
            self._process.wire.send(Ask(self.claimed.claim_id, kind, message))
        self._watch.add(self)

    def kill(self) -> None:
        """End it now."""
        with self._lock:
            if not self.ended:
                self.interrupted_at = self.interrupted_at or time.monotonic()
                self._process.signal(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask_frames(self) -> None:
        """Let the child say where it is; see ``frames``."""
        self._answered.clear()
        with contextlib.suppress(OSError):
            self._process.wire.send(AskFrames(self.claimed.claim_id))

    def frames(self, seconds: float) -> list[Frame] | None:
        """What the child answers within so many seconds."""
        return self._frames if self._answered.wait(seconds) else None

    def due(self, now: float, polite: float) -> float | None:
        """When it is to be killed: some time after an interrupt would have been raised in a thread."""
        return self._deadline if self._asked is None else now + polite + GRACE_SECONDS

    def interrupt_thread(self, now: float) -> bool:
        """Kill the child, the first time in a way that it may handle; whether to look again."""
        with self._lock:
            if self.ended or (self._asked is None and now < self._deadline):
                return False
            if self.interrupted_at is None:
                self.interrupted_at = now
                self._process.signal(signal.SIGTERM)
                return True
            self._process.signal(signal.SIGKILL)
            return False

    def over(self) -> bool:
        """From here on it is not killed any more; whether it never was, and lives."""
        with self._lock:
            self.ended = True
            return self.interrupted_at is None and self._heard

    # In the runner's thread

    def run(self, home: Home) -> Ended:
        """The outcome. Raises _Gone, _Unfit."""
        process, attempt = self._process, self._attempt
        process.runs += 1
        self._watch.add(self)
        memory = self._task.settings.memory_mb
        message = Run(attempt.claimed, dict(attempt.values), attempt.worker, home, memory, attempt.history)
        try:
            process.wire.send(message)
            return self._listen()
        except (EOFError, OSError):
            return self._died(process.end())

    def _listen(self) -> Ended:
        while True:
            message = self._process.wire.receive()
            if isinstance(message, Logged):
                with entered(self._attempt):  # so that it is kept with the job
                    _log(message)
            elif isinstance(message, Noted):
                self._note(message)
            elif isinstance(message, Frames):
                self._frames = message.frames
                self._answered.set()
            elif isinstance(message, Begun):
                self._begun = True
                self._started(self._process)
                timeout = self.claimed.timeout
                self._deadline = float("inf") if timeout is None else time.monotonic() + timeout + GRACE_SECONDS
                if timeout is not None:
                    self._watch.add(self)
            elif isinstance(message, Unfit):
                self._heard = True
                raise _Unfit(message.message)
            else:
                assert isinstance(message, Done)
                self._heard = True
                if self._attempt.notes is not None:
                    self._attempt.notes.close()
                self._attempt.applied = message.applied
                return message.ended

    def _note(self, noted: Noted) -> None:
        notes = self._attempt.notes
        if notes is not None and noted.note is not None:
            notes.line(noted.note.level, noted.note.logger, noted.note.message, noted.note.fields)
        elif notes is not None and noted.progress is not None:
            notes.progress(noted.progress.value, noted.progress.total, noted.progress.message)

    def _died(self, code: int) -> Ended:
        attempt, task = self._attempt, self._task
        with self._lock:
            killed = self.interrupted_at is not None
        if killed and self._asked is not None:
            kind, message = self._asked
            log.warning("job %s (%s) did not stop (%s); its process was killed", self.claimed.job_id, task.name, kind)
            return attempt.failed(task, INTERRUPTS[kind](message))
        if killed and self._begun:
            late = f"job {self.claimed.job_id} ran past its timeout of {self.claimed.timeout} s; its process was killed"
            return attempt.failed(task, AttemptTimedOut(late))
        if killed:
            return attempt.put_off(
                f"its process had not imported {task.name} after {START_SECONDS} s and was killed", AGAIN_SECONDS
            )
        if not self._begun:
            if self._process.runs > 1:
                raise _Gone
            return attempt.put_off(f"its process ended with {describe(code)} before the task began", AGAIN_SECONDS)
        return attempt.died(f"the process that ran this job alone ended with {describe(code)}; no attempt was spent")


class _Process:
    """A child process and this end of what connects it."""

    def __init__(self, client: Fairchild) -> None:
        ours, theirs = socket.socketpair()
        life, self._life = os.pipe()
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-c", BOOT, str(theirs.fileno()), str(life), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), life),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(self._life)
            raise
        finally:
            theirs.close()
            os.close(life)
        self._ours = ours
        self._pidfd = _open_pidfd(self._popen.pid)
        self.wire: Wire[ToWorker] = Wire(ours, ToWorker, self._wait)
        self.runs = 0
        self.starting = True
        self._ending = threading.Lock()
        self._over = False
        with contextlib.suppress(OSError):  # it has died already: whoever waits for an answer hears of it
            self.wire.send(Program(sys.argv, _levels(), client.options))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def alive(self) -> bool:
        """Whether it has not ended yet. One that has keeps its number until ``end()``, so that no other is killed."""
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def signal(self, number: int) -> None:
        """Send a signal to it and all that it has started."""
        with self._ending:
            if not self._over:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, number)

    def end(self) -> int:
        """Wait a moment for its end, kill what is left, and close up; its exit code."""
        if self._pidfd is not None:
            _first_ready((self._pidfd,), END_SECONDS)
        with self._ending:
            if not self._over:
                self._over = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, signal.SIGKILL)
                self._popen.wait()
                self._ours.close()
                os.close(self._life)
                if self._pidfd is not None:
                    os.close(self._pidfd)
                    self._pidfd = None
        code = self._popen.returncode
        assert code is not None
        return code

    def _wait(self) -> None:
        """Until it says something. Raises EOFError if it has ended: its own children may hold the socket open."""
        ours = self._ours.fileno()
        while ours >= 0:
            told = (ours,) if self._pidfd is None else (ours, self._pidfd)
            if _first_ready(told, 1.0 if self._pidfd is None else None) == ours:
                return
            if not self.alive():
                break
        if ours < 0 or _first_ready((ours,), 0.0) != ours:
            raise EOFError


def _first_ready(descriptors: tuple[int, ...], seconds: float | None) -> int | None:
    """The first of these that can be read, or has been closed; None if none was in this time (None: no limit)."""
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    ready = dict(poll.poll(None if seconds is None else seconds * 1000))
    return next((each for each in descriptors if each in ready), None)


def _open_pidfd(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or no descriptor left
        return None


def _levels() -> dict[str, int]:
    """The loggers that have a level of their own."""
    named = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {"": logging.root.level, **{name: each.level for name, each in named.items() if each.level}}


def _log(logged: Logged) -> None:
    logger = logging.getLogger(logged.name)
    if logger.isEnabledFor(logged.level):
        logger.handle(
            logger.makeRecord(
                logged.name, logged.level, "(child process)", 0, logged.message, (), None, extra=logged.fields
            )
        )
