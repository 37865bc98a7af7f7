"""The whole API from outside: rights, tokens, other sites, a database that is away, and what errors tell."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.db.deadline import LOCK_SECONDS
from fairchild.errors import StoreError, UsageError
from fairchild.rules.rights import PUBLIC, READING, RIGHTS, ROLES
from fairchild.web import create_blueprint
from fairchild.web.auth import HEADERS
from tests.support.app import App
from tests.web.conftest import mounted
from tests.web.pages_support import Page

Mount = Callable[..., FlaskClient]
PUBLIC_ROUTES = ("no_such_path", "page_nowhere", "page_asset")
"""What is answered to everybody: that there is nothing, and files of styles and scripts."""
PROBES = ("/livez", "/readyz")
ID = "01900000-0000-7000-8000-000000000000"


def routes() -> list[tuple[str, str]]:
    """(method, path) of every route but the public ones."""
    flask = Flask("routes")
    flask.register_blueprint(create_blueprint(Fairchild("postgresql://nowhere")), url_prefix="/ops")
    found = []
    for rule in flask.url_map.iter_rules():
        if rule.endpoint == "static" or rule.endpoint.endswith(PUBLIC_ROUTES):
            continue
        path = rule.rule.replace("<id>", ID).replace("<any(args,result,meta):part>", "args")
        path = re.sub(r"<(?:\w+:)?(?:name|fingerprint)>", "0123456789ab", path)
        assert "<" not in path, f"say here what may stand in {path}, so that it is tried"
        found += [(method, path) for method in sorted(rule.methods or ()) if method not in ("HEAD", "OPTIONS")]
    return found


ROUTES = routes()
WRITES = [each for each in ROUTES if each[0] != "GET"]


def test_every_route_names_a_right() -> None:
    refused: list[Any] = []
    for method, path in ROUTES:
        if path.endswith(PROBES):
            continue  # what tests/web/test_probes.py is about
        asked: list[str] = []

        def authorize(request: Any, right: str, asked: list[str] = asked) -> bool:
            asked.append(right)
            return False

        client = mounted(Fairchild("postgresql://nowhere"), authorize=authorize)
        headers = {"Sec-Fetch-Site": "same-origin"}
        answer = client.open(path, method=method, headers=headers)
        if answer.status_code != 403 or not asked or not set(asked) <= RIGHTS:
            refused.append((method, path, answer.status_code, asked))
        if method != "GET" and not READING.isdisjoint(asked):
            refused.append((method, path, "a right to read lets it write", asked))
    assert [each for each in refused if each[3] != [PUBLIC] and "/static/" not in each[1]] == []


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_f114_no_other_site_and_no_simple_form_writes(method: str, path: str) -> None:
    client = mounted(Fairchild("postgresql://nowhere"))
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
    ):
        assert client.open(path, method=method, headers=headers, json={}).status_code == 403
    plain = client.open(path, method=method, data="{}", content_type="text/plain")
    assert plain.status_code in (403, 415)
    if "/api/" in path:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
            assert client.open(path, method=method, data=b"a=b", content_type=kind).status_code == 415


def test_f114_a_get_changes_nothing(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("t")
    tables = ("jobs", "ready", "claims", "due", "waiting", "queues", "audit", "tokens", "counters", "minutes")

    def content() -> list[Any]:
        return [
            app.store.sql(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {{{name}}} t")
            for name in tables
        ]

    found = content()
    for method, path in ROUTES:
        if method == "GET":
            site.get(path.replace(ID, str(job.id)))
        elif path.count("/") > 3:
            assert site.get(path.replace(ID, str(job.id))).status_code in (200, 404, 405)
    assert content() == found


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_f116_without_a_database_the_answer_is_503_and_tells_nothing(method: str, path: str) -> None:
    client = mounted(Fairchild("postgresql://user:pa55word@127.0.0.1:1/db?connect_timeout=1", pooler=False))
    body = {"task": "t", "action": "cancel", "ids": [ID]}
    wanted = {key: body[key] for key in (("task",) if path.endswith("/jobs") else ("action", "ids"))}
    headers = {"Sec-Fetch-Site": "same-origin"}
    wanted = {"queue": "q"} if path.endswith("/move") else wanted
    with_body = method == "POST" and path.endswith(("/jobs", "/bulk", "/move"))
    answer = client.open(path, method=method, headers=headers, json=wanted if with_body else None)
    if path.endswith(("openapi.json", "docs", "livez")):
        assert answer.status_code == 200
        return
    if "/api/" not in path and not path.endswith("/health"):
        return  # pages say it in their own way
    assert answer.status_code == 503
    assert "Traceback" not in answer.text
    assert "pa55word" not in answer.text
    assert "127.0.0.1" not in answer.text
    if "/api/" in path:
        assert answer.mimetype == "application/problem+json"


def test_an_error_of_the_database_tells_no_sql(app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise StoreError("the database refused the statement: SELECT secret FROM mine")

    monkeypatch.setattr(app.client, "stats", fail)
    answer = site.get("/ops/api/stats")
    assert answer.status_code == 500
    assert "SELECT" not in answer.text
    monkeypatch.setattr(app.client, "stats", lambda: 1 / 0)
    answer = site.get("/ops/api/stats")
    assert answer.status_code == 500
    assert "Zero" not in answer.text


def test_f115_a_read_that_takes_too_long_is_broken_off(app: App, site: FlaskClient) -> None:
    app.store.sql("BEGIN")
    app.store.sql("LOCK TABLE {counters} IN ACCESS EXCLUSIVE MODE")
    started = time.monotonic()
    answer = site.get("/ops/api/stats")
    took = time.monotonic() - started
    app.store.sql("ROLLBACK")
    assert answer.status_code == 503
    assert "too long" in answer.text
    assert LOCK_SECONDS - 0.1 < took < 2
    assert site.get("/ops/api/stats").status_code == 200


def test_a_token_opens_what_its_rights_say_until_it_is_revoked(app: App, mount: Mount) -> None:
    elsewhere = {"REMOTE_ADDR": "10.0.0.7"}
    client = mount()
    token, secret = app.client.tokens.create("ci", ["jobs:insert"])
    job = app.client.enqueue("t")

    def ask(method: str, path: str, secret: str = secret, **more: Any) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return client.open(
            f"/ops/api/{path}", method=method, headers=headers, environ_overrides=elsewhere, **more
        ).status_code

    assert ask("GET", "stats") == 200
    assert ask("POST", "jobs", json={"task": "unknown"}) == 404
    assert ask("POST", f"jobs/{job.id}/cancel") == 403
    assert ask("GET", "stats", secret="fct_wrong") == 401
    assert ask("GET", "stats", secret="other") == 403
    _, admin = app.client.tokens.create("admin", ["admin"], expires=3600)
    assert ask("POST", f"jobs/{job.id}/cancel", secret=admin) == 200
    assert app.client.audit_entries()[0].who.startswith("token admin (")
    app.client.tokens.revoke(token.id)
    assert ask("GET", "stats") == 401
    app.store.sql("UPDATE {tokens} SET expires_at = now() - interval '1 second'")
    assert ask("GET", "stats", secret=admin) == 401
    assert app.store.sql("SELECT FROM {tokens} WHERE position(convert_to(%(s)s, 'UTF8') IN digest) > 0", s=secret) == []


def test_a_wrong_token_does_not_fall_back_to_authorize(app: App, mount: Mount) -> None:
    client = mount(authorize=lambda request, right: "admin")
    assert client.get("/ops/api/stats", headers={"Authorization": "Bearer fct_wrong"}).status_code == 401
    assert client.get("/ops/api/stats", headers={"Authorization": "Bearer of the host"}).status_code == 200


def test_a_token_needs_rights_that_exist(app: App) -> None:
    for rights in ([], ["root"], ["jobs:*"]):
        with pytest.raises(UsageError):
            app.client.tokens.create("x", rights)


def test_each_write_is_in_the_audit_log_with_who(app: App, mount: Mount) -> None:
    client = mount(who=lambda request: "ada")
    client.post("/ops/api/queues/mail/pause")
    entry = app.client.audit_entries()[0]
    assert (entry.who, entry.action, entry.target, entry.number) == ("ada", "queues:pause", "mail", 1)
    assert (client.get("/ops/api/audit").json or {})["entries"][0]["target"] == "mail"


def test_an_entry_of_the_audit_log_says_what_was_before_what_after_and_in_which_request(
    app: App, site: FlaskClient
) -> None:
    job = app.client.enqueue("mail", queue="slow")
    later = app.client.enqueue("mail", delay=3600)
    form = {"headers": {"Sec-Fetch-Site": "same-origin", "X-Request-ID": "lb-7:42"}}
    asked: list[tuple[str, Any]] = [
        ("queues/mail/pause", None), ("queues/mail/pause", None), ("queues/mail/resume", None),
        (f"jobs/{job.id}/move", {"priority": 1}), (f"jobs/{job.id}/cancel", None), (f"jobs/{job.id}/retry", None),
        (f"jobs/{later.id}/run", None),
        ("jobs/bulk", {"action": "move", "filter": {"queue": "slow"}, "queue": "fast"}),
        ("errors/0123456789ab/mute", None), ("errors/0123456789ab/unmute", None),
    ]  # fmt: skip
    for path, body in asked:
        answer = site.post(f"/ops/api/{path}", json=body, headers={"X-Request-ID": "lb-7:42"})
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, "lb-7:42"), path
    assert site.post(f"/ops/jobs/{job.id}/cancel", data={"sure": "1"}, **form).status_code == 303
    assert site.post(f"/ops/jobs/{job.id}/delete", data={"sure": "1"}, **form).status_code == 303
    assert site.post("/ops/queues/slow", data={"action": "pause"}, **form).status_code == 303
    entries = app.client.audit_entries()[::-1]
    assert {each.request_id for each in entries} == {"lb-7:42"}
    assert [(each.before, each.after) for each in entries] == [
        ({"paused": False}, {"paused": True}),
        ({"paused": True}, {"paused": True}),
        ({"paused": True}, {"paused": False}),
        ({"queue": "slow", "priority": 5}, {"queue": "slow", "priority": 1}),
        ({"state": "available"}, {"state": "cancelled"}),
        ({"state": "cancelled"}, {"state": "available"}),
        ({"state": "scheduled"}, {"state": "available"}),
        (None, {"queue": "fast"}),
        ({"muted": False}, {"muted": True}),
        ({"muted": True}, {"muted": False}),
        ({"state": "available"}, {"state": "cancelled"}),
        ({"state": "cancelled"}, None),
        ({"paused": False}, {"paused": True}),
    ]
    told = (site.get("/ops/api/audit").json or {})["entries"][0]
    assert (told["request_id"], told["before"], told["after"]) == ("lb-7:42", {"paused": False}, {"paused": True})
    page = Page(site.get("/ops/audit").text).said
    for said in ("paused false → true", "priority 5 → 1", "state cancelled → gone", "lb-7:42"):
        assert said in page


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "<b>", "é", 'a"b', "a;b"])
def test_a_request_that_names_itself_badly_gets_a_name(app: App, site: FlaskClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given.encode().decode("latin-1")}
    first, second = (site.post("/ops/api/queues/q/pause", headers=headers).headers["X-Request-ID"] for _ in "ab")
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second
    assert [each.request_id for each in app.client.audit_entries()] == [second, first]


@pytest.mark.parametrize("role", list(ROLES))
def test_a_role_opens_what_it_names(app: App, mount: Mount, role: str) -> None:
    client = mount(authorize=lambda request, right: role)
    assert client.get("/ops/api/stats").status_code == 200
    pausing = client.post("/ops/api/queues/mail/pause").status_code
    assert pausing == (403 if role == "view" else 200)
    assert client.get("/ops/api/audit").status_code == (200 if role == "admin" else 403)


def test_every_answer_has_the_headers(site: FlaskClient) -> None:
    for method, path in ROUTES:
        answer = site.open(path, method=method)
        for name in HEADERS:
            assert name in answer.headers, (method, path, name)


def test_the_web_package_fetches_nothing() -> None:
    from pathlib import Path

    import fairchild.web

    for file in Path(fairchild.web.__file__ or "").parent.rglob("*.py"):
        text = file.read_text()
        for word in ("urllib.request", "http.client", "import requests", "httpx", "pickle", "eval("):
            assert word not in text, f"{file}: {word}"
