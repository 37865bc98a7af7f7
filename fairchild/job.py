"""A job as a reader sees it: states, and the view of one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from fairchild.future import Future, Ref


class JobState(str, Enum):
    """Where a job stands. A plain string compares equal: ``job.state == "completed"``."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    @property
    def ended(self) -> bool:
        """Whether nothing but a retry by hand leads out of it."""
        return self in ENDED


ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.AVAILABLE, JobState.CANCELLED}),
    JobState.AVAILABLE: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.WAITING: frozenset({JobState.AVAILABLE, JobState.SCHEDULED, *ENDED}),
    JobState.RUNNING: frozenset({JobState.WAITING, JobState.SCHEDULED, JobState.AVAILABLE, *ENDED}),
    JobState.COMPLETED: frozenset({JobState.AVAILABLE}),
    JobState.FAILED: frozenset({JobState.AVAILABLE}),
    JobState.CANCELLED: frozenset({JobState.AVAILABLE}),
}


MOST_RELATIVES = 1000

ERROR_KINDS = ("error", "timeout", "lost", "interrupted", "cancelled", "invalid_args", "upstream_failed")
"""How an attempt ends that does not succeed: ``kind`` in ``Job.errors``."""
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The levels of a job's log, by name."""


class Progress(NamedTuple):
    """How far a job said that it is."""

    value: float
    total: float | None
    message: str | None
    attempt: int
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's own types."""
        return {**self._asdict(), "at": self.at.isoformat()}


@dataclass(frozen=True)
class LogLine:
    """A line of a job's log as a reader sees it."""

    id: int
    """Grows; pass the last one as ``after`` to read on."""
    attempt: int
    at: datetime
    level: str
    """``debug``, ``info``, ``warning``, ``error`` or ``critical``, or a number."""
    logger: str
    message: str
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's own types."""
        return {**self.__dict__, "at": self.at.isoformat()}


def level_name(level: int) -> str:
    """``info`` for 20."""
    return next((name for name, number in LEVELS.items() if number == level), str(level))


class JobActions(Protocol):
    """What a Job needs of the client it came from."""

    def get_job(self, id: UUID) -> Job | None: ...
    def wait_for(self, id: UUID, timeout: float | None) -> Job: ...
    def cancel_one(self, id: UUID, reason: str) -> Job: ...
    def retry_one(self, id: UUID) -> Job: ...
    def run_one_now(self, id: UUID) -> Job: ...
    def dependencies(self, id: UUID, *, limit: int) -> Iterable[Job]: ...
    def dependents(self, id: UUID, *, limit: int) -> Iterable[Job]: ...


