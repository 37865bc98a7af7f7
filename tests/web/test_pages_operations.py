"""The pages of queues, workers, tasks, errors and the system, as an operator reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask.testing import FlaskClient

from fairchild.db import lease
from fairchild.db.migrate import revisions
from fairchild.events import emit
from fairchild.web import charts
from fairchild.web.pages.state_of_queues import queue_rows
from fairchild.web.pages.state_of_workers import deployed_at
from fairchild.worker import Worker
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.pages_support import SAME_ORIGIN, Page

Mount = Callable[..., FlaskClient]


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    answer = client.get(f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def send(client: FlaskClient, path: str, **form: Any) -> Any:
    return client.post(f"/ops/{path}", data=form, headers=SAME_ORIGIN)


def card(page: Page, name: str) -> str:
    (found,) = [
        each for each in page.all("section") if each.attrs.get("aria-labelledby") in (f"{name}-h", f"{name}-card-h")
    ]
    return found.said


@pytest.fixture
def gate(app: App) -> Iterator[threading.Event]:
    """Jobs of task ``hold`` run until it is set."""
    opened = threading.Event()

    @app.task(name="hold")
    def hold() -> None:
        opened.wait(30)

    yield opened
    opened.set()


# Queues


def test_what_a_queue_could_use_is_what_is_free_and_not_what_others_use(app: App, gate: threading.Event) -> None:
    app.work(queues=["mail", "web", "high:1"], concurrency=4)
    for queue in ("mail", "web", "web"):
        app.client.enqueue("hold", {}, queue=queue)
    app.client.queues.pause("high")
    eventually(lambda: app.client.stats()["jobs"]["running"] == 3)

    def rows() -> dict[str, tuple[int, int, int]]:
        found = queue_rows(app.client, app.client.worker_sessions(), [])
        return {each.name: (each.running, each.slots, each.shared) for each in found}

    assert rows() == {"high": (0, 1, 3), "mail": (1, 2, 2), "web": (2, 3, 1)}
    app.client.workers.pause(app.workers[0].name)
    assert rows()["mail"] == (1, 1, 2)


def test_the_page_of_a_queue_lists_those_that_have_waited_longest(app: App, site: FlaskClient) -> None:
    ids = [app.client.enqueue("t", {}, queue="q", priority=n % 3).id for n in range(14)]
    app.store.sql("UPDATE {ready} SET at = at - (100 - seq) * interval '1 second' WHERE queue = 'q'")
    page = read(site, "queues/q")
    assert [each.attrs["id"] for each in page.all("tr") if "id" in each.attrs] == [f"job-{each}" for each in ids[:10]]
    assert card(page, "priorities").count("priority") == 3
    assert "priority 0 5" in card(page, "priorities")
    assert app.client.queues.priorities("q", cap=2) == {0: 3, 1: 3, 2: 3}


def test_a_queue_shows_how_long_its_jobs_waited_and_ran(app: App, site: FlaskClient) -> None:
    app.task(name="t")(lambda: None)
    worker = app.work()
    app.wait(*[app.client.enqueue("t", {}, queue="q") for _ in range(3)])
    worker.stop(timeout=5)
    page = read(site, "queues/q")
    assert "3 attempts · p50" in card(page, "ran")
    assert "3 attempts · p50" in card(page, "waited")
    assert "3 attempts" in card(read(site, "tasks/t"), "ran")


def test_a_histogram_goes_from_the_first_to_the_last_bucket_that_is_not_empty() -> None:
    assert charts.histogram([]) is None
    assert charts.histogram([[0] * 26]) is None
    counts = [0] * 26
    counts[3], counts[9] = 4, 1
    drawn = charts.histogram([counts, counts])
    assert drawn is not None
    assert (drawn.count, len(drawn.chart.columns)) == (10, 7)
    assert drawn.bounds == (0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512)
    one = charts.histogram([[1, *[0] * 25]])
    assert one is not None
    assert (len(one.chart.columns), one.bounds[0]) == (5, 0.0)
    last = charts.histogram([[*[0] * 25, 1]])
    assert last is not None
    assert len(last.chart.columns) == 5


def test_a_pause_is_signed(app: App, mount: Mount) -> None:
    site = mount(authorize=lambda request, right: "admin", who=lambda request: "ann")
    app.client.enqueue("t", {}, queue="q")
    send(site, "queues/q", action="pause")
    site.post("/ops/api/queues/q/pause")
    app.client.queues.pause("q", "bob")
    assert app.client.queues.get("q")["paused_by"] == "ann"
    assert "by ann" in read(site, "queues").said
    assert "by ann" in read(site, "queues/q").said
    send(site, "queues/q", action="resume")
    assert app.client.queues.get("q")["paused_by"] is None
    app.client.queues.pause("q")
    assert app.client.queues.get("q")["paused_by"] is None


def test_what_retries_is_told_from_what_is_scheduled(app: App, site: FlaskClient) -> None:
    @app.task(name="bad", backoff=[3600], queue="q")
    def bad() -> None:
        raise ValueError("no")

    app.work()
    job = app.client.enqueue("bad")
    app.client.enqueue("bad", delay=3600)
    app.reaches(job, "scheduled")
    eventually(lambda: app.get(job).attempt == 1)
    (row,) = [each for each in read(site, "queues").all("tr") if each.attrs.get("id") == "queue-q"]
    heads = [each.said for each in read(site, "queues").all("th")]
    assert heads[7:9] == ["Scheduled", "Retrying"]
    assert " 0 1 1 1 " in row.said


def test_a_queue_is_purged_with_a_question_first(app: App, site: FlaskClient) -> None:
    app.client.enqueue_many("t", [{}] * 3, queue="a b")
    app.client.enqueue("t", {}, queue="a b", delay=60)
    app.client.enqueue("t", {}, queue="other")
    page = read(site, "queues/a b")
    (form,) = [n for n, each in enumerate(page.elements) if each.tag == "form" and "Purge" in each.said]
    fields = {each.attrs["name"]: each.attrs["value"] for each in page.elements[form + 1 : form + 3]}
    asked = Page(send(site, "jobs/bulk/cancel", **fields).text)
    assert "Match now 4" in asked.said
    send(site, "jobs/bulk/cancel", **fields, sure=1)
    assert app.client.stats()["queues"]["a b"]["cancelled"] == 4
    assert app.client.stats()["queues"]["other"]["available"] == 1


# Workers


def test_a_worker_says_how_its_process_is_and_what_it_knows(app: App, site: FlaskClient, mount: Mount) -> None:
    app.task(name="known.one", queue="x")(lambda: None)
    worker = app.work(heartbeat_interval=0.05, lease=5)

    def vitals() -> dict[str, Any]:
        found: dict[str, Any] = app.client.worker_sessions()[0]["vitals"]
        return found

    eventually(vitals)
    assert vitals()["rss"] > 1_000_000
    assert vitals()["error"] is None
    emit("loop_failed", loop="claimer", error=OSError("postgresql://me:hunter2@db/x is odd"), failures=1)
    eventually(lambda: vitals()["error"])
    assert vitals()["error"]["text"] == "OSError: postgresql://me:***@db/x is odd"
    page = read(site, f"workers/{worker.session}")
    assert "known.one" in card(page, "known")
    assert "Memory" in card(page, "worker")
    assert "loop claimer, OSError" in page.said
    shy = mount(authorize=lambda request, right: {"workers:control"})
    assert "OSError" not in read(shy, f"workers/{worker.session}").said
    assert "OSError" not in read(shy, "workers").said
    assert "OSError" not in shy.get("/ops/api/workers").text
    assert "OSError" in site.get("/ops/api/workers").text


def test_a_worker_is_stopped_only_when_that_was_said_twice(app: App, site: FlaskClient) -> None:
    app.task(name="t")(lambda: None)
    worker = app.work(name="w")
    asked = send(site, f"workers/{worker.session}/stop")
    assert asked.status_code == 200
    assert Page(asked.text).one("h1").said == "Stop worker w?"
    assert app.client.workers.list()[0].state == "running"
    assert send(site, f"workers/{worker.session}/stop", sure=1).status_code == 303
    eventually(lambda: app.client.workers.list() == [])
    assert app.client.audit_entries()[0].action == "workers:stop"


def test_a_job_that_runs_longer_than_most_is_marked(app: App, site: FlaskClient, gate: threading.Event) -> None:
    worker = app.work()
    gate.set()
    app.wait(app.client.enqueue("hold"))
    eventually(lambda: [each for each in app.client.timings() if each["run"]["count"]])
    gate.clear()
    job = app.client.enqueue("hold")
    app.reaches(job, "running")
    app.store.sql("UPDATE {claims} SET claimed_at = claimed_at - interval '1 hour'")
    (row,) = [each for each in read(site, f"workers/{worker.session}").all("tr") if "id" in each.attrs]
    assert row.said.split()[1:3] == ["hold", "default"]
    bad = [each.said for each in read(site, f"workers/{worker.session}").all("td", class_="num bad")]
    assert bad == ["1h"]


def test_what_a_lost_worker_held_is_said_to_have_been_given_back(app: App, site: FlaskClient) -> None:
    for _ in range(3):
        app.store.add()
    app.store.claim()
    session = app.store.session
    (seen,) = [each for each in lease.watch(app.store.link) if each.id == session]
    assert lease.declare_dead(app.store.link, seen)
    assert "3 jobs of it are being given back" in read(site, f"workers/{session}").said
    lease.rescue(app.store.link)
    assert "its 3 jobs were given back" in read(site, f"workers/{session}").said
    assert "its 3 jobs were given back" in read(site, "workers").said


def test_workers_are_listed_by_what_they_do(app: App, site: FlaskClient, gate: threading.Event) -> None:
    for name in ("busy", "bored", "held"):
        app.work(name=name, queues=[name])
    job = app.client.enqueue("hold", {}, queue="busy")
    app.reaches(job, "running")
    app.client.workers.pause("held")
    lost = app.store.open_session()
    (seen,) = [each for each in lease.watch(app.store.link) if each.id == lost]
    assert lease.declare_dead(app.store.link, seen)

    def under(tab: str) -> list[str]:
        page = read(site, f"workers?show={tab}")
        assert page.one("nav", aria_label="By what they do").said == "all 3 running 1 idle 1 paused 1 stale 1"
        assert page.one("a", aria_current="true").said.split()[0] == tab
        rows = [each.attrs["id"] for each in page.all("tr") if "id" in each.attrs]
        names = {f"worker-{each['id']}": each["name"] for each in app.client.worker_sessions()}
        return sorted(names[each] for each in rows)

    assert under("running") == ["busy"]
    assert under("idle") == ["bored"]
    assert under("paused") == ["held"]
    assert under("stale") == []
    assert "it held none" in read(site, "workers?show=stale").said
    assert "it held none" not in read(site, "workers?show=idle").said
    assert under("all") == ["bored", "busy", "held"]
    gate.set()
    app.wait(job)
    assert "No worker is running now" in read(site, "workers?show=running").said
    assert read(site, "workers?show=nonsense").one("a", aria_current="true").said == "all 3"


def test_a_clock_that_differs_is_said(app: App, site: FlaskClient) -> None:
    app.store.open_session()
    assert "not known" in card(read(site, "system"), "store")
    app.store.sql("UPDATE {sessions} SET vitals = jsonb_build_object('clock', extract(epoch FROM beat_at) - 90.0)")
    assert "−1m 30s" in read(site, "workers").said
    assert "−1m 30s" in card(read(site, "system"), "store")


# Errors


def worker_row(version: str, catalog: str, minutes: int, now: datetime, state: str = "running") -> dict[str, Any]:
    started = now - timedelta(minutes=minutes)
    return {"metadata": {"version": version}, "catalog": catalog, "state": state, "started_at": started}


def test_a_deploy_is_the_first_start_of_the_release_that_came_last() -> None:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    assert deployed_at([]) is None
    old, new, replaced = worker_row("1", "a", 90, now), worker_row("1", "b", 40, now), worker_row("1", "b", 1, now)
    assert deployed_at([old, new, replaced]) == now - timedelta(minutes=40)
    assert deployed_at([old, {**new, "state": "stopped"}, replaced]) == now - timedelta(minutes=40)
    assert deployed_at([old, {**new, "state": "stopped"}]) == now - timedelta(minutes=90)


@pytest.fixture
def failed(app: App) -> str:
    """Two jobs that failed alike; the fingerprint."""

    @app.task(name="bad", max_attempts=1)
    def bad() -> None:
        raise ValueError("no")

    app.work()
    app.wait(app.client.enqueue("bad"), app.client.enqueue("bad"))
    return app.client.insight.errors()[0].fingerprint


def test_an_error_is_new_until_the_next_deploy(app: App, site: FlaskClient, failed: str) -> None:
    assert "new" in [each.said for each in read(site, "errors").all("span", class_="tag new")]
    assert len(read(site, "").all("span", class_="tag new")) == 1
    app.store.sql("UPDATE {sessions} SET started_at = now() + interval '1 minute'")
    assert read(site, "errors").all("span", class_="tag new") == []


def test_an_error_is_muted_and_shown_again(app: App, site: FlaskClient, failed: str) -> None:
    row = f"error-{failed}"

    def rows(path: str) -> list[str]:
        return [each.attrs["id"] for each in read(site, path).all("tr") if "id" in each.attrs]

    assert rows("errors") == [row]
    assert send(site, f"errors/{failed}", action="mute").location == f"/ops/errors/{failed}?did=muted&n=1"
    assert rows("errors") == []
    assert rows("errors?muted=1") == [row]
    assert "ValueError" not in card(read(site, ""), "attention")
    assert app.client.insight.menu(9).errors == 0
    assert app.client.insight.errors()[0].muted_by == "127.0.0.1"
    entry = app.client.audit_entries()[0]
    assert (entry.action, entry.target) == ("errors:mute", failed)
    assert site.post(f"/ops/api/errors/{failed}/unmute").json == {"fingerprint": failed, "muted": False}
    assert rows("errors") == [row]
    assert site.post(f"/ops/api/errors/{failed}/mute").json == {"fingerprint": failed, "muted": True}
    assert site.get("/ops/api/errors").get_json()["errors"][0]["muted_at"]
    assert site.post("/ops/api/errors/x/mute").status_code == 404
    assert send(site, "errors/x", action="mute").status_code == 404
    assert send(site, f"errors/{failed}", action="x").status_code == 422


def test_jobs_of_an_error_are_retried_and_discarded_from_the_list(app: App, site: FlaskClient, failed: str) -> None:
    actions = {each.attrs["action"]: each.said for each in read(site, "errors").all("form", method="post")}
    assert set(actions) == {"/ops/jobs/bulk/retry", "/ops/jobs/bulk/delete", f"/ops/errors/{failed}"}
    send(site, "jobs/bulk/delete", q=f"state:failed fp:{failed}", all=1, sure=1)
    assert app.client.insight.errors() == []


# The system


def test_the_system_tells_of_the_store_and_of_settings_without_secrets(
    app: App, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = mount(authorize=lambda request, right: "admin")
    assert "Last prune never" in card(read(site, "system"), "store")
    app.task(name="t")(lambda: None)
    app.work()
    app.wait(app.client.enqueue("t"))
    app.client.prune(0)
    monkeypatch.setenv("FAIRCHILD_DEFAULT_TIMEOUT", "60")
    page = read(site, "system")
    assert "1 job" in card(page, "store").partition("Last prune")[2]
    assert f"Schema version {revisions()[-1]}" in card(page, "store")
    settings = {each.said.split()[0]: each.said for each in page.all("tr") if each.said.startswith(("url", "pool_"))}
    assert settings["url"].endswith("argument")
    assert settings["pool_size"] == "pool_size 10 default"
    names = {each.name: each.origin for each in app.client.insight.settings()}
    assert names["default_timeout"] == "FAIRCHILD_DEFAULT_TIMEOUT"
    assert "pool_size" not in read(mount(authorize=lambda request, right: "view"), "system").said


def test_no_password_is_among_the_settings() -> None:
    from fairchild import Fairchild

    client = Fairchild("postgresql://me:hunter2@db/x", pool_size=3)
    shown = {each.name: (each.value, each.origin) for each in client.insight.settings()}
    assert shown["url"] == ("postgresql://me:***@db/x", "argument")
    assert shown["pool_size"] == ("3", "argument")


def test_a_worker_hears_of_trouble_only_while_it_works(app: App) -> None:
    app.task(name="t")(lambda: None)
    worker: Worker = app.work()
    worker.stop(timeout=5)
    emit("loop_failed", loop="x", error=OSError("late"), failures=1)
    assert worker._vitals.take()["error"] is None
