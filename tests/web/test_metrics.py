"""/metrics: what a collector reads, and that its counters only grow."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from fairchild.db import history
from tests.support.app import App
from tests.support.eventually import eventually


def scraped(site: FlaskClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = site.get("/ops/metrics")
    assert answer.status_code == 200
    assert answer.mimetype == "text/plain"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_queues_tasks_and_workers_are_told(app: App, site: FlaskClient) -> None:
    @app.task(name="shop.pay", queue="money", max_attempts=1)
    def pay(n: int) -> None:
        if n == 0:
            raise ValueError("no")

    app.client.enqueue_many("shop.pay", [{"n": n} for n in range(5)])
    before = scraped(site)
    assert before["fairchild_jobs", (("queue", "money"), ("state", "available"))] == 5
    assert before["fairchild_queue_workers", (("queue", "money"),)] == 0
    worker = app.work(name="w1", concurrency=3)
    eventually(lambda: app.client.stats()["jobs"]["completed"] == 4)
    during = scraped(site)
    assert during["fairchild_queue_workers", (("queue", "money"),)] == 1
    assert during["fairchild_worker_slots", (("state", "free"),)] == 3
    assert during["fairchild_worker_heartbeat_timestamp_seconds", (("worker", "w1"),)] > 1e9
    worker.stop()  # what it has timed is written
    after = scraped(site)
    task = (("queue", "money"), ("task", "shop.pay"))
    for outcome, number in (("completed", 4), ("failed", 1), ("cancelled", 0)):
        assert after["fairchild_jobs_finished_total", (("outcome", outcome), *task)] == number
    assert after["fairchild_job_run_seconds_count", task] == 5
    assert 0 < after["fairchild_job_run_seconds_sum", task] < 60
    assert after["fairchild_job_run_seconds_bucket", (("le", "+Inf"), *task)] == 5
    assert after["fairchild_jobs", (("queue", "money"), ("state", "completed"))] == 4


def test_totals_only_grow_whatever_becomes_of_jobs_and_of_their_minutes(app: App) -> None:
    def totals() -> dict[str, Any]:
        (found,) = app.client.totals()
        return {name: found[name] for name in ("completed", "failed", "cancelled")} | {"ran": found["run"]["count"]}

    app.task(name="t")(lambda: 1)
    worker = app.work()
    jobs = [app.client.enqueue("t") for _ in range(3)]
    app.wait(*jobs)
    worker.stop()
    wanted = {"completed": 3, "failed": 0, "cancelled": 0, "ran": 3}
    assert totals() == wanted
    app.client.delete(jobs[0])
    app.client.retry(jobs[1])
    assert totals() == wanted
    for minutes in (0, 3, 3, 60, 3 * 1440, 100 * 1440):
        for table in ("minutes", "counters"):  # as if so much time had passed
            app.store.sql(
                f"UPDATE {{{table}}} SET minute = minute - %(by)s * interval '1 minute' WHERE minute > 'epoch'",
                by=minutes,
            )
        app.store.sql(
            "UPDATE {minutes} SET inserted = inserted - %(by)s * 60 WHERE minute = 'epoch' AND task = ''", by=minutes
        )
        for _ in range(2):
            history.roll_up(app.store.link)
            assert totals() == wanted, minutes
    assert app.store.sql("SELECT count(*) FROM {minutes} WHERE minute > 'epoch' AND task <> ''") == [(0,)]


def test_without_the_extra_it_says_so(site: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        "fairchild.web.metrics.find_spec", lambda name: None if name == "prometheus_client" else real(name)
    )
    answer = site.get("/ops/metrics")
    assert answer.status_code == 501
    assert "fairchild[prometheus]" in answer.text
