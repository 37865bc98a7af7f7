"""The page of one job: its attempts, its log, what it waits for, and what can be done to it."""

from __future__ import annotations

import json
import re
import shlex
import threading
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
    assert [each.action for each in app.client.audit_entries()] == ["jobs:run", "jobs:run"]


def test_ticked_jobs_and_all_that_match_are_run_now(app: App, site: FlaskClient) -> None:
    ids = app.client.enqueue_many("later", ({"n": n} for n in range(4)), delay=3600)
    assert send(site, "jobs/bulk/run", id=[str(ids[0])], q="state:scheduled").status_code == 303
    asked = Page(send(site, "jobs/bulk/run", all=1, q="task:later").text)
    assert asked.one("h1").said == "Run now: 4 jobs?"
    assert "Can be made available 3" in asked.said
    assert send(site, "jobs/bulk/run", all=1, q="task:later", sure=1).status_code == 303
    assert {app.get(each).state for each in ids} == {"available"}


def test_a_job_is_cancelled_after_a_question(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("later", delay=3600)
    asked = Page(send(site, f"jobs/{job.id}/cancel").text)
    assert asked.one("h1").said == "Cancel this job of later?"
    assert "its descendants that have not ended" in asked.said
    assert app.get(job).state == "scheduled"
    assert app.client.audit_entries() == []
    fields = {each.attrs["name"]: each.attrs["value"] for each in asked.all("input", type="hidden")}
    assert send(site, f"jobs/{job.id}/cancel", **fields).status_code == 303
    assert app.get(job).state == "cancelled"


def test_a_retry_that_is_sent_twice_is_done_once(app: App, site: FlaskClient) -> None:
    @app.task(name="fails", max_attempts=1)
    def fails() -> None:
        raise ValueError

    worker = app.work()
    job = app.wait(app.client.enqueue("fails"))[0]
    worker.stop(timeout=5)
    form = read(site, f"jobs/{job.id}")
    fields = {each.attrs["name"]: each.attrs["value"] for each in form.all("input", name="ended")}
    first, second = (send(site, f"jobs/{job.id}/retry", **fields) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.location.endswith("did=retried&n=1")
    assert "Done already" in read(site, second.location.removeprefix("/ops/")).one("p", class_="toast").said
    assert [each.action for each in app.client.audit_entries()] == ["jobs:retry"]
    assert app.get(job).state == "available"


@pytest.fixture
def known(app: App) -> App:
    """A task that a worker knows."""

    @app.task(name="add")
    def add(a: int, b: int = 2) -> int:
        return a + b

    app.work()
    return app


def test_a_form_that_is_sent_twice_makes_one_job(known: App, site: FlaskClient) -> None:
    key = read(site, "new?task=add").one("input", name="key").attrs["value"]
    assert key != read(site, "new?task=add").one("input", name="key").attrs["value"]
    form = {"task": "add", "key": key, "arg-a": "1"}
    first, second = (send(site, "new", **form) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.location.partition("?")[0] == second.location.partition("?")[0]
    assert "was sent before" in read(site, second.location.removeprefix("/ops/")).one("p", class_="toast").said
    assert len(known.client.jobs(task="add").jobs) == 1
    assert len(known.client.audit_entries()) == 1

    changed = send(site, "new", **{**form, "arg-a": "2"})
    assert changed.location.endswith("did=enqueued&n=1")
    assert sorted(job.args["a"] for job in known.client.jobs(task="add").jobs) == [1, 2]


def test_long_json_is_opened_and_what_is_too_long_is_downloaded(app: App, site: FlaskClient, mount: Any) -> None:
    short = app.client.enqueue("t", {"a": 1})
    long = app.client.enqueue("t", {"rows": list(range(50)), "password": "p4ss"})
    large = app.client.enqueue("t", {"text": "<x>" * 30_000})
    assert read(site, f"jobs/{short.id}").all("details", class_="json") == []
    page = read(site, f"jobs/{long.id}")
    assert page.one("details", id="args-more").said.startswith('{"')
    assert "55 lines" in page.one("details", id="args-more").said
    assert json.loads(page.one("pre", id="args").said)["rows"] == list(range(50))
    page = read(site, f"jobs/{large.id}")
    assert len(page.one("pre", id="args").said) < 66_000
    link = next(each for each in page.all("a") if each.said.startswith("Download all"))
    answer = site.get(link.attrs["href"])
    assert answer.mimetype == "application/json"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.json == {"text": "<x>" * 30_000}
    assert (site.get(f"/ops/jobs/{long.id}/args.json").json or {})["password"] == "[hidden]"
    assert site.get(f"/ops/jobs/{long.id}/errors.json").status_code == 404
    looker = mount(authorize=lambda request, right: {"view"})
    assert looker.get(f"/ops/jobs/{large.id}/args.json").status_code == 403
    masked = mount(redact=lambda shown: {**shown, "args": {}})
    assert masked.get(f"/ops/jobs/{large.id}/args.json").json == {}


def test_a_job_can_be_made_again_from_elsewhere(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("shop.add", {"a": "it's", "b": None}, tags=["x", "y"], priority=2, tenant="acme")
    page = read(site, f"jobs/{job.id}")
    python, cli, curl = (page.one("pre", id=f"as-{way}").said for way in ("python", "cli", "curl"))
    assert python.startswith("fc.enqueue('shop.add', {")
    assert "priority=2, tenant='acme', tags=['x', 'y'])" in python
    made = eval(python, {"fc": app.client})
    words = shlex.split(cli)
    assert words[:3] == ["fairchild", "enqueue", "shop.add"]
    assert json.loads(words[words.index("--args") + 1]) == {"a": "it's", "b": None}
    assert words[-4:] == ["--tag", "x", "--tag", "y"]
    words = shlex.split(curl)
    assert words[1] == "http://localhost/ops/api/jobs"
    body = json.loads(words[-1])
    assert (made.args, made.tags, made.priority) == (body["args"], body["tags"], body["priority"])
    assert len(page.all("button", data_copy="as-curl")) == 1


def test_reasons_lead_to_what_they_name(known: App, site: FlaskClient) -> None:
    first = known.client.enqueue("other", queue="slow")
    second = known.client.enqueue("other", queue="slow", depends_on=[first])
    send(site, "queues/slow", action="pause")
    page = read(site, f"jobs/{first.id}")
    said = page.one("section", aria_labelledby="why-card-h").said
    assert re.search(r"the queue slow is paused since \S+ \S+ UTC by 127\.0\.0\.1 Queue", said)
    assert "the one live worker does not know the task other" in said
    assert "/ops/queues/slow" in page.links()
    page = read(site, f"jobs/{second.id}")
    assert "jobs that it depends on: 1 has not ended" in page.said
    assert f"/ops/jobs/{first.id}" in page.links()


def test_a_running_job_names_its_worker(app: App, site: FlaskClient) -> None:
    go = threading.Event()

    @app.task(name="holds")
    def holds() -> None:
        go.wait(30)

    app.work(name="web-9")
    job = app.reaches(app.client.enqueue("holds"), "running")
    try:
        page = read(site, f"jobs/{job.id}")
        assert re.search(r"the worker web-9 on \S+ is running it, last heard of \d+ s ago", page.said)
        (reason,) = (site.get(f"/ops/api/jobs/{job.id}/why").json or {})["reasons"]
        assert reason["worker"] == str(app.get(job).worker)
        assert f"/ops/workers/{reason['worker']}" in page.links()
    finally:
        go.set()


def test_a_job_tells_how_many_it_waits_for_and_how_many_wait_for_it(app: App, site: FlaskClient) -> None:
    ups = app.client.enqueue_many("up", [{}] * 25)
    job = app.client.enqueue("middle", depends_on=ups)
    downs = [app.client.enqueue("down", depends_on=[job]).id for _ in range(22)]
    with app.client.claim(limit=2) as held:
        for each in held:
            each.complete(None)
    page = read(site, f"jobs/{job.id}")
    said = page.one("section", aria_labelledby="family-h").said
    assert "23 of 25 open" in said
    assert "dependents 22" in said

    def shown(page: Page, relation: str) -> list[str]:
        return [
            row.attrs["id"].removeprefix(f"{relation}-")
            for row in page.all("tr")
            if row.attrs.get("id", "").startswith(relation)
        ]

    first = shown(page, "waits-for")
    assert len(first) == 20
    assert not {str(each.id) for each in held} & {*first}
    assert shown(page, "needed-by") == [str(each) for each in downs[:20]]
    later = next(each for each in page.all("a") if each.said == "More that need it").attrs["href"]
    assert shown(read(site, f"jobs/{job.id}{later}"), "needed-by") == [str(each) for each in downs[20:]]
    everything = next(each for each in page.all("a") if each.said == "All it waits for").attrs["href"]
    assert shown(read(site, f"jobs/{job.id}{everything}"), "waits-for") == [str(each) for each in ups[:20]]
    read(site, f"jobs/{job.id}?dependents=x", 422)

    found = app.get(job)
    assert [each.id for each in found.dependencies] == ups
    assert [each.id for each in found.dependents] == downs
    answer = site.get(f"/ops/api/jobs/{job.id}/dependencies?limit=10").json or {}
    assert ([each["id"] for each in answer["jobs"]], answer["cursor"]) == (
        [str(each) for each in ups[:10]],
        str(ups[9]),
    )
    answer = site.get(f"/ops/api/jobs/{job.id}/dependents?cursor={downs[19]}").json or {}
    assert ([each["id"] for each in answer["jobs"]], answer["cursor"]) == ([str(each) for each in downs[20:]], None)
    assert site.get(f"/ops/api/jobs/{UUID(int=1)}/dependents").status_code == 404


def test_progress_tells_its_pace_and_what_is_left(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("count")
    with app.client.claim() as held:
        app.store.sql("UPDATE {claims} SET claimed_at = now() - interval '40 seconds'")
        app.store.sql(
            "INSERT INTO {progress} (job_id, attempt, value, total, message, at) "
            "VALUES (%(id)s, 1, 1360, 2000, 'p', now())",
            id=job.id,
        )
        said = read(site, f"jobs/{job.id}").one("section", aria_labelledby="progress-card-h").said
        assert re.search(r"1,360 of 2,000, 68% · 34/s · 1\d\.\d s left · p", said), said
        app.store.sql("UPDATE {progress} SET attempt = 2")
        said = read(site, f"jobs/{job.id}").one("section", aria_labelledby="progress-card-h").said
        assert said.endswith("1,360 of 2,000, 68% · p")
        held[0].complete(None)


def test_the_last_runs_of_a_task_are_dots_with_this_one_marked(app: App, site: FlaskClient) -> None:
    ids = app.client.enqueue_many("t", [{}] * 4)
    other = app.client.enqueue("u")
    with app.client.claim(limit=5) as held:
        for each in held:
            each.complete(None)
    app.store.sql(
        "UPDATE {jobs} SET attempted_at = ended_at - interval '1 second' * array_position(%(ids)s::uuid[], id) "
        "WHERE id = ANY(%(ids)s::uuid[])",
        ids=ids,
    )
    page = read(site, f"jobs/{ids[2]}")
    dots = [each.said for each in page.all("circle") if "data-s" in each.attrs and each.said]
    assert dots == [f"completed after {n}.00 s{', this job' if n == 3 else ''}" for n in (1, 2, 3, 4)]
    assert "p50 2.00 s p95 4.00 s this 3.00 s" in page.one("section", aria_labelledby="past-h").said
    assert read(site, f"jobs/{other.id}").all("section", aria_labelledby="past-h") == []


def test_a_job_tried_again_as_another_leads_to_it_and_back(known: App, site: FlaskClient) -> None:
    old = known.wait(known.client.enqueue("add", {"a": 1}))[0]
    key = read(site, f"new?from={old.id}").one("input", name="key").attrs["value"]
    made = send(site, "new", **{"task": "add", "from": str(old.id), "key": key, "arg-a": "2"}).location
    new = UUID(made.rpartition("/")[2][:36])
    assert f"Tried again as {new}" in read(site, f"jobs/{old.id}").said
    assert f"Made from {old.id}" in read(site, f"jobs/{new}").said
    assert known.get(old).meta == {"retried_as": str(new)}


def test_others_that_failed_of_the_same_are_counted(app: App, site: FlaskClient) -> None:
    @app.task(name="fails", max_attempts=1)
    def fails(n: int) -> None:
        raise ValueError(n)

    app.work()
    jobs = app.wait(*(app.client.enqueue("fails", {"n": n}) for n in range(4)))
    page = read(site, f"jobs/{jobs[0].id}")
    (link,) = [each for each in page.all("a") if each.said == "3 others like it"]
    assert link.attrs["href"] == f"/ops/errors/{jobs[0].errors[-1]['fingerprint']}"


def test_a_job_is_moved_from_its_page(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("t", queue="slow")
    asked = Page(send(site, f"jobs/{job.id}/move").text)
    assert asked.one("h1").said == "Move this job of t?"
    assert {each.attrs["name"] for each in asked.all("input", class_="in") if each.attrs["id"] != "jump"} == {
        "queue", "priority",
    }  # fmt: skip
    assert app.get(job).queue == "slow"
    answer = send(site, f"jobs/{job.id}/move", sure=1, queue="fast", priority="")
    assert answer.location == f"/ops/jobs/{job.id}?did=moved&n=1"
    assert (app.get(job).queue, app.get(job).priority) == ("fast", 5)
    entry = app.client.audit_entries()[0]
    assert (entry.action, entry.target) == ("jobs:move", f"{job.id} to queue fast")
    assert send(site, f"jobs/{job.id}/move", sure=1, priority="12").status_code == 422
    assert send(site, f"jobs/{job.id}/move", sure=1).status_code == 422
    app.client.cancel(job)
    assert send(site, f"jobs/{job.id}/move").status_code == 409


def test_many_jobs_are_moved(app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairchild.web.bulk.BATCH", 2)
    monkeypatch.setattr("fairchild.web.bulk.ACTION_SECONDS", 0.0)
    ids = app.client.enqueue_many("t", [{}] * 5, queue="slow")
    asked = Page(send(site, "jobs/bulk/move", id=[str(each) for each in ids[:2]]).text)
    assert asked.one("h1").said == "Move 2 jobs?"
    form = {"id": [str(each) for each in ids[:2]], "sure": 1, "priority": "1"}
    assert send(site, "jobs/bulk/move", **form).location.endswith("did=moved&n=2")
    fields: dict[str, Any] = {"all": "1", "q": "task:t after:1d", "sure": "1", "queue": "fast"}
    for done in (2, 4):
        page = Page(send(site, "jobs/bulk/move", **fields).text)
        assert f"{done} jobs so far" in page.said
        fields = {each.attrs["name"]: each.attrs["value"] for each in page.all("input", type="hidden")}
    assert send(site, "jobs/bulk/move", **fields).location.endswith("did=moved&n=5")
    assert {(app.get(each).queue, app.get(each).priority) for each in ids} == {("fast", 1), ("fast", 5)}
    assert app.client.audit_entries()[0].target == "task:t after:1d to queue fast"
    assert send(site, "jobs/bulk/move", all=1, q="task:t", sure=1).status_code == 422


def test_jobs_are_moved_over_the_api(app: App, site: FlaskClient) -> None:
    job, other = app.client.enqueue("t"), app.client.enqueue("t", delay=60)
    answer = site.post(f"/ops/api/jobs/{job.id}/move", json={"queue": "fast", "priority": 0})
    assert answer.status_code == 200
    assert ((answer.json or {})["queue"], (answer.json or {})["priority"]) == ("fast", 0)
    assert site.post(f"/ops/api/jobs/{job.id}/move", json={}).status_code == 422
    body = {"action": "move", "ids": [str(job.id), str(other.id)], "queue": "fast", "priority": 0}
    counts = site.post("/ops/api/jobs/bulk", json=body).json or {}
    assert (counts["possible"], counts["changed"], counts["refused"]) == (2, 1, 1)
    assert site.post("/ops/api/jobs/bulk", json={**body, "action": "cancel"}).status_code == 422
    assert (app.get(other).queue, app.get(other).state) == ("fast", "scheduled")
    app.client.cancel(job)
    assert site.post(f"/ops/api/jobs/{job.id}/move", json={"queue": "x"}).status_code == 409
