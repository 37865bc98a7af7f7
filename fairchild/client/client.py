"""``Fairchild``: the door to one database."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from fairchild import clock, codec, context, failpoints
from fairchild.client import health
from fairchild.client.hooks import H, Hooks
from fairchild.client.insight import Insight
from fairchild.client.overview import Overview
from fairchild.client.queues import Queues
from fairchild.client.tokens import Tokens
from fairchild.client.workers import Workers
from fairchild.client.workflows import Block, Workflows
from fairchild.client.xcom import SharedValues
from fairchild.config import Config, Limits
from fairchild.db import browse, cancel, control, journal, marks, migrate, notes, prune, redactions, search, workflows
from fairchild.db.connect import Database, Link, caller_errors, caller_link, is_reply_lost, retrying, within
from fairchild.db.deadline import current
from fairchild.db.enqueue import Inserted, insert_jobs, insert_stream, insert_workflow
from fairchild.db.health import oldest_available
from fairchild.db.resolve import until_known, was_inserted
from fairchild.db.unit import Unit
from fairchild.db.workers import WorkerState
from fairchild.errors import (
    ConfigError,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    NoResult,
    NotConnected,
    OutcomeUnknown,
    ResultTimeout,
    StateError,
    StoreError,
    TookTooLong,
    UnknownJob,
    UsageError,
    WouldDeadlock,
)
from fairchild.future import Future
from fairchild.ids import uuid7
from fairchild.job import LEVELS, Job, JobState, LogLine, NewJob
from fairchild.rules.query import Query
from fairchild.rules.query import parse as parse_query
from fairchild.tasks import (
    Configured,
    Registry,
    Task,
    TaskDecorator,
    apply_options,
    check_moment,
    check_seconds,
    check_text,
    registry,
)

if TYPE_CHECKING:
    from fairchild.worker.consumer import Consumer, HeldJob

T = TypeVar("T")

MAX_PAGE = 1000
MAX_OFFSET = 10_000
_FIRST_POLL = 0.005
_LAST_POLL = 0.25
_FILTERS = ("state", "queue", "task", "tag", "tenant", "workflow", "worker", "q", "error_kind", "before")


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first. ``cursor`` asks for those after them; None at the end."""

    jobs: list[Job]
    cursor: str | None

    def __iter__(self) -> Any:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Job:
        return self.jobs[index]


_clients: weakref.WeakSet[Fairchild] = weakref.WeakSet()


