"""Durable tasks: plain control flow that waits for values without holding a thread.

In a task with ``@task(durable=True)`` a call that must wait raises ``Suspended``: the attempt ends there, what it has
called so far is committed, and nothing is held. When what it waits for has come, the function runs again from the top
and every earlier call returns what it returned before, without being done again (``fairchild.rules.replay``).

What is between these calls is run again each time. So it has to come to the same calls, and whatever has an effect
outside belongs into a task or a ``step``.
"""

from __future__ import annotations

import hashlib
import random as _random
import threading
import time
import uuid as _uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from typing import Any, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from fairchild import codec, context
from fairchild.db.journal import Wait
from fairchild.errors import (
    InvalidArguments,
    JobCancelled,
    JobFailed,
    NoResult,
    NotDurable,
    NotSerializable,
    ResultTimeout,
    SignalTimeout,
    Suspended,
    UsageError,
)
from fairchild.future import Future, Way
from fairchild.ids import derived, uuid7
from fairchild.job import Job, NewJob
from fairchild.record import Record
from fairchild.rules.replay import Entry, History, Known, Replay, describe

P = ParamSpec("P")
R = TypeVar("R")

# Done by the transaction that records the attempt, and so written in it and not before.
_WITH_COMMIT = frozenset({"call", "xcom"})
MAX_SECONDS = 366 * 86400.0 * 100


