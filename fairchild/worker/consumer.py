"""Claiming jobs by hand: ``with fairchild.claim(["mail"]) as jobs``, for programs that are their own worker.

A consumer is a session like a worker's, with the same fence and the same rescue: it beats in a thread of its own for as
long as its process lives and its client is connected, so jobs may be held for any time; when the process dies, the
others see the beat stand still, and what it held becomes available again with no attempt spent. It watches the others
in return, so consumers alone need no worker beside them. One session serves all claims of a client with the same
``lease``: a loop of claims costs a look and a claim each, and a look alone while there is nothing.

Jobs that were held in a death of their worker (db/lease.py) run alone, so a consumer holds one of those by itself: what
came with it is given back, and while it is held nothing else is claimed.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from fairchild import clock, codec
from fairchild.client import Fairchild
from fairchild.context import CurrentJob
from fairchild.db import lease as sessions
from fairchild.db import stacks as stored_stacks
from fairchild.db.claim import Claimed, Lane, claim, find_claim, look, promote_due
from fairchild.db.connect import REPLY_LOST, Link, retrying
from fairchild.db.control import finish_and_delete
from fairchild.db.finish import Applied, Ended, finish
from fairchild.errors import LeaseLost, StoreError, UsageError
from fairchild.job import Job, JobState
from fairchild.loop import Loop
from fairchild.record import Cancel, Discard, Retry, Snooze
from fairchild.tasks import Task, TaskOptions, check_text
from fairchild.upkeep.observer import Observer
from fairchild.worker import stacks
from fairchild.worker.attempt import Attempt, Values
from fairchild.worker.claimer import PRIORITIES, SWEEP_SECONDS, with_values
from fairchild.worker.notes import Notebook, Notes
from fairchild.worker.worker import FENCED_AFTER, new_session, own_name

MAX_LIMIT = 500
AGAIN_SECONDS = 5.0
"""When jobs are tried again whose block was left by an error: at once would be a circle that never rests."""
FIRST_PAUSE = 0.02
LAST_PAUSE = 0.5
_DONE = {"ready": JobState.AVAILABLE, "due": JobState.SCHEDULED, "waiting": JobState.WAITING}

log = logging.getLogger("fairchild.worker")


@dataclass(eq=False)
class HeldJob(CurrentJob):
    """A job held by ``claim()`` until one of its methods ends it, or its block is left.

    ``args`` are as stored, in JSON's types, with the values of other jobs in their places. ``timeout`` is not enforced:
    ``check()`` and ``time_left`` tell of it. Each method that ends the job raises LeaseLost (a ``BaseException``, so
    that ``except Exception`` lets it pass) if the job belongs to somebody else by now, with nothing overwritten;
    UsageError if it has ended already; StoreError if the database cannot be reached, and then it is still held.
    """

    _attempt: HeldAttempt | None = field(default=None, repr=False)

    @property
    def held(self) -> bool:
        """Whether nothing has ended it yet."""
        return not self._its().ended

    def complete(self, result: Any = None) -> None:
        """End it as completed, with this value. Raises NotSerializable, and it is still held."""
        attempt = self._its()
        encoded = codec.encode(result, limit=self.max_payload_bytes, root="result")
        attempt.end(lambda: attempt.complete(encoded))

    def fail(self, error: BaseException | str) -> None:
        """End the attempt by an error: again after the backoff, or failed for good, as its task says.

        A task that is not registered here has the usual backoff. A text stands for an error of no particular type.
        """
        self._end_by(Retry(error) if isinstance(error, str) else error)

    def discard(self, reason: str = "discarded") -> None:
        """End it as failed: trying again is useless."""
        self._end_by(Discard(reason))

    def release(self) -> None:
        """Give it back: available at once, no attempt spent."""
        attempt = self._its()
        attempt.end(attempt.give_back)

    def snooze(self, delay: float | None = None, **parts: float) -> None:
        """Give it back for later; no attempt spent. Seconds, or as in ``Snooze(minutes=5)``."""
        self._end_by(Snooze(delay, **parts))

    def retry(self, delay: float | None = None) -> Job:
        """Spend the attempt and try again after ``delay`` seconds (None: by the backoff), if attempts are left."""
        self._end_by(Retry(delay=delay))
        return self

    def cancel(self, reason: str = "cancelled") -> Job:
        """End it as cancelled."""
        self._end_by(Cancel(reason))
        return self

    def delete(self) -> None:
        """End it without a trace: its row is deleted. To jobs that wait for it, it was cancelled."""
        attempt = self._its()
        attempt.end(lambda: attempt.failed(attempt.task, Cancel("deleted")), finish_and_delete)

    def check(self) -> None:
        """As in a task; raises LeaseLost also when this process has lost touch with the database for too long."""
        if self._its().consumer.out_of_touch:
            raise LeaseLost(f"job {self.id}: no beat was acknowledged for so long that others may run it by now")
        super().check()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked for it to stop, or it is lost."""
        return super().cancelled or self._its().consumer.out_of_touch

    def _end_by(self, error: BaseException) -> None:
        attempt = self._its()
        attempt.end(lambda: attempt.failed(attempt.task, error))

    def _its(self) -> HeldAttempt:
        assert self._attempt is not None
        return self._attempt


