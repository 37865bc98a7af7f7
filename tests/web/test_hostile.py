"""What somebody would try who means no good: payloads made to be slow or large, credentials that are none, guessing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.errors import ConfigError
from fairchild.ids import uuid7
from fairchild.job import NewJob
from fairchild.tasks import Registry
from fairchild.web import create_blueprint
from fairchild.web.fragments import Shared
from fairchild.web.pages.json_text import json_text
from fairchild.web.problems import Problem
from fairchild.web.rates import Rates
from fairchild.web.redact import hide
from fairchild.web.server import make_app
from tests.support.app import App
from tests.support.eventually import eventually
from tests.web.conftest import mounted

Mount = Callable[..., FlaskClient]


@pytest.mark.parametrize("text", ['"' * 40_000, "\\" * 40_000, '\\"' * 40_000, "a" * 65_529 + '"' * 40_000])
def test_text_that_is_cut_inside_a_string_is_coloured_at_once(text: str) -> None:
    found: list[str] = []
    threading.Thread(
        target=lambda: found.append("".join(part for _, part in json_text(text).tokens())), daemon=True
    ).start()
    (shown,) = eventually(lambda: found, 20)
    assert shown.endswith("\n…")
    assert len(shown) == 64 * 1024 + 2


def test_what_redact_decides_by_who_asks_is_not_shared(app: App, mount: Mount) -> None:
    from flask import request

    def redact(job: dict[str, Any]) -> dict[str, Any]:
        return job if request.headers.get("X-Boss") else {**job, "args": {"ssn": "hidden"}}

    client = mount(redact=redact)
    job = app.client.enqueue("pay", {"ssn": "123-45-6789"})
    for path in (f"/ops/jobs/{job.id}?_live=1", "/ops/jobs?_live=1"):
        assert "123-45-6789" in client.get(path, headers={"X-Boss": "1"}).text
        other = client.get(path)
        assert other.status_code == 200
        assert "123-45-6789" not in other.text


def test_what_redact_hides_is_not_told_by_sums_filters_or_logs(app: App, mount: Mount) -> None:
    @app.task(name="pay", max_attempts=1)
    def pay(ssn: str) -> None:
        from fairchild import current_job

        current_job().log(f"pays {ssn}")
        raise ValueError(f"no account of {ssn}")

    app.work()
    (job,) = app.wait(pay.enqueue("123-45-6789"))

    def redact(shown: dict[str, Any]) -> dict[str, Any]:
        return {**shown, "args": {}, "errors": [], "logs": []}

    hidden, open_to = mount(redact=redact), mount()
    eventually(lambda: open_to.get(f"/ops/api/jobs/{job.id}/logs").json["lines"])  # type: ignore[index]
    paths = ["/ops/", "/ops/errors", "/ops/api/errors", f"/ops/jobs/{job.id}", f"/ops/api/jobs/{job.id}/logs"]
    for path in paths:
        assert "123-45" not in hidden.get(path).text, path
    assert any("123-45" in open_to.get(path).text for path in paths[2:])
    for query in ("args.ssn:123-45-6789", "error:123-45-6789"):
        assert "no right to ask for" in hidden.get("/ops/jobs", query_string={"q": query}).text
        assert str(job.id) in open_to.get("/ops/jobs", query_string={"q": f"{query} after:1d state:failed"}).text


SECRETS = {"card": "4111-1111", "customer": {"name": "Ada", "ssn": "123-45-6789"}, "amount": 7}


def buy(card: str, customer: dict[str, Any], amount: int, pin: str = "0000-9999") -> None:
    """Has much to hide."""


def hiding(app: App, **options: Any) -> Any:
    """``buy`` as a task that hides much, registered with an application."""
    return app.task(redact=("card", "customer.ssn", "pin"), name="shop.buy", **options)(buy)


def test_what_a_task_hides_is_nowhere_to_be_seen_without_its_code(app: App, mount: Mount) -> None:
    job = hiding(app).enqueue(**SECRETS)
    stranger = app.other_client(Registry())  # a process that has no code, and there is no worker
    client = mounted(stranger)
    shown = client.get(f"/ops/api/jobs/{job.id}").json or {}
    assert shown["args"] == {"card": "[hidden]", "customer": {"name": "Ada", "ssn": "[hidden]"}, "amount": 7}
    paths = [
        f"/ops/jobs/{job.id}", f"/ops/jobs/{job.id}/args.json", "/ops/jobs", "/ops/jobs?_live=1", "/ops/api/jobs",
        "/ops/api/jobs/export?q=task:shop.buy", f"/ops/new?from={job.id}", f"/ops/api/jobs/{job.id}/family",
        f"/ops/workflows/{job.id}", "/ops/conditions?for=args.card:", "/ops/conditions?for=args.customer.ssn:",
    ]  # fmt: skip
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "4111" not in answer.text, path
        assert "123-45" not in answer.text, path
    assert "as-curl" in client.get(paths[0]).text
    assert "Ada" in client.get("/ops/conditions?for=args.customer.name:").text


@pytest.mark.parametrize(
    "text",
    [
        "args.card:4111-1111", "-args.card:x", "args.card.0:4", "args.customer:x", "args.customer.ssn:123-45-6789",
        "args.customer.ssn.x:1", "args.card:4111-1111 task:shop.buy,shop.other", "args.card:x -task:shop.buy",
        "args.0.card:x", "args.card:>1",
    ],
)  # fmt: skip
def test_a_filter_tells_nothing_of_what_a_task_hides(app: App, site: FlaskClient, text: str) -> None:
    job = hiding(app).enqueue(**SECRETS)
    for path in ("/ops/jobs", "/ops/api/jobs/export"):
        answer = site.get(path, query_string={"q": text})
        assert str(job.id) not in answer.text, path
        assert "is hidden in jobs of shop.buy" in answer.text, path
    form = {"q": text, "all": "1"}
    answer = site.post("/ops/jobs/bulk/cancel", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 422


def test_a_filter_may_ask_for_what_other_tasks_do_not_hide(app: App, site: FlaskClient) -> None:
    hiding(app).enqueue(**SECRETS)
    other = app.client.enqueue("shop.ship", {"card": "by post", "customer": {"name": "Ada"}})
    for text in ('args.card:"by post" task:shop.ship', "args.customer.name:Ada task:shop.ship", "args.amount:7"):
        assert "is hidden" not in site.get("/ops/jobs", query_string={"q": text}).text
    found = site.get("/ops/api/jobs/export", query_string={"q": 'args.card:"by post" task:shop.ship'})
    assert str(other.id) in found.text


def test_a_task_without_code_here_hides_what_its_worker_has_said(app: App, site: FlaskClient) -> None:
    hiding(app, aliases=["pay.card"])
    app.work()
    api = mounted(app.other_client(Registry()))
    made = api.post("/ops/api/jobs", json={"task": "shop.buy", "args": SECRETS})
    assert made.status_code == 201
    assert "4111" not in made.text
    assert "123-45" not in made.text
    old = app.client.enqueue_new([NewJob(id=uuid7(), task="pay.card", args=b'{"card": "4111"}')])[0]
    assert (api.get(f"/ops/api/jobs/{old.id}").json or {})["args"] == {"card": "[hidden]"}
    (task,) = (api.get("/ops/api/tasks").json or {})["tasks"]
    assert task["params"][3]["default"] == "[hidden]"
    assert task["redact"] == ["card", "customer.ssn", "pin"]
    for path in ("/ops/tasks/shop.buy", "/ops/new?task=shop.buy"):
        assert "0000-9999" not in api.get(path).text


def test_paths_lead_through_lists_and_what_they_cannot_enter_is_hidden() -> None:
    hidden = ["who.ssn", "*rest", "gone.x"]
    assert hide({"who": [{"ssn": 1, "n": 2}, {"n": 3}], "*rest": [1, 2], "n": 1}, hidden) == {
        "who": [{"ssn": "[hidden]", "n": 2}, {"n": 3}], "*rest": "[hidden]", "n": 1,
    }  # fmt: skip
    assert hide({"who": "123-45-6789"}, hidden) == {"who": "[hidden]"}
    assert hide({"who": None}, hidden) == {"who": None}
    assert hide({"who": {"ssn": None}}, hidden) == {"who": {"ssn": None}}
    assert hide(None, hidden) is None


def test_a_list_does_not_carry_large_payloads(app: App, site: FlaskClient) -> None:
    large = {"text": "".join(chr(33 + n * n % 90) for n in range(40_000)), "rows": list(range(5000))}
    job = app.client.enqueue("mail", large)
    small = app.client.enqueue("mail", {"to": "ada"})
    listed = {each["id"]: each for each in site.get("/ops/api/jobs").json["jobs"]}  # type: ignore[index]
    assert (listed[str(job.id)]["args"], listed[str(job.id)]["left_out"]) == (None, ["args"])
    assert (listed[str(small.id)]["args"], listed[str(small.id)]["left_out"]) == ({"to": "ada"}, [])
    assert "too large for a list" in site.get("/ops/jobs").text
    assert site.get(f"/ops/api/jobs/{job.id}").json["args"] == large  # type: ignore[index]
    assert app.client.jobs().jobs[1].args == large  # a program that asks for jobs gets them whole


@pytest.mark.parametrize("token", ["", " ", "short", "fct_0123456789abcdef", "gehéimnis-und-lang", " padded-token "])
def test_a_token_that_guards_nothing_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        create_blueprint(Fairchild("postgresql://nowhere"), token=token)
    with pytest.raises(ConfigError, match="token"):
        make_app(Fairchild("postgresql://nowhere"), "0.0.0.0", token=token)


@pytest.mark.parametrize("path", ["/ops/api/jobs?limit=--5", "/ops/api/audit?cursor=---1", "/ops/api/jobs?limit=-"])
def test_what_only_looks_like_a_number_is_none(site: FlaskClient, path: str) -> None:
    assert site.get(path).status_code == 422


@pytest.mark.parametrize("path", ["/ops/tasks/a%00b", "/ops/queues/a%00b", "/ops/queues/a%0Ab"])
def test_a_name_that_nothing_has_is_not_there(site: FlaskClient, path: str) -> None:
    assert site.get(path).status_code == 404


@pytest.mark.parametrize("name", ["a%20b/c", "caf%C3%A9", "%E6%97%A5%E6%9C%AC"])
def test_a_queue_of_any_name_is_paused(app: App, site: FlaskClient, name: str) -> None:
    answer = site.post(f"/ops/api/queues/{name}/pause")
    assert answer.status_code == 200
    assert [each["name"] for each in app.client.queues.list() if each["paused"]] == [answer.json["name"]]  # type: ignore[index]
    assert site.post(f"/ops/api/queues/{name}/resume").status_code == 200


def test_a_queue_whose_name_is_no_text_is_not_made(app: App, site: FlaskClient) -> None:
    assert site.post("/ops/api/queues/%ED%A0%80/pause").status_code == 404
    assert app.client.queues.list() == []


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded", "X-Forwarded-Server", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP", "X-Original-Host"],
)
def test_what_any_proxy_has_passed_on_is_not_of_this_machine(site: FlaskClient, name: str) -> None:
    assert site.get("/ops/api/stats", headers={name: "203.0.113.9"}).status_code == 403


def test_another_site_reads_nothing_but_may_link_to_pages(site: FlaskClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/ops/api/stats", "/ops/", "/ops/api/jobs"):
        assert site.get(path, headers={**foreign, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert site.get("/ops/", headers={**foreign, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_another_site_takes_no_stream(mount: Mount) -> None:
    client = mount(streams=1)
    for mode in ("no-cors", "cors", "navigate"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert client.get("/ops/api/stream", headers=headers).status_code == 403
    answer = client.get("/ops/api/stream", buffered=False)
    assert answer.status_code == 200
    answer.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_paths_that_are_not_there_answer_in_the_same_way(mount: Mount, read_only: bool) -> None:
    client = mount(read_only=read_only)
    for method, path, status in (
        ("POST", "/ops/api/stats", 405), ("PUT", "/ops/api/nothing", 404), ("PUT", "/ops/jobs", 405),
        ("GET", "/ops/nothing", 404), ("GET", "/ops/api/a%0Ab", 404),
    ):  # fmt: skip
        answer = client.open(path, method=method, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == status, (method, path)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.mimetype == ("application/problem+json" if "/api/" in path else "text/html")


def test_who_may_only_look_is_told_that_a_path_is_not_there(mount: Mount) -> None:
    client = mount(authorize=lambda request, right: "view")
    assert client.post("/ops/api/stats").status_code == 405
    assert client.delete("/ops/api/nothing").status_code == 404


def test_no_redirect_carries_a_forged_host(mount: Mount) -> None:
    client = mount(hosts=["ok.example"])
    for path in ("/ops", "/ops/", "/ops//jobs", "/ops/jobs/"):
        answer = client.get(path, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.headers.get("Location", "")
        assert answer.status_code in (400, 404)


def test_a_body_in_chunks_is_held_to_the_same_rules(site: FlaskClient) -> None:
    from io import BytesIO

    def send(body: bytes, **headers: str) -> int:
        environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": BytesIO(body)}
        return site.post("/ops/api/jobs", environ_overrides=environ, headers=headers).status_code

    assert send(b'{"task": "x"}') == 415
    assert send(b'{"task": "x"}', **{"Content-Type": "application/json"}) == 404
    assert send(b'{"task": "' + b"x" * (1024 * 1024) + b'"}', **{"Content-Type": "application/json"}) == 413


def test_a_default_whose_name_says_that_it_is_secret_is_not_shown(app: App, mount: Mount) -> None:
    @app.task(name="sync")
    def sync(password: str = "hunter2", retries: int = 3) -> None:
        pass

    app.work()
    client = mount()
    for path in ("/ops/api/tasks", "/ops/new?task=sync", "/ops/tasks/sync"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "hunter2" not in answer.text
        assert "password" in answer.text


def test_who_asks_for_too_much_is_told_when_to_come_again(mount: Mount) -> None:
    client = mount(rates={"change": 0.1, "wrong": 0.1})
    assert client.post("/ops/api/queues/a/pause").status_code == 200
    refused = client.post("/ops/api/queues/a/pause")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert client.get("/ops/api/queues").status_code == 200  # reads go on
    guesses = [client.get("/ops/api/stats", headers={"Authorization": f"Bearer fct_{n}"}).status_code for n in range(2)]
    assert guesses == [401, 429]


def test_a_bucket_fills_again() -> None:
    now = [100.0]
    rates = Rates({"change": 2.0}, now=lambda: now[0])
    for _ in range(20):
        rates.take("change", "ada")
    with pytest.raises(Problem, match="at most 2 a second") as raised:
        rates.take("change", "ada")
    assert (raised.value.code, raised.value.more) == (429, {"after": 1})
    rates.take("change", "bob")
    rates.take("other", "ada")
    now[0] += 1
    rates.take("change", "ada")
    rates.take("change", "ada")
    with pytest.raises(Problem):
        rates.take("change", "ada")


def test_those_who_wait_for_what_fails_fail_with_it() -> None:
    shared: Shared[int] = Shared(1.0)
    go, made, failed = threading.Event(), [], []

    def make() -> int:
        made.append(1)
        assert go.wait(20)
        raise OSError("away")

    def ask() -> None:
        try:
            shared.get("key", make)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    threads[0].start()
    eventually(lambda: made)
    for each in threads[1:]:
        each.start()
    eventually(lambda: shared.waiting == 7)
    go.set()
    for each in threads:
        each.join()
    assert (len(failed), len(made)) == (8, 1)
    assert shared.get("key", lambda: 7) == 7


def test_rights_are_asked_for_each_request_whatever_the_host_keeps(app: App) -> None:
    flask = Flask("site")
    flask.register_blueprint(
        create_blueprint(app.client, lambda request, right: "view" if request.headers.get("X-In") else None),
        url_prefix="/ops",
    )
    with flask.app_context():
        client = flask.test_client()
        assert client.get("/ops/api/stats", headers={"X-In": "1"}).status_code == 200
        assert client.get("/ops/api/stats").status_code == 403
