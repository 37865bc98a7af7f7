"""Calls the program's hooks, in a thread of its own: a slow one delays neither jobs nor the record of what they did."""

from __future__ import annotations

import contextlib
import logging
import threading
from queue import Empty, Full, Queue

from fairchild.client.hooks import Hooks, JobEvent
from fairchild.db.finish import Applied, Ended
from fairchild.worker.attempt import Attempt

MAX_WAITING = 10_000
"""Events that wait to be told; further ones are dropped, and counted."""
LOOK_SECONDS = 5.0
_EVENTS = {
    "completed": "job_completed", "failed": "job_failed", "cancelled": "job_cancelled", "waiting": "job_waiting",
}  # fmt: skip

log = logging.getLogger("fairchild.hooks")


class Reporter:
    """Tells the hooks what attempts came to, after that has been recorded, and that they start."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.dropped = 0
        self._queue: Queue[JobEvent | None] = Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = False

    def started(self, attempt: Attempt) -> None:
        """An attempt starts."""
        if "job_started" in self.hooks:
            self._put(_event("job_started", attempt))

    def recorded(self, done: list[tuple[Ended, Attempt]], applied: Applied) -> None:
        """Outcomes are recorded, but those that ``applied`` says had lost their claim."""
        if not self.hooks:
            return
        for ended, attempt in done:
            again = "job_retrying" if ended.spent else "job_ready"
            name = "job_cancelled" if ended.job_id in applied.stopped else _EVENTS.get(ended.state, again)
            if ended.job_id in applied.lost:
                continue
            for each in (*_besides(ended), name):
                if each in self.hooks:
                    self._put(_event(each, attempt, ended))

    def stop(self) -> None:
        """Tell what is left, and end. Does not wait: a hook may hang, and its thread is a daemon's."""
        self._ending = True
        with contextlib.suppress(Full):  # then it is looked for once the queue is empty
            self._queue.put_nowait(None)

    def join(self, timeout: float) -> bool:
        """Wait until all has been told; whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _put(self, event: JobEvent) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fairchild-hooks", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(event)
        except Full:
            self.dropped += 1
            if self.dropped in (1, 100) or self.dropped % 10_000 == 0:
                log.warning("hooks are too slow: %d events have been dropped", self.dropped)

    def _run(self) -> None:
        while not (self._ending and self._queue.empty()):
            with contextlib.suppress(Empty):
                event = self._queue.get(timeout=LOOK_SECONDS)
                if event is not None:
                    self.hooks.call(event)


def _besides(ended: Ended) -> list[str]:
    """What else is to be said of an outcome."""
    found = []
    if ended.error is not None and ended.error.get("kind") == "timeout":
        found.append("job_timeout")
    if ended.state == "failed" and ended.reason == "discarded":
        found.append("job_discarded")
    return found


def _event(name: str, attempt: Attempt, ended: Ended | None = None) -> JobEvent:
    claimed = attempt.claimed
    return JobEvent(
        event=name,
        job_id=claimed.job_id,
        task=claimed.task,
        queue=claimed.queue,
        tenant=claimed.tenant,
        workflow_id=claimed.workflow_id,
        attempt=claimed.attempt,
        max_attempts=claimed.max_attempts,
        seconds=attempt.seconds if ended is not None else 0.0,
        error=None if ended is None else ended.error,
        reason=None if ended is None else ended.reason,
    )