Write = Callable[[Link, Ended], Applied]


def _finish(link: Link, ended: Ended) -> Applied:
    return finish(link, [ended])


class HeldAttempt(Attempt):
    """An attempt whose task is the block of a ``with`` statement."""

    job_type = HeldJob

    def __init__(self, claimed: Claimed, values: Values, consumer: Consumer) -> None:
        super().__init__(claimed, values, consumer.client, consumer.name)
        self.consumer = consumer
        self.task = consumer.task(claimed.task)
        self.notes = Notes(consumer.notebook, claimed)
        self._started = time.monotonic()
        self._turn = threading.Lock()

    def load(self) -> Ended | None:
        """Make its arguments ready; the outcome if they cannot be had."""
        if self.claimed.expired:
            return self.expired()
        try:
            self._load(self._started)
        except Exception as error:  # noqa: BLE001 - a row that cannot be read fails alone
            return self._unfit(error)
        return None

    def held_job(self) -> HeldJob:
        """The job as its block sees it."""
        job = self.current()
        assert isinstance(job, HeldJob)
        job._attempt = self
        return job

    def complete(self, encoded: codec.Encoded) -> Ended:
        """The outcome of one that has this result."""
        return self._completed(encoded.json, encoded.refs, self._close())

    def end(self, outcome: Callable[[], Ended], write: Write = _finish) -> None:
        """Record an outcome. Raises as HeldJob says."""
        job = self.current()
        with self._turn:
            if self.ended:
                raise UsageError(f"job {job.id} has been ended already ({job.state}); nothing was changed")
            ended = self._closed(self.task, outcome(), self._started)
            if self._unit is not None:
                ended = self._end_unit(self.task, self._unit, ended)
                self._unit = None
            applied = self.applied or retrying(lambda: self.consumer.write(ended, write))
            self.ended = True
            self.consumer.let_go(self)
        job.state = _DONE.get(ended.state) or JobState(ended.state)
        if applied.stopped:
            job.state = JobState.CANCELLED
        why = applied.lost.get(job.id, "already")
        if why != "already" and not (write is finish_and_delete and why == "missing"):
            raise LeaseLost(
                f"job {job.id} ({job.task}) belongs to another attempt by now ({why}): what this one came to was "
                "dropped and nothing was overwritten"
            )

    def leave(self, error: BaseException | None) -> None:
        """Its block was left with the job still held: give it back; no attempt is spent."""
        if error is None or not isinstance(error, Exception):
            ended = self.give_back()
        else:
            text = f"its consumer gave it back: {type(error).__name__}: {error}"
            ended = self.put_off(text, AGAIN_SECONDS)
        try:
            self.end(lambda: ended)
        except (LeaseLost, UsageError):
            pass  # somebody else has it, which is what was wanted; or another thread has just ended it
        except StoreError as failed:
            log.warning("job %s cannot be given back now (%s); that is tried again", self.claimed.job_id, failed)
            self.ended = True
            self.consumer.write_later(ended)