class Durable:
    """One run of a durable job. ``write`` keeps entries at once, or raises what ends an attempt without a claim.

    Without it the run goes as far as the journal does: what would be done for the first time is where it ends.
    """

    def __init__(
        self, job_id: UUID, task: str, history: History, write: Callable[[list[Entry]], None] | None, limit: int
    ) -> None:
        self._what = f"job {job_id} ({task})"
        self._history = history
        self._write = write
        self._limit = limit
        self._replay = Replay(self._what, history.entries)
        self._started = time.monotonic()
        self._lock = threading.RLock()
        self._stepping: set[int] = set()
        self._ended = {known.job_id: known for known in history.ended}
        self._seen: dict[UUID, Known] = {}
        self._own = {entry.ref for entry in history.entries if entry.kind in ("call", "await")}
        self._signals = list(history.signals)
        self.wait: Wait | None = None
        """What it waits for, once it is suspended."""
        self._calls = 0
        self._anew = next((entry.name for entry in history.entries if entry.kind == "anew"), "")
        self._errors: list[BaseException] = []

    @property
    def has_children(self) -> bool:
        """Whether tasks that it called before have been committed."""
        return any(entry.kind == "call" for entry in self._history.entries)

    def entries(self) -> list[Entry]:
        """What is to be written with the attempt's outcome."""
        with self._lock:
            return self._replay.unwritten()

    def finish(self) -> None:
        """The function has returned. Raises NonDeterminismError if it left out what it had called before."""
        self._replay.check("returned")

    def caused(self, error: BaseException) -> bool:
        """Whether this error is that of an awaited job, as ``result()`` raised it."""
        return any(each is error for each in self._errors)

    # What a task may do

    def called(self, new: NewJob, insert: Callable[[NewJob], None]) -> UUID:
        """The id of the job that this call stands for: as before, or inserted with the attempt's outcome."""
        digest = _digest(new.args, [(path, str(ref), *way) for path, ref, *way in new.refs])
        with self._entered():
            entry = self._replay.take("call", new.task, digest)
            self._calls += 1
            if entry is None:
                if not new.given_id:  # the same if this attempt dies and another comes to the call
                    new.id = derived(
                        new.parent_id or new.id, self._calls, _hash(self._anew, new.task, digest, new.parent_id)
                    )
                entry = Entry("call", new.task, digest, ref=new.id)
                insert(new)
                self._replay.add(entry)
                self._own.add(new.id)
            assert entry.ref is not None
            return entry.ref

    def result(
        self, futures: Sequence[tuple[UUID, str]], timeout: float | None = None, ways: Sequence[Way | None] = ()
    ) -> list[Any]:
        """The values of these jobs, once all are there. Raises the first failure, in the order given.

        ``ways``: what to give in place of a value that may be missing, for each job; see ``Future.or_else``.
        """
        with self._entered():
            names = [task for _, task in futures]
            limit = self._limit_of("result", ", ".join(dict.fromkeys(names)), timeout)
            outcomes: list[Entry] = []
            missing: list[UUID] = []
            for job_id, task in futures:
                entry = self._outcome(job_id, task, late=limit is not None and limit.over)
                if entry is None:
                    missing.append(job_id)
                else:
                    outcomes.append(entry)
            if missing:
                self._suspend(Wait(list(dict.fromkeys(missing))), limit, f"result() of the task {names[0]}")
        found = zip_longest(outcomes, ways[: len(outcomes)])
        return [self._value_of(entry) if way is None else self._stand_in(entry, way) for entry, way in found]

    def first(self, futures: Sequence[tuple[UUID, str]]) -> UUID:
        """Which of these jobs ended first, as this run or an earlier one saw it; waits for one."""
        with self._entered():
            digest = _digest(b"", sorted(str(job_id) for job_id, _ in futures))
            entry = self._replay.take("first", "as_completed", digest)
            if entry is None:
                order = {job_id: number for number, job_id in enumerate([*self._seen, *self._ended])}
                there = [job_id for job_id, _ in futures if job_id in order]
                if not there:
                    self._await(futures)
                    self._suspend(Wait([job_id for job_id, _ in futures], first=True), None, "as_completed()")
                entry = Entry("first", "as_completed", digest, ref=min(there, key=order.__getitem__))
                self._replay.add(entry)
            assert entry.ref is not None
            return entry.ref

    def once(self, kind: str, name: str, digest: str, produce: Callable[[], Any], *, now: bool = True) -> Any:
        """What ``produce`` gave when this call was made first; kept at once, or (not ``now``) before what follows it.

        Raises NotSerializable if it cannot be kept.
        """
        with self._entered():
            entry = self._replay.take(kind, name, digest)
        if entry is None:
            if self._write is None:
                self._suspend(Wait(), None, describe(Entry(kind, name)))
            if now:  # what has been seen so far is kept before something is done because of it
                self._flush()
            me = threading.get_ident()
            self._stepping.add(me)
            try:
                value = produce()
            finally:
                self._stepping.discard(me)
            if isinstance(value, Record):
                value = value.value
            encoded = codec.encode(value, limit=self._limit, root=name)
            if encoded.refs:
                raise NotSerializable(f"{name} gave a Future; a step keeps values, and calls no tasks", name)
            entry = Entry(kind, name, digest, value=encoded.json)
            with self._lock:
                self._replay.add(entry)
                if now:
                    self._flush()
        assert entry.value is not None
        return codec.decode(entry.value)

    def changed(self, name: str, what: str) -> bool:
        """Whether this change of a shared value is a new one: those of earlier runs have been done."""
        digest = _digest(what)
        with self._entered():
            if self._replay.take("xcom", name, digest) is not None:
                return False
            self._replay.add(Entry("xcom", name, digest))
            return True

    def sleep(self, seconds: float) -> None:
        """Wait this long from the first time on that the call is made."""
        with self._entered():
            entry = self._replay.take("sleep", "sleep")
            if entry is None:
                entry = self._replay.add(Entry("sleep", "sleep", delay=seconds))
            if entry.left is None or entry.left > 0:
                self._suspend(Wait(first=True), _Limit(entry), "sleep()")

    def signal(self, name: str, timeout: float | None) -> Any:
        """The payload of the next signal of this name. Raises SignalTimeout."""
        with self._entered():
            limit = self._limit_of("signal", f"wait_signal({name!r})", timeout)
            entry = self._replay.take("signal", name)
            if entry is None:
                sent = next((each for each in self._signals if each.name == name), None)
                if sent is not None:
                    self._signals.remove(sent)
                    entry = Entry("signal", name, ref=sent.id, value=sent.payload)
                elif limit is not None and limit.over:
                    entry = Entry("signal", name, failed=True)
                else:
                    self._suspend(Wait(first=True, signal=name), limit, f"wait_signal({name!r})")
                self._replay.add(entry)
        if entry.failed:
            raise SignalTimeout(f"{self._what}: no signal {name!r} came within the time given")
        return codec.decode(entry.value or b"null")

    def now(self) -> float:
        """The database's clock, Unix seconds, as near as it is known."""
        return self._history.now + time.monotonic() - self._started

    # How

    def _entered(self) -> Any:
        """The lock, for a call that may be made now."""
        if self.wait is not None:
            raise Suspended(
                f"{self._what} is suspended already: it was to wait, and what it does after that is of no use. Let "
                "Suspended pass; a finally block that must not run then may look at job.suspended"
            )
        if threading.get_ident() in self._stepping:
            raise UsageError(
                f"{self._what}: a step is a plain function that is not run again. It cannot call tasks, steps or what "
                "waits; call those in the task itself"
            )
        return self._lock

    def _limit_of(self, kind: str, name: str, timeout: float | None) -> _Limit | None:
        if timeout is None:
            return None
        entry = self._replay.take("until", name, kind)
        return _Limit(entry if entry is not None else Entry("until", name, kind, delay=timeout))

    def _outcome(self, job_id: UUID, task: str, *, late: bool) -> Entry | None:
        """What awaiting a job came to: before, or by what was known of it when this run began. None: not yet."""
        entry = self._replay.take("late", task, str(job_id)) or self._replay.take("result", task, str(job_id))
        if entry is None:
            known = self._ended.get(job_id) or self._seen.get(job_id)
            if known is None and late:
                entry = Entry("late", task, str(job_id), job_id)
            elif known is None:
                self._await([(job_id, task)])
                return None
            else:
                value = _failure(known) if known.failed and known.state != "seen" else known.value
                entry = Entry("result", task, str(job_id), job_id, value, known.failed)
            self._replay.add(entry)
        if entry.kind == "result":
            self._seen.setdefault(job_id, Known(job_id, "seen", None, entry.value, entry.failed))
        return entry

    def _await(self, futures: Sequence[tuple[UUID, str]]) -> None:
        """Have the outcomes of jobs that are not this job's own brought along next time."""
        for job_id, _ in futures:
            if job_id not in self._own:
                self._replay.add(Entry("await", str(job_id), ref=job_id))
                self._own.add(job_id)

    def _value_of(self, entry: Entry) -> Any:
        job_id = entry.ref
        if entry.kind == "late":
            raise ResultTimeout(
                f"{self._what}: job {job_id} ({entry.name}) has not ended in the time given; it goes on"
            )
        if entry.failed:
            failure = codec.decode(entry.value or b"{}")
            state, reason = failure.get("state"), failure.get("reason")
            error: Exception
            if state == "cancelled":
                error = JobCancelled(f"job {job_id} ({entry.name}) was cancelled: {reason}")
            else:
                detail = f": {failure['type'] or failure['kind']}: {failure['message']}" if "message" in failure else ""
                error = JobFailed(f"job {job_id} ({entry.name}) {_FAILED.get(state, 'failed')} ({reason}){detail}")
            self._errors.append(error)
            raise error
        if entry.value is None:
            raise NoResult(
                f"job {job_id} ({entry.name}) completed and kept no result; let that task return a value or a Record"
            )
        return codec.decode(entry.value)

    def _stand_in(self, entry: Entry, way: Way) -> Any:
        if entry.kind == "late":
            return self._value_of(entry)
        state = codec.decode(entry.value or b"{}").get("state", "failed") if entry.failed else "completed"
        return codec.stand_in(way, state, entry.value)

    def _flush(self) -> None:
        with self._lock:
            entries = self._replay.unwritten(_WITH_COMMIT)
            if entries and self._write is not None:
                self._write(entries)
                self._replay.written(entries)

    def _suspend(self, wait: Wait, limit: _Limit | None, what: str) -> NoReturn:
        self._replay.check(what)
        if limit is not None:
            if limit.entry.kind == "until" and not limit.entry.seq:
                self._replay.add(limit.entry)
            self._replay.unwritten()  # numbers it
            wait.timer = limit.entry.seq
        self.wait = wait
        raise Suspended(f"{self._what} waits for {what}")


