"""Tasks: ``@task`` turns a function into something that can be called, enqueued, and called inside a job.

Where a task is called decides what the call means. Inside a running job it adds a child job and gives a Future;
anywhere else it runs the function here and now and gives its value.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload
from uuid import UUID

from fairchild import codec, context
from fairchild.context import CurrentJob
from fairchild.errors import DuplicateTask, InvalidArguments, UnknownTask, UsageError
from fairchild.future import Future
from fairchild.ids import uuid7
from fairchild.job import Job, JobState, NewJob
from fairchild.record import Record
from fairchild.rules.retry import Backoff, BackoffFunction, parse_backoff
from fairchild.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_NAME = 255
MAX_PRIORITY = 9
MAX_ATTEMPTS = 2**31 - 1
MAX_MEMORY_MB = 2**40
_CALL_OPTIONS = frozenset(
    {
        "priority",
        "queue",
        "tags",
        "meta",
        "tenant",
        "max_attempts",
        "timeout",
        "depends_on",
        "scheduled_at",
        "expires",
        "connection",
        "id",
        "delay",
    }
)


@dataclass(frozen=True)
class TaskOptions:
    """What ``@task(...)`` was given, checked."""

    queue: str = "default"
    max_attempts: int = 3
    priority: int = 5
    tags: tuple[str, ...] = ()
    backoff: Backoff | tuple[float, ...] | BackoffFunction = Backoff.exponential()
    timeout: float | None = None
    expires: float | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    discard_on: tuple[type[BaseException], ...] = ()
    tenant: str | Callable[..., str] = ""
    on_child_failure: str = "fail"
    record: bool = True
    isolation: str = "thread"
    memory_mb: float | None = None
    durable: bool = False
    xcom_key: str | None = None
    redact: tuple[str, ...] = ()


class Task(Generic[P, R]):
    """A function with a name under which workers find it."""

    __name__: str
    __wrapped__: Callable[P, R]

    def __init__(self, fn: Callable[..., Any], name: str, options: TaskOptions, aliases: tuple[str, ...] = ()) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.settings = options
        self.aliases = aliases
        self.signature = Signature(fn, name)
        self.is_async = inspect.iscoroutinefunction(fn)
        self.redactions = tuple((each, path) for each in (name, *aliases) for path in options.redact)
        """What it hides, under each of its names."""
        self._plain = Configured(self, {})

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here (outside a job), or add a child job and return its Future (inside one)."""
        return cast("R", self._plain(*args, **kwargs))

    def map(self, *iterables: Iterable[Any], **common: Any) -> list[Any]:
        """Call the task for each item, as Python's ``map`` does; with the same ``common`` arguments and options.

        Inside a job or a workflow a list of Futures in the order of the items; elsewhere the list of values.
        """
        return self._plain.map(*iterables, **common)

    # The first tells editors what the task takes; the second lets in options, Jobs and Futures. What neither can see,
    # and calls without the job parameter, the checks of the call itself see.
    @overload
    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job: ...
    @overload
    def enqueue(self, *args: Any, **kwargs: Any) -> Job: ...

    def enqueue(self, *args: Any, **kwargs: Any) -> Job:
        """Insert a job now. ``_priority=`` and the like set one call's options."""
        return self._plain.enqueue(*args, **kwargs)

    def enqueue_in(
        self,
        *args: Any,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        delay: timedelta | None = None,
        **kwargs: Any,
    ) -> Job:
        """Insert a job that runs after the given time, by the database's clock.

        A task whose own parameter is called ``minutes`` uses ``task.options(delay=timedelta(...)).enqueue(...)``.
        """
        wait = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds) + (delay or timedelta())
        return Configured(self, {"delay": wait}).enqueue(*args, **kwargs)

    def enqueue_at(self, when: datetime, /, *args: Any, **kwargs: Any) -> Job:
        """Insert a job that runs at ``when``, which must know its time zone."""
        return Configured(self, {"scheduled_at": when}).enqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Mapping[str, Any]], **options: Any) -> list[UUID]:
        """Insert one job for each mapping of arguments, all or none; ids in the order given. Any number, streamed."""
        return self._plain.enqueue_many(calls, **options)

    def options(self, **options: Any) -> Configured[P, R]:
        """This task with options for the calls that follow: ``task.options(priority=1).enqueue(...)``."""
        return Configured(self, _checked_names(options, prefix=""))

    def using(self, connection: Any) -> Configured[P, R]:
        """This task, enqueued in the transaction of ``connection``."""
        return Configured(self, {"connection": connection})

    def schema(self) -> dict[str, Any]:
        """The task for catalogues and forms, and for whoever enqueues it by name without its code.

        ``{name, aliases, queue, priority, max_attempts, tags, timeout, expires, on_child_failure, redact, params,
        docstring}``.
        """
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "queue": self.settings.queue,
            "priority": self.settings.priority,
            "max_attempts": self.settings.max_attempts,
            "tags": list(self.settings.tags),
            "timeout": self.settings.timeout,
            "expires": self.settings.expires,
            "on_child_failure": self.settings.on_child_failure,
            "redact": list(self.settings.redact),
            "params": self.signature.parameters(),
            "docstring": inspect.getdoc(self.fn) or "",
        }

    def run_here(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The function's value, Record unwrapped, with no job around it."""
        positional, keywords = list(args), dict(kwargs)
        place = self.signature.job_position
        given = place is not None and place < len(positional) and isinstance(positional[place], Job)
        if not given and self.signature.job_parameter not in keywords:
            job = CurrentJob(
                id=uuid7(), task=self.name, state=JobState.RUNNING, attempt=1, max_attempts=self.settings.max_attempts
            )
            self.signature.add_job(positional, keywords, job)
        value = self._wait_here(positional, keywords) if self.settings.durable else self.fn(*positional, **keywords)
        if self.is_async:
            value = _run_coroutine(value)
        return value.value if isinstance(value, Record) else value

    def _wait_here(self, positional: list[Any], keywords: dict[str, Any]) -> Any:
        from fairchild.durable import Here  # noqa: PLC0415 - it needs the driver, which a module of tasks does not

        job = CurrentJob(
            id=uuid7(), task=self.name, state=JobState.RUNNING, attempt=1, max_attempts=self.settings.max_attempts
        )
        job.here = job.durable = Here(job.id, self.name)
        with context.entered(job):
            return self.fn(*positional, **keywords)


class Configured(Generic[P, R]):
    """A task together with options for its calls."""

    __slots__ = ("_options", "task")

    def __init__(self, task: Task[P, R], options: Mapping[str, Any]) -> None:
        self.task = task
        self._options = options

    @property
    def connection(self) -> Any:
        """The connection that ``using()`` named, or None."""
        return self._options.get("connection")

    def options(self, **options: Any) -> Configured[P, R]:
        """The same with further options."""
        return Configured(self.task, {**self._options, **_checked_names(options, prefix="")})

    def using(self, connection: Any) -> Configured[P, R]:
        """The same, in the transaction of ``connection``."""
        return Configured(self.task, {**self._options, "connection": connection})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        job = context.get_current_job()
        inside = job or context.get_current_block()
        if inside is None:
            plain, _ = self._split(kwargs)
            _warn_outside(self.task.name)
            return self.task.run_here(args, plain)
        arguments, options = self._split(kwargs)
        if job is not None and job.here is not None:
            return job.here.call(self.task.name, self.task.run_here, args, arguments)
        if "connection" in options:
            raise InvalidArguments(
                f"{self.task.name}: a task called inside a job or a workflow commits with it; use .enqueue() for a "
                "connection"
            )
        return inside.spawn(build(self.task, args, arguments, options, inside.max_payload_bytes))

    def map(self, *iterables: Iterable[Any], **common: Any) -> list[Any]:
        """One call for each item, as with Python's ``map``; see ``Task.map``."""
        return [self(*items, **common) for items in zip(*iterables, strict=False)]

    def enqueue(self, *args: Any, **kwargs: Any) -> Job:
        """Insert a job now."""
        client = context.require_client(f"enqueue {self.task.name}")
        arguments, options = self._split(kwargs)
        connection = options.pop("connection", None)
        new = build(self.task, args, arguments, options, client.max_payload_bytes)
        return client.enqueue_new([new], connection)[0]

    def enqueue_in(self, *args: Any, **kwargs: Any) -> Job:
        """Insert a job that runs after a while; see ``Task.enqueue_in``."""
        units = {unit: kwargs.pop(unit) for unit in _UNITS if unit in kwargs}
        delay = timedelta(**units) + (kwargs.pop("delay", None) or timedelta())
        return self.options(delay=delay).enqueue(*args, **kwargs)

    def enqueue_at(self, when: datetime, /, *args: Any, **kwargs: Any) -> Job:
        """Insert a job that runs at ``when``."""
        return self.options(scheduled_at=when).enqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Mapping[str, Any]], **options: Any) -> list[UUID]:
        """Insert one job for each mapping of arguments, all or none."""
        client = context.require_client(f"enqueue {self.task.name}")
        return Configured(self.task, {**self._options, **_checked_names(options, prefix="_")}).stream(calls, client)

    def stream(
        self, calls: Iterable[Mapping[str, Any]], client: context.Enqueuer, connection: Any = None
    ) -> list[UUID]:
        """``enqueue_many`` by a given client, in a given transaction or that of ``using()``."""
        common = dict(self._options)
        own_connection = common.pop("connection", None)
        if "id" in common:
            raise InvalidArguments(f"{self.task.name}: one _id cannot name many jobs; nothing was enqueued")

        limit = client.max_payload_bytes

        def jobs() -> Iterator[NewJob]:
            for number, call in enumerate(calls):
                if not isinstance(call, Mapping):
                    raise InvalidArguments(
                        f"{self.task.name}: call {number} is {type(call).__name__}, not a dict of arguments; "
                        "nothing was enqueued"
                    )
                yield self.build_row(call, common, limit)

        return client.enqueue_stream(jobs(), own_connection if connection is None else connection)

    def build(self, args: Mapping[str, Any], options: Mapping[str, Any], max_payload_bytes: int) -> NewJob:
        """The job that a call with these arguments and (bare) options makes."""
        merged = {**self._options, **_checked_names(options, prefix="")}
        merged.pop("connection", None)
        positional, named = self.task.signature.by_position(args)
        return build(self.task, tuple(positional), named, merged, max_payload_bytes)

    def build_row(self, call: Mapping[str, Any], common: Mapping[str, Any], max_payload_bytes: int) -> NewJob:
        """The job of one row of ``enqueue_many``: arguments, and ``_`` options that go before the common ones."""
        arguments, own = _split_options(call, self.task)
        if "connection" in own:
            raise InvalidArguments(f"{self.task.name}: a row cannot have a _connection; give it to the whole call")
        positional, named = self.task.signature.by_position(arguments)
        return build(self.task, tuple(positional), named, {**common, **own} if own else common, max_payload_bytes)

    def _split(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        arguments, options = _split_options(kwargs, self.task)
        return arguments, {**self._options, **options}


_UNITS = ("weeks", "days", "hours", "minutes", "seconds")


def _split_options(
    kwargs: Mapping[str, Any], task: Task[Any, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    own = task.signature.bound.parameters if task is not None else ()
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in kwargs.items():
        if name.startswith("_") and name not in own:
            options[name] = value
        else:
            arguments[name] = value
    return arguments, _checked_names(options, prefix="_") if options else options


def _checked_names(options: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    checked = {}
    for name, value in options.items():
        bare = name[len(prefix) :] if name.startswith(prefix) else ""
        if bare not in _CALL_OPTIONS:
            known = ", ".join(sorted(prefix + each for each in _CALL_OPTIONS))
            raise InvalidArguments(f"unknown option {name!r}; nothing was enqueued. Options are {known}")
        checked[bare] = value
    return checked


def build(
    task: Task[Any, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    max_payload_bytes: int,
) -> NewJob:
    """The job that a call of ``task`` makes. Everything about the call is checked here, before anything is written."""
    settings = task.settings
    bound = task.signature.bind(args, kwargs)
    encoded = codec.encode(bound, limit=max_payload_bytes)
    if task.signature.convertible and not task.signature.fits(bound):
        open_names = {str(ref.path[0]) for ref in encoded.refs}
        task.signature.check(codec.decode(encoded.json), open_names)
    tenant = settings.tenant
    if callable(tenant):
        tenant = tenant(*args, **kwargs)
    new = NewJob(
        id=uuid7(),
        task=task.name,
        args=encoded.json,
        refs=encoded.refs,
        queue=settings.queue,
        priority=settings.priority,
        tenant=check_text("tenant", tenant, empty=True),
        max_attempts=settings.max_attempts,
        tags=list(settings.tags) or None,
        timeout=settings.timeout,
        expires=settings.expires,
        on_child_failure=settings.on_child_failure,
        redact=task.redactions,
    )
    if options:
        apply_options(new, options, max_payload_bytes)
    return new


def apply_options(new: NewJob, options: Mapping[str, Any], max_payload_bytes: int) -> None:
    """Put one call's options on a job. Raises InvalidArguments for a value that an option cannot take."""
    if options.get("delay") is not None and options.get("scheduled_at") is not None:
        raise InvalidArguments("give either a delay or scheduled_at, not both; nothing was enqueued")
    for name, value in options.items():
        if value is not None:
            try:
                _apply_option(new, name, value, max_payload_bytes)
            except UsageError as error:
                error.option = name
                raise


def _apply_option(new: NewJob, name: str, value: Any, max_payload_bytes: int) -> None:
    match name:
        case "priority":
            new.priority = check_priority(value)
        case "queue":
            new.queue = check_text("queue", value)
        case "tenant":
            new.tenant = check_text("tenant", value, empty=True)
        case "tags":
            new.tags = list(dict.fromkeys([*(new.tags or ()), *check_tags(value)]))
        case "meta":
            if not isinstance(value, Mapping):
                raise InvalidArguments(f"meta must be a dict, got {type(value).__name__}; nothing was enqueued")
            meta = codec.encode(dict(value), limit=max_payload_bytes, root="meta")
            if meta.refs:
                where = codec.path_text(meta.refs[0][0], "meta")
                raise InvalidArguments(f"{where} is a Future; only arguments can be; nothing was enqueued")
            new.meta = meta.json
        case "max_attempts":
            new.max_attempts = check_attempts(value)
        case "timeout":
            new.timeout = check_seconds("timeout", value)
        case "expires":
            new.expires = check_seconds("expires", value)
        case "delay":
            new.delay = check_seconds("delay", value, zero=True)
        case "scheduled_at":
            new.scheduled_at = check_moment(value)
        case "depends_on":
            new.depends_on, new.follows = _upstreams(value)
        case "on_child_failure":
            new.on_child_failure = value
        case "id":
            new.id = value if isinstance(value, UUID) else _parse_id(value)
            new.given_id = True
        case _:
            raise InvalidArguments(f"unknown option {name!r}; nothing was enqueued")


def _upstreams(value: Any) -> tuple[list[UUID], list[UUID]]:
    """Those that must complete, and those that may end as they will: Futures by ``outcome()`` or ``or_else()``."""
    if isinstance(value, (str, UUID, Future)) or hasattr(type(value), "__fairchild_reference__"):
        value = [value]
    if not isinstance(value, Iterable):
        raise InvalidArguments(
            f"depends_on takes jobs, futures and ids, alone or in a list, not {type(value).__name__}; "
            "nothing was enqueued"
        )
    need: list[UUID] = []
    follow: list[UUID] = []
    for each in value:
        (follow if isinstance(each, Future) and each.way is not None else need).append(_upstream(each))
    return need, follow


def _upstream(value: Any) -> UUID:
    if isinstance(value, Future):
        return value.job_id
    if hasattr(type(value), "__fairchild_reference__"):
        referred: UUID = value.__fairchild_reference__()
        return referred
    return value if isinstance(value, UUID) else _parse_id(value)


def _parse_id(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise InvalidArguments(f"{value!r} is not a job id (a UUID); nothing was enqueued") from None


def check_text(what: str, value: Any, *, empty: bool = False) -> str:
    """A queue's, tenant's, tag's or task's name: text of at most 255 characters without control characters."""
    if not isinstance(value, str):
        raise InvalidArguments(f"a {what} must be text, got {type(value).__name__}; nothing was enqueued")
    if not value and not empty:
        raise InvalidArguments(f"a {what} must not be empty; nothing was enqueued")
    if len(value) > MAX_NAME:
        raise InvalidArguments(f"a {what} may have {MAX_NAME} characters, got {len(value)}; nothing was enqueued")
    if not value.isprintable() and any(unicodedata.category(each) in _CONTROL for each in value):
        raise InvalidArguments(f"the {what} {value!r} holds control characters; nothing was enqueued")
    return value


# Controls, surrogates, line and paragraph separators: what a log or a database cannot keep in one line of text. Joiners
# and marks of direction stay, since names in many scripts need them.
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check_tags(value: Any) -> tuple[str, ...]:
    """Tags as a tuple."""
    if isinstance(value, str) or not isinstance(value, (Sequence, set, frozenset)):
        raise InvalidArguments(f"tags must be a list of texts, got {value!r}; nothing was enqueued")
    return tuple(check_text("tag", each) for each in value)


def check_priority(value: Any) -> int:
    """A priority from 0 (first) to 9."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_PRIORITY:
        raise InvalidArguments(f"a priority is a whole number from 0 (first) to 9, got {value!r}; nothing was enqueued")
    return int(value)


def check_attempts(value: Any) -> int:
    """How many attempts a job has, at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ATTEMPTS:
        raise InvalidArguments(f"max_attempts is a whole number of at least 1, got {value!r}; nothing was enqueued")
    return value


def check_seconds(what: str, value: Any, *, zero: bool = False) -> float:
    """Seconds or a timedelta, as seconds."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not (0 if zero else 1e-9) <= value < 1e11:
        raise InvalidArguments(f"{what} must be seconds or a timedelta, and positive, got {value!r}")
    return float(value)


def check_moment(value: Any) -> datetime:
    """A datetime that knows its zone, in UTC: PostgreSQL takes no offsets of 16 hours and more."""
    if not isinstance(value, datetime):
        raise InvalidArguments(f"a time must be a datetime, got {type(value).__name__}; nothing was enqueued")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArguments(
            f"{value!r} has no time zone, so it does not name a moment; nothing was enqueued. "
            "Use datetime.now(timezone.utc) or datetime(..., tzinfo=ZoneInfo(...))"
        )
    try:
        moment = value.astimezone(timezone.utc)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=timezone.utc)
    if not 1 < moment.year < 9999:  # in another zone it may be a year that no datetime has, and could not be read
        raise InvalidArguments(f"{value} is not between the years 2 and 9998; nothing was enqueued")
    return moment


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    box: list[Any] = []
    variables = contextvars.copy_context()

    def elsewhere() -> None:
        try:
            box.append((True, variables.run(asyncio.run, coroutine)))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            box.append((False, error))

    thread = threading.Thread(target=elsewhere, name="fairchild-coroutine")
    thread.start()
    thread.join()
    ok, outcome = box[0]
    if ok:
        return outcome
    raise outcome


_warned_outside: set[str] = set()


def _warn_outside(name: str) -> None:
    """Say once per task that a thread of the user's own, in a process that runs jobs, belongs to no job."""
    if name in _warned_outside or threading.current_thread() is threading.main_thread():
        return
    if any(each.name.startswith("fairchild-runner-") for each in threading.enumerate()):
        _warned_outside.add(name)
        warnings.warn(
            f"task {name} was called in a thread that belongs to no job, so it ran here and now. If a job started "
            "that thread and the call should be its child, start it with job.wrap(function)",
            RuntimeWarning,
            stacklevel=4,
        )


class Registry:
    """The tasks of an application, by name and alias."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._aliases: dict[str, Task[Any, Any]] = {}
        self._lock = threading.Lock()

    def register(self, task: Task[Any, Any]) -> None:
        """Add a task. The same function may come again (a reload); another one under its name is DuplicateTask."""
        with self._lock:
            for name in (task.name, *task.aliases):
                other = self._tasks.get(name) or self._aliases.get(name)
                if other is not None and _origin(other.fn) != _origin(task.fn):
                    raise DuplicateTask(
                        f"the task name {name!r} belongs to {'.'.join(_origin(other.fn))} and cannot also mean "
                        f"{'.'.join(_origin(task.fn))}; give one of them another name="
                    )
            for alias in [key for key, value in self._aliases.items() if value.name == task.name]:
                del self._aliases[alias]
            self._tasks[task.name] = task
            for alias in task.aliases:
                self._aliases[alias] = task

    def add(self, fn: Callable[..., Any], name: str | None = None, **options: Any) -> Task[..., Any]:
        """Register a plain function without decorating it."""
        made: Task[..., Any] = make_task(fn, registry=self, name=name, **options)
        return made

    def get_task(self, name: str) -> Task[Any, Any]:
        """The task of this name or alias. Raises UnknownTask, with near names."""
        found = self.find(name)
        if found is None:
            import difflib  # noqa: PLC0415 - only for the message

            near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            raise UnknownTask(f"no task named {name!r} is registered here{hint} Import the module that defines it")
        return found

    def find(self, name: str) -> Task[Any, Any] | None:
        """The task of this name or alias, or None."""
        return self._tasks.get(name) or self._aliases.get(name)

    def names(self) -> list[str]:
        """All names and aliases."""
        with self._lock:
            return [*self._tasks, *self._aliases]

    def tasks(self) -> list[Task[Any, Any]]:
        """All tasks, each once."""
        with self._lock:
            return list(self._tasks.values())

    def get_task_schemas(self) -> list[dict[str, Any]]:
        """The catalogue: one ``Task.schema()`` each."""
        return [each.schema() for each in self.tasks()]

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def __len__(self) -> int:
        return len(self._tasks)


registry = Registry()
"""The registry that ``@task`` uses."""


def _origin(fn: Callable[..., Any]) -> tuple[str, str]:
    plain = inspect.unwrap(fn)
    module = getattr(plain, "__module__", None) or "?"
    if module == "__main__":
        module = _main_module()
    return module, getattr(plain, "__qualname__", repr(plain))


def _main_module() -> str:
    """The name that a script's module has for those who import it, so that a worker finds its tasks."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


class Home(NamedTuple):
    """Where another process finds a task's function: a module, the file of one that was run as a script, a name."""

    module: str
    file: str | None
    qualname: str


def home_of(fn: Callable[..., Any]) -> Home | None:
    """Where another process finds a function, or None: it was made in another function, or typed in by hand."""
    plain = inspect.unwrap(fn)
    module, qualname = getattr(plain, "__module__", None), getattr(plain, "__qualname__", "<>")
    if module is None or "<" in qualname:
        return None
    if module != "__main__":
        return Home(module, None, qualname)
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return Home(str(spec.name), None, qualname)
    return None if file is None else Home(_main_module(), str(Path(file).absolute()), qualname)


def make_task(
    fn: Callable[..., Any],
    *,
    registry: Registry,
    name: str | None = None,
    aliases: Sequence[str] = (),
    queue: str = "default",
    max_attempts: int = 3,
    priority: int = 5,
    tags: Sequence[str] = (),
    backoff: Any = "exponential",
    timeout: float | timedelta | None = None,
    expires: float | timedelta | None = None,
    retry_on: type[BaseException] | Sequence[type[BaseException]] = (Exception,),
    discard_on: type[BaseException] | Sequence[type[BaseException]] = (),
    tenant: str | Callable[..., str] | None = None,
    on_child_failure: str = "fail",
    record: bool = True,
    isolation: str = "thread",
    memory_mb: float | None = None,
    durable: bool = False,
    xcom_key: str | None = None,
    redact: Sequence[str] = (),
) -> Task[..., Any]:
    """Check the options, make the task and register it."""
    if isinstance(fn, (staticmethod, classmethod)):
        raise UsageError(f"@task goes on a function, not on {type(fn).__name__}; put it under @staticmethod")
    if isinstance(fn, (type, Task)) or not callable(fn):
        raise UsageError(f"@task goes on a function, not on {fn!r}")
    if _is_method(fn):
        raise UsageError(
            f"@task cannot go on the method {fn.__qualname__}: a worker has no object to call it on. Make it a "
            "function of its own, or put @staticmethod above @task"
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"@task cannot run the generator function {fn.__qualname__}: a task returns one value")
    if on_child_failure not in ("fail", "ignore"):
        raise UsageError(f'on_child_failure is "fail" or "ignore", not {on_child_failure!r}')
    _check_isolation(fn, isolation, memory_mb)
    if durable and inspect.iscoroutinefunction(fn):
        raise UsageError(
            f"a durable task is a plain function, and {fn.__qualname__} is async: it waits by ending and running "
            "again, not by await"
        )
    if xcom_key is not None and not record:
        raise UsageError("xcom_key shares the result, which record=False does not keep")
    if isinstance(aliases, str):
        raise UsageError(f"aliases is a list of names, not {aliases!r}")
    options = TaskOptions(
        queue=check_text("queue", queue),
        max_attempts=check_attempts(max_attempts),
        priority=check_priority(priority),
        tags=check_tags(tags),
        backoff=parse_backoff(backoff),
        timeout=None if timeout is None else check_seconds("timeout", timeout),
        expires=None if expires is None else check_seconds("expires", expires),
        retry_on=_exceptions("retry_on", retry_on),
        discard_on=_exceptions("discard_on", discard_on),
        tenant="" if tenant is None else tenant if callable(tenant) else check_text("tenant", tenant, empty=True),
        on_child_failure=on_child_failure,
        record=record,
        isolation=isolation,
        memory_mb=memory_mb,
        durable=bool(durable),
        xcom_key=None if xcom_key is None else check_text("xcom key", xcom_key),
        redact=_paths(fn, redact),
    )
    made: Task[..., Any] = Task(
        fn,
        check_text("task name", name if name is not None else ".".join(_origin(fn))),
        options,
        tuple(check_text("alias", alias) for alias in aliases),
    )
    registry.register(made)
    return made


def _paths(fn: Callable[..., Any], redact: Any) -> tuple[str, ...]:
    """Names or dotted paths of arguments, as arguments are stored. One that names none would hide nothing."""
    if isinstance(redact, str) or not isinstance(redact, (Sequence, set, frozenset)):
        raise UsageError(f'redact is a list of names of arguments, such as ("card", "customer.ssn"), not {redact!r}')
    signature = Signature(fn, fn.__qualname__)
    names = list(signature.bound.parameters)
    paths = []
    for each in redact:
        name, dot, rest = check_text("redact", each).partition(".")
        name = name.removeprefix("*")
        if name == signature.var_keyword:
            raise UsageError(f"redact: say which of **{name} is to be hidden, by its own name")
        if name not in names and signature.var_keyword is None:
            raise UsageError(
                f"redact: {fn.__qualname__}{signature.bound} has no argument {name!r}, so nothing would be hidden"
            )
        if not all(each.split(".")):
            raise UsageError(f"redact: {each!r} is no path; write argument.key.key")
        paths.append(("*" if name == signature.var_positional else "") + name + dot + rest)
    return tuple(sorted(set(paths)))


def _is_method(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` was defined in the body of a class and wants the object or the class first."""
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    names = list(inspect.signature(fn).parameters)
    return bool(owner) and not owner.endswith("<locals>") and names[:1] in (["self"], ["cls"])


def _check_isolation(fn: Callable[..., Any], isolation: str, memory_mb: Any) -> None:
    if isolation not in ("thread", "process"):
        raise UsageError(f'isolation is "thread" or "process", not {isolation!r}')
    if isolation == "process" and home_of(fn) is None:
        raise UsageError(
            f'@task(isolation="process") needs a function at the top level of a module, where another process finds '
            f"it; {getattr(fn, '__qualname__', fn)} is none"
        )
    if memory_mb is None:
        return
    if isolation != "process":
        raise UsageError('memory_mb limits a process: it needs isolation="process"')
    if isinstance(memory_mb, bool) or not isinstance(memory_mb, (int, float)) or not 0 < memory_mb < MAX_MEMORY_MB:
        raise UsageError(f"memory_mb must be a positive number of megabytes, got {memory_mb!r}")


def _exceptions(what: str, given: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(given) if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise UsageError(f"{what} takes exception classes, not {kind!r}")
    return kinds


class TaskDecorator:
    """``@task`` of one registry: bare, or with options."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, Record[T]]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Record[T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: None = None, /, **options: Any) -> _Decorate: ...

    def __call__(self, fn: Any = None, /, **options: Any) -> Any:
        if fn is not None:
            if isinstance(fn, str):
                raise UsageError(f'@task takes options by name: @task(name="{fn}")')
            return make_task(fn, registry=self.registry, **options)
        _check_options(options)
        return _Decorate(self.registry, options)


class _Decorate:
    """``@task(...)`` with its options given."""

    def __init__(self, registry: Registry, options: dict[str, Any]) -> None:
        self._registry = registry
        self._options = options

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, Record[T]]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Record[T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Task[P, T]: ...

    def __call__(self, fn: Callable[..., Any], /) -> Any:
        return make_task(fn, registry=self._registry, **self._options)


_TASK_OPTIONS = frozenset(inspect.signature(make_task).parameters) - {"fn", "registry"}


def _check_options(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in _TASK_OPTIONS:
            raise InvalidArguments(f"@task has no option {name!r}; it takes {', '.join(sorted(_TASK_OPTIONS))}")


task = TaskDecorator(registry)
"""``@task``: registers with the registry of the process."""


def get_task(name: str) -> Task[Any, Any]:
    """The task of this name in the registry of the process. Raises UnknownTask."""
    return registry.get_task(name)


def get_task_schemas() -> list[dict[str, Any]]:
    """The catalogue of the registry of the process."""
    return registry.get_task_schemas()
