"""A job that kills its process every time, beside many that do nothing wrong."""

from __future__ import annotations

import random

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import cluster
from tests.faults.crew import Crew
from tests.faults.ledger import PENDING
from tests.faults.report import Report
from tests.support.eventually import eventually

INNOCENTS = 1_000
CONCURRENCY = 15
PATIENCE = 300.0
LEFT = "SELECT id, task, state, attempt, losses, errors FROM fairchild_jobs_base WHERE state = 'pending' LIMIT 5"


def run(size: float, rng: random.Random) -> Report:
    """The section. Some run when it strikes, some are claimed, some come later."""
    report = Report()
    half = int(size) // 2
    options = ("--processes", "2", "-c", str(CONCURRENCY), "--lease", "2", "--poll-interval", "0.1")
    with cluster() as server, Fairchild(server.url) as client, Crew(server.url, *options) as crew:
        client.enqueue_many(jobs.innocent, ({"n": n, "seconds": rng.uniform(0.0, 0.2)} for n in range(half)))
        killer = client.enqueue(jobs.killer, {"after": 0.1})
        client.enqueue_many(jobs.innocent, ({"n": n, "seconds": rng.uniform(0.0, 0.2)} for n in range(half, int(size))))
        crew.start()
        eventually(lambda: server.value(PENDING) == 0, PATIENCE, what=lambda: server.rows(LEFT))
        crew.stop()
        rows = server.rows(
            "SELECT state, attempt, count(*)::int, max(losses)::int, count(*) FILTER (WHERE losses > 0)::int "
            "FROM fairchild_jobs_base WHERE task = 'faults.innocent' GROUP BY 1, 2"
        )
        guilty = client.get_job(killer.id)
        deaths = server.value("SELECT count(*) FROM fairchild_sessions WHERE state = 'dead'")
    report.figure("innocent jobs", int(size))
    report.figure("of these held in a death of a worker", sum(row[4] for row in rows))
    report.figure("workers killed", deaths)
    assert guilty is not None
    report.figure("the other job", f"{guilty.state} ({guilty.reason}) after {len(guilty.errors)} deaths")
    report.promise("none failed, none charged an attempt", [row[:3] for row in rows] == [("completed", 1, int(size))])
    report.promise("the killer failed as poison, no attempt spent", (guilty.reason, guilty.attempt) == ("poison", 0))
    report.promise("it killed one worker", deaths == 1)
    report.details = [str(row) for row in rows] if report.broken else []
    return report
