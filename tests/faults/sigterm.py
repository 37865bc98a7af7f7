"""Workers told to stop while jobs of any length run: they end in time, nothing is lost and no attempt is spent."""

from __future__ import annotations

import random
import signal
import time

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew, Member
from tests.faults.ledger import PENDING, WITNESS_TABLES
from tests.faults.report import Report, percentile, seconds
from tests.support.eventually import eventually

ROUNDS = 200
SIDE_BY_SIDE = 4
JOBS = 6
"""Each worker runs at most so many at once."""
GRACE = 2.0
LONGEST = 5.0
BEYOND = 2.0
"""Seconds, after the grace, or after a second signal."""
SECOND_EVERY = 5
PATIENCE = 60.0


def run(size: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    once: list[float] = []
    twice: list[float] = []
    codes: set[int] = set()
    with cluster() as server, Fairchild(server.url) as client:
        server.rows(WITNESS_TABLES)
        made = 0
        for first in range(0, int(size), SIDE_BY_SIDE):
            count = min(SIDE_BY_SIDE, int(size) - first)
            made += _enqueue(client, rng, count * JOBS - _pending(server))
            with Crew(server.url, "-c", str(JOBS), "--shutdown-timeout", str(GRACE)) as crew:
                members = [crew.start() for _ in range(count)]
                eventually(lambda members=members: _all_work(server, members), PATIENCE)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 1.0))
                again = (first // SIDE_BY_SIDE) % SECOND_EVERY == SECOND_EVERY - 1
                (twice if again else once).extend(_end(members, rng, again=again))
                codes |= {each.process.returncode for each in members}
            left = server.value("SELECT count(*) FROM fairchild_claims")
            if left:
                report.details.append(f"round {first}: {left} jobs were still claimed when their workers had ended")
        with Crew(server.url) as crew:
            crew.start()
            eventually(lambda: _pending(server) == 0, PATIENCE + size)
        odd = server.rows(
            "SELECT id, state, attempt, losses, errors FROM fairchild_jobs_base "
            "WHERE state <> 'completed' OR attempt <> 1 OR losses > 0"
        )
        there = server.value("SELECT count(*) FROM fairchild_jobs_base")
        interrupted = server.value("SELECT count(*) FROM fx") - there
    report.figure("workers told to stop", f"{len(once)} once, {len(twice)} twice")
    report.figure("jobs", there)
    report.figure("starts beyond one for each job", interrupted)
    report.figure(f"from the signal to the end (grace {GRACE:g} s)", seconds(once))
    report.figure("from the second signal to the end", seconds(twice))
    report.promise("nothing lost, no attempt spent", not odd and there == made)
    report.promise("no job was left to a rescue", not report.details)
    report.promise("exit codes 0, and 130 after two signals", codes <= {0, 130})
    limit = GRACE + BEYOND
    report.promise(f"every worker ended within grace + {BEYOND:g} s", percentile(once, 1.0) <= limit, timed=True)
    if twice:
        within = percentile(twice, 1.0) <= BEYOND
        report.promise(f"within {BEYOND:g} s of a second signal", within, timed=True)
    report.details += [str(each) for each in odd]
    return report


def _enqueue(client: Fairchild, rng: random.Random, count: int) -> int:
    for task in (jobs.steps, jobs.piece):
        client.enqueue_many(task, ({"seconds": rng.uniform(0.0, LONGEST)} for _ in range(max(0, count // 2))))
    return 2 * max(0, count // 2)


def _pending(server: Cluster) -> int:
    found: int = server.value(PENDING)
    return found


def _all_work(server: Cluster, members: list[Member]) -> bool:
    """Whether each of them has begun a job by now; or there is none left that could be begun."""
    begun = {row[0] for row in server.rows("SELECT DISTINCT pid FROM fx")}
    there = server.value("SELECT count(*) FROM fairchild_sessions WHERE state = 'running'") >= len(members)
    return there and (
        all(each.pid in begun for each in members) or server.value("SELECT count(*) FROM fairchild_ready") == 0
    )


def _end(members: list[Member], rng: random.Random, *, again: bool) -> list[float]:
    """Tell them to stop; how long each took, from the second signal where there is one."""
    sent = {}
    for each in members:
        each.terminate()
        sent[each.pid] = time.monotonic()
    if again:
        time.sleep(rng.uniform(0.05, 0.5))
        for each in members:
            if each.alive():
                each.process.send_signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
                sent[each.pid] = time.monotonic()
    took = []
    left = list(members)
    while left:
        for each in [each for each in left if not each.alive()]:
            took.append(time.monotonic() - sent[each.pid])
            left.remove(each)
        if left and time.monotonic() - sent[left[0].pid] > PATIENCE:
            raise TimeoutError(f"a worker does not end: {left[0].said()}")
        time.sleep(0.005)
    return took
