"""F116: a database that falls silent, or keeps a lock, holds no thread of the host for long, and nobody is lied to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from fairchild import Fairchild
from fairchild.errors import TookTooLong
from fairchild.tasks import Registry
from fairchild.web import create_blueprint
from tests.support.app import App
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

SAME = {"Sec-Fetch-Site": "same-origin"}
READS = ("/ops/", "/ops/jobs", "/ops/api/stats", "/ops/api/jobs", "/ops/metrics", "/ops/health", "/ops/readyz")


class Asked:
    """Requests under way, each in a thread as a host has them."""

    def __init__(self, client: Fairchild, **options: Any) -> None:
        self._flask = Flask("host")
        self._flask.register_blueprint(create_blueprint(client, **options), url_prefix="/ops")
        self.answers: list[tuple[str, int, str]] = []
        self._asked = 0

    def ask(self, path: str, method: str = "GET", **options: Any) -> None:
        def run() -> None:
            answer = self._flask.test_client().open(path, method=method, **options)
            self.answers.append((path, answer.status_code, answer.get_data(as_text=True)))

        self._asked += 1
        threading.Thread(target=run, daemon=True).start()

    def answered(self) -> list[tuple[str, int, str]]:
        """All answers, once they have come."""
        eventually(lambda: len(self.answers) == self._asked, 20, what=lambda: self.answers)
        found, self.answers, self._asked = self.answers, [], 0
        return found

    def status(self, path: str) -> int:
        """Of one request."""
        return self._flask.test_client().get(path).status_code


@pytest.fixture
def far(app: App) -> Iterator[tuple[Proxy, Fairchild]]:
    """A client behind a network that loses things, connected."""
    proxy = Proxy(app.url)
    client = Fairchild(proxy.url, registry=Registry())
    client.connect()
    client.stats()
    yield proxy, client
    proxy.hole = False
    client.disconnect()


@contextmanager
def frozen(app: App) -> Iterator[None]:
    """The backends of all connections there are do nothing, until the end of the block."""
    pids = [
        row[0]
        for row in app.store.sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_f116_a_frozen_backend_costs_one_answer_and_the_pool_gets_another_connection(app: App) -> None:
    app.client.enqueue("shop.a")
    asked = Asked(app.client)
    assert asked.status("/ops/") == 200
    with frozen(app):
        asked.ask("/ops/api/jobs")
        (answer,) = asked.answered()
        assert answer[1] == 503
        # The backend is frozen still.
        eventually(lambda: asked.status("/ops/api/jobs") == 200, 20)


def test_f116_many_requests_on_frozen_connections_are_all_answered(app: App) -> None:
    asked = Asked(app.client)
    app.client.stats()
    with frozen(app):
        for path in READS:
            asked.ask(path)
        asked.ask("/ops/api/queues/mail/pause", "POST", json={})
        asked.ask("/ops/queues/mail", "POST", data={"action": "pause"}, headers=SAME)
        asked.ask("/ops/api/stats", headers={"Authorization": "Bearer fct_unknown"})
        assert {status for _, status, _ in asked.answered()} <= {200, 303, 401, 503}


def test_f116_a_network_that_loses_everything_holds_nobody(far: tuple[Proxy, Fairchild]) -> None:
    proxy, client = far
    asked = Asked(client)
    proxy.hole = True
    for _ in range(3):  # on what is left of the pool, and without one
        for path in READS:
            asked.ask(path)
        asked.ask("/ops/api/queues/mail/pause", "POST", json={})
        # The overview stands without its numbers, and says so of the database or of each part.
        for _, status, text in asked.answered():
            assert status == 503 or "does not answer" in text or "ook too long" in text
    proxy.hole = False
    eventually(lambda: asked.status("/ops/") == 200, 30)


def test_f116_a_lock_on_the_tokens_holds_nobody_who_sends_any_token(app: App) -> None:
    asked = Asked(app.client)
    app.store.sql("BEGIN")
    app.store.sql("LOCK TABLE {tokens} IN ACCESS EXCLUSIVE MODE")
    for _ in range(20):
        asked.ask("/ops/api/stats", headers={"Authorization": "Bearer fct_unknown"})
    assert {status for _, status, _ in asked.answered()} == {503}
    app.store.sql("ROLLBACK")


def test_f116_a_write_that_waits_for_a_lock_is_broken_off_and_says_that_nothing_was_changed(app: App) -> None:
    app.task(name="shop.a")(print)
    asked = Asked(app.client)
    app.store.sql("BEGIN")
    app.store.sql("LOCK TABLE {queues}, {jobs} IN ACCESS EXCLUSIVE MODE")
    asked.ask("/ops/api/queues/mail/pause", "POST", json={})
    asked.ask("/ops/queues/mail", "POST", data={"action": "pause"}, headers=SAME)
    asked.ask("/ops/api/jobs", "POST", json={"task": "shop.a"})
    answers = asked.answered()
    app.store.sql("ROLLBACK")
    assert {status for _, status, _ in answers} == {503}, answers
    assert all("nothing was changed" in text for _, _, text in answers), answers
    assert [each["name"] for each in app.client.queues.list()] == []


def test_f116_a_write_whose_reply_is_lost_is_not_said_to_have_failed(app: App, far: tuple[Proxy, Fairchild]) -> None:
    proxy, client = far
    asked = Asked(client)
    proxy.eat_reply(b"COMMIT")
    asked.ask("/ops/api/queues/mail/pause", "POST", json={})
    assert_unknown(asked)
    assert [each["paused"] for each in app.client.queues.list()] == [True]


def test_f116_nor_is_one_whose_reply_does_not_come(app: App, far: tuple[Proxy, Fairchild]) -> None:
    proxy, client = far
    asked = Asked(client)
    app.store.sql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END'"
    )
    app.store.sql(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {queues} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION late()"
    )
    app.store.sql("SELECT pg_advisory_lock(4711)")
    asked.ask("/ops/queues/mail", "POST", data={"action": "pause"}, headers=SAME)
    eventually(lambda: app.store.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 20)
    proxy.hole = True
    app.store.sql("SELECT pg_advisory_unlock(4711)")
    assert_unknown(asked)
    assert [each["paused"] for each in app.client.queues.list()] == [True]


def assert_unknown(asked: Asked) -> None:
    """The one answer says that nobody knows."""
    ((_, status, text),) = asked.answered()
    assert status == 503
    assert "not known" in text
    assert "nothing was changed" not in text


def test_f116_a_stream_ends_when_the_database_falls_silent(far: tuple[Proxy, Fairchild]) -> None:
    proxy, client = far
    flask = Flask("host")
    flask.register_blueprint(create_blueprint(client, streams=True), url_prefix="/ops")
    answer = flask.test_client().get("/ops/api/stream")
    pieces: Iterator[Any] = iter(answer.response)
    assert b"retry" in next(pieces)
    proxy.hole = True
    assert b"away" in list(pieces)[-1]


def test_f116_what_takes_too_long_is_broken_off_and_nothing_is_changed(app: App) -> None:
    job = app.client.enqueue("shop.a")
    app.store.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'"
    )
    app.store.sql("CREATE TRIGGER slow BEFORE UPDATE ON {jobs} FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    app.store.sql("CREATE TRIGGER slow BEFORE INSERT ON {queues} FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    with pytest.raises(TookTooLong) as caught, app.client.writing_within(0.5):
        app.client.queues.pause("mail")
    assert not caught.value.unknown
    assert app.client.queues.list()[0]["name"] == "default"
    with pytest.raises(TookTooLong) as caught, app.client.writing_within(0.5):
        app.client.cancel(job)
    assert not caught.value.unknown
    assert app.get(job).state == "available"
    assert app.store.sql("SELECT count(*) FROM {cancellations}") == [(0,)]
