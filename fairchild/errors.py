"""Every exception of fairchild, one family tree.

``UsageError``  the call was wrong; nothing was written.
``StoreError``  the database could not do it.
``TaskError``   what a task or a job came to.
``Interrupt``   raised inside a task to end its attempt; a ``BaseException``, so ``except Exception`` does not eat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID


class FairchildError(Exception):
    """Base of all errors of fairchild."""


class UsageError(FairchildError):
    """The call was wrong. Nothing was written."""

    option: str | None = None
    """The option of an enqueue that could not be taken, such as ``queue``, if it was one."""


class ConfigError(UsageError):
    """A setting is missing, unknown or of the wrong kind."""


class NotConnected(ConfigError):
    """There is no current client to enqueue with."""


class UnknownTask(UsageError, ValueError):
    """No task of this name is registered."""


class DuplicateTask(UsageError, ValueError):
    """Two different functions were registered under one name."""


class InvalidArguments(UsageError, TypeError):
    """The arguments do not fit the task's signature or types."""


class ArgumentProblems(InvalidArguments):
    """The arguments do not fit what the task's workers have published. ``problems`` is ``[(path, sentence), ...]``."""

    def __init__(self, task: str, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = list(problems)
        path, sentence = self.problems[0]
        super().__init__(f"{task}: {path} {sentence}; nothing was enqueued")


class NotSerializable(UsageError, ValueError):
    """A value cannot be stored as JSON. ``path`` says where it stands, e.g. ``$.items[3].price``."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class PayloadTooLarge(NotSerializable):
    """The encoded value is larger than ``max_payload_bytes``."""


class UnknownJob(UsageError, LookupError):
    """No job has this id."""


class UnknownWorker(UsageError, LookupError):
    """No worker that is at work has this id or name."""


class WorkerSilent(FairchildError, TimeoutError):
    """A worker did not answer in time. ``answered`` is what others of that name have said."""

    def __init__(self, message: str, answered: list[Any]) -> None:
        super().__init__(message)
        self.answered = answered


class FutureUsedAsValue(UsageError, TypeError):
    """A Future was used as if it were the value it stands for."""


class StateError(UsageError):
    """A job is not in a state from which it could be changed so; nothing was changed."""


class SpawnAfterEnd(UsageError):
    """A task was called in the name of an attempt that has already ended."""


class WouldDeadlock(UsageError):
    """A job was about to hold its thread until another job ends, which may need that very thread."""


class NotDurable(UsageError):
    """What only a durable task may do was tried elsewhere."""


class JournalFull(UsageError):
    """A durable job has recorded more calls, or larger values, than a journal may hold. What it has recorded stays."""


class StoreError(FairchildError):
    """The database refused or could not be reached. What was asked for was not done unless the message says so."""

    unknown = False
    """Whether something may have been changed all the same; said by ``writing_within``."""


class DatabaseUnavailable(StoreError):
    """The database could not be reached."""


class TookTooLong(StoreError):
    """Something took longer than it was given. Nothing was changed, unless it is ``unknown``."""


class WritesRefused(StoreError):
    """The database only reads, as a standby does, or its user may not do this. Nothing was written."""


class OutcomeUnknown(StoreError):
    """The reply to an enqueue was lost, and the database could not be asked in time whether it was done.

    ``job_id`` is the job's, ``job_ids`` those of all jobs of the call. To repeat it with ``_id=`` is safe: a job that
    is there already is left as it is.
    """

    def __init__(self, job_ids: Sequence[UUID], cause: object = None) -> None:
        self.job_ids = list(job_ids)
        self.job_id = self.job_ids[0] if self.job_ids else None
        what = f"job {self.job_id}" if len(self.job_ids) == 1 else f"{len(self.job_ids)} jobs, the first {self.job_id},"
        super().__init__(
            f"nobody knows whether {what} was enqueued: the reply was lost, and the database cannot be asked "
            f"({' '.join(str(cause).split())}). Look again later, or enqueue it again with the same _id, which is safe"
        )


class SchemaError(StoreError):
    """The tables are missing or of another version than this release needs."""


class TaskError(FairchildError):
    """What a task or a job came to."""


class JobFailed(TaskError):
    """The job ended as failed. ``job`` is its last state; ``errors`` lists its attempts."""

    def __init__(self, message: str, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class JobCancelled(TaskError):
    """The job was cancelled. ``job.reason`` says why."""

    def __init__(self, message: str, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class NoResult(TaskError):
    """The job completed without keeping a result."""


class ResultTimeout(TaskError, TimeoutError):
    """The job did not end within the time given. It goes on."""


class SignalTimeout(TaskError, TimeoutError):
    """No signal came within the time given to ``wait_signal``."""


class NonDeterminismError(TaskError):
    """A durable job, run again, called something else than before. Its journal is as it was."""


class DependencyHasNoResult(TaskError):
    """A job needs the value of an upstream job that completed without keeping one."""


class Interrupt(BaseException):
    """Raised by ``job.check()`` to end the attempt. Not an ``Exception``: a task's own handlers let it pass."""


class AttemptCancelled(Interrupt):
    """Somebody cancelled the job while it ran."""


class AttemptTimedOut(Interrupt):
    """The attempt ran past its ``timeout``."""


class AttemptInterrupted(Interrupt):
    """The worker is shutting down; the job will run again and no attempt is spent."""


class LeaseLost(Interrupt):
    """The job belongs to another attempt by now; whatever this one does is dropped."""


class Suspended(Interrupt):
    """A durable task waits for something that is not there; it will run again from the top.

    Not to be caught: whatever the task still does after it, the attempt is suspended. ``finally`` blocks run.
    """


class NotWhileImporting(Interrupt):
    """A module that a child process imports for its tasks began to enqueue or to work; its import ends there."""
