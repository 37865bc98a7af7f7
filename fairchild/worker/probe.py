"""What tells others that a worker is well: two addresses for HTTP probes, and a file that is touched.

``/livez``   its loops are there and move; while the database is away they move, too: restarting would not help
``/readyz``  the database answers, the tables are those of this release, and jobs can be taken

Both answer 200 or 503 with ``{"ok": ..., "checks": {name: {"ok": ..., "detail": ...}}}``. The file is touched each
second as long as the worker is alive in the sense of ``/livez``.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec

from fairchild.errors import ConfigError
from fairchild.loop import Loop
from fairchild.worker.worker import Worker

Checks = dict[str, dict[str, Any]]
TURN_SECONDS = 0.5
REQUEST_SECONDS = 2.0
TOUCH_SECONDS = 1.0

log = logging.getLogger("fairchild.worker")


class Probe:
    """Answers for one worker, in a thread of its own. ``start`` raises ConfigError where it cannot listen or write."""

    def __init__(self, worker: Worker, *, host: str, port: int | None, file: Path | None) -> None:
        self._worker = worker
        self._address = None if port is None else (host, port)
        self._file = file
        self._server: HTTPServer | None = None
        self._next_touch = 0.0
        self._loop = Loop("probe", self._step)

    @property
    def port(self) -> int | None:
        """Where it listens, once it does."""
        return None if self._server is None else self._server.server_address[1]

    def start(self) -> None:
        """Begin to answer."""
        if self._address is not None:
            try:
                self._server = _Server(self._address, self.answer)
            except OSError as error:
                raise ConfigError(f"the health port cannot be opened at {self._address}: {error}") from None
        if self._file is not None:
            try:
                self._file.touch()
            except OSError as error:
                self.stop()
                raise ConfigError(f"the health file cannot be written: {error}") from None
        if self._server is not None or self._file is not None:
            self._loop.start()

    def stop(self) -> None:
        """Stop answering, and remove the file."""
        self._loop.stop()
        self._loop.join(REQUEST_SECONDS + 1)
        if self._server is not None:
            self._server.server_close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def answer(self, path: str) -> Checks | None:
        """The checks that a path stands for; None for a path that stands for nothing."""
        if path == "/livez":
            return self._worker.signs_of_life()
        if path == "/readyz":
            return {**self._worker.client.check_database(), **self._worker.health()}
        return None

    def _step(self) -> float:
        if self._file is not None and time.monotonic() >= self._next_touch:
            self._next_touch = time.monotonic() + TOUCH_SECONDS
            if all_well(self._worker.signs_of_life()):
                self._file.touch()
        if self._server is None:
            return TOUCH_SECONDS
        self._server.handle_request()
        return 0.0


def all_well(checks: Checks) -> bool:
    """Whether all checks are good."""
    return all(check["ok"] for check in checks.values())


class _Server(HTTPServer):
    timeout = TURN_SECONDS
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answer: Callable[[str], Checks | None]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.answer = answer

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)  # HTTPServer's own asks a name server for the host's name
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the server's own signature
        log.warning("a health probe from %s was not answered: %r", client_address[0], sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server_version = "fairchild"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a probe."""
        assert isinstance(self.server, _Server)
        checks = self.server.answer(self.path.partition("?")[0])
        if checks is None:
            self.send_error(404)
            return
        well = all_well(checks)
        body = msgspec.json.encode({"ok": well, "checks": checks})
        self.send_response(200 if well else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's own names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
        """Probes come every few seconds and are not worth a line."""
