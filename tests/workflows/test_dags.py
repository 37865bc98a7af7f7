"""Random workflows end as a model says, before and after a retry of the whole, and nothing waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from fairchild.db.settle import audit, sweep
from tests.support.app import App
from tests.workflows import dags

LARGE = 40
PATIENCE = 240.0


def _check(app: App, roots: dict[UUID, list[dags.Node]], expected: dict[UUID, list[dags.End]]) -> None:
    with psycopg.connect(app.url, autocommit=True) as connection:
        assert dags.differences(connection, roots, expected) == []


@pytest.fixture
def ready(app: App) -> App:
    app.store.link.script(dags.SETUP)
    for each in (dags.node, dags.flow):
        app.client.registry.register(each)
    return app


@pytest.mark.slow
@pytest.mark.parametrize("composed", [False, True])
def test_random_workflows_end_as_they_must_before_and_after_a_retry(ready: App, composed: bool) -> None:
    roots: dict[UUID, list[dags.Node]] = {}
    for seed in range(24):
        nodes = dags.dag(seed, LARGE if seed % 10 else dags.MAX_NODES)
        if composed:
            with ready.client.workflow("dag") as w:
                dags.call(nodes)
            roots[w.id] = nodes
        else:
            roots[dags.flow.enqueue(seed, LARGE if seed % 10 else dags.MAX_NODES).id] = nodes
    ready.work(concurrency=4)
    ready.client.wait(roots, PATIENCE)
    first = {root: dags.predict(nodes) for root, nodes in roots.items()}
    _check(ready, roots, first)

    assert {each.state for ends in first.values() for each in ends} == {"completed", "failed", "cancelled"}
    for root in roots:
        ready.client.workflows.get(root).retry()
    jobs = ready.store.sql("SELECT id FROM {jobs} WHERE state = 'pending'")
    ready.client.wait([*roots, *(each[0] for each in jobs)], PATIENCE)
    _check(ready, roots, {root: dags.predict(nodes, first[root]) for root, nodes in roots.items()})


@pytest.mark.slow
def test_after_a_small_storm_of_kills_the_sweep_and_the_audit_find_nothing(ready: App, tmp_path: Path) -> None:
    roots = {dags.flow.enqueue(seed, LARGE).id: dags.dag(seed, LARGE) for seed in range(1000, 1040)}
    command = [
        sys.executable, "-m", "fairchild", "worker", "--import", "tests.workflows.dags", "--concurrency", "4",
        "--lease", "2", "--poll-interval", "0.2", "--log-level", "error",
    ]  # fmt: skip

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env={**os.environ, "FAIRCHILD_DATABASE_URL": ready.url})

    processes = [start(), start()]
    wrong: list[object] = []
    try:
        kills, deadline = 0, time.monotonic() + PATIENCE
        while ready.store.sql("SELECT true FROM {jobs} WHERE state = 'pending' LIMIT 1"):
            assert time.monotonic() < deadline, "jobs are stuck"
            done = ready.store.sql("SELECT count(*)::int FROM {jobs} WHERE state <> 'pending'")[0][0]
            if kills < 6 and done > kills * 100:
                processes[kills % 2].send_signal(signal.SIGKILL)
                processes[kills % 2].wait()
                processes[kills % 2] = start()
                kills += 1
            # Innocents are not condemned here; whether they are is another test's question.
            ready.store.sql("UPDATE {jobs} SET losses = 0 WHERE losses > 0 AND state = 'pending'")
            after: UUID | None = UUID(int=0)
            while after is not None:
                after, found = audit(ready.store.link, after)
                wrong.extend(found)
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert kills == 6
    assert wrong == []
    assert sweep(ready.store.link) == 0
    _check(ready, roots, {root: dags.predict(nodes) for root, nodes in roots.items()})
