"""A storm: workers at work while they are killed, frozen, stopped and cut off, and the server is restarted.

How often each thing goes wrong is settled beforehand, and when, by the seed. A producer enqueues meanwhile and goes
through it all as well; what it was told is enqueued must be there.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from fairchild import Fairchild
from fairchild.errors import FairchildError, OutcomeUnknown
from tests.faults import ledger
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew, Member
from tests.faults.report import Report
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

LEASE = 2.0
"""Short, so that many deaths fit into a storm; a death is noticed after half of it."""
MINUTES = 15.0
JOBS = 100_000
LEAST = {
    "kills": 60,
    "freezes past the lease": 30,
    "server restarts": 20,
    "connections cut": 100,
    "partitions": 30,
    "stops": 30,
}
"""In ``MINUTES``; for a shorter storm a share of it."""
FAMILY = 7
"""Jobs of one workflow: its root, five that it fans out to, and one that gathers."""
SERVER = ("fast", "immediate", "crash")
CALM_SECONDS = 240.0


@dataclass
class _Slot:
    """A place for a worker, with its own way to the server."""

    proxy: Proxy
    member: Member
    until: float | None = None
    undo: Callable[[], None] = lambda: None


@dataclass
class Storm:
    """``minutes`` of weather over ``number`` jobs, then calm until all have ended. Repeatable by its seed."""

    cluster: Cluster
    rng: random.Random
    minutes: float
    number: int
    workers: int = 4
    done: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    acknowledged: list[UUID] = field(default_factory=list)

    def run(self) -> ledger.Verdict:
        """Let it pass over; the verdict."""
        self.cluster.rows(ledger.SETUP)
        self._over = threading.Event()
        producer = threading.Thread(target=self._produce)
        options = ("--concurrency", "4", "--lease", str(LEASE), "--poll-interval", "0.2", "--shutdown-timeout", "1")
        with Crew(self.cluster.url, *options) as self._crew:
            try:
                self._slots = [self._slot() for _ in range(self.workers)]
                producer.start()
                self._rage()
                self._calm()
                producer.join()
                self._wait()
                unrest = self._unrest()
                self._crew.stop()
                unrest.update(self._left())
            finally:
                self._over.set()
                producer.join()
                for each in self._slots:
                    each.proxy.close()
        verdict = ledger.judge(self.cluster.url, self.acknowledged)
        verdict.violations.update(unrest)
        verdict.histories.extend(f"{name}: {found}" for name, found in unrest.items())
        return verdict

    def _slot(self) -> _Slot:
        proxy = Proxy(self.cluster.url)
        return _Slot(proxy, self._crew.start(url=proxy.url))

    # What is to be done

    def _produce(self) -> None:
        """Enqueue all along, in batches, each until it is known to be there."""
        flaky, workflows = self.number // 5, -(-self.number // (10 * FAMILY))
        parts = [("flaky", flaky), ("workflow", workflows), ("plain", self.number - flaky - FAMILY * workflows)]
        steps = max(1, int(self.minutes * 60))
        pause = 0.9 * self.minutes * 60 / steps
        with Fairchild(self.cluster.url, enqueue_timeout=10.0) as client:
            for step in range(steps):
                for kind, count in parts:
                    first, last = count * step // steps, count * (step + 1) // steps
                    self._enqueue(client, kind, range(first, last))
                if self._over.wait(pause):
                    return

    def _enqueue(self, client: Fairchild, kind: str, numbers: range) -> None:
        kinds: dict[str, dict[str, Any]] = {"plain": {"seconds": 0.002}, "flaky": {}, "workflow": {"width": FAMILY - 2}}
        more = kinds[kind]
        while numbers and not self._over.is_set():
            try:
                self.acknowledged += client.enqueue_many(f"faults.{kind}", ({"n": n, **more} for n in numbers))
                return
            except OutcomeUnknown:  # they may be there, and are judged if they are; those that replace them must be
                self.unknown += 1
            except FairchildError:
                self._over.wait(0.1)

    # What goes wrong

    def _rage(self) -> None:
        began = time.monotonic()
        for moment, strike in self._schedule():
            while True:
                now = time.monotonic()
                self._undo(now)
                self._replace()
                if now - began >= moment and strike():
                    break
                time.sleep(0.02)
        while time.monotonic() - began < self.minutes * 60:
            self._undo(time.monotonic())
            self._replace()
            time.sleep(0.02)

    def _schedule(self) -> list[tuple[float, Callable[[], bool]]]:
        strikes = {
            "kills": self._kill,
            "freezes past the lease": self._freeze,
            "server restarts": self._restart,
            "connections cut": self._cut,
            "partitions": self._part,
            "stops": self._stop,
        }
        planned = [
            (self.rng.uniform(0.0, self.minutes * 57), strikes[name])
            for name, least in least_of(self.minutes).items()
            for _ in range(least)
        ]
        return sorted(planned, key=lambda each: each[0])

    def _victim(self) -> _Slot | None:
        """A slot in which all is well."""
        found = [each for each in self._slots if each.until is None and each.member.alive()]
        return self.rng.choice(found) if found else None

    def _kill(self) -> bool:
        if (slot := self._victim()) is None:
            return False
        slot.member.kill()
        self.done["kills"] += 1
        return True

    def _stop(self) -> bool:
        if (slot := self._victim()) is None:
            return False
        slot.member.terminate()
        self.done["stops"] += 1
        return True

    def _freeze(self) -> bool:
        if (slot := self._victim()) is None:
            return False
        slot.member.freeze()
        slot.until = time.monotonic() + self.rng.uniform(1.2, 2.5) * LEASE
        slot.undo = slot.member.thaw
        self.done["freezes past the lease"] += 1
        return True

    def _part(self) -> bool:
        """A partition: of both directions, of what it sends, or of what it hears."""
        if (slot := self._victim()) is None:
            return False
        up, down = self.rng.choice([(True, True), (True, False), (False, True)])
        cut = self.rng.random() < 0.5
        slot.proxy.hold(up=up, down=down)
        slot.until = time.monotonic() + self.rng.uniform(0.3, 2.0) * LEASE
        slot.undo = lambda: slot.proxy.heal(cut=cut)
        self.done["partitions"] += 1
        self.done["partitions of one direction"] += not (up and down)
        return True

    def _cut(self) -> bool:
        """End one of the workers' connections, whatever it is doing."""
        try:
            found = self.cluster.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'fairchild:%' ORDER BY random() LIMIT 1"
            )
        except psycopg.OperationalError:
            return False
        self.done["connections cut"] += len(found)
        return bool(found)

    def _restart(self) -> bool:
        mode = SERVER[self.done["server restarts"] % len(SERVER)]
        self.cluster.restart(mode)
        self.done["server restarts"] += 1
        self.done[f"server restarts ({mode})"] += 1
        return True

    def _undo(self, now: float) -> None:
        for each in self._slots:
            if each.until is not None and each.until <= now:
                each.until = None
                each.undo()

    def _replace(self) -> None:
        for each in self._slots:
            if not each.member.alive():
                each.member = self._crew.start(url=each.proxy.url)

    # Afterwards

    def _calm(self) -> None:
        self._undo(float("inf"))

    def _wait(self) -> None:
        """Until nothing is pending. Raises TimeoutError with what is."""
        deadline = time.monotonic() + CALM_SECONDS + self.number / 100
        while (left := self.cluster.value(ledger.PENDING)) > 0:
            self._replace()
            if time.monotonic() > deadline:
                found = ledger.judge(self.cluster.url).histories
                raise TimeoutError(f"{left} jobs are pending long after the storm\n" + "\n".join(found))
            time.sleep(0.2)

    def _unrest(self) -> dict[str, list[str]]:
        """What the server shows of workers that have nothing to do; it gets a moment to show nothing."""
        try:
            eventually(lambda: not self._ask(ledger.UNREST), 15.0)
        except AssertionError:
            pass
        return self._ask(ledger.UNREST)

    def _left(self) -> dict[str, list[str]]:
        """Connections of workers that are no more."""
        name = "I9 connections of nobody"
        try:
            eventually(lambda: not self._ask({name: ledger.CONNECTIONS}), 15.0)
        except AssertionError:
            pass
        return self._ask({name: ledger.CONNECTIONS})

    def _ask(self, questions: dict[str, str]) -> dict[str, list[str]]:
        answers = {name: [row[0] for row in self.cluster.rows(query)] for name, query in questions.items()}
        return {name: found for name, found in answers.items() if found}


