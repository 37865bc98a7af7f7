from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from fairchild import Fairchild
from fairchild.client import health
from fairchild.db import migrate
from fairchild.errors import SchemaError
from tests.support.app import App


def well(app: App, **options: object) -> dict[str, bool]:
    return {name: check["ok"] for name, check in app.client.health(**options).items()}  # type: ignore[arg-type]


def test_all_is_well_with_a_worker(app: App) -> None:
    app.task(name="t")(lambda: None)
    checks = well(app)
    assert not checks.pop("workers")
    assert {"database", "schema", "jobs", "queues", "transactions", "clocks", "notifications", "upkeep"} == set(checks)
    assert all(checks.values())
    with app.client.claim():
        assert not well(app)["workers"]
    app.work(name="one")

    assert all(well(app).values())
    assert well(app, name="one")["workers"]
    assert not well(app, name="two")["workers"]
    assert not well(app, hostname="elsewhere")["workers"]


def test_a_worker_without_beats_does_not_count(app: App) -> None:
    app.store.open_session()
    assert well(app)["workers"]
    app.store.sql("UPDATE {sessions} SET beat_at = now() - interval '1 hour'")

    check = app.client.health()["workers"]
    assert not check["ok"]
    assert "without a beat" in check["detail"]


def test_the_oldest_job_of_all_queues_counts(app: App) -> None:
    for queue, priority in (("a", 5), ("b", 1), ("b", 7), ("c", 5)):
        app.client.enqueue("t", queue=queue, priority=priority)
    app.store.sql("UPDATE {ready} SET at = at - interval '100 seconds' WHERE queue = 'b' AND priority = 7")

    assert well(app, max_age=200)["jobs"]
    assert not well(app, max_age=50)["jobs"]
    assert "queue b" in app.client.health()["jobs"]["detail"]


def test_without_the_database_or_the_tables_that_is_what_is_said(app: App) -> None:
    away = Fairchild("postgresql://127.0.0.1:1/nowhere").health()
    assert {name: check["ok"] for name, check in away.items()} == {"database": False}
    bare = Fairchild(app.url, schema="bare").health()
    assert {name: check["ok"] for name, check in bare.items()} == {"database": True, "schema": False}


def test_tables_of_another_release_are_refused_when_a_client_connects(app: App) -> None:
    def connecting(revision: str) -> None:
        app.store.link.script(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{revision}'")
        with app.other_client():
            pass

    with pytest.raises(SchemaError, match="run `fairchild migrate`"):
        connecting("0001")
    app.other_client().connect(check_schema=False)
    connecting("9999")  # which says that this release works with its tables
    app.store.link.script(migrate.works_from_sql(None).replace(migrate.WORKS_FROM, "9998"))
    with pytest.raises(SchemaError, match="newer"):
        connecting("9999")
    connecting(migrate.head())


def test_a_client_connects_where_nothing_has_been_installed(app: App) -> None:
    client = Fairchild(app.url, schema="fresh")
    with client:
        client.install()
        assert client.jobs().jobs == []


def warned(app: App, **options: object) -> dict[str, str]:
    """What is not well but for the missing worker, and what to do about it."""
    found = app.client.health(**options)  # type: ignore[arg-type]
    assert all(each["ok"] == (each["level"] != "fail") for each in found.values())
    assert all(bool(each["do"]) == (each["level"] != "ok") for each in found.values())
    return {name: each["do"] for name, each in found.items() if each["level"] == "warn"}


def test_a_queue_with_jobs_and_without_workers_is_worth_a_warning(app: App) -> None:
    app.client.enqueue("t", queue="alone")
    app.client.enqueue("t", queue="paused")
    app.client.queues.pause("paused")
    app.task(name="t")(lambda: None)
    app.work(queues=["other"])
    assert warned(app) == {"queues": "start one: `fairchild worker --queues alone`"}


def test_a_transaction_that_holds_back_vacuum_is_worth_a_warning(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "OPEN_TOO_LONG", timedelta(0))
    with psycopg.connect(app.url) as other:
        other.execute("CREATE TEMP TABLE x ()")
        assert "pg_stat_activity" in warned(app)["transactions"]
    assert warned(app) == {}


def test_clocks_that_differ_and_upkeep_that_nobody_does_are_worth_a_warning(app: App) -> None:
    app.store.open_session()
    app.store.sql(
        """UPDATE {sessions} SET started_at = now() - interval '1 hour',
                  vitals = jsonb_build_object('clock', extract(epoch FROM beat_at) + 7)"""
    )
    assert set(warned(app)) == {"clocks", "upkeep"}
    assert "+7.0 s" in app.client.health()["clocks"]["detail"]
    app.store.sql("INSERT INTO {minutes} (minute, queue, task) VALUES (date_trunc('minute', now()), '', '')")
    assert set(warned(app)) == {"clocks"}
