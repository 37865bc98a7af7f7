"""The pages as a browser without scripts sees them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from fairchild import Fairchild, Job, Record
from fairchild.context import CurrentJob
from fairchild.errors import TookTooLong
from fairchild.web import create_blueprint
from fairchild.web.assets import Assets
from fairchild.web.pages.site import MENU
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.conftest import mounted
from tests.web.pages_support import SAME_ORIGIN, Page

Mount = Callable[..., FlaskClient]
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"
PLAIN = ["", *(page for page, _, _ in MENU if page != "overview"), "audit", "new"]


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    """A page of the site under ``/ops``, or at a path."""
    answer = client.get(path if path.startswith("/") else f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    assert answer.mimetype == "text/html"
    return Page(answer.text)


def send(client: FlaskClient, path: str, **form: Any) -> Any:
    return client.post(f"/ops/{path}", data=form, headers=SAME_ORIGIN)


@pytest.fixture
def shop(app: App) -> dict[str, Job]:
    """Some jobs in several states; ``flow`` is the root of a workflow."""

    @app.task(name="shop.pay", max_attempts=1, queue="money")
    def pay(amount: int, card: dict[str, str]) -> None:
        """Charge a card."""
        raise ConnectionError(f"gateway refused {amount}")

    @app.task(name="shop.add")
    def add(a: int, b: int = 2, note: str = "", loud: bool = False) -> int:
        return a + b

    @app.task(name="shop.total")
    def total(parts: list[int]) -> int:
        return sum(parts)

    @app.task(name="shop.flow")
    def flow(n: int) -> Record[int]:
        return Record(total([add(each) for each in range(n)]))

    app.work(queues=["default", "money"])
    made = {
        "failed": app.client.enqueue(
            "shop.pay", {"amount": 7, "card": {"number": "card4242"}}, tags=["eu"], tenant="acme"
        ),
        "done": app.client.enqueue("shop.add", {"a": 1}),
        "flow": app.client.enqueue("shop.flow", {"n": 3}),
    }
    app.wait(*made.values())
    made["later"] = app.client.enqueue("shop.add", {"a": 5}, delay=3600)
    made["ready"] = app.client.enqueue("shop.lost", {}, queue="nobody")
    return made


def every_page(shop: dict[str, Job]) -> list[str]:
    jobs = [f"jobs/{job.id}" for job in shop.values()]
    flow = f"workflows/{shop['flow'].id}"
    views = [f"{flow}?view={view}&group=root" for view in ("graph", "timeline", "list")]
    others = ["queues/money", "queues/nobody", "tasks/shop.add", "jobs?q=state:failed", "jobs?q=task:shop.add"]
    forms = ["new?task=shop.pay", "new?task=shop.pay&raw=1", f"new?from={shop['failed'].id}", "?window=7d"]
    return [*PLAIN, *jobs, *views, *others, *forms]


@pytest.mark.parametrize("path", PLAIN)
def test_a_page_of_an_empty_database_teaches(site: FlaskClient, path: str) -> None:
    page = read(site, path)
    assert len(page.all("h1")) == 1
    assert page.all("title")[0].said.endswith("· fairchild")


def test_no_page_has_inline_script_or_style_and_all_links_lead_somewhere(
    site: FlaskClient, shop: dict[str, Job]
) -> None:
    seen: set[str] = set()
    wrong: list[Any] = []
    for path in every_page(shop):
        page = read(site, path)
        for each in page.elements:
            inline = [name for name in each.attrs if name == "style" or name.startswith("on")]
            if inline or (each.tag == "script" and not each.attrs.get("src")) or each.tag == "style":
                wrong.append((path, each))
        ids = [each.attrs["id"] for each in page.elements if "id" in each.attrs]
        wrong += [(path, f"id {each} twice") for each in set(ids) if ids.count(each) > 1]
        posts = {each.attrs["action"] for each in page.all("form", method="post") if "action" in each.attrs}
        posts |= {each.attrs["formaction"] for each in page.elements if "formaction" in each.attrs}
        for link in set(page.links()) - posts:
            target = f"/ops/{path.partition('?')[0]}{link}" if link.startswith("?") else link
            assert target.startswith("/ops/"), (path, link)
            if target not in seen:
                seen.add(target)
                status = site.get(target).status_code
                if status >= 400:
                    wrong.append((path, target, status))
    assert wrong == []
    assert len(seen) > 60


@pytest.mark.parametrize("right", ["view", "operate"])
def test_whoever_may_not_act_is_told_so(mount: Mount, shop: dict[str, Job], right: str) -> None:
    page = read(mount(authorize=lambda request, _: right), f"jobs/{shop['failed'].id}")
    buttons = {each.said: "disabled" in each.attrs for each in page.all("button") if "data-key" in each.attrs}
    retry = next(name for name in buttons if name.startswith("Retry"))
    assert buttons[retry] == (right == "view")
    assert ("You have no right" in retry) == (right == "view")
    assert next(off for name, off in buttons.items() if name.startswith("Delete"))


def test_a_read_only_site_has_no_form_that_writes(mount: Mount, shop: dict[str, Job]) -> None:
    site = mount(read_only=True)
    for path in every_page(shop):
        if not path.startswith(("new", "audit")):
            forms = [
                form for form in read(site, path).all("form", method="post") if form.attrs.get("id") != "rows-form"
            ]
            assert forms == [], path
    # The route is not there at all, and nothing else is under its path.
    assert site.post(f"/ops/jobs/{shop['failed'].id}/retry", headers=SAME_ORIGIN).status_code == 404
    assert shop["failed"].refresh().state == "failed"


def test_nothing_that_users_write_becomes_an_element(app: App, site: FlaskClient) -> None:
    @app.task(name=f"t{EVIL}", max_attempts=1, queue=EVIL, tags=[EVIL])
    def evil(x: str) -> None:
        raise ValueError(EVIL)

    app.work(queues=[EVIL], name=f"w{EVIL}")
    job = app.client.enqueue(f"t{EVIL}", {"x": EVIL}, tenant=EVIL, meta={EVIL: EVIL})
    gone = app.client.enqueue(f"t{EVIL}", {"x": EVIL}, delay=60)
    app.client.cancel(gone, EVIL)
    app.wait(job, gone)
    worker = app.client.worker_sessions()[0]["id"]
    paths = [
        "", "jobs", f"jobs/{job.id}", f"jobs/{gone.id}", f"workflows/{job.id}?view=list&group=root", "queues",
        "workers", f"workers/{worker}", "tasks", "errors", "audit", f"new?from={job.id}",
    ]  # fmt: skip
    for path in paths:
        page = read(site, path)
        assert [each for each in page.all("script") if not each.attrs["src"].startswith("/ops/static/")] == []
        assert page.all("img") == []
        assert [each for each in page.elements if any(name.startswith("on") for name in each.attrs)] == []
        assert "49" not in re.findall(r"onerror=alert\(1\)>(\d+)", page.said), path
    for path in ("jobs", "queues", "go", "new"):
        for name in ("q", "add", "to", "task", "did", "before", "limit", "window"):
            answer = site.get(f"/ops/{path}", query_string={name: EVIL}, follow_redirects=True)
            assert Page(answer.text).all("img") == [], (path, name)


def test_arguments_are_hidden_from_whoever_may_not_read_them(mount: Mount, shop: dict[str, Job]) -> None:
    site = mount(authorize=lambda request, right: {"jobs:insert", "jobs:retry"})
    for path in every_page(shop):
        text = site.get(f"/ops/{path}").text
        assert "card4242" not in text, path
        assert "gateway refused" not in text, path
    answer = site.get("/ops/jobs", query_string={"q": "args.card.number:card4242"})
    assert "you have no right to ask for args.card.number" in answer.text


def test_secrets_are_masked_and_a_mask_is_never_enqueued(app: App, site: FlaskClient) -> None:
    @app.task(name="login")
    def login(user: str, password: str) -> None: ...

    app.work(queues=["none"])
    job = app.client.enqueue("login", {"user": "ann", "password": "hunter2"})
    assert "hunter2" not in site.get(f"/ops/jobs/{job.id}").text
    page = read(site, f"new?from={job.id}")
    assert page.one("input", id="arg-user").attrs["value"] == "ann"
    assert page.one("input", id="arg-password").attrs["value"] == ""
    answer = site.get("/ops/jobs", query_string={"q": "args.password:hunter2"})
    assert "you have no right to ask for args.password" in answer.text


def test_the_list_is_filtered_by_words_added_to_the_address(site: FlaskClient, shop: dict[str, Job]) -> None:
    answer = site.get("/ops/jobs?q=state:failed&add=tag:eu")
    assert answer.status_code == 302
    assert answer.location == "/ops/jobs?q=state:failed+tag:eu"
    page = read(site, answer.location)
    assert [row.attrs["id"] for row in page.all("tr", data_st="failed")] == [f"job-{shop['failed'].id}"]
    assert page.one("a", aria_label="Remove tag:eu").attrs["href"] == "/ops/jobs?q=state:failed"
    empty = read(site, "jobs?q=state:failed+tag:us")
    assert "No jobs match" in empty.said
    assert "only the last day" in read(site, "jobs?q=task:shop.add").said


def test_a_filter_that_cannot_be_read_is_said_where_it_was_typed(site: FlaskClient) -> None:
    page = read(site, "jobs?q=state:failed&add=stat:x")
    assert "unknown key 'stat'" in page.one("p", id="wrong").said
    assert page.one("input", id="filter").attrs["value"] == "stat:x"
    assert page.one("input", id="filter").attrs["aria-describedby"] == "wrong"


def test_the_list_goes_on_page_by_page_and_back(app: App, site: FlaskClient) -> None:
    ids = [str(each) for each in reversed(app.client.enqueue_many("t", [{}] * 60))]

    def rows(page: Page) -> list[str]:
        return [row.attrs["id"].removeprefix("job-") for row in page.all("tr") if "data-st" in row.attrs]

    first = read(site, "jobs")
    assert rows(first) == ids[:25]
    assert first.one("input", name="all").attrs["value"] == "1"
    second = read(site, "jobs" + next(each.attrs["href"] for each in first.all("a") if "older" in each.said))
    assert rows(second) == ids[25:50]
    assert [each for each in second.elements if "data-live" in each.attrs] == []
    back = read(site, "jobs" + next(each.attrs["href"] for each in second.all("a") if "newer" in each.said))
    assert rows(back) == ids[:25]
    assert read(site, "jobs?before=x", 422).one("h1").said == "Unprocessable Entity"


def test_fragments_are_sent_again_only_when_they_changed(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    first = site.get("/ops/jobs?_live=1")
    assert first.status_code == 200
    assert "<html" not in first.text
    tag = first.headers["ETag"]
    assert site.get("/ops/jobs?_live=1", headers={"If-None-Match": tag}).status_code == 304
    app.client.cancel(shop["later"])
    changed = site.get("/ops/jobs?_live=1&x=1", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_an_ended_job_is_not_asked_for_again(site: FlaskClient, shop: dict[str, Job]) -> None:
    def live(job: Job) -> int:
        return sum("data-live" in each.attrs for each in read(site, f"jobs/{job.id}").elements)

    assert live(shop["done"]) == 0
    assert live(shop["later"]) > 3


def test_a_job_tells_what_happened(site: FlaskClient, shop: dict[str, Job]) -> None:
    page = read(site, f"jobs/{shop['failed'].id}")
    assert page.one("h1").said == "pay"
    assert "ConnectionError — gateway refused 7" in page.said
    assert page.one("pre", id="args").said.startswith('{ "card" : { "number" : "card4242" }')
    path = page.one("ol", class_="path")
    assert [word for word in path.said.split() if word in ("available", "running", "failed")] == [
        "available", "running", "failed",
    ]  # fmt: skip
    ready = read(site, f"jobs/{shop['ready'].id}").said
    assert "Why is it not running?" in ready
    assert "nobody" in ready


def test_a_job_that_is_gone_says_why(site: FlaskClient) -> None:
    page = read(site, f"jobs/{UUID(int=1)}", 404)
    assert "deleted, or pruned" in page.said
    assert "is not the id of a job" in read(site, "jobs/x", 404).said


def test_a_failed_job_is_retried_and_the_audit_log_knows_who(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    app.workers[0].stop(timeout=5)
    answer = send(site, f"jobs/{shop['failed'].id}/retry")
    assert (answer.status_code, answer.location) == (303, f"/ops/jobs/{shop['failed'].id}?did=retried&n=1")
    assert app.get(shop["failed"]).state == "available"
    assert read(site, answer.location).one("p", class_="toast").said == "1 job retried"
    entry = app.client.audit_entries()[0]
    assert (entry.who, entry.action, entry.target, entry.number) == (
        "127.0.0.1", "jobs:retry", str(shop["failed"].id), 1,
    )  # fmt: skip
    assert send(site, f"jobs/{shop['failed'].id}/retry").status_code == 409
    assert "jobs:retry" in read(site, "audit").said


def test_cancelling_and_deleting_a_job(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    later = shop["later"]
    asked = Page(send(site, f"jobs/{later.id}/cancel").text)
    assert asked.one("h1").said == "Cancel this job of add?"
    assert app.get(later).state == "scheduled"
    assert send(site, f"jobs/{later.id}/cancel", sure=1).status_code == 303
    assert app.get(later).reason == "cancelled by hand"
    asked = send(site, f"jobs/{later.id}/delete")
    assert asked.status_code == 200
    assert Page(asked.text).one("h1").said == "Delete this job of add?"
    assert app.client.get_job(later.id) is not None
    assert send(site, f"jobs/{later.id}/delete", sure=1).status_code == 303
    assert app.client.get_job(later.id) is None


def test_a_worker_is_paused_from_its_page(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    worker = app.client.workers.list()[0]
    for did, state in (("pause", "paused"), ("resume", "running")):
        assert send(site, f"workers/{worker.id}/{did}").status_code == 303
        assert app.client.workers.list()[0].state == state
    assert app.client.audit_entries()[0].action == "workers:resume"
    app.workers[0].stop(timeout=5)
    assert send(site, f"workers/{worker.id}/pause").status_code == 409


def test_the_page_of_a_job_shows_its_progress_and_its_log(app: App, site: FlaskClient) -> None:
    @app.task(name="talk")
    def talk(job: CurrentJob) -> None:
        job.progress(30, total=120, message="<b>half")
        job.log("began", level="warning", token="t0p", n=1)

    app.work()
    job = app.wait(app.client.enqueue("talk"))[0]
    eventually(lambda: len(app.client.logs(job.id)) == 1)
    said = read(site, f"jobs/{job.id}").said
    assert "30 of 120, 25% · <b>half" in said
    assert 'warning attempt 1 talk began n=1 token="[hidden]"' in said


def test_a_form_from_another_site_is_refused(site: FlaskClient, shop: dict[str, Job]) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        answer = site.post(f"/ops/jobs/{shop['failed'].id}/retry", headers=headers)
        assert answer.status_code == 403
        assert answer.mimetype == "text/html"


def test_ticked_jobs_are_retried_and_cancelled(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    app.workers[0].stop(timeout=5)
    answer = send(site, "jobs/bulk/retry", q="state:failed", id=[str(shop["failed"].id), str(shop["done"].id)])
    assert answer.location == "/ops/jobs?q=state:failed&did=retried&n=2"
    chosen = [str(shop["later"].id), str(shop["flow"].id)]
    asked = Page(send(site, "jobs/bulk/cancel", q="", id=chosen).text)
    assert asked.one("h1").said == "Cancel 2 jobs?"
    assert "Can be cancelled 1" in asked.said
    fields = {each.attrs["name"]: each.attrs["value"] for each in asked.all("input", type="hidden")}
    assert fields == {"q": "", "id": str(shop["later"].id), "sure": "1"}
    assert send(site, "jobs/bulk/cancel", **fields).location.endswith("did=cancelled&n=1")
    assert send(site, "jobs/bulk/retry", q="").status_code == 422
    assert send(site, "jobs/bulk/retry", q="", id="x").status_code == 422


def test_all_that_match_are_counted_first_and_a_large_number_is_typed(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.web.pages.many.TYPE_ABOVE", 3)
    monkeypatch.setattr("fairchild.web.bulk.BATCH", 2)
    app.client.enqueue_many("t", [{}] * 5, queue="many")
    app.client.enqueue("t", {}, queue="other")
    asked = Page(send(site, "jobs/bulk/cancel", q="queue:many after:1d", all=1).text)
    assert "Match now 5" in asked.said
    assert asked.one("label", for_="number").said == "Type 5 to confirm"
    wrong = send(site, "jobs/bulk/cancel", q="queue:many after:1d", all=1, sure=1, number="4")
    assert "was not typed" in wrong.text
    assert app.client.count("state:cancelled") == 0
    done = send(site, "jobs/bulk/cancel", q="queue:many after:1d", all=1, sure=1, number="5")
    assert done.location.endswith("did=cancelled&n=5")
    assert app.client.count("state:cancelled queue:many") == 5
    assert app.client.count("state:available") == 1
    assert app.client.audit_entries()[0].target == "queue:many after:1d"


def test_what_takes_longer_than_one_request_goes_on_in_others(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.web.bulk.BATCH", 2)
    monkeypatch.setattr("fairchild.web.bulk.ACTION_SECONDS", 0.0)
    app.client.enqueue_many("t", [{}] * 5, queue="many")
    fields: dict[str, Any] = {"q": "queue:many after:1d", "all": "1", "sure": "1"}
    for left in (3, 1):
        page = Page(send(site, "jobs/bulk/cancel", **fields).text)
        assert "goes-on" in " ".join(page.one("form", class_="stack").attrs)
        assert f"{5 - left} jobs so far" in page.said
        assert app.client.count("state:available") == left
        fields = {each.attrs["name"]: each.attrs["value"] for each in page.all("input", type="hidden")}
    assert send(site, "jobs/bulk/cancel", **fields).location.endswith("did=cancelled&n=5")
    assert [each.number for each in app.client.audit_entries()] == [1, 2, 2]
    body = {"action": "delete", "filter": {"queue": "many"}}
    for changed, more in ((2, True), (2, True), (1, False)):
        answer = site.post("/ops/api/jobs/bulk", json=body).json or {}
        assert (answer["changed"], answer["more"]) == (changed, more)


def test_what_was_done_is_in_the_audit_log_though_the_time_was_too_short_for_all_that_was_ticked(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.web.bulk.BATCH", 2)
    monkeypatch.setattr("fairchild.web.bulk.ACTION_SECONDS", 0.0)
    ids = app.client.enqueue_many("t", [{}] * 5)
    answer = send(site, "jobs/bulk/cancel", q="", id=[str(each) for each in ids], sure=1)
    assert answer.status_code == 503
    assert "2 were cancelled" in Page(answer.text).said
    assert app.client.count("state:cancelled") == 2
    assert app.client.audit_entries()[0].number == 2


def test_a_request_gets_its_time_in_all_and_does_not_wait_for_connections_for_long(app: App) -> None:
    with app.client.reading_within(0.3):
        assert app.client.stats()["jobs"]["failed"] == 0
        app.client.ask(lambda link: link.script("SELECT pg_sleep(0.2)"))
        with pytest.raises(TookTooLong):
            app.client.ask(lambda link: link.script("SELECT pg_sleep(0.2)"))
        with pytest.raises(TookTooLong):
            app.client.stats()
    with ExitStack() as stack:
        for _ in range(app.client.config.pool_size):
            stack.enter_context(app.client.database.link())
        with app.client.reading_within(0.2), pytest.raises(TookTooLong, match="in use"):
            app.client.stats()


def test_the_form_of_a_task_comes_from_its_workers(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    page = read(site, "new?task=shop.add")
    assert page.one("input", id="arg-a").attrs["inputmode"] == "numeric"
    assert [each.said for each in page.all("option") if each.said in ("true", "false")] == ["true", "false"]
    wrong = send(site, "new", task="shop.add", **{"arg-a": "x", "arg-b": ""})
    assert wrong.status_code == 422
    assert "a is no number" in Page(wrong.text).said
    missing = Page(send(site, "new", task="shop.pay", **{"arg-amount": "1.5", "arg-card": "{}"}).text)
    assert "amount must be an integer" in missing.said
    answer = send(
        site, "new", task="shop.add", tags="a, b", priority="2", run_at="5m", tenant="acme", queue="default",
        **{"arg-a": "4", "arg-note": "x < y", "arg-loud": "true"},
    )  # fmt: skip
    assert answer.status_code == 303, answer.text
    made = app.get(UUID(answer.location.rpartition("/")[2][:36]))
    assert made.args == {"a": 4, "note": "x < y", "loud": True}
    assert (made.tags, made.priority, made.tenant, made.state) == (["a", "b"], 2, "acme", "scheduled")


def test_a_job_is_edited_and_tried_again_as_a_new_one(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    page = read(site, f"new?from={shop['done'].id}")
    assert page.one("input", id="arg-a").attrs["value"] == "1"
    answer = send(site, "new", task="shop.add", **{"from": str(shop["done"].id), "arg-a": "10"})
    made = app.get(UUID(answer.location.rpartition("/")[2][:36]))
    assert made.meta == {"retry_of": str(shop["done"].id)}
    assert app.result(made) == 12


def test_raw_arguments_and_tasks_that_nobody_knows(site: FlaskClient, shop: dict[str, Job]) -> None:
    assert "No live worker knows" in read(site, "new?task=os.system").said
    refused = send(site, "new", task="os.system", raw=1, raw_args="{}")
    assert refused.status_code == 422
    assert send(site, "new", task="shop.add", raw=1, raw_args="[").status_code == 422
    assert send(site, "new", task="shop.add", raw=1, raw_args="[]").status_code == 422
    assert send(site, "new", task="shop.add", raw=1, raw_args='{"a": 1}', run_at="soon").status_code == 422
    assert send(site, "new", task="shop.add", raw=1, raw_args='{"a": 1}', priority="x").status_code == 422
    assert send(site, "new", task="shop.add", raw=1, raw_args='{"a": 1}').status_code == 303


def test_a_queue_is_paused_and_resumed(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    assert send(site, "queues/money", action="pause").location == "/ops/queues/money?did=paused&n=1"
    assert app.client.queues.get("money")["paused"]
    assert "paused" in read(site, "queues/money").said
    send(site, "queues/money", action="resume")
    assert not app.client.queues.get("money")["paused"]
    assert send(site, "queues/money", action="explode").status_code == 422
    read(site, "queues/none", 404)


def test_a_workflow_is_a_graph_of_groups(app: App, site: FlaskClient, shop: dict[str, Job]) -> None:
    page = read(site, f"workflows/{shop['flow'].id}")
    nodes = {each.attrs["id"][5:]: each.said for each in page.all("a") if each.attrs.get("id", "").startswith("node-")}
    assert len(nodes) == 3
    assert any("shop.add: 3 jobs, 3 completed" in said for said in nodes.values())
    assert len([each for each in page.all("path") if "data-t" in each.attrs]) == 2
    child = app.children(shop["flow"])[0]
    place = app.client.insight.group_of(child.id)
    assert site.get(f"/ops/workflows/{child.id}").location == f"/ops/workflows/{shop['flow'].id}?group={place}"
    key = next(key for key, said in nodes.items() if "shop.add" in said)
    drawn = read(site, f"workflows/{shop['flow'].id}?group={key}").all("tr", data_st="completed")
    assert len([each for each in drawn if each.attrs["id"].startswith("job-")]) == 3


def test_a_workflow_is_retried_and_cancelled(app: App, site: FlaskClient) -> None:
    fail = [True]

    @app.task(name="part", max_attempts=1)
    def part(n: int) -> int:
        if n == 1 and fail[0]:
            raise ValueError("once")
        return n

    @app.task(name="whole")
    def whole() -> Record[list[int]]:
        return Record([part(n) for n in range(3)])

    root = app.client.enqueue("whole", {})
    app.work()
    app.wait(root)
    assert "Retry" in read(site, f"workflows/{root.id}").said
    fail[0] = False
    assert "Retry 1" in Page(send(site, f"workflows/{root.id}/retry").text).said
    assert send(site, f"workflows/{root.id}/retry", sure=1).status_code == 303
    assert app.result(root) == [0, 1, 2]
    assert send(site, f"workflows/{root.id}/cancel").status_code == 409
    open_one = app.client.enqueue("whole", {}, delay=60)
    asked = Page(send(site, f"workflows/{open_one.id}/cancel").text)
    assert asked.one("h1").said == "Cancel what is left of whole?"
    assert send(site, f"workflows/{open_one.id}/cancel", sure=1).status_code == 303
    assert app.get(open_one).state == "cancelled"


@pytest.mark.parametrize(
    ("typed", "leads_to"),
    [("jobs", "/ops/jobs"), ("System", "/ops/system"), ("queue a b", "/ops/queues/a%20b"),
     ("money", "/ops/queues/money"), (str(UUID(int=5)), f"/ops/jobs/{UUID(int=5)}"),
     ("send", "/ops/jobs?q=send"), ("", "/ops/jobs"), ("mail.send", "/ops/tasks/mail.send")],
)  # fmt: skip
def test_jump_to(app: App, site: FlaskClient, typed: str, leads_to: str) -> None:
    app.client.enqueue("t", {}, queue="money")
    app.task(name="mail.send")(lambda: None)
    app.work()
    assert site.get("/ops/go", query_string={"to": typed}).location == leads_to


def test_a_database_that_is_away_is_a_page_that_asks_again() -> None:
    site = mounted(Fairchild("postgresql://nobody:secret@127.0.0.1:1/none"))
    for path in ("", "jobs", "workflows", "queues"):
        page = read(site, path, 503)
        assert page.one("meta", http_equiv="refresh").attrs["content"] == "5"
        assert "cannot be reached" in page.said
        assert "secret" not in page.said
    assert site.get("/ops/jobs?_live=1").status_code == 503


def test_whoever_has_no_right_sees_how_to_get_in(mount: Mount) -> None:
    page = read(mount(authorize=lambda request, right: None), "", 403)
    assert "create_blueprint(fc, authorize=authorize)" in page.said
    assert page.all("nav") == []


def test_assets_are_named_by_what_is_in_them_and_kept(site: FlaskClient) -> None:
    assets = Assets()
    for name in assets.names():
        answer = site.get(f"/ops/static/{assets.digest}/{name}", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert gzip.decompress(answer.data) == site.get(f"/ops/static/{assets.digest}/{name}").data
        assert site.get(f"/ops/static/old/{name}").headers["Cache-Control"] == "no-cache"
    assert site.get(f"/ops/static/{assets.digest}/..%2fauth.py").status_code == 404


@pytest.mark.parametrize("path", ["", "jobs", "new?task=shop.add"])
def test_a_first_view_is_at_most_40_kilobytes(site: FlaskClient, shop: dict[str, Job], path: str) -> None:
    page = site.get(f"/ops/{path}")
    links = {link for link in Page(page.text).links() if "/static/" in link}
    sizes = {link: len(site.get(link, headers={"Accept-Encoding": "gzip"}).data) for link in links}
    assert len(gzip.compress(page.data)) + sum(sizes.values()) <= 40_000, sizes


def test_no_script_writes_html_and_each_module_is_small() -> None:
    assets = Assets()
    for name in assets.names():
        text = assets.text(name)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text), name
        assert len(text) <= 8192 or not name.endswith(".js"), name


@pytest.mark.parametrize("prefix", ["/a/b/fairchild", ""])
def test_links_follow_the_mount(app: App, shop: dict[str, Job], prefix: str) -> None:
    inner = Flask("inner")
    inner.register_blueprint(create_blueprint(app.client, name="other"), url_prefix="/x")
    outer = Client(DispatcherMiddleware(Flask("outer"), {prefix: inner}) if prefix else inner)
    for path in ("/x/", "/x/jobs", f"/x/jobs/{shop['failed'].id}", f"/x/workflows/{shop['flow'].id}"):
        answer = outer.get(prefix + path, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
        assert answer.status_code == 200
        for link in Page(answer.text).links():
            assert link.startswith((f"{prefix}/x/", "?")), link
