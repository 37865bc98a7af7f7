"""Inside a running job: which job, what it may ask for, and the children it has called so far.

The current attempt is a ``ContextVar``. It is set in the thread (or coroutine) that runs the task and nowhere else: a
thread that a task starts does not inherit it, so a task called there runs here and now, as in any script. To carry it
along, wrap the function: ``Thread(target=job.wrap(fn))``. Neither does a process that a task forks, and nothing carries
it there: a job's children and its transaction belong to the process that records its outcome.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from uuid import UUID

from fairchild import codec, failpoints
from fairchild.config import Limits
from fairchild.db.census import too_many
from fairchild.errors import (
    AttemptCancelled,
    AttemptInterrupted,
    AttemptTimedOut,
    FutureUsedAsValue,
    Interrupt,
    LeaseLost,
    NotConnected,
    NotSerializable,
    NotWhileImporting,
    SpawnAfterEnd,
    UsageError,
)
from fairchild.future import Future
from fairchild.job import LEVELS, Job, NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairchild.db.connect import Database
    from fairchild.db.unit import Unit
    from fairchild.db.xcom import Change
    from fairchild.durable import Durable, Here


MAX_CURSOR_BYTES = 64 * 1024

F = TypeVar("F", bound=Callable[..., Any])


class Enqueuer(Protocol):
    """What a task needs of a client."""

    def enqueue_new(self, jobs: list[NewJob], connection: Any = None) -> list[Job]: ...
    def enqueue_stream(self, jobs: Iterable[NewJob], connection: Any = None) -> list[UUID]: ...
    def open_unit(self) -> Unit: ...
    def read_cursor(self, job_id: UUID) -> Any: ...
    def write_cursor(self, job_id: UUID, claim_id: UUID, attempt: int, cursor: bytes) -> bool: ...
    def room_below(self, workflow_id: UUID) -> int | None: ...
    @property
    def max_payload_bytes(self) -> int: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def database(self) -> Database: ...


class Notes(Protocol):
    """Where a running job notes what it has to say."""

    def line(self, level: int, logger: str, message: str, fields: dict[str, Any]) -> None: ...
    def record(self, record: Any) -> None: ...
    def progress(self, value: float, total: float | None, message: str | None) -> None: ...


_UNREAD = object()


@dataclass(eq=False)
class CurrentJob(Job):
    """The job that is running, as its own task sees it."""

    fence: int = 0
    """Grows with every claim of this job: pass it to outside systems so that they can refuse an older attempt."""
    client: Enqueuer | None = field(default=None, repr=False)
    max_payload_bytes: int = 1024 * 1024
    durable: Durable | None = field(default=None, repr=False)
    """Its journal, if its task is durable."""
    here: Here | None = field(default=None, repr=False)
    """The same of a durable task that was called directly: what it calls is run here and now."""
    changes: list[Change] = field(default_factory=list, repr=False)
    """What it has done to shared values, done with its outcome."""
    _deadline: float | None = field(default=None, repr=False)
    _children: list[NewJob] = field(default_factory=list, repr=False)
    _signal: Callable[[], BaseException] | None = field(default=None, repr=False)
    _closed: bool = field(default=False, repr=False)
    _meta_json: bytes | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _unit: Callable[[], Unit] | None = field(default=None, repr=False)
    _process: int = field(default_factory=os.getpid, repr=False)
    _claim: UUID | None = field(default=None, repr=False)
    _notes: Notes | None = field(default=None, repr=False)
    _on_notice: Callable[[], None] | None = field(default=None, repr=False)
    """Called before ``check()`` raises."""
    _cursor: Any = field(default=_UNREAD, repr=False)
    _room: int | None = field(default=None, repr=False)
    """Up to how many children nobody needs to look whether the workflow is full."""

    def __fairchild_reference__(self) -> NoReturn:
        raise UsageError(f"job {self.id} cannot be passed to a task while it runs: it would wait for itself")

    def current(self) -> CurrentJob:
        """Itself."""
        return self

    @property
    def notes(self) -> Notes | None:
        """Where it notes what it has to say; None without a worker."""
        return self._notes

    @property
    def children_spawned(self) -> int:
        """How many tasks this attempt has called so far."""
        return len(self._children)

    @property
    def suspended(self) -> bool:
        """Whether this attempt of a durable task has been suspended: for ``finally`` blocks that must not run then."""
        return self.durable is not None and self.durable.wait is not None

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked this attempt to stop, or its worker is shutting down."""
        return self._signal is not None

    @property
    def time_left(self) -> float | None:
        """Seconds until the attempt's ``timeout``, at least 0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def set_deadline(self, moment: float) -> None:
        """When the attempt's time is up, on ``time.monotonic()``'s clock."""
        self._deadline = moment

    def check(self) -> None:
        """Raise if the job was cancelled, is out of time, or its worker is shutting down or has lost it.

        Long tasks call this between steps. What it raises is an ``Interrupt``, which ``except Exception`` lets pass.
        """
        if self._signal is not None:
            error = self._signal()
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            error = AttemptTimedOut(f"job {self.id} ran past its timeout of {self.timeout} s")
        else:
            return
        if self._on_notice is not None:
            self._on_notice()
        raise error

    def _refuse_fork(self, what: str) -> None:
        if os.getpid() != self._process:
            raise UsageError(
                f"job {self.id} runs in process {self._process}, and this one was forked from it: it cannot {what}. "
                "Nothing was written; use .enqueue() or a connection of your own, or do it in the job's own process"
            )

    def update_meta(self, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into the job's meta. Stored when the attempt ends, whatever it comes to.

        Raises NotSerializable for what JSON cannot hold; nothing is changed then.
        """
        self._refuse_fork("change the job's meta")
        merged = {**self.meta, **changes}
        self._meta_json = codec.encode(merged, limit=self.max_payload_bytes, root="meta").json
        self.meta = codec.decode(self._meta_json)

    @property
    def cursor(self) -> Any:
        """A small JSON value that outlives the attempt: set it as work gets done, and the next attempt goes on there.

        None at first. It is written at once, so the value last set survives whatever happens, and each setting costs a
        statement. What ``transaction()`` holds is not undone with it, nor it with that. A job that completed and is
        retried by hand begins with None. Setting raises NotSerializable (it may have 64 KiB), LeaseLost if the job
        belongs to another attempt by now, and StoreError; then the old value stays. Without a worker it is only kept
        here.
        """
        if self._cursor is _UNREAD:
            known = self.client is not None and self._claim is not None
            self._cursor = self.client.read_cursor(self.id) if known and self.client is not None else None
        return self._cursor

    @cursor.setter
    def cursor(self, value: Any) -> None:
        encoded = codec.encode(value, limit=MAX_CURSOR_BYTES, root="cursor")
        if encoded.refs:
            raise NotSerializable("the cursor holds a Future, whose value is not known yet; nothing was changed")
        if (
            self.client is not None
            and self._claim is not None
            and not self.client.write_cursor(self.id, self._claim, self.attempt, encoded.json)
        ):
            raise LeaseLost(f"job {self.id} belongs to another attempt by now; its cursor was left as it is")
        self._cursor = codec.decode(encoded.json)

    def progress(  # type: ignore[override]  # here it says, elsewhere it shows
        self, value: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far it is: ``job.progress(40, total=100, message="...")``. Others see it as ``Job.progress``.

        Costs nothing to speak of: the last word is written a few times a second, in the background.
        """
        for number in (value, total):
            if number is not None and not math.isfinite(number):
                raise UsageError(f"progress is told in finite numbers, got {number!r}")
        if self._notes is not None:
            self._notes.progress(float(value), None if total is None else float(total), message)

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Keep a line with the job, for ``client.logs(id)``; what ``logging`` gets in a job is kept as well.

        ``level``: debug, info, warning, error or critical. ``fields`` are kept as JSON, what JSON has not as text. An
        attempt may keep 1,000 lines of 8,000 characters; lines past that are counted. Written in the background.
        """
        if level not in LEVELS:
            raise UsageError(f"{level!r} is not a level; levels are {', '.join(LEVELS)}")
        if self._notes is not None:
            self._notes.line(LEVELS[level], self.task, str(message), fields)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """``with job.transaction() as conn:`` what is written through ``conn`` commits with the attempt's completion.

        ``conn`` is a psycopg connection in a transaction that stays open until the task has returned; then its
        completion, its result and its children are recorded in it and all is committed at once. If the attempt fails,
        is retried, snoozed or cancelled, or if the job belongs to another attempt by then, nothing of it is kept. A
        second block goes on in the same transaction; a block that raises is undone alone.

        In a task that is called directly, without a worker, the block is a transaction of its own. Raises StoreError.
        """
        self._refuse_fork("use the job's transaction")
        if self._closed:
            raise UsageError(f"job {self.id}: its attempt {self.attempt} has ended, and with it its transaction")
        if self._unit is not None:
            unit = self._unit()
            with unit.part():
                yield unit.connection
            return
        unit = require_client("open a transaction").open_unit()
        try:
            with unit.part():
                yield unit.connection
        except BaseException:
            unit.rollback()
            raise
        unit.commit()

    def changed_meta(self) -> bytes | None:
        """The meta as JSON text if this attempt changed it."""
        return self._meta_json

    def wrap(self, fn: F) -> F:
        """``fn``, running as part of this job in whatever thread calls it: tasks it calls become children."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with entered(self):
                return fn(*args, **kwargs)

        return run  # type: ignore[return-value]

    def spawn(self, new: NewJob) -> Future:
        """Add a child to this attempt. It is inserted when the attempt ends well, or never."""
        self._refuse_fork(f"call task {new.task} in the job's name")
        most = self._limits.max_depth
        if self.depth >= most:
            raise UsageError(
                f"job {self.id} is {self.depth} levels deep; a workflow may have {most} levels (max_depth)"
            )
        new.parent_id = self.id
        new.workflow_id = self.workflow_id
        new.depth = self.depth + 1
        if self.durable is not None:
            return Future(self.durable.called(new, self._insert), new.task)
        self._insert(new)
        return Future(new.id, new.task)

    @property
    def _limits(self) -> Limits:
        return Limits() if self.client is None else self.client.limits

    def _insert(self, new: NewJob) -> None:
        most = self._limits.max_children
        with self._lock:
            if self._closed:
                raise SpawnAfterEnd(
                    f"task {new.task} was called in the name of job {self.id}, whose attempt {self.attempt} has "
                    "ended. Nothing was enqueued; call it before the task returns, or use .enqueue()"
                )
            if len(self._children) >= most:
                raise UsageError(
                    f"job {self.id} has called {most:,} tasks, the most one attempt may call (max_children)"
                )
            if self._room is None or len(self._children) >= self._room:
                self._look_for_room()
            self._children.append(new)
        if failpoints.ARMED:
            failpoints.hit("spawn.call")

    def add_change(self, change: Change) -> None:
        """Have a change of shared values done with this attempt's outcome."""
        with self._lock:
            if self._closed:
                raise UsageError(f"job {self.id}: its attempt {self.attempt} has ended; nothing was shared")
            self.changes.append(change)

    def _look_for_room(self) -> None:
        """Raise UsageError if the workflow is known to be full. What is not known here is counted at the end."""
        room = None if self.client is None or self.workflow_id is None else self.client.room_below(self.workflow_id)
        if room is not None and len(self._children) >= room:
            assert self.client is not None
            raise too_many(self.workflow_id, self.client.limits)
        self._room = len(self._children) + 1000 if room is None else room

    def close(self) -> list[NewJob]:
        """End of the attempt: its children, and no more of them."""
        with self._lock:
            self._closed = True
            return self._children

    def interrupt(self, kind: str, message: str) -> None:
        """Ask the attempt to stop; ``check()`` raises from now on. The first reason stays."""
        if self._signal is None:
            error = INTERRUPTS[kind]
            self._signal = lambda: error(message)


class Spawner(Protocol):
    """Something outside of a job that takes the tasks called in it: a ``with fc.workflow(...)`` block."""

    def spawn(self, new: NewJob) -> Future: ...
    @property
    def max_payload_bytes(self) -> int: ...


INTERRUPTS: dict[str, type[Interrupt]] = {
    "cancelled": AttemptCancelled,
    "interrupted": AttemptInterrupted,
    "lost": LeaseLost,
}


class JobHolder(Protocol):
    """Who can say which job runs: made only when somebody asks, since most tasks never do."""

    def current(self) -> CurrentJob: ...
    @property
    def notes(self) -> Notes | None: ...


_current: ContextVar[JobHolder | None] = ContextVar("fairchild_current_job", default=None)
_active_client: ContextVar[Enqueuer | None] = ContextVar("fairchild_client", default=None)
_default_client: list[Enqueuer] = []


_block: ContextVar[Spawner | None] = ContextVar("fairchild_block", default=None)


def get_current_block() -> Spawner | None:
    """The workflow block that this code stands in, or None."""
    return _block.get()


@contextmanager
def composing(block: Spawner) -> Iterator[None]:
    """Tasks called in the block are given to ``block``."""
    if _block.get() is not None or is_inside_task():
        where = "inside a task, whose calls are its children anyway" if is_inside_task() else "inside another one"
        raise UsageError(f"a workflow cannot be composed {where}; nothing was enqueued")
    token = _block.set(block)
    try:
        yield
    finally:
        _block.reset(token)


_importing: ContextVar[bool] = ContextVar("fairchild_importing", default=False)


@contextmanager
def importing() -> Iterator[None]:
    """Modules imported in the block are imported for their tasks alone."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)


def refuse_while_importing(what: str) -> None:
    """A program that is imported in a child process for its tasks must not do again what it does when it is run."""
    if _importing.get():
        raise NotWhileImporting(
            f"a module began to {what} while a child process imported it for its tasks; nothing was done. Put that "
            'under if __name__ == "__main__":'
        )


def current_job() -> CurrentJob:
    """The job this code runs in. Raises UsageError outside of one."""
    job = get_current_job()
    if job is None:
        raise UsageError("there is no current job: this code does not run inside a task of a worker")
    return job


def get_current_job() -> CurrentJob | None:
    """The job this code runs in, or None."""
    holder = _current.get()
    return None if holder is None else holder.current()


def current_notes() -> Notes | None:
    """Where the job this code runs in notes what it has to say; None outside of one."""
    holder = _current.get()
    return None if holder is None else holder.notes


def _result_of(future: Future, timeout: float | None) -> Any:
    """The value of a Future inside a job; only a durable one may wait for it."""
    job = get_current_job()
    if job is None or job.durable is None:
        where = "here" if job is None else f"in job {job.id} ({job.task}): its task is not durable"
        raise FutureUsedAsValue(
            f"cannot wait for {future!r} {where}. Waiting would hold a thread that the awaited job may need. Pass the "
            "Future to another task as an argument, or return it; a task with @task(durable=True) may wait"
        )
    return job.durable.result([(future.job_id, future.task)], timeout, [future.way])[0]


Future.wait_in_task = staticmethod(_result_of)


def is_inside_task() -> bool:
    """Whether this code runs in a worker's job, so that calling a task spawns a child."""
    return _current.get() is not None


class entered:  # noqa: N801 - used like a function
    """``with entered(job):`` runs the block as part of ``job`` (None: as part of no job)."""

    __slots__ = ("_job", "_token")

    def __init__(self, job: JobHolder | None) -> None:
        self._job = job

    def __enter__(self) -> None:
        self._token = _current.set(self._job)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def leave() -> None:
    """This thread runs no job any more, wherever it was interrupted."""
    _current.set(None)


@contextmanager
def active(client: Enqueuer) -> Iterator[None]:
    """Make ``client`` the one that ``task.enqueue()`` uses in the block."""
    token = _active_client.set(client)
    try:
        yield
    finally:
        _active_client.reset(token)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave)


