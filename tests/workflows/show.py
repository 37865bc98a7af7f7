"""``python -m tests.workflows.show``: what workflows take, and whether they come out right. Exit 1 if one does not."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from fairchild import Fairchild, Job
from fairchild.embedded import TemporaryServer
from tests.workflows import dags

PATIENCE = 1800.0
MOST_RATIO = 2.5
STRIDE = 300
"""Jobs that end between two kills."""


class Show:
    """A database, a client, and the lines that are printed."""

    def __init__(self, url: str) -> None:
        self.client = Fairchild(url)
        self.client.install()
        self.client.connect()
        self.url = url
        self.wrong: list[str] = []
        with self.connection() as connection:
            connection.execute(dags.SETUP)

    def connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    def check(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.wrong.append(f"{what}: {str(found)[:300]} instead of {str(expected)[:300]}")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start()
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "fairchild", "worker", "--import", "tests.workflows.dags", "--concurrency", "4",
            "--poll-interval", "0.2", "--log-level", "error", *options,
        ]  # fmt: skip
        return subprocess.Popen(
            command, env={**os.environ, "FAIRCHILD_DATABASE_URL": self.url}, stderr=subprocess.DEVNULL
        )

    def warm(self) -> None:
        self.client.wait(dags.noop.enqueue(0), PATIENCE)

    def timed(self, job: Job) -> tuple[float, Any]:
        """Seconds from now until a job that was just enqueued has ended, and its result."""
        began = time.monotonic()
        result = self.client.get_result(job.id, PATIENCE)
        return time.monotonic() - began, result

    def wide(self, width: int, rounds: int) -> None:
        """The same number of jobs alone and as one workflow, in turns; each child once."""
        alone, together = [], []
        with self.worker():
            self.warm()
            for _ in range(rounds):
                began = time.monotonic()
                ids = dags.noop.enqueue_many({"n": n} for n in range(width))
                self.client.wait(ids, PATIENCE)
                alone.append(time.monotonic() - began)
                began = time.monotonic()
                root = dags.wide.enqueue(width)
                result = self.client.get_result(root.id, PATIENCE)
                together.append(time.monotonic() - began)
                self.check("wide", result, [width, width * (width - 1) // 2])
                self.check("children", self.children(root.id), (width + 1, width + 1, 1))
        ratio = sorted(t / a for a, t in zip(alone, together, strict=True))[rounds // 2]
        shown = " ".join(f"{a:.1f}/{t:.1f}" for a, t in zip(alone, together, strict=True))
        print(
            f"{width:,} wide: alone/as a workflow {shown} s, median ratio {ratio:.2f} (at most {MOST_RATIO})",
            flush=True,
        )
        if ratio > MOST_RATIO:
            self.wrong.append(f"a workflow of {width:,} takes {ratio:.2f} times as long as its jobs alone")

    def very_wide(self, width: int) -> None:
        os.environ["FAIRCHILD_MAX_CHILDREN"] = str(width + 1)  # and one that gathers them
        with self.worker() as process:
            self.warm()
            before = _memory(process.pid, "VmRSS")
            seconds, result = self.timed(dags.wide.enqueue(width))
            self.check("very wide", result, [width, width * (width - 1) // 2])
            most = _memory(process.pid, "VmHWM")
        print(f"{width:,} wide: {seconds:.1f} s; worker {before} MB at rest, {most} MB at most", flush=True)

    def children(self, root: UUID) -> tuple[Any, ...] | None:
        with self.connection() as connection:
            return connection.execute(
                """SELECT count(*)::int, count(DISTINCT id)::int, max(attempt)::int
                     FROM fairchild_jobs_base WHERE parent_id = %s AND state = 'completed'""",
                [root],
            ).fetchone()

    def deep(self, length: int, depth: int) -> None:
        with self.worker():
            self.warm()
            seconds, result = self.timed(dags.chain.enqueue(length))
            self.check("chain", result, length)
            nested, result = self.timed(dags.nest.enqueue(depth))
            self.check("nest", result, 0)
        print(f"a chain of {length:,}: {seconds:.2f} s; {depth} levels: {nested:.2f} s", flush=True)

    def bomb(self, seconds: float) -> None:
        processes = [self.start(), self.start()]
        try:
            self.warm()
            root = dags.bomb.enqueue()
            time.sleep(seconds)
            with self.connection() as connection:
                size = connection.execute(
                    "SELECT count(*) FROM fairchild_jobs_base WHERE workflow_id = %s", [root.id]
                ).fetchone()
            began = time.monotonic()
            self.client.workflows.get(root.id).cancel("a bomb")
            cancelled = time.monotonic() - began
            self.client.wait(dags.noop.enqueue(1), PATIENCE)
            healthy = time.monotonic() - began
            assert size is not None
            print(
                f"a bomb of {size[0]:,} jobs after {seconds:.0f} s: cancelled in {cancelled:.1f} s, the next job has "
                f"run after {healthy:.1f} s (at most 60)",
                flush=True,
            )
            if healthy > 60:
                self.wrong.append("the queue was not healthy within 60 s after the bomb")
            self.client.wait([root.id], PATIENCE)
        finally:
            for process in processes:
                process.terminate()
                process.wait()

    def at_random(self, number: int, seed: int) -> None:
        """Random workflows under kills, then all of them retried under kills."""
        rng = random.Random(seed)
        first = seed * 10_000
        roots = {dags.flow.enqueue(each).id: dags.dag(each) for each in range(first, first + number)}
        expected = {root: dags.predict(nodes) for root, nodes in roots.items()}
        began = time.monotonic()
        kills = self._storm(rng)
        with self.connection() as connection:
            self.wrong += dags.differences(connection, roots, expected)[:10]
        retried = sum(bool(self.client.workflows.get(root).retry()) for root in roots)
        kills += self._storm(rng)
        again = {root: dags.predict(nodes, expected[root]) for root, nodes in roots.items()}
        with self.connection() as connection:
            self.wrong += dags.differences(connection, roots, again)[:10]
        jobs = sum(map(len, roots.values())) + number
        print(
            f"{number:,} random workflows of {jobs:,} jobs, {retried:,} of them retried, {kills} kills, "
            f"{time.monotonic() - began:.0f} s: {'see below' if self.wrong else 'all as they must be'}",
            flush=True,
        )

    def _storm(self, rng: random.Random) -> int:
        """Workers that are killed until nothing is left to do; how many were."""
        processes = [self.start("--lease", "2") for _ in range(3)]
        kills, ended, deadline = 0, 0, time.monotonic() + PATIENCE
        try:
            with self.connection() as connection:
                while True:
                    counted = connection.execute(
                        "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FROM fairchild_jobs_base"
                    ).fetchone()
                    assert counted is not None
                    left, number = counted
                    if left == 0:
                        return kills
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{left} jobs are stuck")
                    if number - left >= ended + STRIDE:  # whoever is killed has done something
                        ended = number - left
                        victim = rng.randrange(len(processes))
                        processes[victim].send_signal(signal.SIGKILL)
                        processes[victim].wait()
                        processes[victim] = self.start("--lease", "2")
                        kills += 1
                    # With a kill a second some job is in three of them, and that is what poison means. `make faults`
                    # forgives nobody; here it is the workflows that are looked at.
                    connection.execute(
                        "UPDATE fairchild_jobs_base SET losses = 0 WHERE losses > 0 AND ended_at IS NULL"
                    )
                    time.sleep(rng.uniform(0.1, 0.5))
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _memory(pid: int, what: str) -> int:
    """Megabytes, as the kernel counts them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) // 1024
    return 0


def main() -> int:
    """Read the command line, run all parts or some."""
    parser = argparse.ArgumentParser(prog="make workflows", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["wide", "very-wide", "deep", "bomb", "random"])
    given = parser.parse_args()
    scale = 10 if given.quick else 1
    with TemporaryServer() as server:
        show = Show(server.url)
        parts: dict[str, Callable[[], None]] = {
            "wide": lambda: show.wide(10_000 // scale, 3),
            "very-wide": lambda: show.very_wide(100_000 // scale),
            "deep": lambda: show.deep(1000 // scale, 50),
            "bomb": lambda: show.bomb(30 / scale),
            "random": lambda: show.at_random(1000 // scale, given.seed),
        }
        for name, part in parts.items():
            if given.only in (None, name):
                part()
        show.client.disconnect()
    print(*show.wrong, sep="\n")
    return 1 if show.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
