"""The finisher by itself: batches, trouble, and outcomes that the database refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from fairchild import Fairchild, Record
from fairchild.db.connect import Link
from fairchild.db.finish import Applied, Ended
from fairchild.worker.finisher import Finisher
from tests.support.app import App
from tests.support.eventually import eventually
from tests.support.proxy import proxy_to
from tests.support.store import new_job, outcome


class Applications:
    """What the finisher has reported."""

    def __init__(self) -> None:
        self.batches: list[list[Ended]] = []
        self.lost: dict[Any, str] = {}

    def __call__(self, batch: list[Ended], applied: Applied) -> None:
        self.batches.append(batch)
        self.lost.update(applied.lost)

    @property
    def total(self) -> int:
        return sum(map(len, self.batches))


@contextmanager
def finisher_of(app: App) -> Iterator[tuple[Finisher, Applications]]:
    seen = Applications()
    made = Finisher(app.client.database, seen)
    made.start()
    try:
        yield made, seen
    finally:
        made.stop(5.0)


def claimed(app: App, count: int) -> list[Any]:
    app.store.insert(*(new_job() for _ in range(count)))
    return app.store.claim(count)


def test_after_a_long_outage_outcomes_are_recorded_within_a_second_or_so(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold their slots until then: a worker must claim again within two seconds of the server's return."""
    claims = claimed(app, 1)
    pauses: list[float] = []
    with proxy_to(app.url) as proxy:
        finisher = Finisher(Fairchild(proxy.url).database, seen := Applications())
        monkeypatch.setattr(finisher._give_up, "wait", lambda pause: pauses.append(pause))
        monkeypatch.setattr("fairchild.worker.finisher.random.uniform", lambda _, most: most)
        proxy.down = True
        finisher.start()
        finisher.put(outcome(claims[0]))
        eventually(lambda: len(pauses) > 6, 30)  # about one a second; pauses that doubled would be past 3 s by then
        proxy.down = False
        eventually(lambda: seen.total == 1)
        assert finisher.stop(5.0)

    assert max(pauses) <= 1.0


def test_outcomes_are_written_in_batches(app: App) -> None:
    claims = claimed(app, 500)
    with finisher_of(app) as (finisher, seen):
        for each in claims:
            finisher.put(outcome(each))
        eventually(lambda: seen.total == 500)

    assert finisher.statements < 100
    assert app.store.sql("SELECT count(*) FROM {jobs} WHERE state = 'completed'") == [(500,)]


def test_one_refused_outcome_does_not_hold_the_others_and_fails_alone(app: App) -> None:
    claims = claimed(app, 40)
    bad = claims[17]
    with finisher_of(app) as (finisher, seen):
        for each in claims:
            finisher.put(outcome(each, result=b'"\\u0000"' if each is bad else b"1"))
        eventually(lambda: seen.total == 40)

    assert app.store.row(bad.job_id, "state, reason, attempt") == ("failed", "error", 1)
    assert app.store.sql("SELECT count(*) FROM {jobs} WHERE state = 'completed'") == [(39,)]
    ((message,),) = app.store.sql("SELECT errors->0->>'message' FROM {jobs} WHERE state = 'failed'")
    assert "refused" in message