def set_default(client: Enqueuer) -> None:
    """Make ``client`` the one that ``task.enqueue()`` uses where no other is active."""
    unset_default(client)
    _default_client.append(client)


def unset_default(client: Enqueuer) -> None:
    """Take ``client`` back; the one set before it counts again."""
    _default_client[:] = [each for each in _default_client if each is not client]


def get_current_fairchild() -> Enqueuer | None:
    """The current client: of the running job, of the block, or of the process; None without one."""
    job = get_current_job()
    if job is not None and job.client is not None:
        return job.client
    return _active_client.get() or (_default_client[-1] if _default_client else None)


def require_client(what: str) -> Enqueuer:
    """The current client, or NotConnected with what to do."""
    client = get_current_fairchild()
    if client is None:
        raise NotConnected(
            f"cannot {what}: no client is connected. Call Fairchild(url).connect() first; without a URL it uses "
            "the environment variable FAIRCHILD_DATABASE_URL"
        )
    return client


__all__ = [
    "CurrentJob",
    "Enqueuer",
    "JobHolder",
    "active",
    "current_job",
    "entered",
    "get_current_fairchild",
    "get_current_job",
    "importing",
    "is_inside_task",
    "leave",
    "refuse_while_importing",
    "require_client",
    "set_default",
    "unset_default",
]
