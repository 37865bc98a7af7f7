"""Code that changes while a job is suspended, and histories that are checked against it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairchild import NonDeterminismError, Record, gather, now, sleep, step, uuid, wait_signal
from fairchild.errors import JournalFull
from fairchild.rules import replay as rules
from fairchild.testing import replay
from tests.support.app import App


class Version:
    """Which code is deployed."""

    now = 1


@pytest.fixture
def version() -> type[Version]:
    Version.now = 1
    return Version


def test_an_inserted_line_shifts_nothing(app: App, version: type[Version]) -> None:
    @app.task
    def child(n: int) -> int:
        return n

    @app.task(durable=True)
    def parent() -> Any:
        if version.now == 2:
            child(99)
            step(str, "inserted")
        first: Any = child(1)
        one = first.result()
        if version.now == 2:
            uuid()
        two: Any = child(1)
        other = two.result()
        wait_signal("go")
        return Record([one, other])

    job = parent.enqueue()
    app.work()
    app.reaches(job, "waiting")
    while not app.store.sql("SELECT 1 FROM {waiting} WHERE signal = 'go'"):
        app.reaches(job, "waiting")
    version.now = 2
    app.client.signal(job, "go")

    assert app.result(job) == [1, 1]
    assert sorted(each.args["n"] for each in app.children(job)) == [1, 1, 99]


@pytest.mark.parametrize("change", ["another task", "other arguments", "nothing", "a step"])
def test_a_replay_that_calls_something_else_fails_and_names_both(app: App, version: type[Version], change: str) -> None:
    @app.task
    def pay(n: int) -> int:
        return n

    @app.task
    def refund(n: int) -> int:
        return -n

    @app.task(durable=True, max_attempts=1)
    def parent() -> Any:
        call: Any
        if version.now == 1:
            call = pay(1)
        elif change == "another task":
            call = refund(1)
        elif change == "other arguments":
            call = pay(2)
        elif change == "a step":
            step(refund.fn, 1)
            return None
        else:
            return None
        value = call.result()
        wait_signal("go")
        return value

    job = parent.enqueue()
    app.work()
    while not app.store.sql("SELECT 1 FROM {waiting} WHERE signal = 'go'"):
        app.reaches(job, "waiting")
    version.now = 2
    app.client.signal(job, "go")
    ended = app.wait(job)[0]

    assert ended.state == "failed"
    assert ended.errors[-1]["type"] == NonDeterminismError.__name__
    message = ended.errors[-1]["message"]
    assert "pay" in message
    actual = {
        "another task": "refund",
        "other arguments": "other arguments",
        "nothing": "returned",
        "a step": "the step",
    }
    assert actual[change] in message

    # Nothing is lost: with the code put right it goes on from its journal.
    version.now = 1
    app.client.retry(job)
    assert app.result(job) == 1
    assert [each.args["n"] for each in app.children(job)] == [1]


def test_a_journal_that_is_full_says_so_at_the_call(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ENTRIES", 3)

    @app.task(durable=True, max_attempts=1)
    def parent() -> None:
        for n in range(10):
            step(str, n)

    job = parent.enqueue()
    app.work()
    ended = app.wait(job)[0]

    assert ended.errors[-1]["type"] == JournalFull.__name__
    assert "may have 3 calls" in ended.errors[-1]["message"]
    assert app.store.sql("SELECT count(*) FROM {journal}") == [(3,)]


def test_the_bytes_of_a_journal_are_limited(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_BYTES", 1000)

    @app.task(durable=True, max_attempts=1)
    def parent() -> None:
        step("x".__mul__, 600)
        step("y".__mul__, 601)

    job = parent.enqueue()
    app.work()

    assert app.wait(job)[0].errors[-1]["type"] == JournalFull.__name__


def test_a_history_is_json_and_replays_without_a_database(app: App, version: type[Version]) -> None:
    done: list[str] = []

    @app.task
    def child(n: int) -> int:
        return n * 2

    @app.task
    def first() -> int:
        return 4

    @app.task(durable=True)
    def parent(start: int) -> Any:
        step(done.append, "once")
        began = now()
        if version.now == 2:
            child(7)
        values = gather(*[child(start + n) for n in range(3)])
        if version.now != 3:
            assert wait_signal("go") == {"by": "me"}
        sleep(0.01)
        if version.now == 4:
            step(done.append, "never in a test")
        return Record([values, began.isoformat()])

    job = parent.enqueue(start=first.enqueue())
    app.client.signal(job, "go", {"by": "me"})
    app.work()
    result = app.result(job)
    history = json.loads(json.dumps(app.client.history(job)))

    same = replay(history, parent)
    assert same.completed
    assert same.value == result == [[8, 10, 12], result[1]]
    version.now = 2
    assert replay(history, parent).value == result
    version.now = 3
    with pytest.raises(NonDeterminismError, match="wait_signal"):
        replay(history, parent)
    version.now = 4
    assert not replay(history, parent).completed
    version.now = 1
    cut = {**history, "entries": history["entries"][:4], "signals": []}
    assert not replay(cut, parent).completed
    assert done == ["once"]


def test_a_replay_costs_what_its_calls_cost(app: App) -> None:
    """No query for each call that is replayed: the journal comes with the claim."""

    @app.task
    def child(n: int) -> int:
        return n

    @app.task(durable=True)
    def parent(n: int) -> Any:
        futures: list[Any] = [child(each) for each in range(n)]
        total = sum(future.result() for future in futures)
        wait_signal("go")
        return total

    job = parent.enqueue(n=300)
    app.work(concurrency=4)
    while not app.store.sql("SELECT 1 FROM {waiting} WHERE signal = 'go'"):
        app.reaches(job, "waiting")
    worker = app.workers[0]
    before = worker.statements
    app.client.signal(job, "go")

    assert app.result(job) == 300 * 299 // 2
    assert worker.statements - before < 40
