"""The WebSocket, on real servers and with real clients: what it tells, whom it lets in, and how it ends."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from simple_websocket import Client
from simple_websocket import ConnectionClosed as Closed
from simple_websocket import ConnectionError as Refused
from waitress.server import create_server
from werkzeug.serving import make_server

from fairchild.web import create_blueprint, websocket
from tests.support.app import App
from tests.support.command import started
from tests.support.eventually import eventually

PATH = "/ops/api/jobs/stream"
HANDSHAKE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
Serve = Callable[..., int]


def application(app: App, **options: Any) -> Flask:
    flask = Flask("site")
    flask.register_blueprint(create_blueprint(app.client, **{"streams": True, **options}), url_prefix="/ops")
    return flask


@pytest.fixture
def serve(app: App, caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    """``serve(streams=1)``: the port of werkzeug's server with an application of these options."""
    servers = []

    def start(**options: Any) -> int:
        server = make_server("127.0.0.1", 0, application(app, **options), threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
    eventually(lambda: not [each for each in threading.enumerate() if "process_request" in each.name])
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


class Peer(Client):  # type: ignore[misc]
    """A client that leaves no socket behind when it is refused."""

    def handshake(self) -> None:
        try:
            super().handshake()
        except Refused:
            assert self.sock is not None
            self.sock.close()
            raise


@contextmanager
def connected(port: int, query: str = "", path: str = PATH) -> Iterator[Any]:
    """A client; it comes again while all slots are taken."""

    def connect() -> Any:
        try:
            return Peer.connect(f"ws://127.0.0.1:{port}{path}{query}")
        except Refused:
            return None

    client = eventually(connect)
    assert client is not None
    try:
        yield client
    finally:
        if client.connected:
            client.close()
        client.thread.join()


def answer(port: int, path: str = PATH, **headers: str) -> tuple[int, Any, http.client.HTTPMessage]:
    """What a request is answered: the status, the body if it is no WebSocket now, the headers. Hangs up then."""
    handshake = HANDSHAKE if path.endswith("/jobs/stream") else {}
    given = {**handshake, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers=given)
        response = connection.getresponse()
        return response.status, None if response.status == 101 else json.load(response), response.headers


def listened_to(app: App) -> bool:
    return app.store.sql("SELECT count(*) FROM {listeners}") != [(0,)]


def message(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.receive(timeout=30) or "null")
    return found


def tells_and_resumes(app: App, port: int, path: str) -> None:
    with connected(port, path=path) as client:
        eventually(lambda: listened_to(app))
        job = app.client.enqueue("t")
        first = message(client)
        assert (first["type"], first["event"], first["job_id"]) == ("job_update", "job_created", str(job.id))
        assert first["data"]["queue"] == "default"
        client.send("what is not read")
        second = app.client.enqueue("t")
        assert message(client)["job_id"] == str(second.id)
    with connected(port, f"?after={first['seq']}", path) as client:
        assert message(client)["job_id"] == str(second.id)
    with connected(port, "?after=999999999", path) as client:
        assert message(client)["type"] == "resync"


def test_it_tells_and_resumes_on_werkzeug(app: App, serve: Serve) -> None:
    tells_and_resumes(app, serve(), PATH)


def test_it_tells_and_resumes_on_gunicorn(app: App, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = "/api/jobs/stream"
    with started(["ui", "--host", "127.0.0.1", "--port", str(port)], folder=tmp_path, url=app.url) as ui:

        def is_up() -> bool:
            try:
                return answer(port, path)[0] == 101
            except OSError:
                return False

        eventually(is_up, 60, what=ui.said)
        tells_and_resumes(app, port, path)
        assert answer(port, path, Origin="http://127.0.0.1")[0] == 403
        ui.process.terminate()
        assert ui.process.wait(30) == 0
        assert "Traceback" not in ui.said()


def test_both_kinds_of_streams_take_from_the_same_slots(serve: Serve) -> None:
    port = serve(streams=2, read_only=True)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as events, connected(port):
        events.request("GET", "/ops/api/stream")
        with events.getresponse() as first:
            assert first.status == 200
            for path in (PATH, "/ops/api/stream"):
                status, problem, headers = answer(port, path)
                assert (status, problem["status"], "Retry-After" in headers) == (503, 503, True)
    eventually(lambda: answer(port)[0] == 101)


def test_a_server_that_keeps_its_sockets_names_the_other_way(app: App) -> None:
    server: Any = create_server(application(app), host="127.0.0.1", port=0)

    def run() -> None:
        with suppress(OSError):  # its loop may be looking at what is closed below
            server.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        status, problem, _ = answer(server.effective_port)
    finally:
        server.close()
        thread.join()
    assert (status, problem["status"]) == (501, 501)
    assert "/api/stream" in problem["detail"]


def test_without_the_extra_it_names_both_ways(
    mount: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "find_spec", lambda name: None)
    refused = mount(streams=True).get(PATH, headers=HANDSHAKE)
    assert (refused.status_code, refused.mimetype) == (501, "application/problem+json")
    assert "fairchild[websocket]" in refused.text
    assert "/api/stream" in refused.text


def test_it_is_not_there_unless_asked_for_and_no_page(mount: Callable[..., FlaskClient]) -> None:
    assert mount().get(PATH).status_code == 404
    client = mount(streams=True)
    assert client.get(PATH).status_code == 426
    assert client.get(PATH, headers={**HANDSHAKE, "Sec-WebSocket-Version": "8"}).status_code == 400
    assert client.get(PATH + "?after=-1", headers=HANDSHAKE).status_code == 422


def test_no_other_site_may_open_it(app: App, serve: Serve) -> None:
    port = serve()
    for origin in ("https://attacker.example", "null", "http://127.0.0.1:1", f"http://127.0.0.1:{port}.example"):
        assert answer(port, Origin=origin)[0] == 403, origin
    assert answer(port, Origin=f"http://127.0.0.1:{port}")[0] == 101


def test_it_needs_the_right_to_view(app: App, serve: Serve) -> None:
    asked = []

    def authorize(request: Any, right: str) -> bool:
        asked.append(right)
        return bool(request.headers.get("X-User"))

    port = serve(authorize=authorize)
    assert answer(port)[0] == 403
    assert asked == ["view"]
    assert answer(port, X_User="ada")[0] == 101
    _, secret = app.client.tokens.create("ci", ["view"])
    assert answer(port, Authorization=f"Bearer {secret}")[0] == 101
    assert answer(port, Authorization="Bearer fct_wrong")[0] == 401


def test_a_peer_that_answers_no_ping_frees_its_slot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_SECONDS", 1.0)
    port = serve(streams=1)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as dead:
        lines = [f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in HANDSHAKE.items())]
        dead.sendall("\r\n".join([*lines, "", ""]).encode())
        while dead.recv(4096):
            pass  # it is sent pings, and then the end
    with connected(port) as alive:
        assert alive.receive(timeout=2.5) is None
        assert alive.connected


def test_who_talks_too_much_is_cut_off(serve: Serve) -> None:
    port = serve(streams=1)
    with connected(port) as client:
        client.send("x" * (websocket.MOST_BYTES + 1))
        eventually(lambda: not client.connected)
    with connected(port) as client:

        def talked_over() -> bool:
            try:
                for _ in range(3 * websocket.MOST_MESSAGES):
                    client.send("x")
            except (OSError, Closed):
                return True
            return not client.connected

        eventually(talked_over)
    eventually(lambda: answer(port)[0] == 101)


def test_when_the_database_cannot_tell_it_ends_and_says_so(app: App, serve: Serve) -> None:
    port = serve()
    with connected(port) as client:
        eventually(lambda: listened_to(app))
        app.store.sql("DROP TABLE {events}")
        eventually(lambda: not client.connected)
        assert client.close_reason == 1013
