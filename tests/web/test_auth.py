"""Who gets in, and what a browser is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Request
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.web import problems
from fairchild.web.auth import HEADERS, Gate, add_headers

ELSEWHERE = {"REMOTE_ADDR": "10.0.0.7"}


def site(**options: Any) -> FlaskClient:
    """A gate before a route to read, one to write and one that says no right."""
    gate = Gate(Fairchild("postgresql://nowhere"), **options)
    blueprint = Blueprint("fairchild", __name__)
    blueprint.before_request(gate.check)
    blueprint.after_request(add_headers)
    problems.add_to(blueprint)

    @gate.route(blueprint, "/api/read", "view")
    def read() -> str:
        return "read"

    @gate.route(blueprint, "/api/write", "jobs:cancel", methods=["POST"])
    def write() -> str:
        return "written"

    @gate.route(blueprint, "/form", "jobs:cancel", methods=["POST"], page=True)
    def form() -> str:
        return "sent"

    @blueprint.get("/api/forgotten")
    def forgotten() -> str:
        return "open to everybody"

    app = Flask(__name__)
    app.register_blueprint(blueprint, url_prefix="/ops")
    return app.test_client()


@pytest.fixture
def local() -> Iterator[FlaskClient]:
    with site() as client:
        yield client


def test_this_machine_is_served_without_authorize(local: FlaskClient) -> None:
    assert local.get("/ops/api/read").text == "read"
    assert local.post("/ops/api/write").text == "written"
    for name in ("127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "localhost:8080"):
        assert local.get("/ops/api/read", headers={"Host": name}).status_code == 200


def test_another_machine_gets_a_line_that_says_how_to_open_it(local: FlaskClient) -> None:
    refused = local.get("/ops/api/read", environ_overrides=ELSEWHERE)
    assert refused.status_code == 403
    assert refused.mimetype == "application/problem+json"
    assert "authorize=" in refused.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "localhost.attacker.example"},
        {"Host": "127.0.0.1.attacker.example:80"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
    ],
)
def test_a_forged_host_or_a_proxy_is_not_this_machine(local: FlaskClient, headers: dict[str, str]) -> None:
    assert local.get("/ops/api/read", headers=headers).status_code == 403
    assert local.post("/ops/api/write", headers=headers).status_code == 403


def test_a_host_that_is_not_allowed_gets_400() -> None:
    client = site(authorize=lambda request, right: True, hosts=["jobs.example"])
    assert client.get("/ops/api/read", headers={"Host": "jobs.example:8080"}).status_code == 200
    assert client.get("/ops/api/read", headers={"Host": "attacker.example"}).status_code == 400


def test_a_route_without_a_right_is_refused_to_everybody(local: FlaskClient) -> None:
    assert local.get("/ops/api/forgotten").status_code == 403
    assert site(authorize=lambda request, right: "admin").get("/ops/api/forgotten").status_code == 403


@pytest.mark.parametrize(
    ("answer", "reads", "writes"),
    [
        (None, 403, 403),
        (False, 403, 403),
        (True, 200, 200),
        ("view", 200, 403),
        ("operate", 200, 200),
        ("admin", 200, 200),
        ({"jobs:cancel"}, 200, 200),
        ({"jobs:retry"}, 200, 403),
        (set(), 403, 403),
    ],
)
def test_authorize_answers_with_a_bool_a_role_or_a_set(answer: Any, reads: int, writes: int) -> None:
    client = site(authorize=lambda request, right: answer)
    assert client.get("/ops/api/read", environ_overrides=ELSEWHERE).status_code == reads
    assert client.post("/ops/api/write", environ_overrides=ELSEWHERE).status_code == writes


def test_authorize_is_asked_about_the_right_of_the_route() -> None:
    asked = []

    def authorize(request: Request, right: str) -> bool:
        asked.append((request.path, right))
        return True

    client = site(authorize=authorize)
    client.get("/ops/api/read")
    client.post("/ops/api/write")
    assert asked == [("/ops/api/read", "view"), ("/ops/api/write", "jobs:cancel")]


def test_an_authorize_that_answers_nonsense_opens_nothing() -> None:
    for answer in ("root", {"everything"}):
        refused = site(authorize=lambda request, right, answer=answer: answer).get("/ops/api/read")
        assert refused.status_code == 500
        assert "root" not in refused.text


def test_read_only_leaves_nothing_that_writes() -> None:
    client = site(read_only=True)
    assert client.get("/ops/api/read").status_code == 200
    assert client.post("/ops/api/write").status_code == 404


def test_a_token_opens_as_bearer_and_as_password() -> None:
    client = site(token="s3cretive")
    basic = base64.b64encode(b"anybody:s3cretive").decode()
    assert client.get("/ops/api/read").status_code == 401
    assert "Basic" in client.get("/ops/api/read").headers["WWW-Authenticate"]
    assert client.get("/ops/api/read", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/ops/api/read", headers={"Authorization": "Basic !"}).status_code == 401
    for value in ("Bearer s3cretive", f"Basic {basic}"):
        allowed = client.post("/ops/api/write", headers={"Authorization": value}, environ_overrides=ELSEWHERE)
        assert allowed.status_code == 200


@pytest.mark.parametrize(
    ("headers", "api", "form"),
    [
        ({}, 200, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
        ({"Sec-Fetch-Site": "none"}, 200, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403, 403),
        ({"Origin": "http://localhost"}, 200, 200),
        ({"Origin": "http://localhost:9999"}, 403, 403),
        ({"Origin": "https://attacker.example"}, 403, 403),
        ({"Origin": "null"}, 403, 403),
    ],
)
def test_a_write_from_another_site_is_refused(local: FlaskClient, headers: dict[str, str], api: int, form: int) -> None:
    assert local.post("/ops/api/write", headers=headers, json={}).status_code == api
    assert local.post("/ops/form", headers=headers, data={"a": "b"}).status_code == form


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_the_api_takes_json_only(local: FlaskClient, kind: str) -> None:
    assert local.post("/ops/api/write", data=b"{}", content_type=kind).status_code == 415


def test_a_body_that_is_too_large_is_refused(local: FlaskClient) -> None:
    assert local.post("/ops/api/write", json={"a": "x" * 1024 * 1024}).status_code == 413


def test_every_answer_has_the_headers(local: FlaskClient) -> None:
    for answer in (local.get("/ops/api/read"), local.get("/ops/api/read", environ_overrides=ELSEWHERE)):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_route_cannot_be_added_without_a_right_that_fits() -> None:
    gate = Gate(Fairchild("postgresql://nowhere"))
    blueprint = Blueprint("fairchild", __name__)
    with pytest.raises(ValueError, match="is not a right"):
        gate.route(blueprint, "/x", "everything")
    with pytest.raises(ValueError, match="needs a right to write"):
        gate.route(blueprint, "/x", "view", methods=["POST"])
