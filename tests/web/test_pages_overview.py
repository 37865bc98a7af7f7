"""The overview: what it says is wrong, what it says of time, and what it does when a part of it does not come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.db.migrate import revisions
from fairchild.web.pages import overview
from fairchild.web.pages.state_of_workers import mixed_versions
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.pages_support import Page

Mount = Callable[..., FlaskClient]


def read(client: FlaskClient, path: str = "", status: int = 200) -> Page:
    answer = client.get(f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def banners(page: Page) -> list[str]:
    return [each.said for each in page.all("p", class_="banner")]


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Nobody can read a table."""
    with psycopg.connect(url) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield
        holder.rollback()


def test_two_looks_at_a_system_where_nothing_happens_differ_in_nothing(
    app: App, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.web.pages.site.LIVE_SECONDS", 0.0)
    monkeypatch.setattr("fairchild.web.pages.site.SHELL_SECONDS", 0.0)
    app.task(name="t")(lambda: None)
    app.work(queues=["none"])
    app.client.enqueue("t", {}, queue="waits")
    app.client.enqueue("t", {}, queue="waits", delay=3600)
    app.store.sql("UPDATE {ready} SET at = at - interval '1.58 seconds'")
    site = mount()

    def tags() -> set[str]:
        return {site.get(f"/ops/{path}?_live=1").headers["ETag"] for path in ("", "queues", "queues/waits")}

    def same() -> bool:  # but for the turn of a minute, by which charts move
        first = tags()
        app.store.sql("SELECT pg_sleep(0.05)")
        return tags() == first

    eventually(same)
    tag = site.get("/ops/?_live=1").headers["ETag"]
    eventually(lambda: site.get("/ops/?_live=1", headers={"If-None-Match": tag}).status_code == 304)


def test_what_waits_is_said_with_a_time_that_goes_on_by_itself(app: App, site: FlaskClient) -> None:
    app.client.enqueue("t", {}, queue="exports")
    page = read(site)
    assert banners(page)[0].startswith("Queue exports has 1 job waiting and no live worker takes from it, the oldest")
    assert len([each for each in page.all("time") if "data-elapsed" in each.attrs]) == 2
    assert [each for each in page.all("p", class_="banner") if "role" in each.attrs] == []


def test_queues_that_nobody_serves_are_one_banner_and_leave_room_for_others(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        app.client.enqueue_many("t", [{}] * (n + 1), queue=f"q{n}")
    monkeypatch.setattr(overview, "OPEN_TOO_LONG", timedelta(0))
    with psycopg.connect(app.url) as other:
        other.execute("CREATE TEMP TABLE x ()")
        found = banners(read(site))
    assert len(found) == 2
    assert found[0].startswith("Queue q3 has 4 jobs waiting")
    assert "3 other queues are left alone, too" in found[0]
    assert found[1].startswith("A transaction has been open for")


def test_what_is_pending_comes_first_and_three_banners_are_enough(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.client.enqueue("t", {}, queue="q")
    app.store.open_session()
    app.store.sql("UPDATE {sessions} SET started_at = now() - interval '1 hour', queues = ARRAY['other']")
    monkeypatch.setattr(overview, "OPEN_TOO_LONG", timedelta(0))
    monkeypatch.setattr(Fairchild, "pending_migrations", lambda self: ["0099"])
    with psycopg.connect(app.url) as other:
        other.execute("CREATE TEMP TABLE x ()")
        found = banners(read(site))
    assert [each.split()[0] for each in found] == ["1", "Queue", "Workers"]
    assert "none keeps the store in order" in found[2]


def test_pending_migrations_are_looked_for_in_the_time_and_on_the_connections_of_a_read(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.db.migrate._connection", None)
    with app.client.reading_within(5.0):
        assert app.client.pending_migrations() == []
        app.store.sql("UPDATE fairchild_alembic_version SET version_num = %(before)s", before=revisions()[-2])
        assert app.client.pending_migrations() == [revisions()[-1]]


def test_two_versions_are_worth_a_word_when_a_deploy_would_be_over() -> None:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    def worker(version: str, minutes: int, state: str = "running") -> dict[str, Any]:
        return {"state": state, "metadata": {"version": version}, "started_at": now - timedelta(minutes=minutes)}

    assert mixed_versions([worker("1", 60), worker("1", 1)], now) is None
    assert mixed_versions([worker("1", 60), worker("2", 9)], now) is None
    assert mixed_versions([worker("1", 60), worker("2", 11, "dead")], now) is None
    found = mixed_versions([worker("1", 60), worker("2", 11), worker("2", 1)], now)
    assert found is not None
    assert (found.names, found.since) == (["1", "2"], now - timedelta(minutes=11))


def test_the_first_steps_are_ticked_as_they_are_done_and_then_leave(app: App, site: FlaskClient) -> None:
    def steps(x: int) -> list[str]:
        answer = site.get(f"/ops/?_live=1&x={x}")
        page = Page(f"<body>{answer.text}</body>")
        assert len(page.all("div", id="start")) == 1
        return [each.attrs["class"] for each in page.all("li") if each.said.startswith(("Start a", "Enqueue a"))]

    assert steps(1) == ["", ""]
    assert len([each for each in read(site).all("button") if "data-copy" in each.attrs]) == 3
    app.task(name="t")(lambda: None)
    app.work()
    assert steps(2) == ["done", ""]
    app.wait(app.client.enqueue("t"))
    assert steps(3) == []


def test_a_part_that_takes_too_long_says_so_and_the_others_stand(app: App, site: FlaskClient) -> None:
    app.client.enqueue("t", {}, queue="exports")
    read(site)
    with locked(app.url, "fairchild_minutes"):
        page = read(site, "?window=6h")
        assert page.all("a", data_s="available")[0].said.split()[1] == "1"
        late = [each.attrs["aria-labelledby"] for each in page.all("section") if "took too long" in each.said]
        assert "through-h" in late
        assert "attention-h" not in late
        assert "longest-h" not in late
        assert "took too long" in read(site, "queues").said


@pytest.mark.parametrize(("path", "table"), [("errors", "jobs_base"), ("workers", "sessions"), ("tasks", "catalogs")])
def test_so_it_is_on_other_pages(app: App, site: FlaskClient, path: str, table: str) -> None:
    with locked(app.url, f"fairchild_{table}"):
        page = read(site, path)
    assert "took too long" in page.said
    assert len(page.all("nav", class_="rail")) == 1


def test_the_chart_shows_what_was_made_and_how_long_it_waited(app: App, site: FlaskClient) -> None:
    app.store.sql(
        """INSERT INTO {minutes} (minute, queue, task, inserted, completed, waits, runs)
           SELECT date_trunc('minute', now()) - n * interval '1 minute', q, t, 5 * length(q), 3 * length(q),
                  CASE WHEN q <> '' THEN array_fill(0, ARRAY[10]) || 7 || array_fill(0, ARRAY[15]) || 5000000 END,
                  array_fill(1, ARRAY[27])
             FROM generate_series(2, 4) n, (VALUES ('q', 't'), ('', '')) x(q, t)"""
    )
    assert [each for each in app.client.waits(60) if each is not None] == [pytest.approx(0.998, abs=0.1)] * 3
    page = read(site)
    kinds = {each.attrs["data-line"] for each in page.all("path") if "data-line" in each.attrs}
    assert kinds == {"inserted", "wait"}
    columns = [each for each in page.all("g") if "3 completed, 5 inserted, waited" in each.said]
    assert len(columns) == 3
    assert all(datetime.fromisoformat(each.attrs["data-at"]).tzinfo for each in columns)
    labels = [each for each in page.all("time") if each.attrs.get("data-clock") == "hour"]
    assert len(labels) >= 5
    assert all(each.said.endswith(" UTC") for each in labels)
    assert [each for each in read(site, "?window=7d").all("path") if each.attrs.get("data-line") == "wait"] == []
