"""A child process of a worker that runs one job at a time: what happens in the child.

It is started with nothing but two descriptors: the wire, and the read end of a pipe whose other end only its worker
holds. When that end closes, however the worker died, the kernel sends SIGIO to the child's whole process group, which
ends it even in the middle of C code; no thread and no handler of ours is needed for it.

The task runs in the main thread, by the same ``Attempt`` as in a worker. A second thread hears what the worker says.
A module that was run as a script is imported under the name that others would import it by, not as ``__main__``.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import logging
import math
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec

from fairchild import context
from fairchild.client import Fairchild
from fairchild.db.notes import LineNote, ProgressNote
from fairchild.errors import NotWhileImporting
from fairchild.tasks import Home, Task, registry
from fairchild.worker import stacks
from fairchild.worker.attempt import Attempt, CoroutineLoop
from fairchild.worker.notes import Notes
from fairchild.worker.watch import Watch
from fairchild.worker.wire import Ask, AskFrames, Begun, Done, Frames, Logged, Noted, Program, Run, ToChild, Unfit, Wire

IDLE_SECONDS = 30.0
"""A child that has had nothing to do for so long ends."""
MEGABYTE = 1024 * 1024


def serve(wire_fd: int, life_fd: int) -> None:
    """Be a child: run what comes, until the worker closes the wire or nothing has come for a while."""
    die_with(life_fd)
    offer_to_the_oom_killer()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    end = socket.socket(fileno=wire_fd)
    wire: Wire[ToChild] = Wire(end, ToChild)
    program = wire.receive()
    assert isinstance(program, Program)
    sys.argv[:] = program.argv
    logging.getLogger().addHandler(_Relay(wire))
    for name, level in program.levels.items():
        logging.getLogger(name).setLevel(level)
    _Child(wire, Fairchild(**program.client)).work()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)  # whatever threads the tasks have left behind


def die_with(life_fd: int) -> None:
    """End this process group when the other end of a pipe is closed."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life_fd], [], [], 0)[0]:  # closed before anybody asked for the signal
        os._exit(1)


def offer_to_the_oom_killer() -> None:
    """If memory runs out, this process goes first, and not the worker with all its other jobs."""
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000")


class _Child:
    def __init__(self, wire: Wire[ToChild], client: Fairchild) -> None:
        self._wire = wire
        self._client = client
        self._runs: SimpleQueue[Run | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._attempt: Attempt | None = None
        self._asked: dict[UUID, Ask] = {}
        self._coroutines = CoroutineLoop(_start_thread)
        self._watch = Watch(_start_thread, lambda _: None)  # whoever does not stop is killed by the worker

    def work(self) -> None:
        _start_thread("wire", self._listen)
        context.set_default(self._client)
        while True:
            try:
                run = self._runs.get(timeout=IDLE_SECONDS)
            except Empty:
                return
            if run is None:
                return
            self._run(run)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                message = self._wire.receive()
                if isinstance(message, Run):
                    self._runs.put(message)
                elif isinstance(message, Ask):
                    self._ask(message)
                elif isinstance(message, AskFrames):
                    self._tell_frames(message)
        self._runs.put(None)

    def _ask(self, ask: Ask) -> None:
        with self._lock:
            self._asked[ask.claim_id] = ask  # its module may be on its way still
            attempt = self._attempt
        if attempt is not None and attempt.claimed.claim_id == ask.claim_id:
            attempt.interrupt(ask.kind, ask.message)

    def _tell_frames(self, asked: AskFrames) -> None:
        with self._lock:
            attempt = self._attempt
        if attempt is not None and attempt.claimed.claim_id == asked.claim_id:
            with contextlib.suppress(OSError):  # the worker is gone, and so is this process in a moment
                self._wire.send(Frames(stacks.frames_of_thread(attempt)))

    def _run(self, run: Run) -> None:
        try:
            task = find(run.claimed.task, run.home)
        except BaseException as error:  # noqa: BLE001 - importing runs any code
            self._wire.send(Unfit(f"{type(error).__name__}: {error}"))
            return
        attempt = Attempt(run.claimed, run.values, self._client, run.worker, run.history)
        attempt.notes = Notes(_Told(self._wire), run.claimed, math.inf)  # the worker counts
        with self._lock:
            self._attempt = attempt
            asked = self._asked.get(run.claimed.claim_id)
        if asked is not None:
            attempt.interrupt(asked.kind, asked.message)
        self._wire.send(Begun())
        with limited(run.memory_mb):
            ended = attempt.run(task, self._coroutines, self._watch)
        with self._lock:
            attempt.ended = True
            self._attempt = None
            self._asked.clear()
        self._wire.send(Done(ended, attempt.applied))


def find(name: str, home: Home) -> Task[Any, Any]:
    """The task of this name, from the module that makes it. Raises what importing that raises, or LookupError."""
    with context.importing():
        module = _module(home)
    found: Any = module
    for part in home.qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Task) and name in (found.name, *found.aliases):
        return found
    known = registry.find(name)  # made of a function that keeps its own name
    if known is not None:
        return known
    raise LookupError(
        f"importing {home.module} in a child process makes no task {name}: it must be made at the top level of its "
        'module, and not under if __name__ == "__main__":'
    )


def _module(home: Home) -> ModuleType:
    if home.module in sys.modules:
        return sys.modules[home.module]
    if home.file is None:
        return importlib.import_module(home.module)
    spec = importlib.util.spec_from_file_location(home.module, home.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{home.file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[home.module] = module
    try:
        spec.loader.exec_module(module)
    except NotWhileImporting:
        pass  # a script that goes to work at its end: its tasks have been made by then
    except BaseException:
        del sys.modules[home.module]
        raise
    return module


@contextlib.contextmanager
def limited(memory_mb: float | None) -> Iterator[None]:
    """In the block this process may take so much memory more than it has now; then allocating raises MemoryError."""
    if memory_mb is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _taken() + int(memory_mb * MEGABYTE)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _taken() -> int:
    """Bytes of this process's address space."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux: kilobytes at most ever held
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def _start_thread(name: str, target: Callable[[], None]) -> None:
    threading.Thread(target=target, name=f"fairchild-{name}", daemon=True).start()


class _Told:
    """Gives a job's notes to the worker, whose notebook they are for."""

    def __init__(self, wire: Wire[ToChild]) -> None:
        self._wire = wire

    def line(self, note: LineNote, record: logging.LogRecord | None = None) -> None:  # noqa: ARG002 - _Relay's
        self._wire.send(Noted(note=note))

    def progress(self, note: ProgressNote) -> None:
        self._wire.send(Noted(progress=note))

    def hurry(self) -> None:
        """The worker does, when it has heard of the end."""


class _Relay(logging.Handler):
    """Gives records to the worker, whose handlers they are for."""

    _usual = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def __init__(self, wire: Wire[ToChild]) -> None:
        super().__init__()
        self._wire = wire
        self._plain = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {
                key: value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
                for key, value in record.__dict__.items()
                if key not in self._usual
            }
            self._wire.send(Logged(record.name, record.levelno, self._plain.format(record), fields))
        except (OSError, ValueError, msgspec.MsgspecError):
            self.handleError(record)