def least_of(minutes: float) -> dict[str, int]:
    """How often each thing must go wrong in so many minutes."""
    return {name: max(1, -int(-least * minutes // MINUTES)) for name, least in LEAST.items()}


def run(minutes: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    number = max(200, int(JOBS * minutes / MINUTES))
    with cluster() as server:
        storm = Storm(server, rng, minutes, number)
        verdict = storm.run()
    report.figure("minutes", f"{minutes:g}")
    report.figure("jobs", verdict.jobs)
    for what, count in sorted(storm.done.items()):
        report.figure(what, count)
    report.figure("claims, starts, state edges", f"{verdict.claims:,}, {verdict.starts:,}, {verdict.edges:,}")
    report.figure("bulk enqueues whose outcome stayed unknown", storm.unknown)
    for name, found in verdict.violations.items():
        report.figure(name, len(found))
    enough = all(storm.done[name] >= least for name, least in least_of(minutes).items())
    report.promise("as much went wrong as was to", enough)
    report.promise(f"at least {number:,} jobs", verdict.jobs >= number)
    report.promise("0 lost", not verdict.found("I1"))
    report.promise("0 accepted twice", not verdict.found("I2"))
    same = verdict.effects == verdict.completed and not verdict.found("I3")
    report.promise("rows written through job.transaction() = completed jobs", same)
    report.promise("all invariants hold", not verdict.violations)
    report.details = verdict.histories
    return report
