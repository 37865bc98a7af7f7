"""How far a workflow may grow, and what a task hears that goes further."""

from __future__ import annotations

from typing import Any

import pytest

from fairchild import Fairchild, current_job
from fairchild.config import Config, Limits
from fairchild.errors import ConfigError, JobFailed, UsageError
from tests.support.app import PATIENCE, App


def _limited(app: App, **limits: int) -> Fairchild:
    """The application with a client that has these limits."""
    app.client.disconnect()
    app.client = Fairchild(app.url, registry=app.client.registry, **limits)  # type: ignore[arg-type]
    return app.client.connect()


def test_limits_come_from_arguments_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"FAIRCHILD_MAX_DEPTH": "5", "FAIRCHILD_MAX_CHILDREN": "6", "FAIRCHILD_MAX_DESCENDANTS": ""}

    assert Config.load("postgresql://", environ={}).limits == Limits(64, 100_000, 1_000_000)
    assert Config.load("postgresql://", environ=environment, max_depth=4).limits == Limits(4, 6, 1_000_000)
    for wrong in ("0", "-1", "many", "3000000000"):
        with pytest.raises(ConfigError, match="FAIRCHILD_MAX_DESCENDANTS must be a whole number from 1"):
            Config.load("postgresql://", environ={"FAIRCHILD_MAX_DESCENDANTS": wrong})
    with pytest.raises(ConfigError, match="max_depth must be"):
        Config.load("postgresql://", environ={}, max_depth=0)


def test_one_call_too_many_raises_at_the_call(app: App) -> None:
    @app.task
    def leaf() -> None: ...

    @app.task
    def flow() -> str:
        for _ in range(3):
            leaf()
        with pytest.raises(UsageError, match="has called 3 tasks, the most one attempt may call"):
            leaf()
        return "heard"

    _limited(app, max_children=3)
    job = flow.enqueue()
    app.work()

    assert app.result(job) == "heard"
    assert len(app.children(job)) == 3


def test_a_level_too_many_raises_at_the_call(app: App) -> None:
    @app.task(max_attempts=1)
    def nest() -> Any:
        return nest()

    _limited(app, max_depth=3)
    job = nest.enqueue()
    app.work()
    app.wait(job)
    (deepest,) = app.store.sql("SELECT depth, errors -> -1 ->> 'message' FROM {jobs} WHERE reason = 'error'")

    assert deepest[0] == 3
    assert "may have 3 levels" in deepest[1]


def test_a_workflow_with_too_many_jobs_gets_no_more_and_says_so(app: App) -> None:
    heard: list[str] = []

    @app.task(max_attempts=1)
    def bomb() -> None:
        try:
            for _ in range(3):
                bomb()
        except UsageError as error:
            heard.append(str(error))
            raise

    _limited(app, max_descendants=40)
    job = bomb.enqueue()
    app.work(concurrency=2)
    with pytest.raises(JobFailed):
        app.result(job)
    (number,) = app.store.sql("SELECT count(*)::int - 1 FROM {jobs}")[0]

    # One worker records at a time, so this is exact.
    assert number == 39
    assert all("more than 40 jobs (max_descendants)" in each for each in heard)
    messages = app.store.sql("SELECT DISTINCT errors -> -1 ->> 'message' FROM {jobs} WHERE reason = 'error'")
    assert messages
    assert all("max_descendants" in each[0] for each in messages)


def test_a_block_has_the_same_limits(app: App) -> None:
    @app.task
    def leaf() -> None: ...

    def compose(**limits: int) -> None:
        with _limited(app, **limits).workflow("w"):
            leaf.map([], [])
            for _ in range(3):
                leaf()

    with pytest.raises(UsageError, match="has 2 calls, the most one may have"):
        compose(max_children=2)
    with pytest.raises(UsageError, match="more than 2 jobs"):
        compose(max_descendants=2)
    assert app.store.sql("SELECT count(*)::int FROM {jobs}") == [(0,)]


def test_small_workflows_are_not_counted(app: App) -> None:
    @app.task
    def leaf() -> None: ...

    @app.task
    def flow() -> None:
        leaf()
        assert current_job().children_spawned == 1

    job = flow.enqueue()
    app.work()
    app.wait(job)

    assert app.client.room_below(job.id) is None
    assert PATIENCE