class Here(Durable):
    """A durable task that is called directly: what it calls is done here and now, and nothing is kept."""

    def __init__(self, job_id: UUID, task: str) -> None:
        super().__init__(job_id, task, History(now=time.time()), lambda _: None, codec.MAX_PAYLOAD_BYTES)

    def call(self, name: str, run: Callable[[Any, Any], Any], args: Any, kwargs: Any) -> Future:
        """Run a task with these arguments, in which Futures stand for what has been called before."""
        future = Future(uuid7(), name)
        try:
            with context.entered(None):
                value = run(self._filled(args), self._filled(kwargs))
            known = Known(future.job_id, "completed", None, codec.encode(value, root="result").json)
        except Exception as error:  # noqa: BLE001 - whoever wants the value hears of it
            last = {"type": type(error).__qualname__, "kind": "error", "message": str(error)}
            known = Known(future.job_id, "failed", "error", codec.encode(last).json, failed=True)
        self._ended[future.job_id] = known
        return future

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def signal(self, name: str, timeout: float | None) -> Any:  # noqa: ARG002 - as in a job
        raise NotDurable(f"no signal {name!r} can reach {self._what}: it was called directly, outside of a job")

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Future):
            return self.result([(value.job_id, value.task)], ways=[value.way])[0]
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return type(value)(map(self._filled, value)) if type(value) in (list, tuple) else value


