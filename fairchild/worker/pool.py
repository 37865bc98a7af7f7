"""The runner threads of one worker, and the books of what it holds.

Every claimed job is in ``held`` from the moment its claim is known until its outcome is recorded: that number is what
the claimer weighs, so a finisher that falls behind keeps slots taken. Hand-over is a queue; threads take one job at
a time, or a few when jobs have been very short, so that a queue's cost is shared.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from uuid import UUID

from fairchild.db.finish import Applied, Ended
from fairchild.events import emit
from fairchild.tasks import Registry
from fairchild.worker.attempt import Attempt, CoroutineLoop
from fairchild.worker.isolated import Children
from fairchild.worker.notes import Notebook, Notes
from fairchild.worker.pace import Pace
from fairchild.worker.tally import Tally
from fairchild.worker.watch import Watch, Watched

log = logging.getLogger("fairchild.worker")

Key = tuple[int, int]
"""(job, claim), as the numbers that their ids are: this process may come to hold a job again while an attempt of it
that lost its claim still runs."""


class Pool:
    """N threads that run attempts and hand what they came to over to ``done``."""

    def __init__(self, size: int, registry: Registry, done: Callable[[Ended], None]) -> None:
        self.size = size
        self._registry = registry
        self._done = done
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._held: dict[Key, Attempt] = {}
        self._busy = 0
        self._per_queue: dict[str, int] = {}
        self.pace = Pace()
        self.tally = Tally()
        self.last_start = time.monotonic()
        self.idle = threading.Condition(self._lock)
        self.on_room: Callable[[], None] = lambda: None
        self.on_started: Callable[[Attempt], None] | None = None
        self.on_recorded: Callable[[list[Ended], Applied], object] = lambda batch, _: self.recorded(batch)
        self.coroutines = CoroutineLoop(self._start_thread)
        self.notebook: Notebook | None = None
        """Where jobs note what they have to say."""
        self.children: Children | None = None
        """Where tasks with ``isolation="process"`` run, and jobs that were held in a death of a worker."""
        self.watch = Watch(self._start_thread, self._replace)
        self.stuck = 0
        """Runner threads that go on with a job though they were told to stop."""
        self.ever_stuck = 0

    def start(self) -> None:
        """Start the runner threads."""
        for number in range(self.size):
            self._start_thread(f"runner-{number}", self._run)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"fairchild-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    # What the claimer asks

    def room(self) -> int:
        """How many jobs may be claimed now: free threads, and what they run in about 50 ms if jobs are short."""
        with self._lock:
            return self.size + self.stuck + self.pace.ahead(time.monotonic()) - len(self._held)

    def wants_more(self) -> bool:
        """Whether a claim is worth its while: a thread is free, or half of what may be held ahead is used up."""
        with self._lock:
            waiting = len(self._held) - self._busy
            return len(self._held) < self.size + self.stuck or waiting <= self.pace.ahead(time.monotonic()) // 2

    def held_of(self, queue: str) -> int:
        """How many held jobs came from ``queue``."""
        with self._lock:
            return self._per_queue.get(queue, 0)

    def add(self, attempts: list[Attempt]) -> None:
        """Take claimed jobs on and start them as threads get free."""
        with self._lock:
            for attempt in attempts:
                self._held[attempt.key] = attempt
                queue = attempt.claimed.queue
                self._per_queue[queue] = self._per_queue.get(queue, 0) + 1
        for attempt in attempts:
            if self.notebook is not None:
                attempt.notes = Notes(self.notebook, attempt.claimed)
            self._queue.put(attempt)

    def recorded(self, batch: list[Ended]) -> list[tuple[Ended, Attempt]]:
        """These outcomes are written (or dropped for good): their room is free. They with the attempts they are of."""
        now = time.monotonic()
        found = []
        with self._lock:
            ran, seconds = 0, 0.0
            for ended in batch:
                attempt = self._held.pop((ended.job_id.int, ended.claim_id.int), None)
                if attempt is not None:
                    found.append((ended, attempt))
                    self._per_queue[attempt.claimed.queue] -= 1
                    ran += attempt.ran
                    seconds += attempt.seconds
                    if attempt.ran:
                        claimed = attempt.claimed
                        self.tally.note(claimed.queue, claimed.task, claimed.waited, attempt.seconds)
            self.pace.note(now, ran, seconds)
            if not self._held:
                self.idle.notify_all()
        self.on_room()
        return found

    # What runs

    def unfinished(self) -> list[Attempt]:
        """Attempts that have been claimed and have not ended, whether started or not."""
        with self._lock:
            return [attempt for attempt in self._held.values() if not attempt.ended]

    def release(self) -> list[Attempt]:
        """Give up all attempts that have not ended: whatever they still come to is dropped."""
        with self._lock:
            left = [attempt for attempt in self._held.values() if not attempt.ended and not attempt.released]
            for attempt in left:
                attempt.released = True
        for attempt in left:
            elsewhere = attempt.elsewhere
            if elsewhere is not None:
                elsewhere.kill()
        return left

    def held(self) -> int:
        """Jobs claimed and not recorded yet."""
        with self._lock:
            return len(self._held)

    def busy(self) -> int:
        """Tasks running now."""
        return self._busy

    def find(self, job_id: UUID, claim_id: UUID) -> Attempt | None:
        """The attempt held under a claim."""
        with self._lock:
            return self._held.get((job_id.int, claim_id.int))

    def waiting(self) -> int:
        """Jobs claimed that no thread has started."""
        return self._queue.qsize()

    def take_back(self) -> list[Attempt]:
        """All jobs claimed that no thread has started; they will not be started."""
        taken = []
        while not self._queue.empty():
            try:
                attempt = self._queue.get_nowait()
            except Empty:
                break  # a runner was faster
            if attempt is None:
                self._queue.put(None)
                break
            taken.append(attempt)
        with self._lock:
            for attempt in taken:
                attempt.ended = True
        return taken

    def wait_idle(self, timeout: float, cut: Callable[[], bool]) -> bool:
        """Wait until nothing is held, or ``cut()`` says to stop waiting; whether nothing is held."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while self._held and not cut():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.idle.wait(min(left, 0.1))
            return not self._held

    def stop(self, timeout: float) -> bool:
        """Let every thread end after its current job; whether all did within ``timeout`` seconds."""
        self.coroutines.stop()
        self.watch.stop()
        if self.children is not None:
            self.children.stop()
        for _ in range(self.size):
            self._queue.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        attempt: Attempt | None = None
        try:
            while (attempt := self._queue.get()) is not None:
                replaced = self._run_one(attempt)
                attempt = None  # its values are not kept until the next job comes
                if replaced:
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the slot and the job must not be lost
            self._died(attempt, error)

    def _run_one(self, attempt: Attempt) -> bool:
        """Run an attempt and hand over what it came to; whether this thread was replaced meanwhile."""
        self.last_start = started = time.monotonic()
        with self._lock:
            if attempt.released:
                return False
            attempt.running = True
            attempt.runner = threading.get_ident()
            self._busy += 1
        if self.on_started is not None:
            self.on_started(attempt)
        ended = self._attempt(attempt)
        dropped = self._over(attempt, time.monotonic() - started)
        if attempt.applied is not None:
            self.on_recorded([ended], attempt.applied)
        elif not dropped:
            self._done(ended)
        attempt.forget()
        return attempt.stuck

    def _over(self, attempt: Attempt, seconds: float) -> bool:
        """It does not run any more; whether it was given up before."""
        with self._lock:
            if attempt.running:
                attempt.running = False
                attempt.runner = None
                self._busy -= 1
                self.stuck -= attempt.stuck
            attempt.ended = attempt.ran = True
            attempt.seconds = seconds
            return attempt.released

    def _died(self, attempt: Attempt | None, error: BaseException) -> None:
        """This thread ends by an error that is not its task's: another takes its place, and its job has failed."""
        log.error("a runner thread died of %s and is replaced", type(error).__name__, exc_info=error)
        if attempt is not None and not self._over(attempt, 0.0):
            # Should its outcome have been handed over already, that one counts.
            self._done(attempt.refused(f"its runner thread died of {type(error).__name__}: {error}"))
        claimed = None if attempt is None else attempt.claimed
        emit(
            "runner_died",
            job_id=None if claimed is None else claimed.job_id,
            task=None if claimed is None else claimed.task,
            error=error,
        )
        if attempt is None or not attempt.stuck:
            self._start_thread("runner", self._run)

    def _attempt(self, attempt: Attempt) -> Ended:
        task = self._registry.find(attempt.claimed.task)
        if task is None:  # it was registered when the job was claimed, and is no longer
            return attempt.give_back()
        if self.children is not None and (attempt.claimed.losses or task.settings.isolation == "process"):
            ended = self.children.run(attempt, task, self.watch)
            if ended is not None:
                return ended
        return attempt.run(task, self.coroutines, self.watch)

    def _replace(self, attempt: Watched) -> None:
        """Another thread for one that does not come back; should it, it ends after its job."""
        with self._lock:
            if attempt.ended:
                return
            attempt.stuck = True
            self.stuck += 1
            self.ever_stuck += 1
        log.warning(
            "job %s (%s) does not stop: it swallows its interrupt, or runs code that is not Python. It still runs and "
            "holds its claim; its thread is replaced by another. %d threads of this worker are stuck",
            attempt.claimed.job_id, attempt.claimed.task, self.stuck,
        )  # fmt: skip
        emit("job_stuck", job_id=attempt.claimed.job_id, task=attempt.claimed.task, stuck=self.stuck)
        self._start_thread("runner", self._run)
        self.on_room()
