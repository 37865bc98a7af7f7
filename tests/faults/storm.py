"""A storm: worker processes at work while they are killed, frozen, stopped and cut off, and the server crashes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from fairchild import Fairchild
from tests.faults import jobs, ledger

LEASE = 2.0
"""Short, so that many deaths fit into a storm; a death is noticed after half of it."""


@dataclass
class Storm:
    """``seconds`` of weather over ``number`` jobs, then calm until all have ended. Repeatable by its seed."""

    url: str
    seed: int
    seconds: float
    number: int
    workers: int = 3
    calm: float = 120.0
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._frozen: list[tuple[float, subprocess.Popen[bytes]]] = []

    def run(self) -> ledger.Verdict:
        """Let it pass over; the verdict."""
        client = Fairchild(self.url)
        client.install()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(ledger.SETUP)
        self._enqueue(client)
        client.disconnect()
        try:
            self._processes = [self._start() for _ in range(self.workers)]
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                time.sleep(self._random.uniform(0.1, 0.6))
                self._thaw(time.monotonic())
                self._strike()
                self._replace()
            self._thaw(float("inf"))
            self._wait()
        finally:
            self._thaw(float("inf"))
            for process in self._processes:
                process.kill()
                process.wait()
        return ledger.judge(self.url)

    def _enqueue(self, client: Fairchild) -> None:
        with client.active():
            client.enqueue_many(jobs.plain, ({"n": n, "seconds": 0.002} for n in range(self.number * 7 // 10)))
            client.enqueue_many(jobs.flaky, ({"n": n} for n in range(self.number * 2 // 10)))
            client.enqueue_many(jobs.workflow, ({"n": n, "width": 5} for n in range(self.number // 10)))

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "fairchild", "worker", "--import", "tests.faults.jobs", "--concurrency", "4",
            "--lease", str(LEASE), "--poll-interval", "0.2", "--shutdown-timeout", "1", "--log-level", "error",
        ]  # fmt: skip
        return subprocess.Popen(
            command,
            env={**os.environ, "FAIRCHILD_DATABASE_URL": self.url},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def _strike(self) -> None:
        strikes = (self._kill, self._freeze, self._stop, self._cut, self._cut, self._crash)
        strike = self._random.choices(strikes, weights=(3, 2, 2, 3, 3, 1))[0]
        strike()
        # What a death cost is forgiven: whether innocents are condemned is another question than whether work is lost.
        self._try("UPDATE fairchild_jobs_base SET losses = 0 WHERE losses > 0 AND state = 'pending'")

    def _living(self) -> subprocess.Popen[bytes] | None:
        frozen = [process for _, process in self._frozen]
        found = [each for each in self._processes if each.poll() is None and each not in frozen]
        return self._random.choice(found) if found else None

    def _kill(self) -> None:
        if (process := self._living()) is not None:
            process.kill()
            self.done["kills"] += 1

    def _stop(self) -> None:
        if (process := self._living()) is not None:
            process.send_signal(signal.SIGTERM)
            self.done["stops"] += 1

    def _freeze(self) -> None:
        if (process := self._living()) is not None:
            process.send_signal(signal.SIGSTOP)
            self._frozen.append((time.monotonic() + self._random.uniform(0.3, 1.5) * LEASE, process))
            self.done["freezes"] += 1

    def _thaw(self, now: float) -> None:
        for until, process in list(self._frozen):
            if until <= now:
                self._frozen.remove((until, process))
                process.send_signal(signal.SIGCONT)

    def _cut(self) -> None:
        """End one of the workers' connections, whatever it is doing."""
        self._try(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'fairchild:%' ORDER BY random() LIMIT 1"
        )
        self.done["connections cut"] += 1

    def _crash(self) -> None:
        """Kill one server process, upon which the server ends all sessions and recovers from its log."""
        found = self._try("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fairchild:%' LIMIT 1")
        if found:
            os.kill(int(str(found[0][0])), signal.SIGKILL)
            self.done["server crashes"] += 1

    def _replace(self) -> None:
        self._processes = [each if each.poll() is None else self._start() for each in self._processes]

    def _try(self, query: str) -> list[tuple[object, ...]]:
        try:
            with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                cursor = connection.execute(query.encode())
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.OperationalError:
            return []  # the server is still recovering from the last strike

    def _wait(self) -> None:
        """Until nothing is pending. Raises TimeoutError with what is."""
        deadline = time.monotonic() + self.calm
        while True:
            self._replace()
            left = self._try("SELECT count(*) FROM fairchild_jobs_base WHERE state = 'pending'")
            if left and left[0][0] == 0:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} jobs are pending {self.calm:.0f} s after the storm\n" + self._pending())
            time.sleep(0.2)

    def _pending(self) -> str:
        return "\n".join(ledger.judge(self.url).histories)
