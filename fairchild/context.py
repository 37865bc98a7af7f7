"""Inside a running job: which job, what it may ask for, and the children it has called so far.

The current attempt is a ``ContextVar``. It is set in the thread (or coroutine) that runs the task and nowhere else: a
thread that a task starts does not inherit it, so a task called there runs here and now, as in any script. To carry it
along, wrap the function: ``Thread(target=job.wrap(fn))``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from uuid import UUID

from fairchild import codec
from fairchild.errors import (
    AttemptCancelled,
    AttemptInterrupted,
    AttemptTimedOut,
    FutureUsedAsValue,
    Interrupt,
    LeaseLost,
    NotConnected,
    NotWhileImporting,
    SpawnAfterEnd,
    UsageError,
)
from fairchild.future import Future
from fairchild.job import Job, NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairchild.db.connect import Database
    from fairchild.db.unit import Unit
    from fairchild.db.xcom import Change
    from fairchild.durable import Durable, Here


MAX_DEPTH = 64
MAX_CHILDREN = 100_000

F = TypeVar("F", bound=Callable[..., Any])


class Enqueuer(Protocol):
    """What a task needs of a client."""

    def enqueue_new(self, jobs: list[NewJob], connection: Any = None) -> list[Job]: ...
    def enqueue_stream(self, jobs: Iterable[NewJob], connection: Any = None) -> list[UUID]: ...
    def open_unit(self) -> Unit: ...
    @property
    def max_payload_bytes(self) -> int: ...
    @property
    def database(self) -> Database: ...


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

    def __fairchild_reference__(self) -> NoReturn:
        raise UsageError(f"job {self.id} cannot be passed to a task while it runs: it would wait for itself")

    def current(self) -> CurrentJob:
        """Itself."""
        return self

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
            raise self._signal()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise AttemptTimedOut(f"job {self.id} ran past its timeout of {self.timeout} s")

    def update_meta(self, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into the job's meta. Stored when the attempt ends, whatever it comes to.

        Raises NotSerializable for what JSON cannot hold; nothing is changed then.
        """
        merged = {**self.meta, **changes}
        self._meta_json = codec.encode(merged, limit=self.max_payload_bytes, root="meta").json
        self.meta = codec.decode(self._meta_json)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """``with job.transaction() as conn:`` what is written through ``conn`` commits with the attempt's completion.

        ``conn`` is a psycopg connection in a transaction that stays open until the task has returned; then its
        completion, its result and its children are recorded in it and all is committed at once. If the attempt fails,
        is retried, snoozed or cancelled, or if the job belongs to another attempt by then, nothing of it is kept. A
        second block goes on in the same transaction; a block that raises is undone alone.

        In a task that is called directly, without a worker, the block is a transaction of its own. Raises StoreError.
        """
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
        if self.depth >= MAX_DEPTH:
            raise UsageError(f"job {self.id} is {self.depth} levels deep; a workflow may have {MAX_DEPTH} levels")
        new.parent_id = self.id
        new.workflow_id = self.workflow_id
        new.depth = self.depth + 1
        if self.durable is not None:
            return Future(self.durable.called(new, self._insert), new.task)
        self._insert(new)
        return Future(new.id, new.task)

    def _insert(self, new: NewJob) -> None:
        with self._lock:
            if self._closed:
                raise SpawnAfterEnd(
                    f"task {new.task} was called in the name of job {self.id}, whose attempt {self.attempt} has "
                    "ended. Nothing was enqueued; call it before the task returns, or use .enqueue()"
                )
            if len(self._children) >= MAX_CHILDREN:
                raise UsageError(f"job {self.id} has called {MAX_CHILDREN:,} tasks, the most one attempt may call")
            self._children.append(new)

    def add_change(self, change: Change) -> None:
        """Have a change of shared values done with this attempt's outcome."""
        with self._lock:
            if self._closed:
                raise UsageError(f"job {self.id}: its attempt {self.attempt} has ended; nothing was shared")
            self.changes.append(change)

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


INTERRUPTS: dict[str, type[Interrupt]] = {
    "cancelled": AttemptCancelled,
    "interrupted": AttemptInterrupted,
    "lost": LeaseLost,
}


class JobHolder(Protocol):
    """Who can say which job runs: made only when somebody asks, since most tasks never do."""

    def current(self) -> CurrentJob: ...


_current: ContextVar[JobHolder | None] = ContextVar("fairchild_current_job", default=None)
_active_client: ContextVar[Enqueuer | None] = ContextVar("fairchild_client", default=None)
_default_client: list[Enqueuer] = []


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


def _result_of(future: Future, timeout: float | None) -> Any:
    """The value of a Future inside a job; only a durable one may wait for it."""
    job = get_current_job()
    if job is None or job.durable is None:
        where = "here" if job is None else f"in job {job.id} ({job.task}): its task is not durable"
        raise FutureUsedAsValue(
            f"cannot wait for {future!r} {where}. Waiting would hold a thread that the awaited job may need. Pass the "
            "Future to another task as an argument, or return it; a task with @task(durable=True) may wait"
        )
    return job.durable.result([(future.job_id, future.task)], timeout)[0]


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
