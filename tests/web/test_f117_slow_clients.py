"""F117: clients that send slowly, or nothing, hold no thread of ``fairchild ui``; streams go on."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import App
from tests.support.eventually import eventually

THREADS = 4
SLOW = 100
SERVER = """
import sys
import fairchild.web.server as server
from fairchild import Fairchild

url, port, kind = sys.argv[1:]
if kind == "waitress":
    found = server.find_spec
    server.find_spec = lambda name, *more: None if name == "gunicorn" else found(name, *more)
fc = Fairchild(url)
server.serve(server.make_app(fc, "127.0.0.1", streams=2), "127.0.0.1", int(port), threads=4)
"""
HEAD = b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/jobs HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n"
KINDS = {
    "silent": b"",
    "a byte": b"G",
    "headers": HEAD + b"X-A: ",
    "body": POST % (b"localhost", b"Content-Length: 1000") + b"{",
    "chunks": POST % (b"localhost", b"Transfer-Encoding: chunked") + b"5\r\n{",
    "body for another host": POST % (b"evil.example", b"Content-Length: 1000") + b"{",
    "huge body": POST % (b"localhost", b"Content-Length: 999999999") + b"{",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Site:
    """A process of ``serve()`` with few threads."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, path: str = "/livez", method: str = "GET", body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; status 0 when there was no answer in a long time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def send(self, data: bytes) -> socket.socket:
        """A connection over which this was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.sendall(data)
        return made


@contextmanager
def serving(app: App, folder: Path, kind: str) -> Iterator[Site]:
    """A site of ``gunicorn`` or ``waitress``, until the end of the block."""
    port = free_port()
    (folder / "site_served.py").write_text(SERVER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(
        [sys.executable, "site_served.py", app.url, str(port), kind], cwd=folder, env=environment
    ) as (process):
        site = Site(process, port)
        try:
            eventually(lambda: site.ask()[0] == 200, 60)
            yield site
        finally:
            process.send_signal(signal.SIGINT if kind == "waitress" else signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.fixture(params=["gunicorn", "waitress"])
def site(app: App, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with serving(app, tmp_path, request.param) as made:
        yield made


def test_f117_a_hundred_slow_clients_of_a_kind_hold_no_thread(site: Site) -> None:
    for kind, sent in KINDS.items():
        held = [site.send(sent) for _ in range(SLOW)]
        for path in ("/livez", "/", "/api/stats"):
            assert site.ask(path)[0] == 200, kind
        for each in held:
            each.close()


def test_f117_all_kinds_of_slow_clients_at_once_that_go_on_byte_by_byte(site: Site) -> None:
    held = [site.send(KINDS[kind]) for kind in KINDS for _ in range(SLOW // 4)]
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.2):
            for each in held:
                try:
                    each.send(b"a")
                except OSError:
                    pass

    sender = threading.Thread(target=go_on)
    sender.start()
    try:
        for _ in range(20):
            assert site.ask()[0] == 200
            assert site.ask("/jobs")[0] == 200
        # A request that takes too long to come is let go, however busily it is sent.
        for each in held[2 * (SLOW // 4) : 3 * (SLOW // 4)]:
            each.settimeout(30)
            assert not each.recv(1000).startswith(b"HTTP/1.1 2")
    except ConnectionResetError:
        pass
    finally:
        over.set()
        sender.join()
        for each in held:
            each.close()


def test_f117_a_flood_of_connections_costs_those_who_flood(site: Site) -> None:
    held = [site.send(HEAD) for _ in range(600)]
    assert site.ask()[0] == 200
    for each in held:
        each.close()


def test_f117_who_does_not_take_the_answer_in_holds_no_thread(site: Site) -> None:
    held = []
    for _ in range(THREADS * 3):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect(("127.0.0.1", site.port))
        made.sendall(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        held.append(made)
    assert site.ask()[0] == 200
    for each in held:
        each.close()


def test_f117_whole_requests_are_served_however_they_are_cut(site: Site) -> None:
    site.ask("/api/queues/mail/pause", "POST", b"", **{"Content-Type": "application/json"})
    body = json.dumps({"reason": "x" * 300}).encode()
    whole = POST.replace(b"jobs", b"queues/mail/resume") % (b"localhost", b"Content-Length: %d" % len(body)) + body
    for step in (1, 7, len(whole)):
        connection = site.send(b"")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), step):
            connection.sendall(whole[at : at + step])
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()
    chunked = iter([b'{"task":', b'"no.such"}'])
    assert site.ask("/api/jobs", "POST", chunked, **{"Content-Type": "application/json"})[0] == 404
    large = json.dumps({"task": "no.such", "args": {"a": "x" * 900_000}}).encode()
    assert site.ask("/api/jobs", "POST", large, **{"Content-Type": "application/json"})[0] == 404
    assert (
        site.ask("/api/jobs", "POST", large, **{"Content-Type": "application/json", "Expect": "100-continue"})[0] == 404
    )
    larger = b'{"task":"' + b"x" * 3_000_000 + b'"}'
    assert site.ask("/api/jobs", "POST", larger, **{"Content-Type": "application/json"})[0] == 413


def test_f117_who_waits_for_a_word_before_the_body_gets_it(site: Site) -> None:
    connection = site.send(POST % (b"localhost", b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 18"))
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b'{"task":"no.such"}')
    heard = b""
    while piece := connection.recv(1000):
        heard += piece
    assert b"HTTP/1.1 404" in heard
    connection.close()


def test_f117_streams_go_on(app: App, site: Site) -> None:
    stream = site.send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    heard = bytearray()

    def hears_of_a_job() -> bool:
        app.client.enqueue("shop.a")
        heard.extend(stream.recv(10_000))
        return b"job_created" in heard

    eventually(hears_of_a_job, 20)
    stream.close()


def test_f117_a_websocket_goes_on(app: App, tmp_path: Path) -> None:
    from simple_websocket import Client

    with serving(app, tmp_path, "gunicorn") as site:
        peer = Client(f"ws://127.0.0.1:{site.port}/api/jobs/stream")

        def hears_of_a_job() -> bool:
            app.client.enqueue("shop.a")
            message = peer.receive(timeout=1)
            return message is not None and json.loads(message)["event"] == "job_created"

        eventually(hears_of_a_job, 20)
        peer.close()
        eventually(lambda: site.ask()[0] == 200, 10)
