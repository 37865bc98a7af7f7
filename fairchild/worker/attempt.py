"""One attempt: from a claimed row to what it came to. A pipeline of small steps over one object; no database here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import logging
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from datetime import datetime, timezone
from typing import Any, NoReturn, Protocol
from uuid import UUID

from fairchild import codec, failpoints
from fairchild.context import INTERRUPTS, CurrentJob, Enqueuer, entered, leave
from fairchild.db import journal
from fairchild.db.claim import Claimed
from fairchild.db.connect import is_reply_lost, is_transient, was_cancelled, was_idle
from fairchild.db.finish import Applied, Ended
from fairchild.db.journal import Progress
from fairchild.db.lease import MAX_LOSSES
from fairchild.db.stacks import Frame
from fairchild.db.unit import CommitUnknown, Unit
from fairchild.db.xcom import Change
from fairchild.durable import Durable
from fairchild.errors import (
    AttemptCancelled,
    AttemptInterrupted,
    AttemptTimedOut,
    DependencyHasNoResult,
    Interrupt,
    LeaseLost,
    NotSerializable,
    StoreError,
    Suspended,
)
from fairchild.future import Ref
from fairchild.job import JobState, NewJob
from fairchild.record import Cancel, Discard, Ending, Record, Retry, Snooze
from fairchild.rules.fingerprint import fingerprint
from fairchild.rules.replay import Entry, History
from fairchild.rules.retry import MAX_DELAY_SECONDS, after_error, delay_after
from fairchild.tasks import Task
from fairchild.worker.notes import Notes
from fairchild.worker.notes import bounded as _bounded
from fairchild.worker.watch import Watch

log = logging.getLogger("fairchild.worker")

MAX_REASON = 1_000
MAX_MESSAGE = 8_000
MAX_TRACEBACK = 32_000
"""Bytes each, so that an entry never takes 64 KiB."""
ASK_AGAIN_SECONDS = 1.0
WRITE_SECONDS = 30.0
"""How long a step tries to keep its value while the database is away."""
NOTICED_SECONDS = 1.0
"""What a task gets to unwind after ``job.check()`` has told it to end, before it is interrupted from outside."""
FAILURES = ("error", "timeout", "invalid_args", "upstream_failed")
"""Kinds of errors that are grouped by a fingerprint."""
_OUR_FILES = (__file__,)
_making = threading.Lock()
_forks = 0
"""How many forks lie between this process and the one in which its program began."""
_gate = threading.Lock()
"""Around the raising of an interrupt in a thread, and around the end of the task there."""


def _count_fork() -> None:
    global _forks, _making, _gate  # noqa: PLW0603
    _forks += 1
    _making, _gate = threading.Lock(), threading.Lock()  # other threads of the parent may have held them


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


Values = Mapping[UUID, "tuple[str, bytes | None, str]"]


class Elsewhere(Protocol):
    """Another process in which an attempt runs."""

    @property
    def pid(self) -> int: ...
    def ask(self, kind: str, message: str) -> None: ...
    def kill(self) -> None: ...
    def ask_frames(self) -> None: ...
    def frames(self, seconds: float) -> list[Frame] | None: ...


class Attempt:
    """A claimed job on its way through a runner thread."""

    job_type: type[CurrentJob] = CurrentJob

    def __init__(
        self, claimed: Claimed, values: Values, client: Enqueuer, worker: str, history: History | None = None
    ) -> None:
        self.claimed = claimed
        self.history = history
        """What a durable job has called before; None for all others."""
        self._durable: Durable | None = None
        self.values = values
        self.client = client
        self.worker = worker
        self.job: CurrentJob | None = None
        """The job as its task sees it, once it has asked."""
        self.notes: Notes | None = None
        """Where it notes what it has to say. Set before it starts."""
        self.key = (claimed.job_id.int, claimed.claim_id.int)
        self.ended = False
        """Its outcome has been handed over, or it was taken back before it started. Under the pool's lock."""
        self.running = False
        """A runner thread has it. Under the pool's lock."""
        self.ran = False
        self.seconds = 0.0
        self.released = False
        """Given back while it still ran: whatever it comes to is dropped. Under the pool's lock."""
        self.runner: int | None = None
        """The runner thread that has it."""
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        """What it runs, if its task is one."""
        self.elsewhere: Elsewhere | None = None
        """Where it runs while it does not run in this process."""
        self._asked: tuple[str, str] | None = None
        self._arguments: dict[str, Any] = {}
        self._deadline: float | None = None
        self._over = False
        self._thread: int | None = None
        """Where the task runs now: the thread in which an interrupt may be raised. Under ``_gate``."""
        self._watch: Watch | None = None
        self._stop_coroutine: Callable[[], None] | None = None
        self.interrupted_at: float | None = None
        """When an interrupt was raised in it first, or it learnt by itself that it must end."""
        self._noticed_at: float | None = None
        self.stuck = False
        self._module = ""
        """Of the task, if it runs here."""
        self._unit: Unit | None = None
        self._unopened: StoreError | None = None
        self.applied: Applied | None = None
        """What recording it came to, if that was done in the task's own transaction."""

    @property
    def thread(self) -> int | None:
        """Where its task runs now, in this process."""
        return self._thread

    def interrupt(self, kind: str, message: str) -> None:
        """Ask the task to stop, now or as soon as it starts; see ``CurrentJob.check``."""
        self._asked = (kind, message)
        elsewhere = self.elsewhere
        if elsewhere is not None:
            elsewhere.ask(kind, message)
        if self.job is not None:
            self.job.interrupt(kind, message)
        if self._watch is not None:
            self._watch.add(self)

    def move(self, elsewhere: Elsewhere) -> None:
        """From here on its task runs, or is about to run, in another process."""
        self.elsewhere = elsewhere
        if self._asked is not None:  # before there was anybody to pass it on to
            elsewhere.ask(*self._asked)
        if self.released:
            elsewhere.kill()

    def due(self, now: float, polite: float) -> float | None:
        """When its thread is to be interrupted, if ever; one that was asked to stop gets ``polite`` seconds."""
        return self._deadline if self._asked is None else now + polite

    def interrupt_thread(self, now: float) -> bool:
        """Raise in the task's thread what ends it, if that is due; whether its task still runs."""
        with _gate:
            if self._thread is None:
                return False
            interrupt = self._interrupt_now(now)
            if self._noticed_at is not None and now < self._noticed_at + NOTICED_SECONDS:
                interrupt = None
            if interrupt is not None:
                self.interrupted_at = self.interrupted_at or now
                if self._stop_coroutine is not None:
                    self._stop_coroutine()
                else:
                    _raise_in(self._thread, interrupt)
        if interrupt is not None and self._unit is not None:
            self._unit.cancel()
        return True

    def _interrupt_now(self, now: float) -> type[Interrupt] | None:
        if self._asked is not None:
            kind, message = self._asked
            return _speaking(INTERRUPTS[kind], message)
        if self._deadline is not None and now >= self._deadline:
            message = f"job {self.claimed.job_id} ran past its timeout of {self.claimed.timeout} s"
            return _speaking(AttemptTimedOut, message)
        return None

    def _notice(self) -> None:
        """The task has learnt from ``check()`` that it must end: its handlers are left alone for a moment."""
        with _gate:
            if self._noticed_at is None:
                self._noticed_at = time.monotonic()
                self.interrupted_at = self.interrupted_at or self._noticed_at
                here = threading.get_ident()
                if self._thread == here:
                    _raise_in(here, None)  # one that is on its way would arrive in their midst

    def _shield(self) -> None:
        """From here on no interrupt arrives: the task is over. One that is on its way is taken back."""
        with _gate:
            thread, self._thread = self._thread, None
            if thread is not None and self.interrupted_at is not None:
                _raise_in(thread, None)

    def forget(self) -> None:
        """Drop what it holds of the job's data."""
        self.job = None
        self.values = {}
        self.history = self._durable = None
        self._arguments = {}

    def run(self, task: Task[Any, Any], coroutines: CoroutineLoop, watch: Watch) -> Ended:
        """Run the task and say what it came to. Never raises."""
        self._watch = watch
        self._module = str(task.fn.__module__)
        started = time.monotonic()
        try:
            try:
                ended = self._run(task, coroutines, started)
            except Interrupt as late:  # raised between the task's end and our hearing of it
                self._shield()
                ended = self._error(task, late)
            ended = self._closed(task, ended, started)
            if self._durable is not None:
                self._leave_behind(self._durable, ended)
            return ended if self._unit is None else self._end_unit(task, self._unit, ended)
        except BaseException as error:
            log.exception("job %s (%s): its outcome could not be put together", self.claimed.job_id, self.claimed.task)
            return self.refused(f"the outcome could not be put together: {type(error).__name__}: {_text(error)}")

    def _run(self, task: Task[Any, Any], coroutines: CoroutineLoop, started: float) -> Ended:
        try:
            positional, keywords = self._prepare(task, started)
        except Exception as error:  # noqa: BLE001 - a row that cannot be read fails alone
            return self._unfit(error)
        forks = _forks
        try:
            with entered(self):
                self._thread = threading.get_ident()
                if self._deadline is not None or self._asked is not None:
                    assert self._watch is not None
                    self._watch.add(self)
                if failpoints.ARMED:
                    failpoints.hit("run.before")
                value = task.fn(*positional, **keywords)
                if task.is_async:
                    value = self._await(coroutines, value)
                if failpoints.ARMED:
                    failpoints.hit("run.after")
            if forks != _forks:
                self._end_fork(None)
            self._shield()
            if self._is_suspended(None):
                return self._suspension()
            if self._durable is not None and not isinstance(value, Ending):
                self._durable.finish()
            return self._value(task, value)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
            if forks != _forks:
                self._end_fork(error)
            self._shield()
            leave()  # an interrupt may have come in the middle of leaving
            if self._is_suspended(error):
                return self._suspension()
            if self._lost_unit(error):
                return self.give_back(f"the job's transaction was lost, and nothing of it was kept: {_text(error)}")
            return self._error(task, self._reason_of(error))

    def _end_fork(self, error: BaseException | None) -> NoReturn:
        """End a process that the task has forked and let come back here: the outcome is that of the job's own one."""
        code = 0 if error is None else 1
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            log.error(
                "a process that job %s (%s) has forked ended by an error; the job itself goes on",
                self.claimed.job_id, self.claimed.task, exc_info=error,
            )  # fmt: skip
        os._exit(code)

    def _unfit(self, error: Exception) -> Ended:
        """The outcome of an attempt whose arguments cannot be had."""
        kind = "upstream_failed" if isinstance(error, DependencyHasNoResult) else "invalid_args"
        return self._failed(error, kind, kind)

    def _is_suspended(self, error: BaseException | None) -> bool:
        """Whether the task waits. Whatever it did after that is of no use, unless it was asked to stop meanwhile."""
        durable = self._durable
        if durable is None or durable.wait is None:
            return False
        if isinstance(error, Suspended):
            return True
        if isinstance(error, Interrupt):
            return False
        log.warning(
            "job %s (%s): its task %s after it was suspended, which is of no use: it runs again from the top when what "
            "it waits for has come. Let Suspended pass",
            self.claimed.job_id, self.claimed.task, "returned" if error is None else f"raised {_text(error)}",
            extra=self._extra(),
        )  # fmt: skip
        return True

    def _suspension(self) -> Ended:
        ended = self._ended("waiting", spent=False)
        ended.children = self._close()
        return ended

    def _leave_behind(self, durable: Durable, ended: Ended) -> None:
        """What a durable attempt adds to its journal, and whether children of earlier ones must end first."""
        if ended.state == "waiting" and durable.wait is not None:
            ended.progress = Progress(durable.entries(), wait=durable.wait)
        elif ended.state in ("completed", "waiting"):
            ended.state = "waiting" if durable.has_children else ended.state
            ended.progress = Progress(durable.entries())
        elif ended.state in ("failed", "cancelled") and durable.has_children and self._asked is None:
            ended.progress = Progress([], final=ended.state)
            ended.state = "waiting"

    def _write_journal(self, entries: list[Entry]) -> None:
        """Keep entries while the task runs. Raises an Interrupt if that cannot be done: no attempt is spent."""
        claimed = self.claimed
        deadline = time.monotonic() + WRITE_SECONDS
        while True:
            try:
                with self.client.database.link() as link:
                    held = journal.write(link, claimed.job_id, claimed.claim_id, entries)
                break
            except StoreError as error:  # it may have been done, and may be done again
                if not is_transient(error):
                    raise
                if time.monotonic() > deadline:
                    message = f"what job {claimed.job_id} has done could not be recorded in its journal: {_text(error)}"
                    raise AttemptInterrupted(message) from error
            self.current().check()
            time.sleep(random.uniform(0, ASK_AGAIN_SECONDS / 4))
        if not held:
            raise LeaseLost(f"job {claimed.job_id} belongs to another attempt by now; nothing more was recorded")

    def _lost_unit(self, error: BaseException) -> bool:
        """Whether the task failed because its transaction's connection was lost: no failure of its own."""
        if error is self._unopened:
            return True
        return self._unit is not None and self._unit.connection.closed and is_reply_lost(error)

    def _reason_of(self, error: BaseException) -> BaseException:
        """A statement that was broken off by an interrupt failed of that interrupt."""
        interrupt = self._interrupt_now(time.monotonic()) if self.interrupted_at is not None else None
        return (
            error if interrupt is None or not was_cancelled(error) else interrupt().with_traceback(error.__traceback__)
        )

    def _open_unit(self) -> Unit:
        with _making:
            if self._unit is None:
                try:
                    self._unit = self.client.open_unit()
                except StoreError as error:
                    self._unopened = error if is_transient(error) else None
                    raise
            return self._unit

    def _end_unit(self, task: Task[Any, Any], unit: Unit, ended: Ended) -> Ended:
        """The task's own transaction ends with the attempt: recorded in it and committed, or rolled back."""
        final = ended.progress is not None and (ended.progress.wait is not None or ended.progress.final is not None)
        if ended.state not in ("completed", "waiting") or final:  # a suspended task will do it all again
            unit.rollback()
            return ended
        applied: Applied | None
        try:
            applied = unit.complete(ended)
        except CommitUnknown as error:
            applied = self._resolve(unit, ended, error)
        except Exception as error:  # noqa: BLE001 - a constraint that is checked late is the task's own failure
            if is_transient(error) and not was_idle(error):
                return self.give_back(
                    f"the transaction of the job was lost, and nothing of it was kept: {_text(error)}"
                )
            return self._error(task, error)
        if applied is None:
            return self.give_back(
                "the connection was lost before the job's transaction committed; nothing of it was kept"
            )
        if not applied.stopped:
            self.applied = applied
        return ended

    def _resolve(self, unit: Unit, ended: Ended, lost: CommitUnknown) -> Applied | None:
        """Ask until the database says whether it has committed. None: it has not."""
        log.warning("job %s: the reply to its commit was lost (%s); asking what came of it", self.claimed.job_id, lost)
        while not self.released:
            try:
                return Applied({}, [], 0) if unit.resolve(ended) else None
            except Exception as error:  # noqa: BLE001 - whatever it is, the answer is still to be had
                log.warning("job %s: cannot ask yet: %s", self.claimed.job_id, _text(error))
                time.sleep(random.uniform(0, ASK_AGAIN_SECONDS))
        return Applied({ended.job_id: "unknown"}, [], 0)

    def _await(self, coroutines: CoroutineLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
        answer, stop = coroutines.start(coroutine, self.current())
        self._stop_coroutine = stop
        self.coroutine = coroutine
        try:
            return answer.result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            interrupt = self._interrupt_now(time.monotonic()) if self.interrupted_at is not None else None
            if interrupt is None:
                raise
            raise interrupt from None
        finally:
            self.coroutine = None

    def _closed(self, task: Task[Any, Any], ended: Ended, started: float) -> Ended:
        self._close()
        if self.notes is not None:
            self.notes.close()
        if self.job is not None:
            ended.meta = self.job.changed_meta()
            if self.job.changes and ended.state in ("completed", "waiting"):
                ended.xcom, ended.workflow_id = self.job.changes, self.claimed.workflow_id
        if log.isEnabledFor(logging.INFO):
            log.info(
                "job %s (%s) attempt %d: %s after %.3f s",
                self.claimed.job_id, task.name, self.claimed.attempt, ended.state, time.monotonic() - started,
                extra=self._extra(),
            )  # fmt: skip
        return ended

    def _prepare(self, task: Task[Any, Any], started: float) -> tuple[list[Any], dict[str, Any]]:
        self._load(started)
        job = None if task.signature.job_parameter is None and self.history is None else self.current()
        return task.signature.call_arguments(self._arguments, job)

    def _load(self, started: float) -> None:
        """The arguments with the values of other jobs in their places, and the time limit."""
        claimed = self.claimed
        stored = codec.decode(claimed.args)
        if claimed.refs is not None:
            for path, reference, *way in codec.decode(claimed.refs):
                stored = codec.place(stored, path, self._upstream(UUID(reference), way[0] if way else None))
        self._arguments = stored
        if claimed.timeout is not None:
            self._deadline = started + claimed.timeout

    def current(self) -> CurrentJob:
        """The job as its task sees it. Made when somebody asks; after the attempt's end it takes no children."""
        job = self.job
        if job is not None:
            return job
        with _making:  # the task may have carried its context into threads
            if self.job is None:
                self.job = self._make_job()
            job = self.job
        if self._asked is not None:
            job.interrupt(*self._asked)
        if self._over:
            job.close()
        return job

    def _close(self) -> list[NewJob]:
        """End of the attempt: the children that it called."""
        self._over = True
        return [] if self.job is None else self.job.close()

    def _make_job(self) -> CurrentJob:
        claimed = self.claimed
        if self.history is not None:
            self._durable = Durable(
                claimed.job_id, claimed.task, self.history, self._write_journal, self.client.max_payload_bytes
            )
        job = self.job_type(
            id=claimed.job_id,
            task=claimed.task,
            queue=claimed.queue,
            state=JobState.RUNNING,
            args=self._arguments,
            priority=claimed.priority,
            tenant=claimed.tenant,
            attempt=claimed.attempt,
            max_attempts=claimed.max_attempts,
            tags=claimed.tags or [],
            meta={} if claimed.meta is None else codec.decode(claimed.meta),
            workflow_id=claimed.workflow_id,
            parent_id=claimed.parent_id,
            depth=claimed.depth,
            timeout=claimed.timeout,
            inserted_at=_moment(claimed.inserted),
            scheduled_at=_moment(claimed.scheduled),
            fence=claimed.fence,
            client=self.client,
            max_payload_bytes=self.client.max_payload_bytes,
            durable=self._durable,
            _unit=self._open_unit,
            _claim=claimed.claim_id,
            _notes=self.notes,
            _on_notice=self._notice,
        )
        if self._deadline is not None:
            job.set_deadline(self._deadline)
        return job

    def _upstream(self, job_id: UUID, way: list[Any] | None) -> Any:
        state, result, task = self.values.get(job_id, ("missing", None, "?"))
        if way is not None:
            return codec.stand_in(way, state, result)
        if state == "completed" and result is not None:
            return codec.decode(result)
        if state == "completed":
            raise DependencyHasNoResult(
                f"this job needs the value of job {job_id} ({task}), which completed without keeping a result; "
                "let that task return a Record"
            )
        raise DependencyHasNoResult(f"this job needs the value of job {job_id} ({task}), which is {state}")

    def _value(self, task: Task[Any, Any], value: Any) -> Ended:
        if isinstance(value, Ending):
            return self._planned(task, value)
        children = self._close()
        must = isinstance(value, Record)
        plain = value.value if isinstance(value, Record) else value
        result: bytes | None = None
        refs: list[Ref] = []
        if task.settings.record or must:
            try:
                result, refs = codec.encode(plain, limit=self.client.max_payload_bytes, root="result")
            except NotSerializable as error:
                if must:
                    return self._failed(error, "error", "error")
                log.warning(
                    "job %s (%s): its result is dropped: %s",
                    self.claimed.job_id,
                    task.name,
                    error,
                    extra={"job_id": str(self.claimed.job_id)},
                )
        if task.settings.xcom_key is not None and result is not None:
            self.current().changes.append(Change("result", "", task.settings.xcom_key))
        return self._completed(result, refs, children)

    def _completed(self, result: bytes | None, refs: list[Ref], children: list[NewJob]) -> Ended:
        return Ended(
            job_id=self.claimed.job_id,
            claim_id=self.claimed.claim_id,
            state="waiting" if children or refs else "completed",
            result=result,
            value_refs=refs,
            children=children,
        )

    def _error(self, task: Task[Any, Any], error: BaseException) -> Ended:
        if isinstance(error, Ending):
            return self._planned(task, error)
        if isinstance(error, AttemptCancelled):
            return self.cancelled(str(error))
        if isinstance(error, AttemptInterrupted):
            return self._ended("ready", spent=False, error=self._entry(error, "interrupted"))
        if isinstance(error, LeaseLost):
            return self._ended("ready", spent=False)  # its claim is gone, so this changes nothing
        if self._durable is not None and self._durable.caused(error):  # a replay would come to the same
            self._report(task, error, final=True)
            return self._ended("failed", reason="awaited_failed", error=self._entry(error, "error"))
        kind = "timeout" if isinstance(error, AttemptTimedOut) else "error"
        settings = task.settings
        try:
            verdict = after_error(
                error,
                attempt=self.claimed.attempt,
                max_attempts=self.claimed.max_attempts,
                retry_on=(*settings.retry_on, AttemptTimedOut),
                discard_on=settings.discard_on,
                backoff=settings.backoff,
                reason=kind,
            )
        except Exception as wrong:
            log.error("task %s: its backoff function failed; the job is failed", task.name, exc_info=wrong)
            return self._failed(error, kind, kind)
        self._report(task, error, final=not verdict.retry)
        if verdict.retry:
            return self._again(verdict.delay, self._entry(error, kind))
        return self._ended("failed", reason=verdict.reason, error=self._entry(error, kind))

    def _planned(self, task: Task[Any, Any], ending: Ending) -> Ended:
        if isinstance(ending, Snooze):
            return self._again(ending.delay, None, spent=False)
        if isinstance(ending, Cancel):
            return self._ended("cancelled", reason=_bounded(ending.reason, MAX_REASON))
        if isinstance(ending, Retry) and self.claimed.attempt < self.claimed.max_attempts:
            delay = ending.delay
            if delay is None:
                try:
                    delay = delay_after(task.settings.backoff, self.claimed.attempt, ending, random.random())
                except Exception as wrong:
                    log.error("task %s: its backoff function failed; the job is failed", task.name, exc_info=wrong)
                    return self._failed(ending, "error", "error")
            return self._again(delay, self._entry(ending, "error"))
        reason = "discarded" if isinstance(ending, Discard) else "error"
        return self._ended("failed", reason=reason, error=self._entry(ending, "error"))

    def _again(self, delay: float, error: dict[str, Any] | None, *, spent: bool = True) -> Ended:
        if not delay > 0:  # also when it is not a number
            return self._ended("ready", error=error, spent=spent)
        ended = self._ended("due", error=error, spent=spent)
        ended.delay = min(delay, MAX_DELAY_SECONDS)
        return ended

    def _failed(self, error: BaseException, kind: str, reason: str) -> Ended:
        said = _one_line(_text(error))
        log.error("job %s (%s) failed: %s", self.claimed.job_id, self.claimed.task, said, extra=self._extra())
        return self._ended("failed", reason=reason, error=self._entry(error, kind))

    def _ended(
        self, state: str, *, reason: str | None = None, error: dict[str, Any] | None = None, spent: bool = True
    ) -> Ended:
        return Ended(self.claimed.job_id, self.claimed.claim_id, state, spent=spent, reason=reason, error=error)

    def give_back(self, message: str | None = None) -> Ended:
        """The outcome of an attempt that never started or must stop: available again, nothing spent."""
        error = None if message is None else self._entry(AttemptInterrupted(message), "interrupted")
        return self._ended("ready", spent=False, error=error)

    def cancelled(self, reason: str) -> Ended:
        """The outcome of an attempt that is not waited for any more, and not to be run again."""
        return self._ended("cancelled", reason=reason, error=self._entry(AttemptCancelled(reason), "cancelled"))

    def put_off(self, message: str, delay: float) -> Ended:
        """The outcome of an attempt that could not be started here: again after ``delay`` seconds, nothing spent."""
        return self._again(delay, self._entry(AttemptInterrupted(message), "interrupted"), spent=False)

    def failed(self, task: Task[Any, Any], error: BaseException) -> Ended:
        """The outcome of an attempt that ended by this error where its task did not raise it."""
        return self._error(task, error)

    def died(self, message: str) -> Ended:
        """The outcome of an attempt that its own process died of: a loss, and the last one it may have is its end."""
        log.error("job %s (%s): %s", self.claimed.job_id, self.claimed.task, message, extra=self._extra())
        error = {**self._entry(AttemptInterrupted(message), "lost"), "type": None}
        final = self.claimed.losses + 1 >= MAX_LOSSES
        ended = self._ended(
            "failed" if final else "ready", spent=False, reason="poison" if final else None, error=error
        )
        ended.lost = True
        return ended

    def expired(self) -> Ended:
        """The outcome of a job that was not started in time."""
        return self._ended("cancelled", spent=False, reason="expired")

    def refused(self, message: str) -> Ended:
        """The outcome in place of one that could not be recorded."""
        return self._ended("failed", reason="error", error=self._entry(Discard(message), "error"))

    def _entry(self, error: BaseException, kind: str) -> dict[str, Any]:
        entry = {
            "attempt": self.claimed.attempt,
            "kind": kind,
            "type": None if isinstance(error, Ending) else _bounded(type(error).__qualname__, 255),
            "message": _bounded(_text(error), MAX_MESSAGE),
            "traceback": _trace(error) if kind in ("error", "timeout") and not isinstance(error, Ending) else None,
            "worker": self.worker,
        }
        if kind in FAILURES and not isinstance(error, Ending):
            entry["fingerprint"] = fingerprint(error, self.claimed.task, self._module, placed=kind != "timeout")
        return entry

    def _extra(self) -> dict[str, Any]:
        claimed = self.claimed
        return {
            "job_id": str(claimed.job_id),
            "task": claimed.task,
            "queue": claimed.queue,
            "attempt": claimed.attempt,
            "worker": self.worker,
        }

    def _report(self, task: Task[Any, Any], error: BaseException, *, final: bool) -> None:
        claimed = self.claimed
        message = "job %s (%s) attempt %d of %d %s: %s: %s"
        verb = "failed for good" if final else "failed, will be tried again"
        log.log(
            logging.ERROR if final else logging.WARNING,
            message,
            claimed.job_id, task.name, claimed.attempt, claimed.max_attempts, verb, type(error).__name__,
            _one_line(_text(error)),
            exc_info=error if final else None,
            extra=self._extra(),
        )  # fmt: skip


def _speaking(kind: type[Interrupt], message: str) -> type[Interrupt]:
    """A class like ``kind`` whose instances say ``message``: what is raised from outside is made without arguments."""

    def say(self: Interrupt) -> None:
        BaseException.__init__(self, message)

    return type(kind.__name__, (kind,), {"__init__": say, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _raise_in(thread: int, interrupt: type[Interrupt] | None) -> None:
    """Have a thread raise at its next step of Python code; None takes back what it has not raised yet."""
    what = None if interrupt is None else ctypes.py_object(interrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):  # infinity, or a year that Python has not
        return None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - str() of a user's exception may raise anything
        return f"<{type(error).__name__} whose text cannot be read>"


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:500])


def _trace(error: BaseException) -> str:
    """The traceback from the task's own first frame on."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename in _OUR_FILES:
        tb = tb.tb_next
    try:
        lines = traceback.format_exception(type(error), error, tb)
    except Exception:  # noqa: BLE001 - formatting calls __str__ of every exception in the chain
        lines = traceback.format_tb(tb)
    return _bounded("".join(lines), MAX_TRACEBACK)


class CoroutineLoop:
    """The event loop that runs ``async def`` tasks of one worker process, in a thread of its own, made when needed."""

    def __init__(self, start_thread: Callable[[str, Callable[[], None]], None]) -> None:
        self._start_thread = start_thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references

    def start(
        self, coroutine: Coroutine[Any, Any, Any], job: CurrentJob
    ) -> tuple[concurrent.futures.Future[Any], Callable[[], None]]:
        """Start a coroutine as part of ``job``: what will have its value, and what cancels it."""
        with self._lock:
            loop = self._loop
            if loop is None or loop.is_closed():
                loop = self._start()
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        tasks: list[asyncio.Task[None]] = []

        async def guarded() -> None:  # an escaping SystemExit would end the loop for everybody
            try:
                answer.set_result(await coroutine)
            except BaseException as error:  # noqa: BLE001 - carried to the runner's thread
                answer.set_exception(error)

        def create() -> None:
            task = loop.create_task(guarded())
            tasks.append(task)
            self._tasks.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not answer.done():  # cancelled before its first step
                coroutine.close()
                answer.cancel()

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

        with entered(job):
            loop.call_soon_threadsafe(create, context=copy_context())
        return answer, cancel

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()

        def forever() -> None:
            asyncio.set_event_loop(loop)
            try:
                loop.run_forever()
                left = asyncio.all_tasks(loop)
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            finally:
                loop.close()

        self._start_thread("coroutines", forever)
        return loop

    def stop(self) -> None:
        """Cancel the coroutines that still run, and end the loop's thread, if there is one."""
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.stop)
