"""The page of one job: its attempts, its log, what it waits for, and what can be done to it."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from fairchild import Fairchild, Job
from fairchild.context import CurrentJob
from fairchild.errors import TookTooLong
from fairchild.web import downloads
from fairchild.web.pages import logs
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.pages_support import SAME_ORIGIN, Page


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    """A page of the site under ``/ops``."""
    answer = client.get(f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def send(client: FlaskClient, path: str, **form: Any) -> Any:
    return client.post(f"/ops/{path}", data=form, headers=SAME_ORIGIN)


def test_every_attempt_shows_its_error_and_its_traceback(app: App, site: FlaskClient) -> None:
    @app.task(name="shaky", max_attempts=3, backoff=[0])
    def shaky() -> None:
        raise ValueError(f"number {len(app.get(job).errors) + 1} went wrong")

    job = app.client.enqueue("shaky")
    app.work()
    app.wait(job)
    page = read(site, f"jobs/{job.id}")
    told = page.all("details", class_="att-error")
    assert len(told) == 3
    for number, each in enumerate(told, 1):
        assert f"ValueError number {number} went wrong" in each.said
        assert "in shaky" in page.one("pre", id=f"traceback-{number}").said
    in_api = site.get(f"/ops/api/jobs/{job.id}").json
    assert in_api is not None
    assert [each["message"] for each in in_api["errors"]] == [f"number {n} went wrong" for n in (1, 2, 3)]
    assert all("in shaky" in each["traceback"] for each in in_api["errors"])


def test_attempts_that_are_not_kept_are_counted(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("lost", max_attempts=20)
    kept = [1, 2, 9]
    app.store.sql(
        """UPDATE {jobs} SET attempt = 9, errors = (
             SELECT jsonb_agg(jsonb_build_object('attempt', n, 'kind', 'error', 'type', 'E', 'at', now()))
               FROM unnest(%(kept)s::int[]) AS n) WHERE id = %(id)s""",
        kept=kept,
        id=job.id,
    )
    assert "6 attempts between these are not kept" in read(site, f"jobs/{job.id}").said


@pytest.fixture
def talker(app: App) -> Job:
    """A job that has logged in two attempts."""

    @app.task(name="talk", max_attempts=2, backoff=[0])
    def talk(job: CurrentJob) -> None:
        job.log(f"try {job.attempt}\nforged line", level="info", token="t0p", n=job.attempt)
        job.log("careful", level="warning")
        if job.attempt == 1:
            raise ValueError

    app.work()
    job = app.wait(app.client.enqueue("talk"))[0]
    eventually(lambda: len(app.client.logs(job.id)) == 4)
    return job


def lines(page: Page) -> list[str]:
    return [each.said for each in page.all("span", class_="msg")]


def test_a_log_says_when_with_its_zone_and_is_chosen_by_attempt_and_level(site: FlaskClient, talker: Job) -> None:
    page = read(site, f"jobs/{talker.id}")
    assert [each.partition(" ")[0] for each in lines(page)] == ["try", "careful", "try", "careful"]
    first = page.one("section", id="logs")
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC info attempt 1 talk try 1", first.said)
    times = [each for each in page.all("time") if "data-exact" in each.attrs]
    assert len(times) == 4
    assert all(each.attrs["datetime"].endswith("+00:00") for each in times)
    assert [each.partition(" ")[2][:1] for each in lines(read(site, f"jobs/{talker.id}?attempt=2"))] == ["2", ""]
    assert lines(read(site, f"jobs/{talker.id}?level=warning&attempt=1")) == ["careful"]
    assert "No lines pass this choice." in read(site, f"jobs/{talker.id}?level=error").said
    assert len(lines(read(site, f"jobs/{talker.id}?level=loud&attempt=x"))) == 4


def test_a_log_is_a_text_file_for_those_who_may_read_it(mount: Any, site: FlaskClient, talker: Job) -> None:
    answer = site.get(f"/ops/jobs/{talker.id}/logs.txt")
    assert answer.mimetype == "text/plain"
    assert answer.headers["Content-Disposition"] == f"attachment; filename={talker.id}.log"
    first, forged, second, *_ = answer.text.splitlines()
    assert re.fullmatch(r"\S+Z attempt 1 INFO talk: try 1", first)
    assert forged == '    forged line n=1 token="[hidden]"'
    assert second.endswith("attempt 1 WARNING talk: careful")
    assert len(site.get(f"/ops/jobs/{talker.id}/logs.txt?attempt=2&level=warning").text.splitlines()) == 1
    looker = mount(authorize=lambda request, right: {"view"})
    assert looker.get(f"/ops/jobs/{talker.id}/logs.txt").status_code == 403
    assert lines(Page(looker.get(f"/ops/jobs/{talker.id}").text)) == []


def test_a_file_that_takes_too_long_says_how_to_go_on(
    site: FlaskClient, talker: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SECONDS", 0.3)
    monkeypatch.setattr(logs, "MAX_PAGE", 1)
    read_lines = Fairchild.logs

    def slowly(self: Fairchild, id: UUID, *, after: int = 0, **options: Any) -> Any:
        if after:
            raise TookTooLong("too long")
        return read_lines(self, id, after=after, limit=1)

    monkeypatch.setattr(Fairchild, "logs", slowly)
    told = site.get(f"/ops/jobs/{talker.id}/logs.txt").text.splitlines()[-1]
    after = told.rpartition("=")[2]
    assert told == f"There is more than could be read in the time: GET api/jobs/{talker.id}/logs?after={after}"
    monkeypatch.undo()
    rest = site.get(f"/ops/api/jobs/{talker.id}/logs?after={after}").json
    assert rest is not None
    assert len(rest["lines"]) == 3


def test_a_log_is_followed_only_when_asked(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("later", delay=3600)
    app.store.sql(
        "INSERT INTO {logs} (job_id, attempt, at, level, logger, message) VALUES (%(id)s, 1, now(), 20, 'l', 'm')",
        id=job.id,
    )

    def live(path: str) -> bool:
        return "data-live" in read(site, path).one("div", id="log-lines").attrs

    assert not live(f"jobs/{job.id}")
    assert live(f"jobs/{job.id}?follow=1")
    assert "data-live" not in site.get(f"/ops/jobs/{job.id}?_live=1").text.partition('id="log-lines"')[2][:30]


def test_a_job_that_is_put_off_is_run_now(app: App, site: FlaskClient, mount: Any) -> None:
    later = app.client.enqueue("later", delay=3600)
    waiting = app.client.enqueue("last", depends_on=[later])
    assert "Run now" in read(site, f"jobs/{later.id}").said
    assert "Run now" not in read(site, f"jobs/{waiting.id}").said

    answer = send(site, f"jobs/{later.id}/run")

    assert (answer.status_code, answer.location) == (303, f"/ops/jobs/{later.id}?did=made-available&n=1")
    assert app.get(later).state == "available"
    entry = app.client.audit_entries()[0]
    assert (entry.action, entry.target) == ("jobs:run", str(later.id))
    assert send(site, f"jobs/{later.id}/run").status_code == 409
    assert send(site, f"jobs/{waiting.id}/run").status_code == 409
    assert app.get(waiting).state == "waiting"
    retrier = mount(authorize=lambda request, right: {"jobs:retry"})
    assert send(retrier, f"jobs/{waiting.id}/run").status_code == 403


def test_jobs_are_run_now_over_the_api(app: App, site: FlaskClient) -> None:
    later, other = (app.client.enqueue("later", delay=3600) for _ in range(2))
    waiting = app.client.enqueue("last", depends_on=[later])

    answer = site.post(f"/ops/api/jobs/{later.id}/run")

    assert (answer.status_code, (answer.json or {})["state"]) == (200, "available")
    assert [site.post(f"/ops/api/jobs/{each}/run").status_code for each in (later.id, waiting.id, UUID(int=1))] == [
        409, 409, 404,
    ]  # fmt: skip
    body = {"action": "run", "ids": [str(each.id) for each in (later, other, waiting)]}
    counts = site.post("/ops/api/jobs/bulk", json=body).json or {}
    assert (counts["possible"], counts["changed"]) == (1, 1)
    assert [app.get(each).state for each in (later, other, waiting)] == ["available", "available", "waiting"]
    assert [each.action for each in app.client.audit_entries()] == ["bulk run", "run"]


def test_ticked_jobs_and_all_that_match_are_run_now(app: App, site: FlaskClient) -> None:
    ids = app.client.enqueue_many("later", ({"n": n} for n in range(4)), delay=3600)
    assert send(site, "jobs/bulk/run", id=[str(ids[0])], q="state:scheduled").status_code == 303
    asked = Page(send(site, "jobs/bulk/run", all=1, q="task:later").text)
    assert asked.one("h1").said == "Run now: 4 jobs?"
    assert "Can be made available 3" in asked.said
    assert send(site, "jobs/bulk/run", all=1, q="task:later", sure=1).status_code == 303
    assert {app.get(each).state for each in ids} == {"available"}
