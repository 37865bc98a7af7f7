"""The finisher: gathers what attempts came to and records it in batches.

A lone outcome is written at once. While others are about to come (tasks are running) it waits up to 2 ms or until 500
are there. What the database cannot take now is kept and tried again until the worker gives up; nothing that was run is
dropped because the database was away.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from fairchild import failpoints
from fairchild.config import hide_password
from fairchild.db.connect import Database, Link, is_transient
from fairchild.db.finish import Applied, Ended, finish
from fairchild.errors import UsageError
from fairchild.loop import Complaints
from fairchild.worker.pool import Pool

log = logging.getLogger("fairchild.worker")

GATHER_SECONDS = 0.002
BATCH = 500
MAX_PAUSE = 1.0
"""Between tries. What is not recorded holds its slot, so nothing is claimed meanwhile."""


class Finisher:
    """One thread and one connection. ``put`` an outcome; it is recorded, or reported as lost."""

    def __init__(self, database: Database, on_applied: Callable[[list[Ended], Applied], object]) -> None:
        self._database = database
        self._on_applied = on_applied
        self._queue: SimpleQueue[Ended | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        self._give_up = threading.Event()
        self._complaints = Complaints()
        self.pool: Pool | None = None
        self.statements = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="fairchild-finisher", daemon=True)
        self._thread.start()

    def put(self, ended: Ended) -> None:
        """Hand an outcome over."""
        self._queue.put(ended)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def backlog(self) -> int:
        """Outcomes not taken up yet."""
        return self._queue.qsize()

    def stop(self, timeout: float) -> bool:
        """Record what is there and end; whether it did within ``timeout`` seconds."""
        self.end()
        if self.join(timeout):
            return True
        self.give_up()
        return self.join(1.0)

    def end(self) -> None:
        """Record what is there, and end. Does not wait."""
        self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait until it has ended; whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.alive()

    def give_up(self) -> None:
        """Do not try again what cannot be recorded now."""
        self._give_up.set()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._gather()
            if batch:
                self._record(batch)
        if self._link is not None:
            self._link.connection.close()

    def _gather(self) -> tuple[list[Ended], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        deadline = time.monotonic() + GATHER_SECONDS
        while len(batch) < BATCH:
            try:
                more = self._queue.get_nowait()
            except Empty:
                left = deadline - time.monotonic()
                if left <= 0 or self.pool is None or self.pool.busy() == 0:
                    break
                try:
                    more = self._queue.get(timeout=left)
                except Empty:
                    break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _record(self, batch: list[Ended], *, instead: bool = False) -> None:
        """Write a batch, whatever it takes: again after a lost connection, in halves around one that is refused.

        ``instead``: it stands for an outcome that was refused, and is dropped if it is refused as well.
        """
        pause = 0.05
        while not self._give_up.is_set():
            try:
                applied = self._write(batch)
            except Exception as error:  # noqa: BLE001 - this thread must outlive every outcome
                if not isinstance(error, UsageError):
                    self._drop_link()
                if not is_transient(error):
                    self._in_halves(batch, error, instead)
                    return
                if self._complaints.worth(_line(error)):
                    log.warning(
                        "cannot record %d finished jobs now (%s); they are kept and tried again",
                        len(batch),
                        _line(error),
                    )
                self._give_up.wait(random.uniform(0, pause))
                pause = min(pause * 2, MAX_PAUSE)
            else:
                if self._complaints.over():
                    log.warning("finished jobs can be recorded again; none was dropped")
                self._on_applied(batch, applied)
                return
        log.error(
            "%d finished jobs could not be recorded before the worker had to stop; they will run again", len(batch)
        )

    def _write(self, batch: list[Ended]) -> Applied:
        if self._link is None or self._link.connection.closed:
            self._link = self._database.open("finisher", tuned=True)
        before = self._link.statements
        if self.pool is not None and self.pool.notebook is not None:
            self.pool.notebook.flush()
        try:
            if failpoints.ARMED:
                failpoints.hit("finish.before")
            room = self.pool.room() if self.pool is not None else 0
            applied = finish(self._link, batch, room, self._database.census)
            if failpoints.ARMED:
                failpoints.hit("finish.after")
            return applied
        finally:
            self.statements += self._link.statements - before

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.connection.close()
            self._link = None

    def _in_halves(self, batch: list[Ended], error: BaseException, instead: bool) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            self._record(batch[:middle])
            self._record(batch[middle:])
            return
        ended = batch[0]
        if instead:
            log.error("what became of job %s cannot be recorded: %s", ended.job_id, _line(error), exc_info=error)
            self._on_applied(batch, Applied({ended.job_id: "refused"}, [], 0))
            return
        what = "" if isinstance(error, UsageError) else "what this attempt came to was refused: "
        attempt = None if self.pool is None else self.pool.find(ended.job_id, ended.claim_id)
        message = what + _line(error)
        self._record([_refused(ended, message) if attempt is None else attempt.refused(message)], instead=True)


def _refused(ended: Ended, message: str) -> Ended:
    entry = {"attempt": None, "kind": "error", "type": None, "message": message, "traceback": None, "worker": None}
    return Ended(ended.job_id, ended.claim_id, "failed", reason="error", error=entry)


def _line(error: BaseException) -> str:
    return hide_password(" ".join(str(error).split()))[:500]
