"""Workflows in workflows: a parent holds no thread while it waits, so depth needs no width."""

from __future__ import annotations

from typing import Any

import pytest

from fairchild import Record
from tests.support.app import App


@pytest.mark.parametrize("depth", [5, 20, 63])
def test_one_thread_completes_a_nest_of_any_depth(app: App, depth: int) -> None:
    @app.task
    def nest(left: int) -> Any:
        return nest(left - 1) if left else "bottom"

    job = nest.enqueue(depth)
    app.work(concurrency=1)

    assert app.result(job) == "bottom"
    assert app.store.sql("SELECT max(depth), count(*)::int FROM {jobs}") == [(depth, depth + 1)]


def test_a_nest_deeper_than_the_limit_fails_and_says_so(app: App) -> None:
    @app.task(max_attempts=1)
    def nest() -> Any:
        return nest()

    job = nest.enqueue()
    app.work(concurrency=2)
    (done,) = app.wait(job)

    assert done.reason == "child_failed"
    ((message,),) = app.store.sql("SELECT errors->0->>'message' FROM {jobs} WHERE depth = 64")
    assert "64 levels" in message


def test_every_level_may_combine_the_values_below_it(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def total(values: list[int]) -> Any:
        return Record(sum(values))

    @app.task
    def tree(levels: int, width: int) -> Any:
        if levels == 0:
            return leaf(1)
        return total([tree(levels - 1, width) for _ in range(width)])

    job = tree.enqueue(4, 3)
    app.work(concurrency=1)

    assert app.result(job) == 81


def test_the_portfolio_of_the_readme_has_its_value(app: App) -> None:
    @app.task
    def fetch_price(symbol: str) -> Any:
        return Record({"symbol": symbol, "price": len(symbol) * 10.0})

    @app.task
    def position_value(price: dict[str, Any], shares: int) -> Any:
        return Record(price["price"] * shares)

    @app.task
    def aggregate(values: list[float]) -> Any:
        return Record({"total": sum(values), "positions": len(values)})

    @app.task
    def portfolio(holdings: dict[str, int]) -> Any:
        return aggregate([position_value(fetch_price(symbol), shares=n) for symbol, n in holdings.items()])

    @app.task
    def report(value: dict[str, Any]) -> Any:
        return Record(f"{value['positions']} positions, {value['total']:.2f}")

    @app.task
    def main() -> Any:
        return report(portfolio({"A": 1, "BB": 2, "CCC": 3}))

    job = main.enqueue()
    app.work(concurrency=1)

    assert app.result(job) == "3 positions, 140.00"


def test_many_workflows_at_once_by_two_workers_all_complete(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task
    def middle(n: int) -> Any:
        return total([leaf(n), leaf(n)])

    @app.task
    def flow(n: int) -> Any:
        return total([middle(n), middle(n)])

    jobs = [flow.enqueue(n) for n in range(40)]
    app.work(concurrency=3)
    app.work(concurrency=3, client=app.other_client())

    assert [app.result(job) for job in jobs] == [4 * n for n in range(40)]
    assert app.store.sql("SELECT count(*) FROM {jobs} WHERE attempt <> 1") == [(0,)]
    assert app.store.sql("SELECT count(*) FROM {waiting}") == [(0,)]


def test_a_parent_that_waits_holds_no_claim(app: App) -> None:
    @app.task
    def child() -> None: ...

    @app.task
    def flow() -> None:
        child(_queue="nobody")  # type: ignore[call-arg]

    job = flow.enqueue()
    worker = app.work(queues=["default"], concurrency=1)
    app.reaches(job, "waiting")

    assert app.store.sql("SELECT count(*) FROM {claims}") == [(0,)]
    # and no thread: the only one is free for others
    assert app.wait(child.enqueue())[0].state == "completed"
    assert worker.alive
