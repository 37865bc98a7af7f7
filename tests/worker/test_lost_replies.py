"""Statements of a worker whose reply never came (fault F27), through a network that eats it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fairchild import Fairchild
from fairchild.worker import Worker
from tests.support.app import App
from tests.support.eventually import eventually
from tests.support.proxy import Proxy, proxy_to

CLAIM = b'"floor"'
FINISH = b'"spent"'
"""What only the values of these statements hold."""


@pytest.fixture
def proxy(app: App) -> Iterator[Proxy]:
    with proxy_to(app.url) as proxy:
        yield proxy


@pytest.fixture
def far(app: App, proxy: Proxy) -> Iterator[Fairchild]:
    """A worker's client on the other side of the proxy."""
    client = Fairchild(proxy.url, registry=app.client.registry)
    client.connect()
    yield client
    for worker in app.workers:
        worker.stop()
    client.disconnect()


def started(app: App, far: Fairchild, warm: Any) -> Worker:
    """A worker that has run a job, so that its statements are prepared."""
    worker = app.work(client=far, concurrency=2)
    app.wait(warm.enqueue())
    eventually(lambda: worker._pool.held() == 0)
    return worker


def test_f27_jobs_of_a_claim_that_was_not_answered_run_at_once(app: App, far: Fairchild, proxy: Proxy) -> None:
    @app.task
    def work() -> int:
        return 1

    worker = started(app, far, work)
    proxy.eat_reply(CLAIM)
    job = work.enqueue()

    assert app.result(job) == 1
    assert proxy.eaten == 1
    found = app.get(job)
    assert (found.attempt, found.errors) == (1, [])
    assert app.store.sql("SELECT losses FROM {jobs} WHERE id = %(id)s", id=job.id) == [(0,)]
    assert worker.alive


@pytest.mark.parametrize("round_number", range(3))
def test_f27_an_outcome_that_was_not_answered_is_recorded_once(
    app: App, far: Fairchild, proxy: Proxy, round_number: int
) -> None:
    runs: list[int] = []

    @app.task
    def work(n: int = 0) -> int:
        runs.append(n)
        return n

    started(app, far, work)
    proxy.eat_reply(FINISH)
    jobs = [work.enqueue(n) for n in range(1, 21)]

    assert [app.result(job) for job in jobs] == list(range(1, 21))
    assert proxy.eaten == 1
    assert sorted(runs) == list(range(21))
    assert app.store.sql("SELECT count(*) FROM {claims}") == [(0,)]
    assert app.store.sql("SELECT sum(n)::int FROM {counters}") == [(21,)]


def test_f27_children_of_an_outcome_whose_commit_was_not_answered_are_there_once(
    app: App, far: Fairchild, proxy: Proxy
) -> None:
    runs: list[int] = []

    @app.task
    def child(n: int) -> int:
        runs.append(n)
        return n

    @app.task
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task
    def parent(width: int = 1) -> Any:
        return total([child(n) for n in range(width)])

    started(app, far, parent)
    runs.clear()
    proxy.eat_reply(b"COMMIT")
    job = parent.enqueue(10)

    assert app.result(job) == 45
    assert proxy.eaten == 1
    assert sorted(runs) == list(range(10))
    assert len(app.children(job)) == 11
