"""``/livez`` and ``/readyz``: what they say, to whom, and that they say nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.web import probes
from tests.support.app import App
from tests.web.conftest import mounted

Mount = Callable[..., FlaskClient]
ELSEWHERE = {"REMOTE_ADDR": "10.0.0.7", "HTTP_HOST": "10.0.0.1:8080"}
NOWHERE = "postgresql://user:pa55word@127.0.0.1:1/db?connect_timeout=1"


def test_both_are_ok_where_all_is_well(site: FlaskClient) -> None:
    for path in ("/ops/livez", "/ops/readyz"):
        answer = site.get(path)
        assert (answer.status_code, answer.json) == (200, {"ok": True})


def test_without_a_database_the_process_lives_and_is_not_ready() -> None:
    client = mounted(Fairchild(NOWHERE, pooler=False))
    assert client.get("/ops/livez").status_code == 200
    answer = client.get("/ops/readyz")
    assert (answer.status_code, answer.json) == (503, {"ok": False})


def test_it_is_not_ready_before_the_tables_are_of_this_release(
    app: App, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "READY_SECONDS", 0.0)
    client = mount()
    assert client.get("/ops/readyz").status_code == 200
    app.store.sql("UPDATE fairchild_alembic_version SET version_num = '0001'")
    assert client.get("/ops/readyz").status_code == 503


def test_many_who_ask_at_once_cost_one_look(app: App, mount: Mount) -> None:
    client = mount()
    assert client.get("/ops/readyz").status_code == 200
    app.store.sql("UPDATE fairchild_alembic_version SET version_num = '0001'")
    assert client.get("/ops/readyz").status_code == 200


def test_others_are_answered_if_that_is_switched_on_and_whoever_they_are(mount: Mount) -> None:
    for options in ({}, {"token": "s3cretive"}, {"authorize": lambda request, right: "admin"}):
        client = mount(**options)
        assert client.get("/ops/livez").status_code == 200
        assert client.get("/ops/livez", environ_overrides=ELSEWHERE).status_code == 403
        assert client.get("/ops/readyz", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 403
        client = mount(probes=True, hosts=["ops.example"], **options)
        for path in ("/ops/livez", "/ops/readyz"):
            assert client.get(path, environ_overrides=ELSEWHERE).status_code == 200
        assert client.get("/ops/api/stats", environ_overrides=ELSEWHERE).status_code == 400


def test_a_read_only_site_has_them_too(mount: Mount) -> None:
    assert mount(read_only=True).get("/ops/readyz").status_code == 200


def test_a_job_that_waits_for_too_long_fails_over_http(app: App, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "READY_SECONDS", 0.0)
    client = mount()
    app.store.open_session()
    app.client.enqueue("t")
    app.store.sql("UPDATE {ready} SET at = at - interval '100 seconds'")
    for path in ("/ops/health", "/ops/readyz"):
        assert client.get(path).status_code == 200
        assert client.get(f"{path}?max_age=1000").status_code == 200
        assert client.get(f"{path}?max_age=50").status_code == 503
        assert client.get(f"{path}?max_age=soon").status_code == 422
    assert "start more workers" in client.get("/ops/health?max_age=50").get_json()["checks"]["jobs"]["do"]
