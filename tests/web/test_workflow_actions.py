"""Cancelling and retrying a workflow whose jobs are more than one request may change."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from fairchild.client.workflows import Workflow
from fairchild.db import cancel, portions
from fairchild.errors import DatabaseUnavailable
from fairchild.web import api, bulk
from fairchild.web.pages import flow_actions, job
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.pages_support import SAME_ORIGIN, Page

LEAVES = 7


@pytest.fixture
def flow(app: App, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """A job, seven that wait for it, one that waits for those; and requests that have time for two jobs each."""
    monkeypatch.setattr(portions, "PORTION", 2)
    monkeypatch.setattr(cancel, "SMALL_PORTION", 2)
    monkeypatch.setattr(portions, "ROOM", 2)
    monkeypatch.setattr(api, "ACTION_SECONDS", 0.0)
    monkeypatch.setattr(flow_actions, "ACTION_SECONDS", 0.0)
    with app.client.workflow("nightly") as made:
        first = made.call("load", max_attempts=1)
        leaves = [made.call("leaf", {"n": n, "of": first}) for n in range(LEAVES)]
        _ = made.call("total", {"of": leaves})
    return made


def send(site: FlaskClient, path: str, **form: Any) -> Any:
    return site.post(f"/ops/{path}", data=form, headers=SAME_ORIGIN)


def follow(site: FlaskClient, path: str, answer: Any) -> tuple[Any, int]:
    """Press the button of the page until it leads elsewhere; where to, and how often it was pressed."""
    pressed = 0
    while answer.status_code == 200:
        page = Page(answer.text)
        form = {each.attrs["name"]: each.attrs["value"] for each in page.all("input", type="hidden")}
        assert pressed == 0 or [each for each in page.all("form") if "data-goes-on" in each.attrs]
        answer, pressed = send(site, path, **form), pressed + 1
        assert pressed < 50
    return answer, pressed


def states(flow: Workflow) -> dict[str, int]:
    return {state: n for state, n in flow.counts.items() if n}


def audited(app: App) -> list[tuple[str, int]]:
    return [(each.action, each.number) for each in app.client.audit_entries()]


def test_cancelling_goes_on_over_several_requests_and_each_is_audited(
    app: App, site: FlaskClient, flow: Workflow
) -> None:
    path = f"workflows/{flow.id}/cancel"
    asked = send(site, path)
    assert "Cancel 10" in Page(asked.text).said
    answer, pressed = follow(site, path, asked)
    assert pressed > 3
    assert (answer.status_code, "n=10" in answer.location) == (303, True)
    assert states(flow) == {"cancelled": 10}
    assert sum(number for _, number in audited(app)) == 10
    assert len(audited(app)) > 3
    reasons = {job.reason for job in flow.jobs()}
    assert reasons == {"cancelled by hand"}


def test_what_is_cancelled_runs_again_over_several_requests(app: App, site: FlaskClient, flow: Workflow) -> None:
    _ = flow.cancel("by hand")
    assert "Retry 10 cancelled" in Page(site.get(f"/ops/workflows/{flow.id}").text).said
    path = f"workflows/{flow.id}/retry"
    asked = send(site, path)
    assert Page(asked.text).one("h1").said == "Retry nightly?"
    assert states(flow) == {"cancelled": 10}
    answer, pressed = follow(site, path, asked)
    assert answer.status_code == 303
    assert pressed > 3
    assert states(flow) == {"available": 1, "waiting": 9}
    finish(app)
    assert app.wait(flow.id)[0].state == "completed"


def finish(app: App) -> None:
    @app.task(name="load")
    def load() -> int:
        return 1

    @app.task(name="leaf")
    def leaf(n: int, of: int) -> int:
        return n * of

    @app.task(name="total")
    def total(of: list[int]) -> int:
        return sum(of)

    app.work()


def test_of_what_was_cancelled_because_of_one_failure_all_comes_back(
    app: App, site: FlaskClient, flow: Workflow
) -> None:
    broken = [True]

    @app.task(name="load", max_attempts=1)
    def load() -> int:
        if broken[0]:
            raise ValueError("once")
        return 1

    worker = app.work()
    app.wait(flow.id)
    assert states(flow) == {"failed": 2, "cancelled": 8}
    worker.stop()
    broken[0] = False
    path = f"workflows/{flow.id}/retry"
    asked = send(site, path)
    assert "Retry 9" in Page(asked.text).said  # the failed one and those that waited, not the root
    answer, pressed = follow(site, path, asked)
    assert (answer.status_code, pressed > 3) == (303, True)
    assert states(flow) == {"available": 1, "waiting": 9}
    assert app.store.violations() == []


def test_what_failed_can_be_retried_without_what_somebody_cancelled(app: App, site: FlaskClient) -> None:
    @app.task(name="part", max_attempts=1)
    def part(n: int) -> int:
        if n < 2:
            raise ValueError("no")
        return n

    @app.task(name="late")
    def late() -> int:
        return 1

    with app.client.workflow("mixed") as flow:
        _ = [flow.call("part", {"n": n}) for n in range(3)]
        stopped = flow.call("late", delay=3600)
    app.client.cancel(stopped.job_id)
    worker = app.work()
    app.wait(flow.id)
    worker.stop()
    page = Page(send(site, f"workflows/{flow.id}/retry").text)
    assert page.one("h1").said == "Retry mixed: which jobs?"
    assert [each.said for each in page.all("button") if each.said.startswith("Retry ")] == [
        "Retry 2 jobs",
        "Retry 3 jobs",
    ]
    answer = send(site, f"workflows/{flow.id}/retry", scope="failed", sure=1)
    assert (answer.status_code, "n=2" in answer.location) == (303, True)
    assert app.get(stopped.job_id).state == "cancelled"
    answer = send(site, f"workflows/{flow.id}/retry", scope="all", sure=1)
    assert (answer.status_code, "n=1" in answer.location) == (303, True)
    assert app.get(stopped.job_id).state in ("available", "scheduled")


def test_above_a_thousand_the_number_is_typed(
    app: App, site: FlaskClient, flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_actions, "TYPE_ABOVE", 5)
    path = f"workflows/{flow.id}/cancel"
    assert "Type 10 to confirm" in Page(send(site, path).text).said
    for number in ("", "9"):
        refused = Page(send(site, path, sure=1, number=number).text)
        assert "was not typed" in refused.one("p", role="alert").said
    assert states(flow) == {"available": 1, "waiting": 9}
    assert follow(site, path, send(site, path, sure=1, number=10))[0].status_code == 303
    assert states(flow) == {"cancelled": 10}


def test_what_was_done_is_audited_though_it_was_broken_off(
    app: App, site: FlaskClient, flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Workflow, seconds: float, reason: str, done: Any) -> bool:
        done(self.cancel(reason))
        raise DatabaseUnavailable("the connection was lost")

    monkeypatch.setattr(Workflow, "cancel_within", cut)
    assert send(site, f"workflows/{flow.id}/cancel", sure=1).status_code == 503
    assert audited(app) == [("workflows:cancel", 10)]


def test_the_api_says_that_there_is_more_and_how_to_go_on(app: App, site: FlaskClient, flow: Workflow) -> None:
    at, changed, asked = f"/ops/api/workflows/{flow.id}", 0, 0
    while (answer := site.post(f"{at}/cancel", json={"reason": "too late"})).status_code == 202:
        assert (answer.json or {})["more"] is True
        changed, asked = changed + (answer.json or {})["changed"], asked + 1
    changed += (answer.json or {})["changed"]
    assert (answer.status_code, changed, asked > 3) == (200, 10, True)
    assert site.post(f"{at}/cancel").json == {"id": str(flow.id), "changed": 0, "more": False}

    body: dict[str, Any] = {}
    while (answer := site.post(f"{at}/retry", json=body)).status_code == 202:
        said = answer.json or {}
        assert said["scope"] == "all"
        body = {"scope": said["scope"], "before": said["before"]}
    assert answer.status_code == 200
    assert states(flow) == {"available": 1, "waiting": 9}
    assert site.post(f"{at}/retry", json={"scope": "some"}).status_code == 422
    eventually(lambda: app.store.violations() == [])


def test_the_first_job_of_a_workflow_is_cancelled_as_the_workflow_is(
    app: App, site: FlaskClient, flow: Workflow
) -> None:
    at = f"/ops/jobs/{flow.id}/cancel"
    asked = send(site, f"jobs/{flow.id}/cancel", sure="1")
    assert (asked.status_code, asked.location) == (307, f"/ops/workflows/{flow.id}/cancel")
    asked = 0
    while (answer := site.post(at.replace("jobs", "api/jobs"), json={"reason": "too late"})).status_code == 202:
        assert (answer.json or {})["more"] is True
        asked += 1
    assert asked > 2
    assert (answer.json or {})["detail"].endswith("it is cancelled") or (answer.json or {})["state"] == "cancelled"
    assert {job.reason for job in flow.jobs()} == {"too late"}
    assert sum(number for _, number in audited(app)) == 10


@pytest.fixture
def inner(app: App, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """A job within a workflow that has called eight others, and those; requests have time for two jobs each."""
    monkeypatch.setattr(cancel, "SMALL_PORTION", 2)
    for module in (api, bulk, job):
        monkeypatch.setattr(module, "ACTION_SECONDS", 0.0)
    _, (parent, _) = app.store.family(2)
    _, children = app.store.family(8, parent)
    return [parent, *children]


def let_workers_end_it(app: App, jobs: list[UUID], reason: str) -> None:
    assert "available" in app.store.states(*jobs)
    app.store.sql("UPDATE {cancellations} SET asked_at = asked_at - interval '1 minute'")
    app.task(name="another")(lambda: None)
    app.work(queues=["others"], heartbeat_interval=0.2)
    eventually(lambda: app.store.states(*jobs) == ["cancelled"] * len(jobs))
    assert {app.get(each).reason for each in jobs} == {reason}
    eventually(lambda: app.store.sql("SELECT count(*) FROM {cancellations}") == [(0,)])
    assert app.store.violations() == []


def test_of_a_job_within_a_workflow_the_api_cancels_what_it_has_time_for(
    app: App, site: FlaskClient, inner: list[UUID]
) -> None:
    at = f"/ops/api/jobs/{inner[0]}/cancel"
    answer = site.post(at, json={"reason": "too late"})
    assert (answer.status_code, answer.json) == (202, {"id": str(inner[0]), "changed": 2, "more": True})
    assert site.post(at, json={"reason": "too late"}).status_code == 202
    let_workers_end_it(app, inner, "too late")
    assert site.post(at).status_code == 409
    assert audited(app) == [("jobs:cancel", 2)] * 2


def test_its_page_says_that_workers_cancel_the_rest(app: App, site: FlaskClient, inner: list[UUID]) -> None:
    answer = send(site, f"jobs/{inner[0]}/cancel", sure="1")
    assert (answer.status_code, "did=cancelling&n=2" in answer.location) == (303, True)
    assert "2 jobs cancelled so far: workers cancel the rest" in Page(site.get(answer.location).text).said
    let_workers_end_it(app, inner, "cancelled by hand")


def test_many_that_have_called_others_end_in_time_as_well(app: App, site: FlaskClient, inner: list[UUID]) -> None:
    _, others = app.store.family(5)
    body = {"action": "cancel", "ids": [str(inner[0]), str(others[0])], "reason": "no more"}
    answer = site.post("/ops/api/jobs/bulk", json=body)
    assert answer.status_code == 200
    said = answer.json or {}
    assert (said["changed"], said["refused"], said["more"]) == (2, 0, False)
    let_workers_end_it(app, [*inner, others[0]], "no more")
    assert set(app.store.states(*others[1:])) == {"available"}
