"""``python -m tests.durable.show``: durable tasks killed at random between any two calls. Exit 1 if it shows."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from fairchild import Fairchild
from fairchild.embedded import TemporaryServer
from fairchild.worker import Worker
from tests.durable import jobs, restart

CHILDREN = 7
STEPS = {"charge", "mail"}


@dataclass
class Verdict:
    """What came of it. ``wrong``: what must not be, in words."""

    jobs: int
    kills: int
    runs: int
    wrong: list[str] = field(default_factory=list)


def kill(url: str, kills: int, number: int, patience: float) -> Verdict:
    """Run durable jobs on a fresh database, ``number`` by ``number``, until ``kills`` of their processes died."""
    client = Fairchild(url)
    client.install()
    with psycopg.connect(url, autocommit=True) as connection, client:
        connection.execute(jobs.SETUP.encode())
        connection.execute("INSERT INTO kills VALUES (%s)", (kills,))
        ids: list[UUID] = []
        workers = [
            Worker(client, {"durable": 2}, concurrency=2, poll_interval=0.1),
            Worker(client, ["children"], concurrency=2, poll_interval=0.1),
        ]
        try:
            for worker in workers:
                worker.start()
            while not ids or connection.execute("SELECT left_over FROM kills").fetchone() != (0,):
                ids += client.enqueue_many(jobs.travel, ({"n": len(ids) + n} for n in range(number)))
                client.wait(ids, timeout=patience)
            ended = client.wait(ids)
        finally:
            for worker in workers:
                worker.stop(timeout=10)
        return _judge(connection, client, ended, kills)


def _judge(connection: psycopg.Connection[Any], client: Fairchild, ended: list[Any], kills: int) -> Verdict:
    def ask(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query.encode()).fetchall()

    verdict = Verdict(len(ended), kills, ask("SELECT count(*) FROM seen WHERE call = 'begin'")[0][0])
    for n, job in enumerate(ended):
        expected = [2 * n, [0, 2, 4]]
        if job.state != "completed" or job.result != expected:
            verdict.wrong.append(f"job {job.id} is {job.state} with {job.result!r} instead of {expected}")
        if client.xcom.pull(job.id, "runs", default=None) != 1:
            verdict.wrong.append(f"job {job.id} has shared its value more than once, or not at all")
    wrong = {
        "a call gave different values": """
            SELECT job, call FROM seen GROUP BY job, call HAVING count(DISTINCT value) > 1""",
        "not every child once": f"""
            SELECT p.id, count(c.id) FROM fairchild_jobs p LEFT JOIN fairchild_jobs c ON c.parent_id = p.id
             WHERE p.parent_id IS NULL GROUP BY p.id HAVING count(c.id) <> {CHILDREN}""",
        "a child that did not run once": """
            SELECT c.id FROM fairchild_jobs c LEFT JOIN effects e ON e.job = c.id::text
             WHERE c.parent_id IS NOT NULL GROUP BY c.id, c.task
            HAVING count(e.effect) <> CASE WHEN c.task LIKE '%double' THEN 1 ELSE 0 END""",
        "a step that was not done once": """
            SELECT job, effect, count(*) FROM effects WHERE effect <> 'double' GROUP BY job, effect
            HAVING count(*) <> 1""",
        "steps that are missing": f"""
            SELECT p.id FROM fairchild_jobs p LEFT JOIN effects e ON e.job = p.id::text
             WHERE p.parent_id IS NULL GROUP BY p.id HAVING count(e.effect) <> {len(STEPS)}""",
        "attempts were spent": """
            SELECT id, attempt, (SELECT jsonb_agg(e) FROM jsonb_array_elements(errors) e WHERE e ->> 'kind' <> 'lost')
              FROM fairchild_jobs WHERE parent_id IS NULL AND attempt <> 1""",
    }
    for what, query in wrong.items():
        verdict.wrong += [f"{what}: {row}" for row in ask(query)]
    return verdict


def main() -> int:
    """Read the command line, kill, print the verdict; then sleep two hours across a restart of everything."""
    parser = argparse.ArgumentParser(prog="make durable", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=None, help="how many at a time; by default one for ten kills")
    given = parser.parse_args()
    logging.getLogger("fairchild").setLevel(logging.CRITICAL)  # it has much to say about every death
    number = given.jobs if given.jobs is not None else max(3, given.kills // 10)
    started = time.monotonic()
    with TemporaryServer() as server:
        verdict = kill(server.url, given.kills, number, patience=3600.0)
    print(
        f"{verdict.kills} kills between calls of {verdict.jobs} durable jobs, {verdict.runs} runs, "
        f"{time.monotonic() - started:.0f} s: "
        + ("something is wrong" if verdict.wrong else "same children, same values, each step and each result once")
    )
    print(*verdict.wrong, sep="\n")
    with tempfile.TemporaryDirectory(prefix="fairchild-durable-") as folder:
        told = restart.nap_across_a_restart(folder)
    print(told)
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
