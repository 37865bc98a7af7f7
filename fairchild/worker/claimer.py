"""The claimer: keeps the runner threads supplied, and goes to sleep well.

It claims for as many jobs as there is room, again and again while claims come back full. When one comes back short
there is nothing more to have, and it rests until it is woken: by a runner with room to spare, by this process
enqueuing or promoting something, by NOTIFY, or by its own poll. Correctness rests on the poll alone. After a wake-up it
looks again after 5, 20, 100 and 500 ms: the transaction that made the noise may not be the one whose commit was still
on its way.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

from fairchild import codec, failpoints
from fairchild.context import Enqueuer
from fairchild.db import journal
from fairchild.db.claim import PROMOTE_BATCH, Claimed, Lane, claim, find_claim, look, promote_due
from fairchild.db.connect import Database, Link
from fairchild.db.finish import Ended
from fairchild.db.settle import read_results, referred
from fairchild.tasks import Registry
from fairchild.worker.attempt import Attempt, Values
from fairchild.worker.finisher import Finisher
from fairchild.worker.pool import Pool

log = logging.getLogger("fairchild.worker")

PRIORITIES = 10
LOOK_AGAIN = (0.005, 0.02, 0.1, 0.5)
DUE_SECONDS = 0.05
DUE_SHARE = 0.7
SWEEP_SECONDS = 0.5
SWEEP_SHARE = 20
MAX_BATCH = 500
MAX_QUEUES = 200
STUCK_SECONDS = 1.0


class Claimer:
    """The step of the claimer's loop. ``session`` may be exchanged when the old one was declared dead."""

    def __init__(
        self,
        database: Database,
        pool: Pool,
        finisher: Finisher,
        registry: Registry,
        client: Enqueuer,
        *,
        worker: str,
        queues: dict[str, int | None] | None,
        poll_interval: float,
    ) -> None:
        self._database = database
        self._pool = pool
        self._finisher = finisher
        self._registry = registry
        self._client = client
        self._worker = worker
        self._slots = queues
        self._poll_interval = poll_interval
        self._link: Link | None = None
        self._floors: dict[tuple[str, int], int] = {}
        self._known: list[str] = list(queues) if queues is not None else []
        self._turn = 0
        self._next_sweep = 0.0
        self._next_due = 0.0
        self._due_known = False
        self._looks: list[float] = []
        self._idle = False
        """The last claim came back short, and nobody has called since: look before claiming."""
        self._woken = threading.Event()
        self._doubtful: list[UUID] = []
        self._unresolved: list[Claimed] = []
        self.session: UUID | None = None
        self.paused = False
        self.fenced = False
        """The worker's beats go unheard: others may take its jobs, so it takes no more."""
        self.last_round = time.monotonic()
        self.statements = 0

    def woken(self) -> None:
        """Something may have become available."""
        self._woken.set()

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.connection.close()
            self._link = None

    def give_back(self) -> None:
        """Give back what was claimed and never got to a runner. Called when the loop has ended."""
        for row in self._unresolved:
            self._finisher.put(Ended(row.job_id, row.claim_id, "ready", spent=False))
        self._unresolved = []
        if self._doubtful:
            try:
                self._recover(self._open())
            except Exception as error:  # noqa: BLE001 - without the database the others' rescue does it
                log.warning("the claims whose reply was lost are left to the other workers: %s", error)

    def step(self) -> float | None:
        """One round: claim what there is room for. Seconds to rest."""
        if self._woken.is_set():
            self._woken.clear()
            self._idle = False
            now = time.monotonic()
            self._looks = [now + each for each in LOOK_AGAIN]
            # What was enqueued may be due before all others.
            self._next_due = min(self._next_due, now + DUE_SECONDS)
            self._due_known = True
        try:
            return self._round()
        except BaseException:
            self.close()
            raise

    def _round(self) -> float | None:
        if self.session is None or self.paused or self.fenced:
            return self._poll_interval
        link = self._open()
        before = link.statements
        try:
            self._recover(link)
            rest = self._claim_all(link)
        finally:
            self.statements += link.statements - before
        self.last_round = time.monotonic()
        return rest

    def _open(self) -> Link:
        if self._link is None or self._link.connection.closed:
            self._link = self._database.open("claimer", tuned=True)
            self._floors.clear()
        return self._link

    def _recover(self, link: Link) -> None:
        """What a claim took whose reply was lost is given back; what could not be resolved is resolved now."""
        while self._doubtful:
            claim_id = self._doubtful[0]
            for job_id in find_claim(link, claim_id):
                self._finisher.put(Ended(job_id, claim_id, "ready", spent=False))
            self._doubtful.pop(0)
        if self._unresolved:
            self._hand_over(link, self._unresolved)
            self._unresolved = []

    def _claim_all(self, link: Link) -> float | None:
        """Claim until there is no room or nothing to have; seconds to rest."""
        self._give_back_stuck()
        while True:
            if not self._pool.wants_more():
                return self._poll_interval  # a runner wakes us when there is room
            room = min(self._pool.room(), MAX_BATCH)
            if room <= 0:
                return self._poll_interval
            if self._idle and not self._look(link):
                return self._rest()
            now = time.monotonic()
            if now >= self._next_due:
                self._promote(link)
            sweep = now >= self._next_sweep
            got = self._claim_round(link, room, sweep)
            if sweep:
                cost = time.monotonic() - now
                self._next_sweep = time.monotonic() + max(SWEEP_SECONDS, SWEEP_SHARE * cost)
            if got >= room:
                continue
            # What was just claimed is about to start: nothing else is asked before it does.
            if got == 0:
                if self._slots is None and self._learn(look(link)[0]):
                    continue
                if not sweep and time.monotonic() >= self._next_sweep:
                    continue
            self._idle = True
            return self._rest()

    def _rest(self) -> float:
        now = time.monotonic()
        self._looks = [each for each in self._looks if each > now]
        waits = [self._poll_interval * random.uniform(0.8, 1.0)]
        if self._looks:
            waits.append(self._looks[0] - now)
        if self._due_known:
            waits.append(max(0.0, self._next_due - now))
        return min(waits)

    def _promote(self, link: Link) -> None:
        promoted, left = promote_due(link, self._pool.room())
        # With nothing due soon, the next look is that of the next poll, not one of its own.
        self._due_known = promoted >= PROMOTE_BATCH or (left is not None and left < self._poll_interval)
        wait = DUE_SHARE * self._poll_interval
        if self._due_known:
            wait = 0.0 if promoted >= PROMOTE_BATCH or left is None else left
        self._next_due = time.monotonic() + max(wait, 0.001)

    def _look(self, link: Link) -> bool:
        """Whether there may be something to claim, now or once what is due has been promoted."""
        found, left = look(link, None if self._slots is None else self._known)
        self._learn(found)
        self._due_known = left is not None and left < self._poll_interval
        self._next_due = time.monotonic() + (self._poll_interval if left is None else max(left, 0.0))
        return bool(found) or (left is not None and left <= 0)

    def _learn(self, found: list[str]) -> bool:
        """Remember queues; whether some of them were not known."""
        if self._slots is not None:
            return False
        new = [queue for queue in found if queue not in self._known]
        if len(self._known) + len(new) > MAX_QUEUES:  # forget those that hold nothing now
            self._known = found[:MAX_QUEUES]
            self._floors = {key: floor for key, floor in self._floors.items() if key[0] in self._known}
            return bool(new)
        self._known.extend(new)
        return bool(new)

    def _claim_round(self, link: Link, room: int, sweep: bool) -> int:
        if not self._known:
            return 0
        self._turn += 1
        if self._slots is None or not any(self._slots.values()):
            return self._claim(link, self._rotated(self._known), room, sweep)
        got = 0
        for queue in self._rotated(self._known):
            slots = self._slots[queue]
            free = room - got if slots is None else min(room - got, slots - self._pool.held_of(queue))
            if free > 0:
                got += self._claim(link, [queue], free, sweep)
        return got

    def _rotated(self, queues: list[str]) -> list[str]:
        start = self._turn % len(queues)
        return queues[start:] + queues[:start]

    def _claim(self, link: Link, queues: list[str], room: int, sweep: bool) -> int:
        assert self.session is not None
        tasks = self._registry.names()
        if not tasks:
            return 0
        floors: dict[tuple[str, int], int] = {} if sweep else self._floors
        lanes = [
            Lane(queue, priority, floors.get((queue, priority), 0))
            for priority in range(PRIORITIES)
            for queue in queues
        ]
        claim_id = uuid4()
        try:
            if failpoints.ARMED:
                failpoints.hit("claim.before")
            rows = claim(link, lanes=lanes, tasks=tasks, room=room, claim_id=claim_id, session=self.session)
            if failpoints.ARMED:
                failpoints.hit("claim.after")
        except BaseException:  # whatever it was: what this claim may have taken must not stay claimed by nobody
            self._doubtful.append(claim_id)
            raise
        for row in rows:
            lane = (row.queue, row.priority)
            if row.fence > self._floors.get(lane, 0):
                self._floors[lane] = row.fence
        if rows:
            self._unresolved = rows
            self._hand_over(link, rows)
            self._unresolved = []
        return len(rows)

    def _hand_over(self, link: Link, rows: list[Claimed]) -> None:
        """Give the jobs to the runners; durable ones with what they have called before, which one statement reads."""
        durable = [row.job_id for row in rows if self._is_durable(row.task)]
        histories = journal.read(link, durable) if durable else {}
        attempts = []
        for row, values in with_values(link, rows, self._database.config.default_timeout):
            history = histories.get(row.job_id)
            attempt = Attempt(row, values, self._client, self._worker, history)
            if row.expired and not (history is not None and history.begun):  # one that goes on has been started
                self._finisher.put(attempt.expired())
            else:
                attempts.append(attempt)
        self._pool.add(attempts)

    def _is_durable(self, name: str) -> bool:
        task = self._registry.find(name)
        return task is not None and task.settings.durable

    def _give_back_stuck(self) -> None:
        """Jobs claimed ahead that no thread gets to, because those running turned out long, go back for others."""
        pool = self._pool
        if pool.waiting() and pool.busy() >= pool.size and time.monotonic() - pool.last_start > STUCK_SECONDS:
            for attempt in pool.take_back():
                self._finisher.put(attempt.give_back())


def with_values(link: Link, rows: list[Claimed], timeout: float | None) -> Iterator[tuple[Claimed, Values]]:
    """Each job with the values of other jobs that it waits for; all are read in one statement.

    One that has no time limit of its own gets this ``timeout``.
    """
    wanted = {row.job_id: referred(codec.decode(row.refs)) for row in rows if row.refs is not None}
    ids = list({each for found in wanted.values() for each in found})
    values = read_results(link, ids) if ids else {}
    for row in rows:
        limited = row if timeout is None or row.timeout is not None else row._replace(timeout=timeout)
        yield limited, {each: values[each] for each in wanted.get(row.job_id, ()) if each in values}
