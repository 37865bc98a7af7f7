"""A network between a client and the database that loses things on command."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY = b"Z\x00\x00\x00\x05"
"""The server's ReadyForQuery: the end of what it has to say to a statement."""
GOODBYE = b"X\x00\x00\x00\x04"
"""The client's Terminate, to which there is no reply."""


@dataclass
class _Eating:
    marker: bytes
    role: bytes
    chosen: Callable[[], bool]
    left: int


class Proxy:
    """Passes everything on until it is told otherwise. ``url`` leads through it.

    ``eat_reply(marker)``: the next message of a client with these bytes in it is delivered, its reply is not, and the
    connection is cut. ``eat_replies``: so many of them. ``cut_before(marker)``: it is cut before the message is
    delivered. ``down``: nobody gets through. ``hold`` and ``heal``: a partition, of one direction or of both. ``hole``:
    what is sent is lost, in both directions, and no connection ends. ``deaf``: what the server says to the connections
    whose first message has these bytes in it is lost.
    """

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._target = (str(given.get("host") or "localhost"), int(str(given.get("port") or 5432)))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = self._listener.getsockname()[1]
        self.url = make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.down = False
        self.hole = False
        self.deaf = b""
        self.eaten = 0
        self._eating = _Eating(b"", b"", lambda: True, 0)
        self._cut: bytes | None = None
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._flowing = {"up": threading.Event(), "down": threading.Event()}
        for each in self._flowing.values():
            each.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def eat_reply(self, marker: bytes = b"") -> None:
        self.eat_replies(1, marker)

    def eat_replies(
        self, number: int, marker: bytes = b"", *, role: str = "", chosen: Callable[[], bool] = lambda: True
    ) -> None:
        """Eat the replies to the next ``number`` messages with ``marker`` that ``chosen`` says yes to.

        ``role``: only on connections whose application name ends so; empty for all.
        """
        self._eating = _Eating(marker, b"fairchild:" + role.encode() if role else b"", chosen, number)

    def cut_before(self, marker: bytes) -> None:
        self._cut = marker

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """From here on nothing gets to the server (``up``) or back (``down``); who sends hears nothing of it."""
        for name, held in (("up", up), ("down", down)):
            if held:
                self._flowing[name].clear()

    def heal(self, *, cut: bool = False) -> None:
        """Deliver what was held, late; or, with ``cut``, nothing of it, and cut the connections."""
        if cut:
            self.cut_all()
        for each in self._flowing.values():
            each.set()

    def cut_all(self) -> None:
        """Cut every connection."""
        with self._lock:
            connections = list(self._connections)
        for each in connections:
            each.cut()

    def close(self) -> None:
        self._listener.close()
        self.heal(cut=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.down:
                return
            try:
                server = self._connect()
            except OSError:  # as if the client had been refused
                return
            with server:
                connection = _Connection(self, client, server)
                with self._lock:
                    self._connections.add(connection)
                try:
                    connection.serve()
                finally:
                    with self._lock:
                        self._connections.discard(connection)

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server

    def wait(self, direction: str) -> None:
        """Return once that direction flows."""
        self._flowing[direction].wait()

    def cuts(self, data: bytes) -> bool:
        """Whether this message is not to arrive."""
        with self._lock:
            if self._cut is None or self._cut not in data:
                return False
            self._cut = None
            return True

    def eats(self, data: bytes, hello: bytes) -> bool:
        """Whether the reply to this message is not to arrive."""
        with self._lock:
            found = self._eating
            if found.left == 0 or data.startswith(GOODBYE) or found.marker not in data or found.role not in hello:
                return False
            if not found.chosen():
                return False
            found.left -= 1
            return True

    def ate(self, whole: bool) -> None:
        """A reply did not arrive: ``whole``, or because the server never said all of it, which does not count."""
        with self._lock:
            self.eaten += whole
            self._eating.left += not whole


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._eating = threading.Event()
        self._over = False
        self._hello = b""
        """With the application's name."""

    def serve(self) -> None:
        back = threading.Thread(target=self._back, daemon=True)
        back.start()
        self._up()
        back.join()

    def cut(self) -> None:
        """Both directions end together."""
        self._over = True
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _up(self) -> None:
        with self._ended():
            while data := self._client.recv(1 << 16):
                self._proxy.wait("up")
                if self._over or self._proxy.cuts(data):
                    return
                if not self._hello:
                    self._hello = data
                elif self._proxy.eats(data, self._hello):
                    self._eating.set()
                if not self._proxy.hole:
                    self._server.sendall(data)
                while self._eating.is_set():  # until the other direction has seen the end of the reply
                    if select.select([self._client], [], [], 0.001)[0]:  # to what may have come in several pieces
                        rest = self._client.recv(1 << 16)
                        if not rest:
                            return
                        self._server.sendall(rest)
                    if not self._eating.is_set():
                        return

    def _back(self) -> None:
        whole = False
        try:
            with self._ended():
                while not whole and (data := self._server.recv(1 << 16)):
                    if self._eating.is_set():
                        whole = READY in data
                        continue
                    self._proxy.wait("down")
                    if self._over:
                        return
                    if self._proxy.hole or (self._proxy.deaf and self._proxy.deaf in self._hello):
                        continue
                    self._client.sendall(data)
        finally:
            if self._eating.is_set():
                self._proxy.ate(whole)
                self._eating.clear()

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Whichever direction ends first."""
        try:
            with contextlib.suppress(OSError):
                yield
        finally:
            self.cut()


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy to a database, until the end of the block."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