def test_an_outcome_that_is_refused_in_every_form_is_reported_and_dropped(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = claimed(app, 2)
    app.store.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$")
    app.store.sql(
        f"CREATE TRIGGER refuse BEFORE UPDATE ON {{jobs}} FOR EACH ROW WHEN (old.id = '{first.job_id}') "
        "EXECUTE FUNCTION refuse()"
    )
    with finisher_of(app) as (finisher, seen):
        finisher.put(outcome(first))
        finisher.put(outcome(second))
        eventually(lambda: seen.total == 2)

    assert seen.lost == {first.job_id: "refused"}
    assert app.store.states(first.job_id, second.job_id) == ["running", "completed"]
    assert "cannot be recorded" in caplog.text


def test_a_finisher_keeps_trying_while_the_database_is_away(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    (each,) = claimed(app, 1)
    tried: list[int] = []
    plain = Link.rows

    def away(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "finish":
            tried.append(1)
            if len(tried) <= 4:
                raise psycopg.OperationalError("the server is starting up")
        return plain(self, sql, params)

    monkeypatch.setattr(Link, "rows", away)
    with finisher_of(app) as (finisher, seen):
        finisher.put(outcome(each))
        eventually(lambda: seen.total == 1)

    assert len(tried) == 5
    assert app.store.state(each.job_id) == "completed"


def test_an_outcome_whose_reply_was_lost_is_found_already_recorded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    (each,) = claimed(app, 1)
    plain = Link.rows
    lost: list[int] = []

    def loses_the_reply(self: Link, sql: Any, params: Any = None) -> Any:
        rows = plain(self, sql, params)
        if sql.name == "finish" and not lost:
            lost.append(1)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return rows

    monkeypatch.setattr(Link, "rows", loses_the_reply)
    with finisher_of(app) as (finisher, seen):
        finisher.put(outcome(each, result=b"1"))
        eventually(lambda: seen.total == 1)

    assert seen.lost == {each.job_id: "already"}
    assert app.store.row(each.job_id, "state, attempt") == ("completed", 1)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57014", "55P03", "53100", "57P01"])
def test_what_will_pass_is_tried_again_and_never_fails_a_job(
    app: App, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    (each,) = claimed(app, 1)
    plain = Link.rows
    raised: list[int] = []

    def fails(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "finish" and len(raised) < 2:
            raised.append(1)
            raise psycopg.errors.lookup(sqlstate)("for now")
        return plain(self, sql, params)

    monkeypatch.setattr(Link, "rows", fails)
    with finisher_of(app) as (finisher, seen):
        finisher.put(outcome(each))
        eventually(lambda: seen.total == 1)

    assert app.store.state(each.job_id) == "completed"


def test_a_deadlock_with_other_hands_is_survived(app: App) -> None:
    first, second = claimed(app, 2)
    other = app.client.database.open("tests")
    name = "fairchild_claims"
    with finisher_of(app) as (finisher, seen):
        with other.connection.transaction():
            other.script(f"SELECT 1 FROM {name} WHERE job_id = '{second.job_id}' FOR UPDATE")
            finisher.put(outcome(first))
            finisher.put(outcome(second))
            eventually(
                lambda: app.store.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") or seen.total
            )
            try:
                other.script(f"SELECT 1 FROM {name} WHERE job_id = '{first.job_id}' FOR UPDATE")
            except psycopg.errors.DeadlockDetected:
                other.connection.execute("ROLLBACK")
        eventually(lambda: seen.total == 2)
    other.connection.close()

    assert app.store.states(first.job_id, second.job_id) == ["completed", "completed"]


def test_what_cannot_be_recorded_before_the_end_is_said_and_left_to_others(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (each,) = claimed(app, 1)
    plain = Link.rows
    tried = threading.Event()

    def away(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "finish":
            tried.set()
            raise psycopg.OperationalError("no route to host password=secret")
        return plain(self, sql, params)

    monkeypatch.setattr(Link, "rows", away)
    with caplog.at_level(logging.WARNING), finisher_of(app) as (finisher, _):
        finisher.put(outcome(each))
        assert tried.wait(10)
        finisher.stop(0.05)

    assert "could not be recorded" in caplog.text
    assert "secret" not in caplog.text
    assert app.store.state(each.job_id) == "running"


def test_room_is_free_only_when_an_outcome_is_recorded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    plain = Link.rows

    def slow(self: Link, sql: Any, params: Any = None) -> Any:
        if sql.name == "finish":
            go_on.wait(30)
        return plain(self, sql, params)

    monkeypatch.setattr(Link, "rows", slow)
    ran: list[int] = []

    @app.task
    def work(n: int) -> Any:
        ran.append(n)
        return Record(n)

    worker = app.work(concurrency=4)
    jobs = [work.enqueue(n) for n in range(30)]
    eventually(lambda: len(ran) == 4)
    worker.wake()
    assert app.store.sql("SELECT count(*) FROM {claims}") == [(4,)]
    go_on.set()
    app.wait(*jobs)

    assert sorted(ran) == list(range(30))


def test_stopping_a_finisher_that_was_not_started_does_nothing(app: App) -> None:
    assert Finisher(app.client.database, lambda batch, applied: None).stop(1.0)