class Consumer:
    """One session of a client that claims by hand, and the threads that keep it alive. Any thread may claim."""

    def __init__(self, client: Fairchild, lease: float) -> None:
        self.client = client
        self.lease = lease
        self.name = own_name()
        self.session: UUID | None = None
        self._interval = min(5.0, lease / 6)
        self._heart: Link | None = None
        self._lock = threading.Lock()
        self._held: dict[UUID, HeldAttempt] = {}
        self._late: list[Ended] = []
        self._doubtful: list[UUID] = []
        self._floors: dict[tuple[str, int], int] = {}
        self._next_sweep = 0.0
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._acknowledged = clock.now()
        self._observer = Observer(uuid4(), self._interval)
        self.notebook = Notebook(client.database)
        self._beating = Loop("heartbeat", self._beat, max_pause=min(1.0, self._interval))
        self._observing = Loop("observer", self._observe)
        self._pid = os.getpid()
        self._enter()
        self.notebook.start()
        self._beating.start()
        self._observing.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Give back what is held, and end the session."""
        atexit.unregister(self.close)
        if self._pid != os.getpid():
            return  # of the parent of this process
        for attempt in self._holding():
            attempt.leave(None)
        self.notebook.end()
        self.notebook.join(5.0)
        self._observing.stop()
        self._beating.stop()
        self._observing.join(5.0)
        self._beating.join(5.0)
        if self._heart is not None:
            self._heart.connection.close()
        if self.session is not None and not self.out_of_touch:
            with suppress(StoreError), self.client.database.link() as link:
                sessions.set_state(link, self.session, "stopped")

    @property
    def out_of_touch(self) -> bool:
        """Whether no beat was acknowledged for so long that others may take over."""
        return clock.now() - self._acknowledged >= FENCED_AFTER * self.lease

    @property
    def usable(self) -> bool:
        """Whether it belongs to this process and lives."""
        return self._pid == os.getpid() and self._beating.alive() and not self._beating.stopping

    def task(self, name: str) -> Task[Any, Any]:
        """The task of this name; one that says nothing in particular if it is not registered here."""
        found = self.client.registry.find(name)
        if found is None:
            found = self._tasks.get(name) or self._tasks.setdefault(name, Task(lambda: None, name, TaskOptions()))
        return found

    def claim(self, queues: list[str] | None, tasks: list[str] | None, limit: int) -> list[HeldAttempt]:
        """Up to ``limit`` jobs, each now held; none if there are none. Raises StoreError."""
        with self.client.database.link() as link:
            self._catch_up(link)
            with self._lock:
                alone = any(each.claimed.losses for each in self._held.values())
            if alone or self.session is None or self.out_of_touch:
                return []
            found, left = look(link, queues)
            if left is not None and left <= 0:
                promote_due(link, limit)
                found, _ = look(link, queues)
            rows = self._claim(link, found, tasks, limit) if found else []
            return self._held_of(link, rows) if rows else []

    def _claim(self, link: Link, queues: list[str], tasks: list[str] | None, limit: int) -> list[Claimed]:
        random.shuffle(queues)
        now = time.monotonic()
        if now < self._next_sweep:
            return self._claim_behind(link, queues, tasks, limit, self._floors)
        self._next_sweep = now + SWEEP_SECONDS
        return self._claim_behind(link, queues, tasks, limit, {})

    def _claim_behind(
        self,
        link: Link,
        queues: list[str],
        tasks: list[str] | None,
        limit: int,
        floors: dict[tuple[str, int], int],
    ) -> list[Claimed]:
        lanes = [
            Lane(queue, priority, floors.get((queue, priority), 0))
            for priority in range(PRIORITIES)
            for queue in queues
        ]
        session, claim_id = self.session, uuid4()
        if session is None:
            return []
        try:
            rows = claim(link, lanes=lanes, tasks=tasks, room=limit, claim_id=claim_id, session=session)
        except REPLY_LOST:
            self._doubtful.append(claim_id)
            raise
        for row in rows:
            lane = (row.queue, row.priority)
            self._floors[lane] = max(row.fence, self._floors.get(lane, 0))
        return rows

    def _held_of(self, link: Link, rows: list[Claimed]) -> list[HeldAttempt]:
        try:
            limit = self.client.config.default_timeout
            found = [HeldAttempt(row, values, self) for row, values in with_values(link, rows, limit)]
        except BaseException:  # nobody has heard of them: they go back with the next beat
            self._late.extend(Ended(row.job_id, row.claim_id, "ready", spent=False) for row in rows)
            raise
        kept: list[HeldAttempt] = []
        back: list[Ended] = []
        suspect = next((each for each in found if each.claimed.losses), None)
        with self._lock:
            for attempt in found:
                if suspect is not None and attempt is not suspect:
                    back.append(attempt.give_back())
                elif suspect is not None and self._held:
                    back.append(attempt.put_off("it is to run alone, and other jobs run here", AGAIN_SECONDS))
                elif (outcome := attempt.load()) is not None:
                    back.append(outcome)
                else:
                    kept.append(attempt)
                    self._held[attempt.claimed.job_id] = attempt
        if back:
            self._late.extend(back)
            self._catch_up(link)
        return kept

    def write(self, ended: Ended, write: Write) -> Applied:
        """Record one outcome."""
        self.notebook.flush()
        with self.client.database.link() as link:
            applied = write(link, ended)
        self.client.jobs_ended()
        if applied.promoted:
            self.client.wake_workers()
        return applied

    def write_later(self, ended: Ended) -> None:
        """Record an outcome as soon as the database can be reached."""
        self._late.append(ended)
        self._beating.wake()

    def let_go(self, attempt: HeldAttempt) -> None:
        """It is not held any more."""
        with self._lock:
            if self._held.get(attempt.claimed.job_id) is attempt:
                del self._held[attempt.claimed.job_id]

    def _holding(self) -> list[HeldAttempt]:
        with self._lock:
            return list(self._held.values())

    def _catch_up(self, link: Link) -> None:
        """What could not be written before, and what a claim took whose reply was lost."""
        while self._doubtful:
            claim_id = self._doubtful[0]
            self._late.extend(Ended(job_id, claim_id, "ready", spent=False) for job_id in find_claim(link, claim_id))
            self._doubtful.pop(0)
        with self._lock:
            batch, self._late = self._late, []
        if batch:
            try:
                finish(link, batch)
            except BaseException:
                with self._lock:
                    self._late = batch + self._late
                raise

    def _enter(self) -> None:
        sent = clock.now()
        session = new_session(self.name, None, 0, self.lease, [], kind="consumer")
        with self.client.database.link() as link:
            sessions.open_session(link, session)
        self._acknowledged = sent
        self.session = self._observer.own = session.id

    def _beat(self) -> float:
        if self._heart is None or self._heart.connection.closed:
            self._heart = self.client.database.open("heartbeat")
        try:
            self._beat_once(self._heart)
        except BaseException:
            self._heart.connection.close()
            raise
        return self._interval

    def _beat_once(self, link: Link) -> None:
        if self.session is None:
            return self._enter()
        sent = clock.now()
        heard = sessions.beat(link, self.session)
        if heard is None:
            self.session = None
            log.warning(
                "the consumer %s was taken for dead (no beat for %.1f s); the jobs it held run elsewhere, it goes on "
                "under a new session",
                self.name, self.lease / 2,
            )  # fmt: skip
            for attempt in self._holding():
                attempt.interrupt("lost", f"job {attempt.claimed.job_id} belongs to another worker by now")
                self.let_go(attempt)
            return self._enter()
        self._acknowledged = sent
        if heard.stacks:  # which thread works on which job, only the program knows
            stored_stacks.answer(link, self.session, stacks.take([]))
        for job_id, claim_id, reason in sessions.asked(link, self.session):
            with self._lock:
                held = self._held.get(job_id)
            if held is not None and held.claimed.claim_id == claim_id:
                held.interrupt("cancelled", reason)
        self._catch_up(link)
        return None

    def _observe(self) -> float:
        with self.client.database.link() as link:
            self._observer.look(link)
        return self._interval


@contextmanager
def claiming(
    consumer: Consumer,
    queues: Iterable[str] | str | None,
    tasks: Iterable[Task[Any, Any] | str] | None,
    limit: int,
    wait: float,
) -> Iterator[list[HeldJob]]:
    """What ``Fairchild.claim`` gives: the jobs, of which those still held at the block's end are given back."""
    named = None if queues is None else [check_text("queue", each) for each in _listed(queues)]
    known = None
    if tasks is not None:
        known = [each.name if isinstance(each, Task) else check_text("task", each) for each in _listed(tasks)]
    if not 1 <= limit <= MAX_LIMIT or wait < 0 or named == [] or known == []:
        raise UsageError(
            f"limit is a number from 1 to {MAX_LIMIT}, wait is not negative, and queues and tasks are left out or name "
            f"some; got limit={limit!r}, wait={wait!r}, queues={queues!r}, tasks={tasks!r}"
        )
    deadline = time.monotonic() + wait
    pause = FIRST_PAUSE
    while not (held := consumer.claim(named, known, limit)):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, pause * random.uniform(0.8, 1.2)))
        pause = min(pause * 1.5, LAST_PAUSE)
    error: BaseException | None = None
    try:
        yield [attempt.held_job() for attempt in held]
    except BaseException as raised:
        error = raised
        raise
    finally:
        for attempt in held:
            if not attempt.ended:
                attempt.leave(error)


def _listed(names: Any) -> list[Any]:
    return [names] if isinstance(names, (str, Task)) else list(names)
