"""How soon the job of a killed worker begins elsewhere.

Workers are killed one after the other, each while it holds jobs, and each is replaced; every fourth is the one that has
lived longest, which has watched the others for longest, too. What counts is from the kill to the witness of the
next start, both by the server's clock.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from uuid import UUID

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew, Member
from tests.faults.ledger import WITNESS_TABLES
from tests.faults.report import Report, percentile, seconds

KILLS = 200
WORKERS = 8
CONCURRENCY = 3
JOBS = 2 * WORKERS
WITNESSES = 2
"""Workers that are left alive at any time and have lived for two thirds of a lease."""
FOREVER = 86_400.0
PATIENCE = 120.0


@dataclass(frozen=True)
class Limits:
    """``lease`` None: by default. ``pause``: seconds from a kill to the next. ``p50``, ``p99``: what is promised."""

    lease: float | None
    pause: float
    p50: float
    p99: float


DEFAULT = Limits(None, 2.4, 16.0, 20.0)
SHORT = Limits(2.0, 1.5, 4.0, 4.0)


@dataclass
class _Lost:
    job: UUID
    fence: int
    at: float
    pid: int


class _Rounds:
    def __init__(self, server: Cluster, client: Fairchild, crew: Crew, rng: random.Random, grown: float) -> None:
        self.server = server
        self.client = client
        self.crew = crew
        self.rng = rng
        self.grown = grown
        self.kills = 0
        self.lost: list[_Lost] = []
        self.oldest = 0

    def victim(self) -> Member | None:
        """One that holds a job, unless too few would be left who have lived for long enough to notice its death."""
        held = set(self.held())
        found = [each for each in self.crew.living() if each.pid in held]
        elders = [each for each in self.crew.living() if time.monotonic() - each.started >= self.grown]
        if len(elders) <= WITNESSES:
            found = [each for each in found if each not in elders]
        elif self.oldest * 4 <= self.kills and elders[0] in found:
            self.oldest += 1
            return elders[0]
        return self.rng.choice(found) if found and len(elders) >= WITNESSES else None

    def held(self) -> dict[int, list[tuple[UUID, int]]]:
        """Which jobs that nobody lost before have begun in which process; with the fence of the claim."""
        held: dict[int, list[tuple[UUID, int]]] = {}
        for pid, job, fence in self.server.rows(
            "SELECT f.pid, f.job, f.fence FROM fx f JOIN fairchild_claims c ON c.job_id = f.job AND c.fence = f.fence "
            "WHERE (SELECT count(*) FROM fx other WHERE other.job = f.job) = 1"
        ):
            held.setdefault(pid, []).append((job, fence))
        return held

    def kill(self, patience: float) -> None:
        """Kill one that holds jobs; there are another worker and other jobs for it."""
        deadline = time.monotonic() + patience
        while (member := self.victim()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker can be killed: {[each.said() for each in self.crew.living()]}")
            time.sleep(0.05)
        at = self.server.value("SELECT extract(epoch FROM clock_timestamp())::float8")
        member.kill()
        self.kills += 1
        jobs_of_it = self.held().get(member.pid, [])
        self.lost += [_Lost(job, fence, at, member.pid) for job, fence in jobs_of_it]
        self.crew.start()
        for _ in jobs_of_it:
            self.client.enqueue(jobs.stay, {"seconds": FOREVER})

    def begun(self) -> dict[UUID, float]:
        """When each job of a killed worker began anew."""
        fences = {each.job: each.fence for each in self.lost}
        rows = self.server.rows(
            "SELECT job, fence, extract(epoch FROM at)::float8 FROM fx WHERE job = ANY(%s) ORDER BY at DESC",
            [list(fences)],
        )
        return {job: at for job, fence, at in rows if fence != fences[job]}  # of several the first, which comes last


def run(size: float, rng: random.Random, limits: Limits = DEFAULT) -> Report:
    """The section."""
    report = Report()
    options = [] if limits.lease is None else ["--lease", str(limits.lease)]
    lease = 30.0 if limits.lease is None else limits.lease
    with (
        cluster() as server,
        Fairchild(server.url) as client,
        Crew(server.url, "-c", str(CONCURRENCY), *options) as crew,
    ):
        server.rows(WITNESS_TABLES)
        for _ in range(WORKERS):
            crew.start()
        client.enqueue_many(jobs.stay, ({"seconds": FOREVER} for _ in range(JOBS)))
        rounds = _Rounds(server, client, crew, rng, lease * 2 / 3)
        for _ in range(int(size)):
            rounds.kill(PATIENCE)
            time.sleep(limits.pause * rng.uniform(0.5, 1.5))  # not in step with anybody's beats
        deadline = time.monotonic() + PATIENCE
        while len(begun := rounds.begun()) < len(rounds.lost) and time.monotonic() < deadline:
            time.sleep(0.2)
        dead = dict(
            server.rows("SELECT pid, extract(epoch FROM ended_at)::float8 FROM fairchild_sessions WHERE state = 'dead'")
        )
        poison = server.value("SELECT count(*) FROM fairchild_jobs_base WHERE state = 'failed'")
    took = [begun[each.job] - each.at for each in rounds.lost if each.job in begun]
    noticed = [dead[each.pid] - each.at for each in rounds.lost if each.pid in dead]
    report.figure("kills", rounds.kills)
    report.figure("of these the longest-lived worker", rounds.oldest)
    report.figure("jobs that they held", len(rounds.lost))
    report.figure("from the kill until it is noticed", seconds(noticed))
    report.figure("from the kill to the start elsewhere", seconds(took))
    report.promise(f"all {len(rounds.lost)} jobs began elsewhere", len(took) == len(rounds.lost))
    report.promise("nobody else was taken for dead", dead.keys() <= {each.pid for each in rounds.lost})
    report.promise("no job failed", poison == 0)
    report.promise(f"p50 at most {limits.p50:g} s", percentile(took, 0.5) <= limits.p50, timed=True)
    report.promise(f"p99 at most {limits.p99:g} s", percentile(took, 0.99) <= limits.p99, timed=True)
    return report


def run_short(size: float, rng: random.Random) -> Report:
    """The section, with a lease of two seconds."""
    return run(size, rng, SHORT)
