"""The API by its status codes, bodies and limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from fairchild import Record
from fairchild.context import CurrentJob
from fairchild.db.browse import count_tenants
from fairchild.errors import UsageError
from fairchild.ids import uuid7
from fairchild.tasks import Registry
from fairchild.web import aliases
from tests.support.app import App
from tests.support.eventually import eventually

Mount = Callable[..., FlaskClient]
FIRST = ["id", "task", "queue", "state", "scheduled_at"]


def mail(to: str, copies: int = 1, when: datetime | None = None) -> Any:
    """Sends it."""
    if to == "nobody":
        raise ValueError("no such person")
    return Record({"to": to, "copies": copies})


@pytest.fixture
def known(app: App) -> App:
    app.task(name="mail", queue="post", priority=3, tags=["m"], timeout=60)(mail)
    return app


def test_a_job_is_enqueued_and_its_answer_begins_with_five_fields(known: App, site: FlaskClient) -> None:
    answer = site.post("/ops/api/jobs", json={"task": "mail", "args": {"to": "ada"}, "tags": ["vip"], "priority": 1})
    assert answer.status_code == 201
    assert list(answer.json or ())[:5] == FIRST
    job = known.get(UUID((answer.json or {})["id"]))
    assert (job.task, job.queue, job.priority, job.timeout) == ("mail", "post", 1, 60)
    assert job.tags == ["m", "vip"]


def test_a_task_that_only_a_worker_knows_is_enqueued_with_its_own_options(known: App) -> None:
    from tests.web.conftest import mounted

    known.work()
    stranger = mounted(known.other_client(Registry()))
    answer = stranger.post("/ops/api/jobs", json={"task": "mail", "args": {"to": "ada"}})
    assert answer.status_code == 201
    job = known.wait(UUID((answer.json or {})["id"]))[0]
    assert (job.queue, job.priority, job.timeout, job.tags) == ("post", 3, 60, ["m"])
    assert job.result == {"to": "ada", "copies": 1}


@pytest.mark.parametrize("task", ["os.system", "subprocess.run", "unknown", "no spaces please", "", "a\x00b"])
def test_what_nobody_knows_is_not_enqueued(known: App, site: FlaskClient, task: str) -> None:
    known.work()
    assert site.post("/ops/api/jobs", json={"task": task, "args": {"command": "true"}}).status_code == 404
    assert len(known.client.jobs()) == 0


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"args": {}}, "$.task"),
        ({"task": 7}, "$.task"),
        ({"task": "mail", "args": []}, "$.args"),
        ({"task": "mail", "args": {}}, "$.args.to"),
        ({"task": "mail", "args": {"to": 1}}, "$.args.to"),
        ({"task": "mail", "args": {"to": "a", "copies": "x"}}, "$.args.copies"),
        ({"task": "mail", "args": {"to": "a", "when": "2026-01-01T00:00:00"}}, "$.args.when"),
        ({"task": "mail", "args": {"to": "a", "unknown": 1}}, "$.args.unknown"),
        ({"task": "mail", "args": {"to": "a"}, "priority": 10}, "$.priority"),
        ({"task": "mail", "args": {"to": "a"}, "priority": True}, "$.priority"),
        ({"task": "mail", "args": {"to": "a"}, "tags": ["ok", 1]}, "$.tags[1]"),
        ({"task": "mail", "args": {"to": "a"}, "scheduled_at": "tomorrow"}, "$.scheduled_at"),
        ({"task": "mail", "args": {"to": "a"}, "scheduled_at": "2026-01-01T00:00:00"}, "$.scheduled_at"),
        ({"task": "mail", "args": {"to": "a"}, "depends_on": ["x"]}, "$.depends_on[0]"),
        ({"task": "mail", "args": {"to": "a"}, "depends_on": ["01900000-0000-7000-8000-000000000000"]}, "$.depends_on"),
        ({"task": "mail", "args": {"to": "a"}, "quee": "typo"}, "$.quee"),
        ({"task": "mail", "args": {"to": "a"}, "queue": "a\x00b"}, "$.queue"),
        ({"task": "mail", "args": {"to": "a"}, "tags": ["a\x00b"]}, "$.tags"),
        ({"task": "mail", "args": {"to": "a"}, "tenant": "a\x00b"}, "$.tenant"),
        ({"task": "mail", "args": {"to": "a"}, "priority": 1.0}, "$.priority"),
        ({"task": "mail", "args": {"to": "a"}, "meta": {"m": "a\x00b"}}, "$.meta.m"),
        ({"task": "mail", "args": {"to": "a\x00b"}}, "$.args.to"),
        ({"task": "mail", "args": {"to": "a"}, "scheduled_at": "9999-12-31T23:59:59-23:59"}, "$.scheduled_at"),
    ],
)
def test_a_field_that_does_not_fit_is_named_by_its_path(
    known: App, site: FlaskClient, body: dict[str, Any], path: str
) -> None:
    answer = site.post("/ops/api/jobs", json=body)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert [each["path"] for each in (answer.json or {})["errors"]] == [path]
    assert len(known.client.jobs()) == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"task": NaN}', b"[" * 100_000, b'{"a": "\\ud800"}', b"\xff"]
)
def test_what_is_no_json_object_is_a_400(site: FlaskClient, body: bytes) -> None:
    assert site.post("/ops/api/jobs", data=body, content_type="application/json").status_code == 400


def test_an_id_that_is_taken_is_a_conflict(known: App, site: FlaskClient) -> None:
    body = {"task": "mail", "args": {"to": "a"}, "id": str(uuid7())}
    assert site.post("/ops/api/jobs", json=body).status_code == 201
    assert site.post("/ops/api/jobs", json={**body, "args": {"to": "b"}}).status_code == 409


def test_jobs_are_listed_by_filters_and_pages(known: App, site: FlaskClient) -> None:
    ids = [
        str(known.client.enqueue("mail", {"to": f"{n}"}, tags=["even" if n % 2 == 0 else "odd"]).id) for n in range(6)
    ]
    first = site.get("/ops/api/jobs?limit=4").json or {}
    rest = site.get(f"/ops/api/jobs?limit=4&cursor={first['cursor']}").json or {}
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["cursor"] is None

    def found(query: str) -> list[str]:
        return [job["id"] for job in (site.get(f"/ops/api/jobs?{query}").json or {})["jobs"]]

    assert found("tag=even") == [ids[4], ids[2], ids[0]]
    assert found("queue=post&state=available&tag=odd") == [ids[5], ids[3], ids[1]]
    assert found("state=completed") == []
    assert found("q=AIL") == ids[::-1]
    assert found(f"q={ids[3]}") == [ids[3]]
    assert found("task=nothing") == []


@pytest.mark.parametrize(
    "query", ["state=lost", "limit=0", "limit=x", "limit=-1", "cursor=1", "stat=failed", "workflow=..", "q=a%00b", "q="]
)
def test_a_query_that_does_not_fit_is_a_422(site: FlaskClient, query: str) -> None:
    answer = site.get(f"/ops/api/jobs?{query}")
    assert answer.status_code == 422
    assert (answer.json or {})["errors"][0]["path"].startswith("?")


def test_f115_a_limit_is_capped(known: App, site: FlaskClient) -> None:
    known.client.enqueue_many("mail", ({"to": str(n)} for n in range(250)))
    assert len((site.get("/ops/api/jobs?limit=1000000000").json or {})["jobs"]) == 200


@pytest.mark.parametrize(
    "id",
    ["x", "..%2f..%2fetc%2fpasswd", "%F0%9F%92%A9", "0" * 36, "'; DROP TABLE jobs--", "a" * 100_000, "%00", "../jobs"],
)
def test_f118_what_can_be_no_id_is_not_found(site: FlaskClient, id: str) -> None:
    assert site.get(f"/ops/api/jobs/{id}").status_code == 404
    assert site.post(f"/ops/api/jobs/{id}/retry").status_code in (404, 405)


def test_a_job_is_cancelled_and_retried_and_deleted(known: App, site: FlaskClient) -> None:
    job = known.client.enqueue("mail", {"to": "a"})
    at = f"/ops/api/jobs/{job.id}"
    assert site.post(f"{at}/retry").status_code == 409
    assert site.delete(at).status_code == 409
    cancelled = site.patch(f"{at}/cancel", json={"reason": "not now"})
    assert ((cancelled.json or {})["state"], (cancelled.json or {})["reason"]) == ("cancelled", "not now")
    assert site.post(f"{at}/cancel").status_code == 409
    assert (site.post(f"{at}/retry").json or {})["state"] == "available"
    known.work()
    known.wait(job)
    assert (site.get(at).json or {})["result"] == {"to": "a", "copies": 1}
    assert site.delete(at).status_code == 200
    assert site.get(at).status_code == 404
    written = [(each.action, each.number) for each in known.client.audit_entries()]
    assert written == [("jobs:delete", 1), ("jobs:retry", 1), ("jobs:cancel", 1)]


def test_many_jobs_are_changed_at_once_after_a_dry_run(known: App, site: FlaskClient) -> None:
    ids = known.client.enqueue_many("mail", ({"to": str(n)} for n in range(30)))
    known.client.cancel(ids[:10])
    body: dict[str, Any] = {"action": "cancel", "filter": {"queue": "post"}, "dry_run": True}
    counts = site.post("/ops/api/jobs/bulk", json=body).json or {}
    assert (counts["matching"], counts["possible"], counts["changed"]) == (30, 20, 0)
    body["dry_run"] = False
    assert (site.post("/ops/api/jobs/bulk", json=body).json or {})["changed"] == 20
    body = {"action": "delete", "ids": [str(each) for each in ids[:5]]}
    assert (site.post("/ops/api/jobs/bulk", json=body).json or {})["changed"] == 5
    assert (site.get("/ops/api/stats").json or {})["jobs"]["cancelled"] == 25
    for wrong in ({"action": "cancel"}, {"action": "cancel", "filter": {}}, {"action": "cancel", "ids": []}):
        assert site.post("/ops/api/jobs/bulk", json=wrong).status_code == 422


def test_a_bulk_action_needs_its_own_right(known: App, mount: Mount) -> None:
    known.client.enqueue("mail", {"to": "a"})
    client = mount(authorize=lambda request, right: "operate")
    for action, status in (("cancel", 200), ("retry", 200), ("delete", 403)):
        answer = client.post("/ops/api/jobs/bulk", json={"action": action, "filter": {"queue": "post"}})
        assert answer.status_code == status


def test_a_queue_is_paused_and_resumed(known: App, site: FlaskClient) -> None:
    known.work()
    assert (site.post("/ops/api/queues/post/pause").json or {})["paused"]
    job = known.client.enqueue("mail", {"to": "a"})
    (queue,) = (site.get("/ops/api/queues").json or {})["queues"]
    assert (queue["name"], queue["paused"], queue["workers"]) == ("post", True, 1)
    assert queue["counts"]["available"] == 1
    assert queue["oldest_at"] is not None
    assert known.get(job).state == "available"
    assert not (site.post("/ops/api/queues/post/resume").json or {})["paused"]
    assert known.wait(job)[0].state == "completed"
    assert site.post("/ops/api/queues/nothing/resume").status_code == 404


def test_workers_and_tasks_are_listed(known: App, site: FlaskClient) -> None:
    assert site.get("/ops/health").status_code == 503
    known.work(name="w1")
    (worker,) = (site.get("/ops/api/workers").json or {})["workers"]
    assert (worker["name"], worker["state"], worker["running"]) == ("w1", "running", 0)
    (task,) = (site.get("/ops/api/tasks").json or {})["tasks"]
    assert (task["name"], task["workers"], task["docstring"]) == ("mail", 1, "Sends it.")
    assert task["params"][1] == {
        "name": "copies", "type": "int", "required": False, "default": 1, "schema": {"type": "integer"},
    }  # fmt: skip
    healthy = site.get("/ops/health")
    assert healthy.status_code == 200
    assert set((healthy.json or {})["checks"]) >= {"database", "schema", "workers", "jobs", "queues", "clocks"}


def test_a_worker_is_paused_resumed_and_stopped(known: App, site: FlaskClient) -> None:
    known.work(name="w1")
    (listed,) = (site.get("/ops/api/workers").json or {})["workers"]
    at = f"/ops/api/workers/{listed['id']}"
    paused = site.post(f"{at}/pause").json or {}
    assert (paused["name"], paused["state"]) == ("w1", "paused")
    job = known.client.enqueue("mail", {"to": "a"})
    assert (site.get("/ops/api/workers").json or {})["workers"][0]["state"] == "paused"
    assert (site.post(f"{at}/resume").json or {})["state"] == "running"
    assert known.wait(job)[0].state == "completed"
    assert (site.post(f"{at}/stop").json or {})["state"] == "draining"
    eventually(lambda: not known.client.workers.list())
    assert site.post(f"{at}/pause").status_code == 404
    assert site.post("/ops/api/workers/w1/pause").status_code == 404
    written = [(each.action, each.target) for each in known.client.audit_entries()]
    assert written == [(f"workers:{did}", f"w1 {listed['id']}") for did in ("stop", "resume", "pause")]


def test_the_log_of_a_job_is_read_on_from_a_line_and_hides_secrets(app: App, site: FlaskClient, mount: Mount) -> None:
    @app.task(name="talk")
    def talk(job: CurrentJob) -> None:
        job.log("first", token="t0p", n=1)
        job.log("second", level="error")
        job.log("third", level="debug")

    app.work()
    job = app.wait(app.client.enqueue("talk"))[0]
    eventually(lambda: len(app.client.logs(job.id)) == 3)
    at = f"/ops/api/jobs/{job.id}/logs"
    whole = site.get(at).json or {}
    assert [(each["level"], each["message"]) for each in whole["lines"]] == [
        ("info", "first"), ("error", "second"), ("debug", "third"),
    ]  # fmt: skip
    assert whole["lines"][0]["fields"] == {"token": "[hidden]", "n": 1}
    assert whole["after"] == whole["lines"][-1]["id"]
    rest = site.get(f"{at}?after={whole['lines'][0]['id']}&level=info").json or {}
    assert [each["message"] for each in rest["lines"]] == ["second"]
    assert (site.get(f"{at}?after={whole['after']}").json or {}) == {"lines": [], "after": whole["after"]}
    assert [each.message for each in app.client.logs(job.id, limit=2, newest=True)] == ["second", "third"]
    assert len((site.get(f"{at}?attempt=1").json or {})["lines"]) == 3
    assert (site.get(f"{at}?attempt=2").json or {})["lines"] == []
    assert [site.get(f"{at}?{wrong}").status_code for wrong in ("level=loud", "attempt=0")] == [422, 422]
    assert site.get(f"/ops/api/jobs/{uuid7()}/logs").status_code == 404
    assert mount(authorize=lambda request, right: {"view"}).get(at).status_code == 403


def test_workflows_show_their_jobs_edges_and_progress(app: App, site: FlaskClient) -> None:
    @app.task(name="leaf")
    def leaf(n: int) -> int:
        if n < 0:
            raise ValueError("bad leaf")
        return n

    @app.task(name="total", max_attempts=1)
    def total(of: list[int]) -> int:
        return sum(of)

    @app.task(name="tree")
    def tree(numbers: list[int]) -> Any:
        return total(of=[leaf(n=n) for n in numbers])

    app.work()
    good, single = app.client.enqueue("tree", {"numbers": [1, 2, 3]}), app.client.enqueue("leaf", {"n": 1})
    app.wait(good, single)
    (listed,) = (site.get("/ops/api/workflows").json or {})["workflows"]
    assert (listed["root"]["id"], listed["total"], listed["progress"]) == (str(good.id), 5, 1.0)
    child = app.children(good)[0]
    for each in (good.id, child.id):
        whole = site.get(f"/ops/api/workflows/{each}").json or {}
        assert (whole["id"], len(whole["jobs"]), whole["counts"]) == (str(good.id), 5, {"completed": 5})
        assert sum(edge["downstream"] != str(good.id) for edge in whole["edges"]) == 3
    family = site.get(f"/ops/api/jobs/{child.id}/family").json or {}
    assert (family["root_id"], len(family["jobs"])) == (str(good.id), 5)
    bad = app.client.enqueue("tree", {"numbers": [1, -1]}, max_attempts=1)
    assert app.reaches(bad, "failed").reason == "child_failed"


def test_a_workflow_is_cancelled_and_retried_as_a_whole(app: App, site: FlaskClient) -> None:
    @app.task(name="leaf", queue="leaves")
    def leaf(n: int) -> int:
        return n

    @app.task(name="tree")
    def tree() -> Any:
        return [leaf(n=n) for n in range(3)]

    app.client.queues.pause("leaves")
    app.work()
    job = app.client.enqueue("tree")
    app.reaches(job, "waiting")
    at = f"/ops/api/workflows/{job.id}"
    assert (site.post(f"{at}/cancel").json or {})["changed"] == 4
    assert app.get(job).state == "cancelled"
    app.client.queues.resume("leaves")
    assert site.post(f"{at}/retry").status_code == 200
    assert app.wait(job)[0].state == "completed"


def test_payloads_are_masked_hidden_and_redacted(known: App, mount: Mount) -> None:
    job = known.client.enqueue("mail", {"to": "a"}, meta={"api_key": "k", "plain": {"Password": "p", "n": 1}})
    at = f"/ops/api/jobs/{job.id}"
    masked = mount().get(at).json or {}
    assert masked["meta"] == {"api_key": "[hidden]", "plain": {"Password": "[hidden]", "n": 1}}
    hidden = mount(authorize=lambda request, right: {"view"}).get(at).json or {}
    assert (hidden["args"], hidden["meta"], hidden["payload_hidden"]) == (None, None, True)
    failed = known.client.enqueue("mail", {"to": "nobody"}, max_attempts=1)
    known.work()
    known.wait(failed)
    (error,) = (mount(authorize=lambda request, right: {"view"}).get(f"/ops/api/jobs/{failed.id}").json or {})["errors"]
    assert (error["kind"], error["type"], error["message"], error["traceback"]) == ("error", "ValueError", None, None)
    redacted = mount(redact=lambda shown: {**shown, "args": "?"}).get(at).json or {}
    assert redacted["args"] == "?"


def test_paths_and_methods_that_are_not_there(site: FlaskClient) -> None:
    assert site.get("/ops/api/nothing").status_code == 404
    refused = site.put("/ops/api/jobs", json={})
    assert refused.status_code == 405
    assert (refused.json or {})["allow"] == ["GET", "POST"]
    assert site.get("/ops/api/jobs/x/retry").status_code == 405


def test_read_only_has_no_route_that_writes(known: App, mount: Mount) -> None:
    job = known.client.enqueue("mail", {"to": "a"})
    client = mount(read_only=True)
    assert client.get(f"/ops/api/jobs/{job.id}").status_code == 200
    paths = (client.get("/ops/api/openapi.json").json or {})["paths"]
    assert {method for each in paths.values() for method in each} == {"get"}
    for method, path in (("POST", "jobs"), ("POST", f"jobs/{job.id}/cancel"), ("DELETE", f"jobs/{job.id}")):
        assert client.open(f"/ops/api/{path}", method=method, json={}).status_code in (404, 405)
    assert known.get(job).state == "available"


# Words of earlier clients, and of what is not there yet


def test_a_job_may_be_told_in_the_words_of_earlier_clients(known: App, site: FlaskClient) -> None:
    body = {"type": "mail", "payload": {"to": "ada"}, "priority": "high", "retry_config": {"max_attempts": 7}}
    answer = site.post("/ops/api/jobs", json=body)
    assert answer.status_code == 201
    job = known.get(UUID((answer.json or {})["id"]))
    assert (job.task, job.args, job.priority, job.max_attempts) == ("mail", {"to": "ada"}, 3, 7)
    for name, number in aliases.PRIORITIES.items():
        made = site.post("/ops/api/jobs", json={"task": "mail", "args": {"to": "a"}, "priority": name}).json or {}
        assert made["priority"] == number


@pytest.mark.parametrize(
    ("more", "path", "said"),
    [
        ({"type": "mail"}, "$.type", "another word for task"),
        ({"payload": {}}, "$.payload", "another word for args"),
        ({"retry_config": {"max_attempts": 1}, "max_attempts": 2}, "$.retry_config.max_attempts", "another word"),
        ({"retry_config": {"backoff_multiplier": 2}}, "$.retry_config.backoff_multiplier", "not known"),
        ({"priority": "urgent"}, "$.priority", "must be"),
        ({"priority": 10}, "$.priority", "at most"),
        ({"priority": True}, "$.priority", "must be"),
        ({"unique_key": "k"}, "$.unique_key", "cannot be unique yet"),
        ({"encrypted": True}, "$.encrypted", "cannot be encrypted yet"),
        ({"resource_requirements": {"cpu_units": 1}}, "$.resource_requirements", "resources yet"),
    ],
)
def test_two_words_for_one_thing_and_what_is_not_there_yet_are_refused(
    known: App, site: FlaskClient, more: dict[str, Any], path: str, said: str
) -> None:
    answer = site.post("/ops/api/jobs", json={"task": "mail", "args": {"to": "a"}, **more})
    assert answer.status_code == 422
    ((found, sentence),) = [(each["path"], each["message"]) for each in (answer.json or {})["errors"]]
    assert found == path
    assert said in sentence
    assert known.client.jobs().jobs == []


def test_a_job_without_a_task_is_refused(site: FlaskClient) -> None:
    answer = site.post("/ops/api/jobs", json={"args": {}})
    assert (answer.status_code, (answer.json or {})["errors"][0]["path"]) == (422, "$.task")


def test_a_cancellation_cannot_leave_out_what_goes_with_it(known: App, site: FlaskClient) -> None:
    job = known.client.enqueue("mail", {"to": "a"})
    for name in ("running", "children"):
        answer = site.patch(f"/ops/api/jobs/{job.id}/cancel", json={name: False})
        assert (answer.status_code, (answer.json or {})["errors"][0]["path"]) == (422, f"$.{name}")
    assert known.get(job).state == "available"
    body = {"reason": "enough", "running": True, "children": True}
    assert (site.patch(f"/ops/api/jobs/{job.id}/cancel", json=body).json or {})["reason"] == "enough"


def test_jobs_are_listed_by_how_they_failed_and_until_when(app: App, site: FlaskClient) -> None:
    @app.task(name="bad", max_attempts=1)
    def bad(wrong: bool) -> None:
        if wrong:
            raise ValueError("no")
        while True:
            time.sleep(0.005)

    app.work()
    failed = bad.options(timeout=30).enqueue(True)
    late = bad.options(timeout=0.05).enqueue(False)
    app.wait(failed, late)
    app.store.sql("UPDATE {jobs} SET inserted_at = inserted_at - interval '3 hours' WHERE id = %(id)s", id=failed.id)

    def found(query: str) -> list[str]:
        answer = site.get(f"/ops/api/jobs?{query}")
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in (answer.json or {})["jobs"]]

    assert found("error_kind=error") == [str(failed.id)]
    assert found("error_kind=timeout&state=failed") == [str(late.id)]
    assert found("error_kind=lost") == []
    assert found("before=2h") == [str(failed.id)]
    assert found("before=2999-01-01T00:00:00Z") == [str(late.id), str(failed.id)]
    assert found("before=2000-01-01") == []
    assert [job.id for job in app.client.jobs(before=datetime.now(timezone.utc) - timedelta(hours=1))] == [failed.id]
    for wrong in ("before=soon", "error_kind=bad", "before="):
        assert site.get(f"/ops/api/jobs?{wrong}").status_code == 422
    body: dict[str, Any] = {"action": "delete", "filter": {"before": "2h"}, "dry_run": True}
    assert (site.post("/ops/api/jobs/bulk", json=body).json or {})["matching"] == 1
    body["filter"]["before"] = "soon"
    answer = site.post("/ops/api/jobs/bulk", json=body)
    assert (answer.status_code, (answer.json or {})["errors"][0]["path"]) == (422, "$.filter.before")


def test_tenants_are_listed_with_what_of_them_has_not_ended(app: App, site: FlaskClient) -> None:
    app.client.enqueue_many("t", [{}] * 3, tenant="acme")
    app.client.enqueue("t", tenant="globex", delay=3600)
    first = app.client.enqueue("t")
    app.client.enqueue("t", tenant="acme", depends_on=[first])
    ended = app.client.enqueue("t", tenant="gone")
    app.client.cancel(ended)
    answer = site.get("/ops/api/tenants").json or {}
    counts = {each["name"]: {s: n for s, n in each["counts"].items() if n} for each in answer["tenants"]}
    assert counts == {"": {"available": 1}, "acme": {"available": 3, "waiting": 1}, "globex": {"scheduled": 1}}
    assert (answer["cursor"], answer["exact"]) == (None, True)
    pages = [site.get("/ops/api/tenants?limit=1").json or {}]
    while pages[-1]["cursor"] is not None:
        pages.append(site.get(f"/ops/api/tenants?limit=1&cursor={pages[-1]['cursor']}").json or {})
    assert [each["name"] for page in pages for each in page["tenants"]] == ["", "acme", "globex"]
    with app.client.database.link() as link:
        assert count_tenants(link, 2)[1] is False
        assert count_tenants(link, 3)[1] is False  # four are available
        assert count_tenants(link, 4)[1] is True
    with pytest.raises(UsageError, match="by is"):
        app.client.stats(by="moon")


@pytest.mark.parametrize("path", ["schedules", "schedules/nightly/run", "schedules/nightly/pause", "limits"])
def test_what_is_not_there_yet_is_a_clear_problem(site: FlaskClient, path: str) -> None:
    for method in ("GET", "POST"):
        answer = site.open(f"/ops/api/{path}", method=method)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
        assert "are not part of this release" in (answer.json or {})["detail"]
