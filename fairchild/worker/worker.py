"""One process's worker: its threads, and the order in which they start and stop.

    claimer --attempts--> runner threads --outcomes--> finisher
       ^ woken by the listener, by runners with room, by what this process enqueues
    heartbeat: beats, hears cancellations                observer: watches the other workers, does the upkeep
    fence: stops the jobs in time when no beat is heard

Stopping: claiming first, then what was claimed and not started goes back, then running jobs end in their time, then
they are asked to stop, then they are given back (fenced: whatever they still come to is dropped), then the finisher
writes what is left. The heartbeat ends last, so that the lease holds for as long as anything runs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec

from fairchild import __version__, clock
from fairchild.context import refuse_while_importing
from fairchild.db import history, journal, lease, redactions, workers
from fairchild.db import stacks as stored_stacks
from fairchild.db.connect import Link
from fairchild.db.finish import Applied, Ended
from fairchild.db.wake import channel
from fairchild.db.workers import WorkerState
from fairchild.errors import StoreError, UsageError
from fairchild.events import emit
from fairchild.loop import MAX_PAUSE, Loop
from fairchild.tasks import check_text
from fairchild.upkeep.observer import LOOKS_A_BEAT, Observer
from fairchild.worker import stacks
from fairchild.worker.claimer import Claimer
from fairchild.worker.finisher import Finisher
from fairchild.worker.isolated import Children
from fairchild.worker.listener import Listener
from fairchild.worker.notes import Notebook
from fairchild.worker.pool import Pool
from fairchild.worker.reporter import Reporter
from fairchild.worker.vitals import Vitals

if TYPE_CHECKING:
    from fairchild.client import Fairchild

log = logging.getLogger("fairchild.worker")

ASK_SECONDS = 0.8
"""What interrupts get to end the jobs that run past the grace; with all the rest it is to end within two seconds."""
JOIN_SECONDS = 0.1
"""For threads of a pool in which some do not stop: those that do need no longer."""
LISTEN_PAUSE = 5.0  # where listening is refused, and not only now: nothing depends on it
MAX_CONCURRENCY = 1000
FENCED_AFTER = 0.45
"""Of the lease, without a beat that was acknowledged; after half of it the others may take over."""
FENCE_LOOKS = 40
"""In a lease."""
SILENT_AFTER = 60.0
STOPPED = "its worker was stopped"
CUT_SECONDS = 1.2
"""What a stop that is cut short may still take, and a little more."""
Queues = Mapping[str, "int | None"] | Sequence[str] | None


class Worker:
    """Runs jobs in threads of this process.

    ``queues``: names, or ``{name: slots}``; None is every queue with jobs whose task is registered here.
    ``concurrency``: how many jobs run at once. ``lease``: seconds; a worker that has not beaten for half of it is
    taken for dead by the others and its jobs run elsewhere. ``shutdown_timeout``: seconds that running jobs get to end.
    ``max_stuck``: how many threads may be stuck in jobs that do not stop before the process should be replaced
    (default: half of them).
    """

    def __init__(
        self,
        client: Fairchild,
        queues: Queues = None,
        concurrency: int = 10,
        *,
        name: str | None = None,
        lease: float = 30.0,
        heartbeat_interval: float | None = None,
        poll_interval: float = 1.0,
        shutdown_timeout: float = 30.0,
        max_stuck: int | None = None,
    ) -> None:
        self._queues = parse_queues(queues)
        if not 1 <= concurrency <= MAX_CONCURRENCY or concurrency != int(concurrency):
            raise UsageError(f"concurrency is a whole number from 1 to {MAX_CONCURRENCY}, got {concurrency!r}")
        self.heartbeat_interval = min(5.0, lease / 6) if heartbeat_interval is None else heartbeat_interval
        self.look_interval = self.heartbeat_interval / LOOKS_A_BEAT
        if not 0 < self.heartbeat_interval <= lease / 4:
            raise UsageError(
                f"heartbeat_interval ({self.heartbeat_interval} s) must be positive and at most a quarter of the lease "
                f"({lease} s): a worker that misses two beats must not be taken for dead"
            )
        if poll_interval <= 0 or shutdown_timeout < 0:
            raise UsageError("poll_interval must be positive and shutdown_timeout not negative")
        self.client = client
        self.concurrency = concurrency
        self.lease = lease
        self.shutdown_timeout = shutdown_timeout
        if max_stuck is not None and max_stuck < 0:
            raise UsageError(f"max_stuck must not be negative, got {max_stuck!r}")
        self.max_stuck = max(1, concurrency // 2) if max_stuck is None else max_stuck
        self._given_name = None if name is None else check_text("worker name", name)
        self.name = self._given_name or own_name()
        self._poll_interval = poll_interval
        self._state = threading.Lock()
        self._counting = threading.Lock()
        self._started = False
        self._cut_at: float | None = None
        self.flushed = True
        """Whether the last stop could record what became of all jobs; the others find what it could not, and run it."""
        self.asked_to_stop = False
        """Whether somebody has stopped it through the database."""
        self.session: UUID | None = None
        self.counts = {"completed": 0, "failed": 0, "cancelled": 0, "lost": 0}

    def number(self, slot: int) -> None:
        """Be one of several workers of a given name."""
        if self._given_name is not None:
            self._given_name = f"{self._given_name}.{slot}"

    # Starting and stopping

    def start(self) -> Worker:
        """Enter a session and start the threads. Raises StoreError if the tables are not there."""
        refuse_while_importing("work")
        with self._state:
            if self._started:
                raise UsageError(f"worker {self.name} has been started already")
            if not len(self.client.registry):
                raise UsageError("no task is registered: import the modules that define them before starting a worker")
            self.name = self._given_name or own_name()
            database = self.client.database
            self._cut_at = None
            self.flushed = True
            self.asked_to_stop = False
            self._draining = Loop("drain", self._drain)
            self._answering = Loop("stacks", self._answer)
            self._heart: Link | None = None
            self._vitals = Vitals()
            self._finisher = Finisher(database, self._applied)
            self._pool = Pool(self.concurrency, self.client.registry, self._finisher.put)
            self._pool.children = Children(self.client)
            self._finisher.pool = self._pool
            self._notebook = self._pool.notebook = Notebook(database)
            self._claimer = Claimer(
                database,
                self._pool,
                self._finisher,
                self.client.registry,
                self.client,
                worker=self.name,
                queues=self._queues,
                poll_interval=self._poll_interval,
            )
            self._claiming = Loop("claimer", self._claimer.step)
            self._pool.on_room = self._room
            self._pool.on_recorded = self._applied
            self._reporter = Reporter(self.client.hooks)
            self._pool.on_started = self._reporter.started
            self._fencing = Loop("fence", self._fence)
            self._beating = Loop("heartbeat", self._beat, max_pause=min(MAX_PAUSE, self.heartbeat_interval))
            self._listener = Listener(
                database, channel(database.schema), self._hear, self._beating.wake, self._signalled
            )
            self._listening = Loop("listener", self._listener.step, max_pause=LISTEN_PAUSE)
            self._observer = Observer(uuid4(), self.look_interval)
            self._observing = Loop("observer", self._observe)
            database.hurry(
                self.heartbeat_interval
            )  # after an outage it must beat before others have looked three times
            self._heart = self._open_heart()
            try:
                self._open_session()
            except BaseException:
                self._heart.connection.close()
                raise
            self._vitals.start()
            self._finisher.start()
            self._notebook.start()
            self._pool.start()
            self._beating.start()
            self._fencing.start()
            self._observing.start()
            self._claiming.start()
            if database.config.pooler is not True:  # said, not found out: then the listener tries
                self._listening.start()
            self.client.add_wake(self.wake)
            self._started = True
        log.info(
            "worker %s runs %d jobs at once from %s",
            self.name, self.concurrency, ", ".join(self._queues) if self._queues else "all queues",
        )  # fmt: skip
        return self

    def stop(self, timeout: float | None = None, *, cancel: bool = False) -> bool:
        """Stop claiming, let running jobs end for up to ``timeout`` seconds, give back the rest; whether all ended.

        ``cancel``: what runs after that is cancelled instead of given back to be run by others.
        """
        with self._state:
            if not self._started:
                return True
            self._started = False
            ended = self._stop(self.shutdown_timeout if timeout is None else timeout, cancel)
        log.info("worker %s has stopped", self.name)
        return ended

    def _stop(self, limit: float, cancel: bool) -> bool:
        self.client.remove_wake(self.wake)
        self._claiming.stop()
        self._observing.stop()
        self._listening.stop()
        self._listener.interrupt()
        telling = self._tell("draining")
        if self._within(3.0, self._claiming.join):
            self._claimer.give_back()
            self._claimer.close()
        for attempt in self._pool.take_back():
            self._finisher.put(attempt.give_back())
        ended = self._pool.wait_idle(limit, self._is_cut)
        if not ended:
            ended = self._interrupt(cancel)
        self._pool.stop(5.0 if ended else JOIN_SECONDS)
        self._finisher.end()
        self.flushed = self._within(10.0, self._finisher.join)
        if not self.flushed:
            self._finisher.give_up()
            self._within(1.0, self._finisher.join)
        self._notebook.end()
        self._within(2.0, self._notebook.join)
        self._reporter.stop()
        self._within(2.0, self._reporter.join)
        self._within(5.0, self._observing.join)
        self._write_last_tally()
        # Only then: to a heart that still beats a session that has stopped would look like one declared dead.
        self._beating.stop()
        self._fencing.stop()
        self._within(5.0, self._beating.join)
        self._within(5.0, self._fencing.join)
        self._vitals.stop()
        self._within(2.0, self._answering.join)
        if self._heart is not None:
            self._heart.connection.close()
        if self._within(5.0, telling.join):
            self._within(5.0, self._tell("stopped").join)
        if self._within(5.0, self._listening.join):
            self._listener.close()
        return ended

    def _within(self, seconds: float, ended: Callable[[float], bool]) -> bool:
        """Whether ``ended(for so many seconds)`` comes true in time.

        A tenth of that must do where it is the database that does not answer, and next to nothing when the stop is cut
        short.
        """
        began = time.monotonic()
        while True:
            end = began + (seconds if self._in_touch() else seconds / 10)
            if self._cut_at is not None:
                end = min(end, self._cut_at + CUT_SECONDS)
            left = end - time.monotonic()
            if ended(max(0.0, min(left, 0.1))):
                return True
            if left <= 0:
                return False

    def quit(self) -> None:
        """Cut a ``stop()`` short: running jobs are given back now. Only sets a flag: signal handlers call it."""
        if self._cut_at is None:
            self._cut_at = time.monotonic()

    def _is_cut(self) -> bool:
        return self._cut_at is not None

    def _interrupt(self, cancel: bool) -> bool:
        """Ask what still runs to stop; give back, or cancel, what does not."""
        for attempt in self._pool.unfinished():
            attempt.interrupt(
                "cancelled" if cancel else "interrupted", STOPPED if cancel else "the worker is shutting down"
            )
        if not self._is_cut() and self._pool.wait_idle(ASK_SECONDS, self._is_cut):
            return True
        left = self._pool.release()
        for attempt in left:
            if cancel:
                self._finisher.put(attempt.cancelled(STOPPED))
            else:
                self._finisher.put(attempt.give_back("the worker shut down while the job ran"))
            log.warning(
                "job %s (%s) still ran at shutdown; it was %s",
                attempt.claimed.job_id, attempt.claimed.task,
                "cancelled" if cancel else "given back and no attempt was spent",
            )  # fmt: skip
        return not left

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What its threads report

    def wake(self) -> None:
        """Something may have become available: look now."""
        self._claimer.woken()
        self._claiming.wake()

    def _hear(self) -> None:
        """Another process made something available. Whoever hears it claims: a way to another thread takes as long."""
        self._claimer.woken()
        self._claiming.take()

    def _signalled(self) -> None:
        """A signal was sent in somebody's transaction. It is committed now, and whoever waits for it may be woken."""
        with self.client.database.link() as link:
            if journal.sweep(link):
                self.wake()

    def _room(self) -> None:
        if self._pool.wants_more():
            self._claiming.wake()

    @property
    def alive(self) -> bool:
        """Whether it has been started and all its loops are running."""
        return self._started and self._claiming.alive() and self._beating.alive() and self._finisher.alive()

    def health(self) -> dict[str, dict[str, Any]]:
        """What works and what does not: ``{check: {"ok": bool, "detail": text}}``."""
        if not self._started:
            return {"loops": {"ok": False, "detail": "not started"}}
        silent = clock.now() - self._acknowledged
        since = time.monotonic() - self._claimer.last_round
        resting = self._claimer.paused
        return {
            "loops": {"ok": self.alive, "detail": "running" if self.alive else "a loop has ended"},
            "beats": {"ok": silent < self.lease / 2, "detail": f"the last was acknowledged {silent:.1f} s ago"},
            "claims": {
                "ok": resting or since < SILENT_AFTER,
                "detail": "paused" if resting else f"the last look for jobs succeeded {since:.1f} s ago",
            },
            "threads": {"ok": not self.worn_out, "detail": f"{self._pool.stuck} of {self.concurrency} are stuck"},
        }

    def signs_of_life(self) -> dict[str, dict[str, Any]]:
        """Whether its loops are there and move, whatever the database does; in the form of ``health()``."""
        if not self._started:
            return {"loops": {"ok": self.asked_to_stop, "detail": "stopping" if self.asked_to_stop else "not started"}}
        still = time.monotonic() - min(self._beating.moved, self._fencing.moved, self._observing.moved)
        moves = still < self.lease + SILENT_AFTER
        return {
            "loops": {"ok": self.alive and moves, "detail": f"the slowest moved {still:.1f} s ago"},
            "threads": self.health()["threads"],
        }

    @property
    def healthy(self) -> bool:
        """Whether all checks of ``health()`` are good."""
        return all(check["ok"] for check in self.health().values())

    @property
    def silent_for(self) -> float:
        """Seconds since it last looked for jobs with success; 0 while it is paused."""
        return 0.0 if self._claimer.paused else time.monotonic() - self._claimer.last_round

    @property
    def worn_out(self) -> bool:
        """Whether more threads are stuck than may be: only another process can be rid of them."""
        return self._started and self._pool.stuck > self.max_stuck

    @property
    def statements(self) -> int:
        """Statements issued on the claim and finish paths so far."""
        return self._claimer.statements + self._finisher.statements

    def _applied(self, batch: list[Ended], applied: Applied) -> None:
        with self._counting:
            self._count(batch, applied)
        for job_id, why in applied.lost.items():
            if why != "already":
                log.warning(
                    "job %s: this worker's attempt had lost its claim (%s); its outcome was dropped and nothing was "
                    "overwritten",
                    job_id, why,
                )  # fmt: skip
        done = self._pool.recorded(batch)
        self._reporter.recorded(done, applied)
        if applied.promoted:
            self.wake()
        self.client.jobs_ended()

    def _count(self, batch: list[Ended], applied: Applied) -> None:
        for ended in batch:
            state = "cancelled" if applied.stopped and ended.job_id in applied.stopped else ended.state
            if state in self.counts and not (applied.lost and ended.job_id in applied.lost):
                self.counts[state] += 1
        self.counts["lost"] += len(applied.lost)

    def _open_session(self) -> None:
        schemas = self.client.registry.get_task_schemas()
        queues = None if self._queues is None else list(self._queues)
        slots = {name: number for name, number in (self._queues or {}).items() if number is not None}
        session = new_session(self.name, queues, self.concurrency, self.lease, schemas, kind="worker", slots=slots)
        with self.client.database.link() as link:
            hidden = {row for task in self.client.registry.tasks() for row in task.redactions}
            if hidden:
                redactions.add_redactions(link, hidden)
                link.told |= hidden
            lease.open_session(link, session)
            if self._claimer.paused:  # in the session before, which was declared dead
                workers.change_state(link, [str(session.id)], WorkerState.PAUSED)
        self._acknowledged = self._fence_looked = clock.now()
        self.session = self._claimer.session = self._observer.own = session.id

    def _open_heart(self) -> Link:
        """It waits for no lock for longer than until the next beat but one."""
        return self.client.database.open("heartbeat", tuned=True, lock_timeout=self.heartbeat_interval / 2)

    def _beat(self) -> float:
        started = time.monotonic()
        if self._heart is None or self._heart.connection.closed:
            self._heart = self._open_heart()
        try:
            self._beat_once(self._heart)
        except BaseException:
            self._heart.connection.close()
            raise
        return max(0.0, self.heartbeat_interval - (time.monotonic() - started))

    def _beat_once(self, link: Link) -> None:
        assert self.session is not None
        sent = clock.now()
        heard = lease.beat(link, self.session, self._vitals.take())
        self._acknowledged = sent
        if heard is None:
            self._declared_dead()
        self._unfence()
        if heard is None:
            return
        if heard.stacks and not self._answering.alive():
            self._answering.start()
        self._obey(heard.state)
        for job_id, claim_id, reason in lease.asked(link, self.session):
            attempt = self._pool.find(job_id, claim_id)
            if attempt is not None:
                attempt.interrupt("cancelled", reason)

    def _obey(self, state: str) -> None:
        """What somebody has asked for through the database: to pause, to go on, to stop."""
        paused = state == "paused"
        if paused != self._claimer.paused:
            self._claimer.paused = paused
            log.info("worker %s %s", self.name, "is paused and takes no more jobs" if paused else "takes jobs again")
            if paused:
                for attempt in self._pool.take_back():
                    self._finisher.put(attempt.give_back())
            else:
                self.wake()
        if state == "draining" and self._started and not self.asked_to_stop:
            log.info("worker %s was asked to stop", self.name)
            self.asked_to_stop = True
            self._draining.start()

    def _drain(self) -> None:
        self._draining.stop()  # once
        self.stop()

    def _answer(self) -> None:
        """Say where the threads are. Not by the heart's own: children may take a second to answer."""
        self._answering.stop()  # once; asked for again with the next beat if it fails
        threads = stacks.take(self._pool.unfinished())
        with self.client.database.link() as link:
            if self.session is not None:
                stored_stacks.answer(link, self.session, threads)

    def _fence(self) -> float:
        """Stop in time what others may be about to start: no beat of ours has been acknowledged for too long."""
        interval = self.lease / FENCE_LOOKS
        now = clock.now()
        awake, self._fence_looked = now - self._fence_looked < 3 * interval, now
        silent = now - self._acknowledged
        # Who has just woken up asks first whether it is still taken for alive: the heart beats at this moment, too.
        if awake and silent >= FENCED_AFTER * self.lease and not self._claimer.fenced:
            self._claimer.fenced = True
            emit("worker_fenced", worker=self.name, silent_seconds=silent)
            log.warning(
                "worker %s: no beat was acknowledged for %.1f s; it takes no jobs, and those that run are to stop "
                "before others take them over. No attempt is spent",
                self.name, silent,
            )  # fmt: skip
            for attempt in self._pool.take_back():
                self._finisher.put(attempt.give_back())
            for attempt in self._pool.unfinished():
                attempt.interrupt("lost", f"the worker of job {attempt.claimed.job_id} lost touch with the database")
        return interval

    def _unfence(self) -> None:
        if self._claimer.fenced:
            self._claimer.fenced = False
            log.warning("worker %s: its beats are acknowledged again; it takes jobs again", self.name)
            self.wake()

    def _observe(self) -> float:
        """Upkeep has a loop of its own: however long it takes, this worker goes on beating."""
        with self.client.database.link() as link:
            if self._observer.look(link):
                self.wake()
            self._write_tally(link)
        return self.look_interval

    def _write_last_tally(self) -> None:
        try:
            with self.client.database.link() as link:
                self._write_tally(link)
        except StoreError as error:
            log.warning("how long the last jobs ran is missing in the history: %s", error)

    def _write_tally(self, link: Link) -> None:
        counts = self._pool.tally.take()
        if not counts:
            return
        try:
            history.add_timings(link, counts)
        except BaseException:
            self._pool.tally.put_back(counts)
            raise

    def _declared_dead(self) -> None:
        """The others took us for dead. What we run is theirs by now or soon; we go on under a new session."""
        log.warning(
            "worker %s was taken for dead (no beat for %.1f s); its running jobs are dropped, it goes on under a new "
            "session",
            self.name, self.lease / 2,
        )  # fmt: skip
        emit("worker_lost", worker=self.name, session=self.session)
        self._claimer.session = None
        for attempt in self._pool.take_back():
            self._finisher.put(attempt.give_back())
        for attempt in self._pool.unfinished():
            attempt.interrupt("lost", f"job {attempt.claimed.job_id} belongs to another worker by now")
        self._open_session()

    def _in_touch(self) -> bool:
        """Whether the database has answered of late: if not, a worker that stops does not wait for it."""
        return clock.now() - self._acknowledged < 2 * self.heartbeat_interval + 1

    def _tell(self, state: str) -> Loop:
        """Begin to report how it is, which the others need for a tidy list only."""

        def tell() -> None:
            try:
                link = self.client.database.open("state")
                with link.connection:
                    if self.session is not None:
                        lease.set_state(link, self.session, state)
            finally:
                telling.stop()

        telling = Loop("state", tell)
        telling.start()
        return telling