class Fairchild(Overview):
    """A client of one database. Nothing is opened before it is needed.

    ``url``: ``postgresql://...``, a libpq connection string, or ``embedded:``; without it, the environment's
    ``FAIRCHILD_DATABASE_URL``, then libpq's ``PG*`` variables. ``schema``: where the tables are (default: the
    connection's own). Safe to share between threads and to make before a fork. ``enqueue_timeout``: for how many
    seconds an enqueue whose reply was lost tries to learn what came of it before it raises OutcomeUnknown.
    ``max_depth``, ``max_children``, ``max_descendants``: see ``config.Limits``.
    ``default_timeout``: seconds that an attempt may take in this client's workers if nothing else is said.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        schema: str | None = None,
        pool_size: int = 10,
        max_payload_bytes: int | None = None,
        pooler: bool | None = None,
        max_depth: int | None = None,
        max_children: int | None = None,
        max_descendants: int | None = None,
        enqueue_timeout: float = 30.0,
        default_timeout: float | timedelta | None = None,
        registry: Registry = registry,
    ) -> None:
        if enqueue_timeout < 0:
            raise ConfigError(f"enqueue_timeout must not be negative, got {enqueue_timeout}")
        self._enqueue_timeout = enqueue_timeout
        self._given: dict[str, Any] = {
            "url": url,
            "schema": schema,
            "pool_size": pool_size,
            "max_payload_bytes": max_payload_bytes,
            "pooler": pooler,
            "max_depth": max_depth,
            "max_children": max_children,
            "max_descendants": max_descendants,
            "default_timeout": (
                default_timeout.total_seconds() if isinstance(default_timeout, timedelta) else default_timeout
            ),
        }
        self._database: Database | None = None
        self.registry = registry
        self.task = TaskDecorator(registry)
        self.hooks = Hooks()
        self._scopes: list[ExitStack] = []
        self._endings = 0
        self._forked()
        _clients.add(self)

    def _forked(self) -> None:
        """Also in a forked child: the parent's locks may be held, by threads that are not here, like its worker's."""
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._wakes: list[Callable[[], None]] = []
        self._consumers: dict[float, Consumer] = {}
        self.listener, self.heard_at = uuid7(), float("-inf")
        """Of those who ask for events now and then: their listener, and when it was said last that it is there."""
        self.workers = Workers(self.ask, self.change)
        """Who works on this database: ``list()``, ``pause()``, ``resume()``, ``stop()``."""
        self.workflows = Workflows(self)
        self.insight = Insight(self)
        self.queues = Queues(self)
        self.tokens = Tokens(self)

    def __repr__(self) -> str:
        return f"<Fairchild {self.config!r}>" if self._database is not None else "<Fairchild, not connected>"

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with but for the registry, as plain values: another process makes the same of them."""
        return dict(self._given)

    # Connecting

    @property
    def database(self) -> Database:
        """Where the tables are. Raises ConfigError if no URL is configured anywhere."""
        if self._database is not None:
            return self._database
        with self._lock:
            if self._database is None:
                self._database = Database(Config.load(**self._given))
            return self._database

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self.database.config

    @property
    def max_payload_bytes(self) -> int:
        """The largest size of a job's arguments or result as JSON."""
        return self.config.max_payload_bytes

    @property
    def limits(self) -> Limits:
        """How far a workflow may grow."""
        return self.config.limits

    def room_below(self, workflow_id: UUID) -> int | None:
        """How many jobs a workflow may still get, as far as this process knows; None: nothing is known."""
        return self.database.census.room(workflow_id)

    def connect(self, *, check_schema: bool = True) -> Fairchild:
        """Check that the database answers, and become the client that ``task.enqueue()`` uses. May be repeated.

        Raises DatabaseUnavailable, ConfigError; SchemaError if the tables are those of an older or a newer release,
        unless ``check_schema`` is False. Where there are none yet, ``install()`` may follow.
        """
        if check_schema:
            migrate.check(self.database)
        else:
            self.database.check()
        context.set_default(self)
        return self

    def disconnect(self) -> None:
        """Close the connections and stop being the current client. ``connect()`` may follow."""
        context.unset_default(self)
        with self._lock:
            database = self._database
            consumers = list(self._consumers.values())
            self._consumers.clear()
        for consumer in consumers:
            consumer.close()
        if database is not None:
            database.close()

    close = disconnect

    def __enter__(self) -> Fairchild:
        self.connect()
        stack = ExitStack()
        stack.enter_context(context.active(self))
        self._scopes.append(stack)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scopes.pop().close()
        self.disconnect()

    def active(self) -> AbstractContextManager[None]:
        """``with client.active():`` makes it the one that ``task.enqueue()`` uses in the block."""
        return context.active(self)

    def install(self) -> list[str]:
        """Create the tables or bring them up to date; build invalid indexes anew.

        Safe to repeat and to run from many processes at once.

        The names of the migrations applied; none when there was nothing to do.
        """
        return migrate.upgrade(self.database.conninfo, self.config.schema)

    migrate = install

    def pending_migrations(self) -> list[str]:
        """The migrations that ``install()`` would apply, oldest first. Raises SchemaError for a newer database."""
        if current.get() is not None:  # with whoever reads pages: in their time, on their connections
            return self.ask(migrate.pending_on)
        return migrate.pending(self.database.conninfo, self.config.schema)

    def damaged_indexes(self) -> list[str]:
        """The indexes of the tables that are invalid, as a build that failed leaves them. ``install()`` mends them."""
        return migrate.damaged(self.database.conninfo, self.config.schema)

    def is_installed(self) -> bool:
        """Whether the tables have been made, by whatever release."""
        return migrate.current(self.database.conninfo, self.config.schema) is not None

    def migration_sql(self) -> str:
        """The SQL that makes everything in an empty database. Needs no connection and no URL."""
        return migrate.offline_sql(Config.load(**{**self._given, "url": "postgresql://"}).schema)

    def drop_tables(self) -> None:
        """Drop fairchild's tables, with every job in them, and nothing else."""
        migrate.drop(self.database.conninfo, self.config.schema)

    def check_database(self) -> dict[str, dict[str, Any]]:
        """Whether it can be reached and has the tables of this release, in the form of ``health()``."""
        return health.check_database(self)

    def oldest_wait(self) -> float | None:
        """For how many seconds the job that has been available for longest is so; None if none is."""
        oldest = self.ask(oldest_available)
        return None if oldest is None else oldest[1]

    def health(
        self, *, max_age: float | None = None, hostname: str | None = None, name: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """All checks: ``{check: {"ok": bool, "level": "ok" | "warn" | "fail", "detail": text, "do": text}}``.

        ``database``, ``schema``, ``workers`` (one is at work), ``jobs`` (the oldest available one); and such as only
        warn: ``queues`` (with jobs that no live worker takes), ``clocks``, ``transactions`` (that hold back vacuum),
        ``notifications``, ``upkeep``. Never raises StoreError.

        ``max_age``: seconds for which an available job may wait. ``hostname``, ``name``: count only those workers.
        """
        return health.check_all(self, max_age, hostname, name)

    def database_name(self) -> str:
        """The name of the database connected to."""
        with self.database.link() as link:
            return str(link.script("SELECT current_database()")[0][0])

    def live_workers(self) -> list[str]:
        """The names of the workers that are at work; none where the tables have not been made."""
        if not self.is_installed():
            return []
        return [each.name for each in self.workers.list() if each.state is not WorkerState.DEAD]

    # Enqueuing

    def enqueue(
        self, task: Task[Any, Any] | Configured[Any, Any] | str, args: Mapping[str, Any] | None = None, **options: Any
    ) -> Job:
        """Insert a job of a task or of a task's name; options as in ``task.options(...)``.

        A name that is not registered here is accepted: the arguments are then checked by the worker that knows it.
        """
        connection = _connection(task, options)
        return self.enqueue_new([self.build(task, args or {}, options)], connection)[0]

    def enqueue_many(
        self,
        task: Task[Any, Any] | Configured[Any, Any] | str,
        calls: Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> list[UUID]:
        """Insert one job for each mapping of arguments, all or none; ids in the order given. Any number, streamed."""
        connection = _connection(task, options)
        if "id" in options:
            raise InvalidArguments("one id cannot name many jobs; nothing was enqueued")
        known = self.registry.find(task) if isinstance(task, str) else task
        if known is None:
            return self.enqueue_stream((self.build(task, call, options) for call in calls), connection)
        configured = known if isinstance(known, Configured) else Configured(known, {})
        return configured.options(**options).stream(calls, self, connection)

    def build(
        self, task: Task[Any, Any] | Configured[Any, Any] | str, args: Mapping[str, Any], options: Mapping[str, Any]
    ) -> NewJob:
        """The job that ``enqueue`` would insert."""
        if not isinstance(args, Mapping):
            raise InvalidArguments(f"args must be a dict of arguments, got {type(args).__name__}; nothing was enqueued")
        if isinstance(task, str):
            found = self.registry.find(task)
            if found is None:
                return self._build_unknown(task, args, options)
            task = found
        configured = task if isinstance(task, Configured) else Configured(task, {})
        return configured.build(args, options, self.max_payload_bytes)

    def _build_unknown(self, name: str, args: Mapping[str, Any], options: Mapping[str, Any]) -> NewJob:
        encoded = codec.encode(dict(args), limit=self.max_payload_bytes)
        new = NewJob(id=uuid7(), task=check_text("task name", name), args=encoded.json, refs=encoded.refs)
        apply_options(new, options, self.max_payload_bytes)
        return new

    def enqueue_new(self, jobs: list[NewJob], connection: Any = None) -> list[Job]:
        """Insert jobs that are built already; as Jobs, in their order."""
        context.refuse_while_importing("enqueue")
        self._tell_hidden(jobs)
        if connection is not None:
            with caller_errors():
                link = caller_link(connection, self.database.schema)
                return self._made(link, jobs, insert_jobs(link, jobs))
        ids = [new.id for new in jobs]
        made = until_known(lambda again: self._enqueue_own(jobs, again), ids, self._patience)
        self.wake_workers()
        return made

    @property
    def _patience(self) -> float:
        """Seconds for which to try to learn what came of an enqueue."""
        deadline = current.get()
        return self._enqueue_timeout if deadline is None else min(self._enqueue_timeout, max(deadline.left, 0.0))

    def _enqueue_own(self, jobs: list[NewJob], again: bool) -> list[Job]:
        if failpoints.ARMED:
            failpoints.hit("enqueue.before")
        with self.database.link() as link:
            inserted = insert_jobs(link, jobs)
            if failpoints.ARMED:
                failpoints.hit("enqueue.after")
            return self._made(link, jobs, inserted, again)

    def _tell_hidden(self, jobs: Iterable[NewJob]) -> None:
        """Before the first jobs of tasks that hide arguments: keep which, for those who show jobs without the code.

        On a connection of ours, since a caller's transaction may stay open for long, and others would wait for it.
        """
        told = self.database.told
        hidden = {row for job in jobs if job.redact for row in job.redact if row not in told}
        if hidden:
            self.change(lambda link: redactions.add_redactions(link, hidden))
            told |= hidden

    def _told_hidden(self, jobs: Iterable[NewJob]) -> Iterator[NewJob]:
        """The same, for a stream. Its first job is looked at at once: later its connection may be the last one."""
        rest = iter(jobs)
        first = list(islice(rest, 1))
        self._tell_hidden(first)

        def told() -> Iterator[NewJob]:
            for job in chain(first, rest):
                if job.redact:
                    self._tell_hidden([job])
                yield job

        return told()

    def enqueue_stream(self, jobs: Iterable[NewJob], connection: Any = None) -> list[UUID]:
        """Insert any number of built jobs, all or none; their ids."""
        context.refuse_while_importing("enqueue")
        jobs = self._told_hidden(jobs)
        if connection is not None:
            with caller_errors():
                return insert_stream(caller_link(connection, self.database.schema), jobs)
        ids: list[UUID] = []
        own: list[UUID] = []  # the last that cannot have been there before

        def noted() -> Iterator[NewJob]:
            for job in jobs:
                ids.append(job.id)
                if not job.given_id:
                    own[:] = [job.id]
                yield job

        try:
            with self.database.link() as link:
                insert_stream(link, noted())
            if failpoints.ARMED:
                failpoints.hit("enqueue.after")
        except StoreError as error:
            if not is_reply_lost(error) or not ids:
                raise
            if not own:
                raise OutcomeUnknown(ids, error) from error
            if not until_known(lambda _: self._was_inserted(own[0]), ids, self._patience, lost=True):
                raise
        self.wake_workers()
        return ids

    def _was_inserted(self, job_id: UUID) -> bool:
        with self.database.link() as link:
            return was_inserted(link, job_id)

    def _made(self, link: Link, jobs: list[NewJob], inserted: list[Inserted], again: bool = False) -> list[Job]:
        times = {each.id: each for each in inserted}
        # What was there already, and what depends on jobs that may have ended, is best read.
        unsure = [new.id for new in jobs if new.id not in times or new.upstreams()]
        read = browse.get_jobs(link, unsure) if unsure else {}
        made = []
        for new in jobs:
            entry = times.get(new.id)
            found = read.get(new.id)
            if found is not None:
                # After a lost reply the job that is there is our own.
                ours = again and found.task == new.task and found.args == codec.decode(new.args)
                found.conflict = entry is None and new.given_id and not ours
                found._client = self
                made.append(found)
                continue
            if entry is None:
                raise UnknownJob(f"job {new.id} was there already and has just been deleted; nothing was enqueued")
            state = JobState.SCHEDULED if entry.later else JobState.AVAILABLE
            made.append(
                Job(
                    id=new.id,
                    task=new.task,
                    queue=new.queue,
                    state=state,
                    scheduled_at=entry.scheduled_at,
                    args=codec.decode(new.args),
                    priority=new.priority,
                    tenant=new.tenant,
                    max_attempts=new.max_attempts,
                    tags=list(new.tags or ()),
                    meta={} if new.meta is None else codec.decode(new.meta),
                    workflow_id=new.workflow_id or new.id,
                    parent_id=new.parent_id,
                    depth=new.depth,
                    timeout=new.timeout,
                    _client=self,
                )
            )
        return made

    def workflow(
        self,
        name: str,
        *,
        on_child_failure: str = "fail",
        connection: Any = None,
        queue: str | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        tags: Any = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Block:
        """``with fc.workflow("name") as w:`` tasks called in the block become the jobs of one workflow.

        Each call gives a Future. At the block's end all jobs are inserted in one transaction (that of ``connection``,
        if given); nothing is if the block raises. ``w`` is the workflow then: it completes when all its jobs have.
        The options are those of its root, a job named ``name`` that runs nothing.
        """
        options = {"queue": queue, "tenant": tenant, "priority": priority, "tags": tags, "meta": meta}
        return Block(self, name, on_child_failure=on_child_failure, connection=connection, options=options)

    def insert_workflow(self, root: NewJob, jobs: list[NewJob], connection: Any = None) -> None:
        """Insert a composed workflow."""
        context.refuse_while_importing("enqueue")
        self._tell_hidden(jobs)
        if connection is not None:
            with caller_errors():
                insert_workflow(caller_link(connection, self.database.schema), root, jobs)
            return

        def insert(_: bool) -> None:
            with self.database.link() as link:
                insert_workflow(link, root, jobs)

        until_known(insert, [root.id], self._patience)
        self.wake_workers()

    def open_unit(self) -> Unit:
        """A transaction that stays open, for ``job.transaction()``."""
        return retrying(lambda: Unit(self.database))  # a connection of the pool may have died at rest

    def read_cursor(self, job_id: UUID) -> Any:
        """For ``job.cursor``."""
        return self.ask(lambda link: notes.read_cursor(link, job_id))

    def write_cursor(self, job_id: UUID, claim_id: UUID, attempt: int, cursor: bytes) -> bool:
        """For ``job.cursor = value``: whether the attempt still holds its claim."""
        return self.ask(lambda link: notes.write_cursor(link, job_id, claim_id, attempt, cursor))

    def using(self, connection: Any) -> Using:
        """``fc.using(conn).enqueue(...)``: everything enqueued through it belongs to that connection's transaction."""
        return Using(self, connection)

    # Looking up and waiting

    def get_job(self, id: UUID | str) -> Job | None:
        """The job as it stands now, or None."""
        job_id = _uuid(id)
        return self._read([job_id]).get(job_id)

    def ask(self, question: Callable[[Link], T]) -> T:
        """The answer of a read, asked again if a connection was lost under it."""
        deadline = current.get()

        def once() -> T:
            with self.database.link() as link:
                return question(link) if deadline is None else within(link, deadline.left, question)

        return retrying(once) if deadline is None else retrying(once, tries=2)

    def change(self, step: Callable[[Link], T]) -> T:
        """What a write that may be repeated gives, done again if a connection was lost under it."""

        def once() -> T:
            with self.database.link() as link:
                return step(link)

        return retrying(once) if current.get() is None else retrying(once, tries=2)

    def _read(self, ids: list[UUID], *, short: bool = False) -> dict[UUID, Job]:
        found = self.ask(lambda link: browse.get_jobs(link, ids, short=short))
        for job in found.values():
            job._client = self
        return found

    def get_result(self, id: UUID | str | Future, timeout: float | None = None) -> Any:
        """The result of a job, waiting up to ``timeout`` seconds for it to end (None: as long as it takes; 0: not).

        Raises what ``wait`` does, JobFailed and JobCancelled; NoResult when the job completed but kept none, which
        is not the same as the result None.
        """
        job = self.wait_for(_uuid(id), timeout)
        if job.state is JobState.FAILED:
            last = job.errors[-1] if job.errors else {}
            detail = f": {last.get('type') or last.get('kind')}: {last.get('message')}" if last else ""
            raise JobFailed(f"job {job.id} ({job.task}) failed ({job.reason}){detail}", job)
        if job.state is JobState.CANCELLED:
            raise JobCancelled(f"job {job.id} ({job.task}) was cancelled: {job.reason}", job)
        if not job.has_result:
            raise NoResult(f"job {job.id} ({job.task}) completed and kept no result; return a value or a Record")
        return job.result

    def wait(self, jobs: Job | UUID | str | Iterable[Job | UUID | str], timeout: float | None = None) -> list[Job]:
        """Wait until all of ``jobs`` have ended, whatever the state; as Jobs, in their order.

        Raises ResultTimeout, naming how many have not, and UnknownJob for ids that no job has. Inside a job, where it
        would hold a thread that others may need, it raises WouldDeadlock at once if some have not ended.
        """
        ids = _ids(jobs)
        self._wait_ended(ids, timeout)
        found = self._read(list(set(ids)))
        if len(found) < len(set(ids)):
            raise _unknown(set(ids) - set(found))
        return [found[job_id] for job_id in ids]

    def wait_for(self, id: UUID, timeout: float | None) -> Job:
        """Wait for one job."""
        return self.wait([id], timeout)[0]

    def _wait_ended(self, ids: list[UUID], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        open_ids = dict.fromkeys(ids)
        pause = _FIRST_POLL
        first = True
        while open_ids:
            with self._ended:
                seen = self._endings
            wanted = list(open_ids)
            ended = self.ask(lambda link, wanted=wanted: browse.find_ended(link, wanted))  # type: ignore[misc]
            if first and len(ended) < len(wanted):
                missing = set(wanted) - self.ask(lambda link, wanted=wanted: browse.find_existing(link, wanted))  # type: ignore[misc]
                if missing:
                    raise _unknown(missing)
            first = False
            for job_id in ended:
                open_ids.pop(job_id)
            if not open_ids:
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise ResultTimeout(
                    f"{len(open_ids)} of {len(set(ids))} jobs have not ended after {timeout} s; they go on"
                )
            if context.is_inside_task():
                raise WouldDeadlock(
                    f"job {context.current_job().id} cannot wait for job {next(iter(open_ids))}, which has not ended: "
                    "it would hold a thread that the other may need to run. The other goes on. Pass it to a task as an "
                    "argument, or return it: then a job waits for it without holding anything (timeout=0 only looks)"
                )
            nap = pause * random.uniform(0.8, 1.2)
            with self._ended:
                self._ended.wait_for(lambda seen=seen: self._endings != seen, nap if left is None else min(nap, left))  # type: ignore[misc]
            pause = min(pause * 1.5, _LAST_POLL)

    def add_wake(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever this client has made something available: a worker of this process."""
        self._wakes = [*self._wakes, wake]

    def remove_wake(self, wake: Callable[[], None]) -> None:
        """Undo ``add_wake``."""
        self._wakes = [each for each in self._wakes if each != wake]

    def wake_workers(self) -> None:
        """Something has become available: the workers of this process look now."""
        for wake in self._wakes:
            wake()

    def jobs_ended(self) -> None:
        """A worker of this process has ended jobs: whoever waits in this process looks again."""
        with self._ended:
            self._endings += 1
            self._ended.notify_all()

    def jobs(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        task: Task[Any, Any] | str | None = None,
        tag: str | None = None,
        tenant: str | None = None,
        workflow: UUID | str | None = None,
        worker: UUID | str | None = None,
        q: str | None = None,
        error_kind: str | None = None,
        before: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
        offset: int = 0,
        short: bool = False,
    ) -> Page:
        """One page of jobs that pass all filters given, newest first. Pass ``page.cursor`` to go on.

        ``offset``: how many to leave out, up to 10,000; they are read all the same, which ``cursor`` spares.

        ``q``: a job's id, or a part of its task's name. ``error_kind``: how its last attempt that did not succeed ended
        ("error", "timeout", "lost" ...). ``before``: made before that time.

        ``short``: leave out arguments, results and meta of more than 4 KiB, as stored; ``job.left_out`` names them.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise UsageError(f"limit is a number from 1 to {MAX_PAGE}, got {limit}")
        if not 0 <= offset <= MAX_OFFSET:
            raise UsageError(f"offset is a number from 0 to {MAX_OFFSET}, got {offset}; use the cursor to go on")
        named = {"queue": queue, "task": task.name if isinstance(task, Task) else task, "tag": tag, "tenant": tenant}
        named |= {"q": q, "error_kind": error_kind}
        for what, value in named.items():
            if value is not None:
                check_text(what, value, empty=True)
        ids = {"workflow": workflow, "worker": worker, "cursor": cursor}
        filters: dict[str, Any] = {**named, **{what: None if id is None else _uuid(id) for what, id in ids.items()}}
        filters["before"] = None if before is None else check_moment(before)
        wanted = _state(state)
        found = self.ask(
            lambda link: browse.list_jobs(link, state=wanted, limit=limit + 1, offset=offset, short=short, **filters)
        )
        for job in found:
            job._client = self
        more = len(found) > limit
        found = found[:limit]
        return Page(found, str(found[-1].id) if more else None)

    def dependencies(
        self, id: UUID | str, *, limit: int = 50, cursor: UUID | str | None = None, short: bool = False
    ) -> Page:
        """One page of the jobs that a job waits or waited for, in the order of their ids; ``cursor`` goes on.

        ``short`` as in ``jobs()``.
        """
        return self._relatives(workflows.list_upstreams, id, limit, cursor, short)

    def dependents(
        self, id: UUID | str, *, limit: int = 50, cursor: UUID | str | None = None, short: bool = False
    ) -> Page:
        """One page of the jobs that wait or waited for a job, likewise."""
        return self._relatives(workflows.list_downstreams, id, limit, cursor, short)

    def _relatives(
        self,
        read: Callable[[Link, UUID, UUID, int], list[UUID]],
        id: UUID | str,
        limit: int,
        cursor: UUID | str | None,
        short: bool,
    ) -> Page:
        if not 1 <= limit <= MAX_PAGE:
            raise UsageError(f"limit is a number from 1 to {MAX_PAGE}, got {limit}")
        job_id, after = _uuid(id), UUID(int=0) if cursor is None else _uuid(cursor)
        ids = self.ask(lambda link: read(link, job_id, after, limit + 1))
        found = self._read(ids[:limit], short=short)
        jobs = [found[each] for each in ids[:limit] if each in found]
        return Page(jobs, str(ids[limit - 1]) if len(ids) > limit else None)

    def logs(
        self,
        id: UUID | str,
        *,
        attempt: int | None = None,
        after: int = 0,
        level: str = "debug",
        limit: int = MAX_PAGE,
        newest: bool = False,
    ) -> list[LogLine]:
        """Lines that a job has logged, oldest first: up to ``limit``, from ``level`` up, of one ``attempt`` or of all.

        ``after=lines[-1].id`` reads on; with ``newest`` it is the last lines that are given. A line is there about a
        quarter of a second after it was written.
        """
        if not 1 <= limit <= MAX_PAGE or level not in LEVELS:
            raise UsageError(
                f"limit is a number from 1 to {MAX_PAGE} and level one of {', '.join(LEVELS)}; got {limit}, {level!r}"
            )
        job_id = _uuid(id)
        return self.ask(
            lambda link: notes.read_lines(
                link, job_id, after=after, level=LEVELS[level], attempt=attempt, limit=limit, newest=newest
            )
        )

    def search(
        self,
        query: Query | str,
        *,
        limit: int = 50,
        cursor: UUID | str | None = None,
        newer: bool = False,
        short: bool = False,
    ) -> Page:
        """One page of the jobs that match a query such as ``state:failed task:mail args.plan:pro``, newest first.

        ``cursor``: the id of a job; those older than it (or ``newer``). ``page.cursor`` goes on in that direction.
        ``short`` as in ``jobs()``.
        The language is told in ``rules/query.py``; what cannot be read raises UsageError.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise UsageError(f"limit is a number from 1 to {MAX_PAGE}, got {limit}")
        wanted = parse_query(query) if isinstance(query, str) else query
        after = None if cursor is None else _uuid(cursor)
        found = self.ask(lambda link: search.search(link, wanted, limit=limit, cursor=after, newer=newer, short=short))
        for job in found.jobs:
            job._client = self
        edge = (found.jobs[0] if newer else found.jobs[-1]) if found.more else None
        return Page(found.jobs, None if edge is None else str(edge.id))

    def count(self, query: Query | str, cap: int = 10_000) -> int:
        """How many jobs match a query as ``search`` takes it; ``cap + 1`` if more than ``cap`` do."""
        wanted = parse_query(query) if isinstance(query, str) else query
        return self.ask(lambda link: search.count(link, wanted, cap))

    def count_states(self, query: Query | str, cap: int = 10_000) -> dict[str, int]:
        """How many jobs match by state, with ``retrying`` beside ``scheduled``; of the newest ``cap + 1`` that do."""
        wanted = parse_query(query) if isinstance(query, str) else query
        return self.ask(lambda link: search.count_states(link, wanted, cap))

    def on(self, *events: str) -> Callable[[H], H]:
        """``@fairchild.on("job_failed", "job_cancelled")``: call the function with a JobEvent when that happens.

        Told are attempts of workers of this program, once what became of them has been recorded, in a thread of its
        own, at most once: for what must not be missed, let the task call another, or use ``listen()``. What a hook
        raises is logged and changes nothing. Raises UsageError for an event that there is not.
        """

        def add(hook: H) -> H:
            self.hooks.add(events, hook)
            return hook

        return add

    # Working by hand

    def claim(
        self,
        queues: Iterable[str] | str | None = None,
        limit: int = 1,
        lease: float = 60.0,
        *,
        tasks: Iterable[Task[Any, Any] | str] | None = None,
        wait: float = 0.0,
    ) -> AbstractContextManager[list[HeldJob]]:
        """``with client.claim(["mail"], limit=10) as jobs:`` up to ``limit`` jobs (1 to 500), held in the block.

        End each with ``job.complete(result)``, ``fail(error)``, ``discard(reason)``, ``release()``, ``snooze(...)``,
        ``retry(delay)``, ``cancel(reason)`` or ``delete()``. Those still held at the end of the block are given back
        and no attempt is spent: available at once, or in five seconds if an ``Exception`` left the block.

        ``queues``: names; None is all. ``tasks``: only those; None is any, whether registered here or not. ``wait``:
        for how many seconds to wait while there is none. ``lease``: seconds; this process beats in the background, and
        when it has not for half of the lease it is taken for dead and its jobs run elsewhere. The session lasts until
        ``disconnect()``, so that claiming again and again is cheap. Raises StoreError; UsageError for wrong options.
        """
        from fairchild.worker.consumer import claiming  # noqa: PLC0415 - it is made of a worker's parts

        return claiming(self._consumer(lease), queues, tasks, limit, wait)

    def _consumer(self, lease: float) -> Consumer:
        from fairchild.worker.consumer import Consumer  # noqa: PLC0415 - as above

        context.refuse_while_importing("claim")
        if not lease > 0:
            raise UsageError(f"lease must be positive, got {lease!r}")
        with self._lock:
            found = self._consumers.get(lease)
        if found is not None and found.usable:
            return found
        made = Consumer(self, lease)
        with self._lock:
            found = self._consumers.get(lease)
            if found is None or not found.usable:
                self._consumers[lease] = made
                return made
        made.close()
        return found

    # Durable jobs

    def signal(self, job: Job | UUID | str, name: str, payload: Any = None, *, connection: Any = None) -> None:
        """Send a JSON value to a durable job: what its ``wait_signal(name)`` gives, now or whenever it comes to it.

        ``connection``: in the transaction of this one. Raises UnknownJob, and UsageError for a job that has ended.
        """
        job_id = _ids(job)[0]
        check_text("signal", name)
        text = codec.encode(payload, limit=self.max_payload_bytes, root="payload").json
        signal = uuid7()
        if connection is not None:
            with caller_errors():
                state = journal.send(caller_link(connection, self.database.schema), job_id, signal, name, text)
        else:
            state = self.ask(lambda link: journal.send(link, job_id, signal, name, text))
            self.wake_workers()
        if state is None:
            raise _unknown([job_id])
        if state != "pending":
            raise UsageError(f"job {job_id} is {state}: no signal reaches it; nothing was kept")

    def history(self, job: Job | UUID | str) -> dict[str, Any]:
        """What a durable job has called and what came of it, as JSON: for ``fairchild.testing.replay``."""
        job_id = _ids(job)[0]
        found = self._existing(job_id)
        return self.ask(lambda link: journal.export(link, found))

    @property
    def xcom(self) -> SharedValues:
        """The values that the jobs of a workflow share."""
        return SharedValues(self.ask)

    # Changing

    def cancel(
        self, jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any], reason: str = "cancelled"
    ) -> list[UUID]:
        """Cancel jobs, given as such, by id, or by a filter as ``jobs()`` takes it: ``{"queue": "mail"}``.

        Those that do not run end at once, with their descendants; running ones are asked to stop. The ids of both.
        """
        check_text("reason", reason)
        ids = self._selected(jobs)
        with self.database.link() as link:
            cancelled, asked = cancel.cancel(link, ids, reason)
        self.jobs_ended()
        return [*cancelled, *asked]

    def cancel_within(self, seconds: float, ids: list[UUID], reason: str, done: Callable[[list[UUID]], None]) -> bool:
        """Cancel jobs and what they have called for about ``seconds``, a portion at a time; whether all have been.

        ``done`` is told of the jobs that each portion has reached, so that it is known if this is broken off. The rest
        is cancelled by whoever repeats this, or by the workers.
        """
        check_text("reason", reason)
        end, reached, begun = clock.now() + seconds, False, False
        try:
            with self.database.link() as link:
                for cancelled, asked in cancel.cancel_portions(link, ids, reason, cancel.SMALL_PORTION):
                    begun = True
                    done([*cancelled, *asked])
                    if cancelled or asked:
                        self.jobs_ended()
                        reached = True
                    if reached and clock.now() >= end:
                        return False
        except TookTooLong:
            if not begun:
                raise
            return False
        return True

    def cancel_one(self, id: UUID, reason: str) -> Job:
        """Cancel one job and read it again."""
        self.cancel([id], reason)
        return self._existing(id)

    def retry(self, jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any]) -> list[UUID]:
        """Reopen ended jobs, given as in ``cancel``: available again, with at least one attempt left.

        What had been cancelled because of them waits for them again. The ids of the jobs reopened.
        """
        ids = self._selected(jobs)
        with self.database.link() as link:
            reopened = control.retry(link, ids)
        self.wake_workers()
        return reopened

    def retry_one(self, id: UUID) -> Job:
        """Reopen one job and read it again. Raises StateError if it has not ended."""
        reopened = self.retry([id])
        job = self._existing(id)
        if not reopened and not job.ended:
            raise StateError(f"job {id} is {job.state} and has not ended; only ended jobs are retried")
        return job

    def move(
        self,
        jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any],
        *,
        queue: str | None = None,
        priority: int | None = None,
    ) -> list[UUID]:
        """Put scheduled and available jobs, given as in ``cancel``, into another queue or give them another priority.

        The ids of those that were moved: jobs in other states, and those that are there already, stay as they are. One
        that is available comes behind those that are in its new queue and priority.
        """
        if queue is None and priority is None:
            raise UsageError("say where to move the jobs: a queue, a priority or both; nothing was changed")
        if queue is not None:
            check_text("queue", queue)
        if priority is not None and not 0 <= priority <= 9:
            raise UsageError(f"priority is a number from 0 to 9, got {priority}; nothing was changed")
        ids = self._selected(jobs)
        with self.database.link() as link:
            moved = control.move(link, ids, queue, priority)
        self.wake_workers()
        return moved

    def link_retry(self, old: UUID, new: UUID) -> None:
        """Note with an ended job that ``new`` was made from it: ``meta["retried_as"]``."""
        with self.database.link() as link:
            control.link_retry(link, old, new)

    def run_now(self, jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any]) -> list[UUID]:
        """Make scheduled jobs, given as in ``cancel``, available before their time; also those to be tried again.

        The ids of those that were scheduled. Nothing but the time is got around: what waits for other jobs goes on
        waiting, and a paused queue or a limit holds them as any other job.
        """
        ids = self._selected(jobs)
        with self.database.link() as link:
            due = control.run_now(link, ids)
        self.wake_workers()
        return due

    def run_one_now(self, id: UUID) -> Job:
        """Make one scheduled job available and read it again."""
        self.run_now([id])
        return self._existing(id)

    def delete(self, jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any]) -> list[UUID]:
        """Delete ended jobs, given as in ``cancel``; the ids of those deleted.

        A job stays while it has not ended, and while its parent, a child or a job that waits for it has not.
        """
        ids = self._selected(jobs)
        with self.database.link() as link:
            return prune.delete_jobs(link, ids)

    def prune(
        self,
        older_than: timedelta | float = timedelta(days=7),
        states: Iterable[JobState | str] = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED),
    ) -> int:
        """Delete jobs that ended ``older_than`` ago (a timedelta or seconds) or earlier; how many.

        In batches of a transaction each, so that it may be broken off. Jobs that others still need stay.
        """
        age = check_seconds("older_than", older_than, zero=True)
        wanted = [state.value for state in map(JobState, states)]
        deleted, after = 0, UUID(int=0)
        while True:
            with self.database.link() as link:
                page, last = prune.prune_page(link, after, age, wanted)
            deleted += page
            if last is None:
                with self.database.link() as link:
                    marks.set_mark(link, "prune", deleted)
                return deleted
            after = last

    def _existing(self, id: UUID) -> Job:
        job = self.get_job(id)
        if job is None:
            raise UnknownJob(f"no job has the id {id}")
        return job

    def _selected(self, jobs: Job | UUID | str | Iterable[Job | UUID | str] | Mapping[str, Any]) -> list[UUID]:
        return self._matching(cast("Mapping[str, Any]", jobs)) if isinstance(jobs, Mapping) else _ids(jobs)

    def _matching(self, filters: Mapping[str, Any]) -> list[UUID]:
        unknown = sorted(set(filters) - set(_FILTERS))
        given = {name: value for name, value in filters.items() if value is not None}
        if unknown or not given:
            what = f"unknown filter {unknown[0]!r}" if unknown else "an empty filter would mean all jobs"
            raise UsageError(f"{what}; nothing was changed. Filters are {', '.join(_FILTERS)}")
        ids: list[UUID] = []
        cursor = None
        while True:
            page = self.jobs(**given, limit=MAX_PAGE, cursor=cursor)
            ids.extend(job.id for job in page.jobs)
            cursor = page.cursor
            if cursor is None:
                return ids


def _after_fork() -> None:
    for client in list(_clients):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Using:
    """A client whose enqueues belong to a caller's transaction."""

    def __init__(self, client: Fairchild, connection: Any) -> None:
        self._client = client
        self._connection = connection

    def enqueue(
        self, task: Task[Any, Any] | Configured[Any, Any] | str, args: Mapping[str, Any] | None = None, **options: Any
    ) -> Job:
        """As ``Fairchild.enqueue``."""
        return self._client.enqueue(task, args, connection=self._connection, **options)

    def enqueue_many(
        self, task: Task[Any, Any] | Configured[Any, Any] | str, calls: Iterable[Mapping[str, Any]], **options: Any
    ) -> list[UUID]:
        """As ``Fairchild.enqueue_many``."""
        return self._client.enqueue_many(task, calls, connection=self._connection, **options)

    def workflow(self, name: str, **options: Any) -> Block:
        """As ``Fairchild.workflow``."""
        return self._client.workflow(name, connection=self._connection, **options)


def get_fairchild() -> Fairchild:
    """The current client. Raises NotConnected if there is none."""
    client = context.get_current_fairchild()
    if not isinstance(client, Fairchild):
        raise NotConnected("no client is connected: call Fairchild(url).connect() first")
    return client


def _connection(task: object, options: dict[str, Any]) -> Any:
    given = options.pop("connection", None)
    return given if given is not None or not isinstance(task, Configured) else task.connection


def _unknown(ids: Iterable[UUID]) -> UnknownJob:
    return UnknownJob(f"no job has the id {', '.join(map(str, sorted(ids)))}")


def _ids(jobs: Job | UUID | str | Iterable[Job | UUID | str]) -> list[UUID]:
    given = [jobs] if isinstance(jobs, (Job, Future, UUID, str)) else jobs
    return [each.id if isinstance(each, Job) else _uuid(each) for each in given]


def _uuid(value: Any) -> UUID:
    if isinstance(value, Future):
        return value.job_id
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{value!r} is not a job id (a UUID)") from None


def _state(value: JobState | str | None) -> JobState | None:
    if value is None:
        return None
    try:
        return JobState(value)
    except ValueError:
        raise UsageError(f"{value!r} is not a state; states are {', '.join(JobState)}") from None
