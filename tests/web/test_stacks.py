"""Where a worker's threads are, by the pages and the API: asked by POST, shown when the answer is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from fairchild import Job
from fairchild.worker import Worker
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually
from tests.web.pages_support import SAME_ORIGIN, Page

Mount = Callable[..., FlaskClient]


@pytest.fixture
def job(app: App) -> Iterator[Job]:
    """One that runs, in the only thread of a worker."""
    opened = threading.Event()

    @app.task(name="shop.hold")
    def hold() -> None:
        opened.wait(PATIENCE)

    made = app.client.enqueue("shop.hold")
    app.work(name="one", concurrency=1)
    yield app.reaches(made, "running")
    opened.set()


@pytest.fixture
def worker(app: App, job: Job) -> Worker:
    return app.workers[0]


def read(client: FlaskClient, path: str) -> Page:
    return Page(client.get(path).text)


def test_a_workers_page_shows_them_when_they_are_there(site: FlaskClient, worker: Worker) -> None:
    path = f"/ops/workers/{worker.session}"
    assert "Stacks" not in [each.said for each in read(site, path).all("h2")]
    answer = site.post(f"{path}/stacks", headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert answer.location == f"{path}?did=asked&n=1#stacks"
    eventually(lambda: read(site, path).all("details", class_="thread"), PATIENCE)
    page = read(site, path)
    first = page.all("details", class_="thread")[0]
    assert "fairchild-runner-0" in first.said
    assert "opened.wait(PATIENCE)" in first.said
    assert "open" in first.attrs
    assert f"{__file__}:" in first.said
    assert "as of" in page.said


def test_a_jobs_page_shows_its_own_thread(site: FlaskClient, job: Job) -> None:
    path = f"/ops/jobs/{job.id}"
    assert "Its worker can say" in read(site, path).said
    assert site.post(f"{path}/stacks", headers=SAME_ORIGIN).location == f"{path}?did=asked&n=1#where"
    eventually(lambda: "opened.wait(PATIENCE)" in site.get(f"{path}?_live=1").text, PATIENCE)
    page = read(site, path)
    assert "fairchild-heartbeat" not in page.said
    assert "in hold" in page.said


def test_what_was_said_of_an_attempt_before_is_not_shown(app: App, site: FlaskClient, job: Job) -> None:
    site.post(f"/ops/jobs/{job.id}/stacks", headers=SAME_ORIGIN)
    app.store.sql("UPDATE {claims} SET claimed_at = now() + interval '1 minute'")
    assert "Its worker can say" in read(site, f"/ops/jobs/{job.id}").said


def test_an_answer_that_is_late_or_old_says_so(app: App, site: FlaskClient) -> None:
    session = app.store.open_session()
    path = f"/ops/workers/{session}"
    site.post(f"{path}/stacks", headers=SAME_ORIGIN)
    assert "no answer yet" in read(site, path).said
    app.store.sql("UPDATE {sessions} SET stacks_asked_at = now() - interval '1 minute'")
    assert "may be frozen or away" in read(site, path).said
    app.store.sql("UPDATE {sessions} SET stacks_at = now() - interval '50 seconds', stacks = '[]'")
    assert "may have moved on since" in read(site, path).said
    app.store.sql("UPDATE {sessions} SET stacks_asked_at = now() - interval '2 hours', stacks_at = now()")
    assert "Stacks" not in [each.said for each in read(site, path).all("h2")]


def test_the_api_answers_with_them(site: FlaskClient, worker: Worker, job: Job) -> None:
    path = f"/ops/api/workers/{worker.session}/stacks"
    assert site.get(path).status_code == 404
    answer = site.post(path).json
    assert answer["worker"] == "one"  # type: ignore[index]
    first = answer["threads"][0]  # type: ignore[index]
    assert (first["job"], first["task"], first["attempt"]) == (str(job.id), "shop.hold", 1)
    assert any(each["code"] == "opened.wait(PATIENCE)" for each in first["frames"])
    assert site.get(path).json == answer


def test_a_worker_that_does_not_answer_holds_no_thread_for_long(app: App, site: FlaskClient) -> None:
    session = app.store.open_session()
    began = time.monotonic()
    answer = site.post(f"/ops/api/workers/{session}/stacks")
    assert answer.status_code == 504
    assert time.monotonic() - began < 2.0
    assert "no answer within 1.2 s" in answer.json["detail"]  # type: ignore[index]
    assert site.get(f"/ops/api/workers/{session}/stacks").json["at"] is None  # type: ignore[index]


def test_only_who_may_control_workers_may_ask_and_see(
    mount: Mount, site: FlaskClient, job: Job, worker: Worker
) -> None:
    site.post(f"/ops/api/workers/{worker.session}/stacks")
    client = mount(authorize=lambda request, right: {"view", "payload:read"})
    assert client.get(f"/ops/api/workers/{worker.session}/stacks").status_code == 403
    for path in (f"workers/{worker.session}", f"jobs/{job.id}"):
        assert client.post(f"/ops/{path}/stacks", headers=SAME_ORIGIN).status_code == 403
        assert "opened.wait" not in client.get(f"/ops/{path}").text
    read_only = mount(read_only=True)
    assert "opened.wait" not in read_only.get(f"/ops/workers/{worker.session}").text


def test_who_is_not_there_cannot_be_asked(app: App, site: FlaskClient) -> None:
    ended = app.store.add()
    for path, status in (
        (f"workers/{uuid4()}", 409), ("workers/x", 404), (f"jobs/{uuid4()}", 404), ("jobs/x", 404),
        (f"jobs/{ended}", 409), (f"api/workers/{uuid4()}", 404),
    ):  # fmt: skip
        assert site.post(f"/ops/{path}/stacks", headers=SAME_ORIGIN).status_code == status