def new_session(
    name: str,
    queues: list[str] | None,
    concurrency: int,
    seconds: float,
    schemas: list[dict[str, Any]],
    *,
    kind: str,
    slots: dict[str, int] | None = None,
) -> lease.Session:
    """A session of this process, to be entered. ``slots``: of queues that may not have all its threads."""
    return lease.Session(
        id=uuid4(),
        name=name,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        queues=queues,
        concurrency=concurrency,
        lease=seconds,
        catalog=hashlib.sha256(msgspec.json.encode(schemas, enc_hook=repr, order="sorted")).hexdigest(),
        schemas=schemas,
        metadata={
            "kind": kind,
            "version": __version__,
            "python": platform.python_version(),
            "platform": sys.platform,
            **({"slots": slots} if slots else {}),
        },
    )


def own_name() -> str:
    """``host:pid`` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def parse_queues(queues: Queues) -> dict[str, int | None] | None:
    """``["a", "b:2"]`` or ``{"a": None, "b": 2}`` as the latter; None is all queues."""
    if queues is None:
        return None
    if isinstance(queues, str):
        queues = queues.split(",")
    if isinstance(queues, Mapping):
        pairs = list(queues.items())
    else:
        pairs = []
        for each in queues:
            name, colon, slots = each.strip().rpartition(":")
            if colon and slots.isdecimal():
                pairs.append((name, int(slots)))
            else:
                pairs.append((each.strip(), None))
    parsed: dict[str, int | None] = {}
    for name, number in pairs:
        if number is not None and number < 1:
            raise UsageError(f"queue {name!r} needs at least 1 slot, got {number!r}")
        parsed[check_text("queue", name)] = number
    if not parsed:
        raise UsageError("queues is empty; leave it out for all queues")
    return parsed
