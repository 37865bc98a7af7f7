"""A network between a client and the database that loses things on command."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY = b"Z\x00\x00\x00\x05"
"""The server's ReadyForQuery: the end of what it has to say to a statement."""


class Proxy:
    """Passes everything on until it is told otherwise. ``url`` leads through it.

    ``eat_reply(marker)``: the next message of a client with these bytes in it is delivered, its reply is not, and the
    connection is cut. ``cut_before(marker)``: it is cut before the message is delivered. ``down``: nobody gets through.
    ``hole``: what is sent is lost, in both directions, and no connection ends.
    """

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._target = (str(given.get("host") or "localhost"), int(str(given.get("port") or 5432)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.down = False
        self.hole = False
        self.eaten = 0
        self._eat: bytes | None = None
        self._cut: bytes | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def eat_reply(self, marker: bytes = b"") -> None:
        self._eat = marker

    def cut_before(self, marker: bytes) -> None:
        self._cut = marker

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client, self._connect()), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        cut = threading.Event()
        with client, server:
            back = threading.Thread(target=self._back, args=(client, server, cut), daemon=True)
            back.start()
            self._up(client, server, cut)
            back.join()

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with _ended(client, server), contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                with self._lock:
                    if self._cut is not None and self._cut in data:
                        self._cut = None
                        return
                    if self._eat is not None and self._eat in data:
                        self._eat = None
                        cut.set()
                if not self.hole:
                    server.sendall(data)
                while cut.is_set():  # until the other direction has seen the end of the reply
                    threading.Event().wait(0.001)
                    if not cut.is_set():
                        return

    def _back(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        try:
            with _ended(client, server), contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if self.hole:
                        continue
                    if not cut.is_set():
                        client.sendall(data)
                    elif READY in data:
                        self.eaten += 1
                        return
        finally:
            cut.clear()


@contextmanager
def _ended(*sockets: socket.socket) -> Iterator[None]:
    """Both directions end together, whichever ends first."""
    try:
        yield
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy to a database, until the end of the block."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
