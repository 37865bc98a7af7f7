"""How soon every worker claims again once a server that was restarted accepts connections."""

from __future__ import annotations

import random
import time
from uuid import UUID

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew
from tests.faults.report import Report, percentile, seconds
from tests.support.eventually import eventually

RESTARTS = 50
WORKERS = 4
CONCURRENCY = 2
NAP_SECONDS = 0.05
P99_SECONDS = 2.0
PATIENCE = 60.0
MODES = ("fast", "immediate", "crash")

CLAIMS = """
CREATE TABLE claimed (session uuid NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON claimed (at);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO claimed (session) VALUES (NEW.session);
  RETURN NULL;
END $$;
CREATE TRIGGER note_claim AFTER INSERT ON fairchild_claims FOR EACH ROW EXECUTE FUNCTION note_claim();
"""


def run(size: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    took: list[float] = []
    silent = 0
    with cluster() as server, Fairchild(server.url) as client, Crew(server.url, "-c", str(CONCURRENCY)) as crew:
        server.rows(CLAIMS)
        for _ in range(WORKERS):
            crew.start()
        feed(server, client)
        eventually(lambda: len(claims(server, 0.0)) == WORKERS, PATIENCE)
        for number in range(int(size)):
            feed(server, client)
            time.sleep(rng.uniform(0.2, 1.5))
            server.restart(MODES[number % len(MODES)])
            accepts = server.value("SELECT extract(epoch FROM clock_timestamp())::float8")
            try:
                eventually(lambda at=accepts: len(claims(server, at)) >= WORKERS, PATIENCE)  # type: ignore[misc]
            except AssertionError:
                silent += WORKERS - len(claims(server, accepts))
            took += [at - accepts for at in claims(server, accepts).values()]
        dead = server.value("SELECT count(*) FROM fairchild_sessions WHERE state = 'dead'")
        failed = server.value("SELECT count(*) FROM fairchild_jobs_base WHERE state = 'failed'")
        exited = sum(not each.alive() for each in crew.members)
    report.figure("restarts (fast, immediate, crash of one server process)", int(size))
    report.figure("from the server's return to a worker's next claim", seconds(took))
    report.promise("every worker claimed again after each", silent == 0 and exited == 0)
    report.promise("nobody was taken for dead, no job failed", dead == failed == 0)
    report.promise(f"within {P99_SECONDS:g} s (p99)", percentile(took, 0.99) <= P99_SECONDS, timed=True)
    return report


def feed(server: Cluster, client: Fairchild) -> None:
    """See to it that there is something to claim for a while."""
    if server.value("SELECT count(*) FROM (SELECT FROM fairchild_ready LIMIT 1001) x") <= 1000:
        client.enqueue_many(jobs.nap, ({"seconds": NAP_SECONDS} for _ in range(3000)))


def claims(server: Cluster, since: float) -> dict[UUID, float]:
    """When each session claimed first since then."""
    rows = server.rows(
        "SELECT session, extract(epoch FROM min(at))::float8 FROM claimed WHERE at > to_timestamp(%s) GROUP BY session",
        [since],
    )
    return dict(rows)