class _Limit:
    """A moment until which to wait."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    @property
    def over(self) -> bool:
        return self.entry.left is not None and self.entry.left <= 0


_FAILED = {"failed": "failed", "missing": "was deleted"}


def _failure(known: Known) -> bytes:
    last = {} if known.value is None else codec.decode(known.value)
    kept = {name: last[name] for name in ("type", "kind", "message") if name in last} if known.state == "failed" else {}
    return codec.encode({"state": known.state, "reason": known.reason, **kept}).json


def _digest(*parts: Any) -> str:
    return _hash(*parts).hex()


def _hash(*parts: Any) -> bytes:
    text = b"".join(part if isinstance(part, bytes) else repr(part).encode() for part in parts)
    return hashlib.blake2b(text, digest_size=8).digest()


def _current(what: str) -> Durable:
    job = context.get_current_job()
    if job is None or job.durable is None:
        where = "outside of a job" if job is None else f"in job {job.id} ({job.task}), whose task is not durable"
        raise NotDurable(f"{what} was called {where}; it is for tasks with @task(durable=True)")
    durable: Durable = job.durable
    return durable


def _reference(value: Any) -> tuple[UUID, str]:
    if isinstance(value, Future):
        return value.job_id, value.task
    if isinstance(value, Job):
        return value.id, value.task
    raise InvalidArguments(f"only a Future can be waited for, not {type(value).__name__}")


def _name_of(fn: Any) -> str:
    plain = getattr(fn, "func", fn)
    return f"{getattr(plain, '__module__', '?')}.{getattr(plain, '__qualname__', type(plain).__qualname__)}"


def step(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a plain function once and keep its value, which must be JSON; a replay gets the value.

    It is kept before the task goes on. A death between the function's end and that moment runs it again, so it is done
    at least once; an error it raises is the task's, and is not kept. Raises NotDurable elsewhere.
    """
    durable = _current("step()")
    if hasattr(type(fn), "enqueue"):
        raise UsageError(f"step() runs a plain function; call the task {fn!r} itself, and result() of what that gives")
    try:
        encoded = codec.encode([list(args), dict(kwargs)], limit=2**31)
    except NotSerializable:  # such arguments are told apart by their kinds alone
        digest = _digest([type(each).__qualname__ for each in (*args, *kwargs.values())])
    else:
        if encoded.refs:
            raise UsageError(f"the step {_name_of(fn)} was given a Future; give it the future's result()")
        digest = _digest(encoded.json)
    value: R = durable.once("step", _name_of(fn), digest, lambda: fn(*args, **kwargs))
    return value


def sleep(
    seconds: float | timedelta = 0, *, minutes: float = 0, hours: float = 0, days: float = 0, weeks: float = 0
) -> None:
    """Wait without a thread, by the database's clock and across restarts, from the first time the call is made."""
    given = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    wait = (given + timedelta(minutes=minutes, hours=hours, days=days, weeks=weeks)).total_seconds()
    durable = _current("sleep()")
    durable.sleep(_seconds("sleep", wait))


def wait_signal(name: str, timeout: float | timedelta | None = None) -> Any:
    """The payload of the next ``fc.signal(job_id, name, payload)``, also of one that was sent before.

    Raises SignalTimeout if none has come after ``timeout`` seconds.
    """
    durable = _current("wait_signal()")
    return durable.signal(name, None if timeout is None else _seconds("timeout", timeout))


def gather(*futures: Any, timeout: float | timedelta | None = None) -> list[Any]:
    """The values of all futures, in their order, once all have ended; of failures the first in that order is raised."""
    durable = _current("gather()")
    limit = None if timeout is None else _seconds("timeout", timeout)
    ways = [each.way if isinstance(each, Future) else None for each in futures]
    return durable.result([_reference(each) for each in futures], limit, ways) if futures else []


def as_completed(*futures: Any) -> Iterator[Any]:
    """The futures in the order in which their jobs end, each as soon as it has: ``for f in as_completed(*fs)``."""
    durable = _current("as_completed()")
    return _in_order(durable, list({_reference(each): each for each in futures}.items()))


def _in_order(durable: Durable, left: list[tuple[tuple[UUID, str], Any]]) -> Iterator[Any]:
    while left:
        ended = durable.first([reference for reference, _ in left])
        at = next(number for number, (reference, _) in enumerate(left) if reference[0] == ended)
        yield left.pop(at)[1]


def now() -> datetime:
    """The time, in UTC; a replay gets the same."""
    durable = _current("now()")
    return datetime.fromtimestamp(durable.once("value", "now", "", durable.now), timezone.utc)


def uuid() -> UUID:
    """A random UUID; a replay gets the same."""
    return UUID(_current("uuid()").once("value", "uuid", "", lambda: str(_uuid.uuid4())))


def random() -> float:
    """A random number from 0 to 1; a replay gets the same."""
    drawn: float = _current("random()").once("value", "random", "", _random.random)
    return drawn


def _seconds(what: str, value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidArguments(
            f"{what} must be a number of seconds that is not negative, or a timedelta, got {value!r}"
        )
    return float(seconds)
