"""What looks like the death of a worker and is none: nobody may be taken for dead, and no job may be taken away.

Workers of the default lease run jobs while the clocks of their processes jump, the server's clock jumps, the server is
away, one of those that watch the others is frozen, and C code holds Python's lock. All of it is measured in leases.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew
from tests.faults.ledger import PENDING, WITNESS_TABLES
from tests.faults.report import Report
from tests.support.eventually import eventually

LEASE = 30.0
JUMPS = ("+2h", "-2h", "+0")
OUTAGE = 2.0
"""60 s of the default lease."""
FROZEN = 1.3
HELD = 1 / 3
"""10 s of it."""
HOLDS = 5
WORKERS = 3
PATIENCE = 120.0
LIBRARIES = "*/faketime/libfaketimeMT.so.1"


class Watched:
    """A server, workers on it, and what was seen of both."""

    def __init__(self, server: Cluster, client: Fairchild, crew: Crew, lease: float) -> None:
        self.server = server
        self.client = client
        self.crew = crew
        self.lease = lease

    def keep_busy(self, leases: float) -> None:
        """Two jobs a worker that take so long, all of them begun."""
        count = 2 * WORKERS
        before = self.server.value("SELECT count(*) FROM fx")
        self.client.enqueue_many(jobs.steps, ({"seconds": leases * self.lease} for _ in range(count)))
        eventually(lambda: self.server.value("SELECT count(*) FROM fx") == before + count, PATIENCE)

    def finish(self) -> None:
        eventually(lambda: self.server.value(PENDING) == 0, PATIENCE + 4 * self.lease)

    def dead(self) -> int:
        """Sessions that were taken for dead."""
        return int(self.server.value("SELECT count(*) FROM fairchild_sessions WHERE state = 'dead'"))

    def lost(self) -> int:
        """Jobs that somebody took away from a worker."""
        return int(
            self.server.value(
                "SELECT count(*) FROM fairchild_jobs_base j, jsonb_array_elements(j.errors) e WHERE e->>'kind' = 'lost'"
            )
        )

    def starts(self) -> str:
        """How many jobs, and how often they began."""
        found = self.server.rows("SELECT (SELECT count(*) FROM fairchild_jobs_base), (SELECT count(*) FROM fx)")[0]
        return f"{found[0]} jobs, {found[1]} starts"


class Clock:
    """A clock that jumps, of all processes that are started with ``environment``."""

    def __init__(self, library: str, folder: str) -> None:
        self._file = Path(folder) / "clock"
        Path(folder).chmod(0o755)
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.rename(self._file)  # nobody reads half of it


@contextmanager
def _watched(
    lease: float, *, server_clock: Clock | None = None, worker_clock: Clock | None = None, concurrency: int = 4
) -> Iterator[Watched]:
    options = ("--lease", str(lease), "-c", str(concurrency))
    with cluster(server_clock.environment if server_clock else None) as server, Fairchild(server.url) as client:
        server.rows(WITNESS_TABLES)
        with Crew(server.url, *options) as crew:
            for _ in range(WORKERS):
                crew.start(more=worker_clock.environment if worker_clock else None)
            workers = "SELECT count(*) FROM fairchild_sessions"
            eventually(lambda: server.value(workers) == WORKERS, PATIENCE)
            yield Watched(server, client, crew, lease)


def _clocks(report: Report, lease: float, rng: random.Random) -> None:
    found = [str(each) for each in Path("/usr/lib").glob(LIBRARIES)]
    for name in ("workers", "server"):
        if not found:
            report.figure(f"clock of the {name} jumps", "skipped: libfaketime is not installed (Debian: faketime)")
            continue
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock(found[0], folder)
            of_workers = name == "workers"
            with _watched(
                lease, server_clock=None if of_workers else clock, worker_clock=clock if of_workers else None
            ) as watched:
                watched.keep_busy(0.8 * len(JUMPS))
                jumped = []
                for offset in JUMPS:
                    clock.set(offset)
                    jumped.append(_clock_of(watched, name))
                    time.sleep(0.7 * lease)
                watched.finish()
                report.promise(f"the clock of the {name} did jump", _apart(jumped))
                _judge(report, f"clock of the {name} jumps by 2 h, forth and back", watched)


def _clock_of(watched: Watched, name: str) -> float:
    """What time it is there, less what it is here."""
    if name == "server":
        return float(watched.server.value("SELECT extract(epoch FROM clock_timestamp())")) - time.time()
    job = watched.client.enqueue(jobs.clock, {})
    return float(watched.client.get_result(job.id, timeout=PATIENCE)) - time.time()


def _apart(jumped: list[float]) -> bool:
    return jumped[0] > 7000 and jumped[1] < -7000 and abs(jumped[2]) < 60


def _outage(report: Report, lease: float, rng: random.Random) -> None:
    with _watched(lease) as watched:
        watched.keep_busy(OUTAGE + 1)
        watched.server.stop("fast")
        time.sleep(OUTAGE * lease)
        watched.server.start()
        watched.finish()
        _judge(report, f"the server is away for {OUTAGE * lease:g} s", watched)


def _frozen(report: Report, lease: float, rng: random.Random) -> None:
    """It wakes up and has not looked for long: what it saw last says nothing. The others rightly took it for dead."""
    with _watched(lease) as watched:
        watched.keep_busy(2 * FROZEN)
        frozen = rng.choice(watched.crew.members)
        frozen.freeze()
        time.sleep(FROZEN * lease)
        frozen.thaw()
        watched.finish()
        time.sleep(lease)  # for it to make its mistake, if it makes one
        session = "SELECT count(*) FROM fairchild_sessions WHERE state = 'dead' AND pid <> %s"
        others = watched.server.value(session, [frozen.pid])
        report.figure(f"an observer is frozen for {FROZEN * lease:g} s", f"{watched.starts()}, {others} false deaths")
        report.promise("a frozen observer: 0 false rescues", others == 0)


def _all_frozen(report: Report, lease: float, rng: random.Random) -> None:
    """Everybody is, one after the other wakes up, and each finds that nobody has beaten for long."""
    with _watched(lease) as watched:
        watched.keep_busy(2 * FROZEN)
        for each in watched.crew.members:
            each.freeze()
        time.sleep(FROZEN * lease)
        for each in watched.crew.members:
            each.thaw()
            time.sleep(0.02 * lease)
        watched.finish()
        _judge(report, f"all are frozen for {FROZEN * lease:g} s", watched)


def _held(report: Report, lease: float, rng: random.Random) -> None:
    with _watched(lease, concurrency=1) as watched:
        for _ in range(HOLDS):
            time.sleep(rng.uniform(0.0, lease / 6))  # at any moment between two beats
            watched.client.enqueue_many(jobs.gil, ({"seconds": HELD * lease} for _ in range(WORKERS)))
            watched.finish()
        _judge(report, f"C code holds the GIL for {HELD * lease:g} s, {HOLDS * WORKERS} times", watched)


def _judge(report: Report, what: str, watched: Watched) -> None:
    dead, lost = watched.dead(), watched.lost()
    report.figure(what, f"{watched.starts()}, {dead} taken for dead, {lost} jobs taken away")
    report.promise(f"{what}: 0 false rescues", dead == lost == 0)


PARTS: tuple[Callable[[Report, float, random.Random], None], ...] = (_clocks, _outage, _frozen, _all_frozen, _held)


def run(size: float, rng: random.Random) -> Report:
    """The section; ``size`` is the lease in seconds."""
    report = Report()
    for part in PARTS:
        part(report, size, rng)
    return report