@dataclass(eq=False)
class Job:
    """One call of a task, as it stood when it was read. ``refresh()`` reads it again.

    Pass it to a task as an argument and it stands for its result, as a Future does.
    """

    id: UUID
    task: str
    queue: str = "default"
    state: JobState = JobState.AVAILABLE
    scheduled_at: datetime | None = None
    args: dict[str, Any] = field(default_factory=dict)
    priority: int = 5
    tenant: str = ""
    attempt: int = 0
    max_attempts: int = 3
    result: Any = None
    has_result: bool = False
    reason: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    workflow_id: UUID | None = None
    parent_id: UUID | None = None
    depth: int = 0
    deps: list[UUID] = field(default_factory=list)
    timeout: float | None = None
    worker: UUID | None = None
    inserted_at: datetime | None = None
    attempted_at: datetime | None = None
    completed_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None
    conflict: bool = False
    left_out: tuple[str, ...] = ()
    """Of ``args``, ``result`` and ``meta``: those that a short list has not read, since they are large."""
    _client: JobActions | None = field(default=None, repr=False, compare=False)
    _progress: Progress | None = field(default=None, repr=False)
    _redacted: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def task_name(self) -> str:
        """The task's name; the same as ``task``."""
        return self.task

    @property
    def ended(self) -> bool:
        return self.state.ended

    @property
    def progress(self) -> Progress | None:
        """How far it is, by its own word; None if it has not said."""
        return self._progress

    @property
    def redacted(self) -> tuple[str, ...] | None:
        """The paths of arguments that pages and the API show to nobody; None if it was not read from the tables."""
        return self._redacted

    @property
    def dependencies(self) -> list[Job]:
        """The jobs that it waits or waited for, as they stand now; at most 1,000, ``client.dependencies`` has all."""
        return list(self._actions().dependencies(self.id, limit=MOST_RELATIVES))

    @property
    def dependents(self) -> list[Job]:
        """The jobs that wait or waited for it, likewise."""
        return list(self._actions().dependents(self.id, limit=MOST_RELATIVES))

    def __fairchild_reference__(self) -> UUID:
        return self.id

    def or_else(self, default: Any) -> Future:
        """Passed to a task, its result or ``default``; see ``Future.or_else``."""
        return Future(self.id, self.task).or_else(default)

    def outcome(self) -> Future:
        """Passed to a task, an ``Outcome`` of this job; see ``Future.outcome``."""
        return Future(self.id, self.task).outcome()

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def _actions(self) -> JobActions:
        if self._client is None:
            raise RuntimeError(f"job {self.id} was made without a client; use client.get_job(id)")
        return self._client

    def refresh(self) -> Job:
        """This object, read again. A job that was deleted raises UnknownJob and leaves the object as it was."""
        return self._take(self._actions().get_job(self.id))

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended, then this object as it ended, whatever the state.

        Raises ResultTimeout after ``timeout`` seconds, and WouldDeadlock at once inside another job; the job goes on.
        """
        return self._take(self._actions().wait_for(self.id, timeout))

    def cancel(self, reason: str = "cancelled") -> Job:
        """Cancel the job: at once if it does not run, by request if it does."""
        return self._take(self._actions().cancel_one(self.id, reason))

    def retry(self) -> Job:
        """Make an ended job available again, with at least one attempt left."""
        return self._take(self._actions().retry_one(self.id))

    def run_now(self) -> Job:
        """Make a scheduled job available before its time. In any other state it stays as it is."""
        return self._take(self._actions().run_one_now(self.id))

    def _take(self, other: Job | None) -> Job:
        from fairchild.errors import UnknownJob  # noqa: PLC0415 - a value's module imports nothing at load

        if other is None:
            raise UnknownJob(f"job {self.id} does not exist: it was deleted or pruned")
        for each in fields(self):
            if each.name not in ("_client", "conflict"):
                setattr(self, each.name, getattr(other, each.name))
        return self

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """A Job from a row of the view ``fairchild_jobs``, as a dict; columns it does not know are left out."""
        known = {each.name for each in fields(cls) if not each.name.startswith("_")}
        given = {name: value for name, value in row.items() if name in known}
        given["state"] = JobState(given.get("state", JobState.AVAILABLE))
        given["has_result"] = given.get("result") is not None if "has_result" not in given else given["has_result"]
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """All fields under their API names, in JSON's own types."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            if each.name.startswith("_"):
                continue
            value = getattr(self, each.name)
            if isinstance(value, UUID):
                value = str(value)
            elif isinstance(value, datetime):
                value = value.isoformat()
            elif isinstance(value, JobState):
                value = value.value
            elif each.name == "deps":
                value = [str(dep) for dep in value]
            elif each.name == "left_out":
                value = list(value)
            plain[each.name] = value
        plain["progress"] = None if self._progress is None else self._progress.to_dict()
        return plain


@dataclass(slots=True)
class NewJob:
    """A job about to be inserted: a row of ``jobs_base`` and where it starts."""

    id: UUID
    task: str
    args: bytes
    queue: str = "default"
    priority: int = 5
    tenant: str = ""
    max_attempts: int = 3
    tags: list[str] | None = None
    meta: bytes | None = None
    timeout: float | None = None
    expires: float | None = None
    on_child_failure: str = "fail"
    delay: float | None = None
    """Seconds from the statement's time on the database's clock; excludes ``scheduled_at``."""
    scheduled_at: datetime | None = None
    refs: list[Ref] = field(default_factory=list)
    depends_on: list[UUID] = field(default_factory=list)
    """Upstream jobs that order without giving data; those in ``refs`` need not be repeated."""
    follows: list[UUID] = field(default_factory=list)
    """Upstream jobs that must have ended, whatever they came to."""
    workflow_id: UUID | None = None
    parent_id: UUID | None = None
    depth: int = 0
    group_key: int | None = None
    rank: int | None = None
    """See ``rules/groups.py``; set when it is inserted, for children only."""
    given_id: bool = False
    """The caller chose the id, so the job may be there already."""
    redact: tuple[tuple[str, str], ...] = ()
    """What its task hides: see ``db/redactions.py``."""

    def upstreams(self) -> list[UUID]:
        """All jobs that must end first, each once."""
        return list(self.edges())

    def edges(self) -> dict[UUID, str]:
        """All jobs that must end first, and the policy: see ``tables.edges``."""
        if not self.refs and not self.depends_on and not self.follows:
            return {}
        return {**dict.fromkeys(self.follows, "after"), **edges_of(self.refs), **dict.fromkeys(self.depends_on, "need")}


def edges_of(refs: Iterable[Sequence[Any]]) -> dict[UUID, str]:
    """The jobs that references name: 'need' if one of them needs the value itself, else 'any'."""
    found: dict[UUID, str] = {}
    for _, upstream, *way in refs:
        if not way or way[0] is None:
            found[upstream] = "need"
        else:
            found.setdefault(upstream, "any")
    return found
