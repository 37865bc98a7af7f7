"""A listener that gives a connection once a whole request has come over it.

A server with a thread for each request is stopped by as many clients as it has threads, if they send slowly or nothing
at all. Here one thread hears all of them at once; a request that takes too long to come is let go, and when too many
are on their way it is the oldest of whoever sends most of them. The server's own threads then read at the speed of
memory, never wait for more, and wait only so long for somebody who does not take the answer in.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
from collections import Counter, deque
from typing import Any

from fairchild import clock
from fairchild.loop import Loop
from fairchild.web.auth import MAX_BODY
from fairchild.web.framing import Framing

log = logging.getLogger("fairchild.web")

FIRST_SECONDS = 5.0
"""For the first byte of a request."""
WHOLE_SECONDS = 10.0
"""For all of it."""
TAKEN_SECONDS = 10.0
BYTES_A_SECOND = 50_000
"""An answer has to be taken in within so many seconds, and one more for each so many bytes."""
LEAVING_SECONDS = 2.0
"""For which what still comes is read and thrown away after an answer that did not wait for it."""
MOST = 300
MOST_BYTES = 64 * 1024 * 1024
"""Of all requests that are on their way."""
ANSWER_BYTES = 256 * 1024
"""So much of an answer the system takes over, where it lets us say so: no thread waits for who reads it."""
_PIECE = 64 * 1024
_TICK = 0.25
_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Arrived(socket.socket):
    """A connection over which a whole request has come: it gives that, and then the end, until it is to ``go_on``."""

    came: bytearray
    unread: deque[socket.socket] | None = None
    """Where to leave it when it is closed, if the request was not read to its end."""
    _goes_on = False

    def go_on(self) -> None:
        """From now on it is any other connection, for what follows the request."""
        self._goes_on = True

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self._goes_on:
            return super().recv(size, flags)
        if self.came:
            piece = bytes(self.came[:size])
            del self.came[:size]
            return piece
        before = self.gettimeout()
        try:
            self.settimeout(0)
            return super().recv(size, flags)
        except BlockingIOError:
            return b""
        finally:
            self.settimeout(before)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        before = self.gettimeout()
        try:
            if not self._goes_on:
                self.settimeout(TAKEN_SECONDS + len(data) / BYTES_A_SECOND)
            super().sendall(data, flags)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the answer was not taken in") from None
        finally:
            self.settimeout(before)

    def shutdown(self, how: int, /) -> None:
        """Left to ``close()``, which says it too: a server does both after each answer."""
        if self._goes_on:
            super().shutdown(how)

    def close(self) -> None:
        if self.unread is None or self.fileno() < 0:
            super().close()
        else:  # closed at once, the answer would be lost with what is still coming
            self.unread.append(socket.socket(self.family, self.type, self.proto, self.detach()))


class _Waiting:
    def __init__(self, connection: socket.socket, address: Any, until: float) -> None:
        self.connection = connection
        self.address = address
        self.framing = Framing(MAX_BODY)
        self.came = bytearray()
        self.until = until


class Arrivals(socket.socket):
    """Stands for ``listener`` before a server: it becomes readable when ``accept()`` has a connection to give."""

    def __init__(self, listener: Any) -> None:
        told, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        super().__init__(told.family, told.type, told.proto, told.detach())
        super().setblocking(False)
        self._listener = listener
        self._waiting: dict[int, _Waiting] = {}
        self._ready: deque[tuple[Arrived, Any]] = deque()
        self._unread: deque[socket.socket] = deque()
        self._leaving: dict[socket.socket, float] = {}
        self._bytes = 0
        self._name = listener.getsockname()
        listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener.fileno(), selectors.EVENT_READ)
        self._loop = Loop("arrivals", self._step)

    def start(self) -> Arrivals:
        """Begin to hear."""
        self._loop.start()
        return self

    # What a server asks of a listener

    @property
    def family(self) -> Any:
        return self._listener.family

    def getsockname(self) -> Any:
        return self._name

    def getpeername(self) -> Any:
        return self._listener.getpeername()

    def setblocking(self, flag: bool, /) -> None:
        """It never blocks."""

    def listen(self, backlog: int = 0, /) -> None:
        """It does."""

    def accept(self) -> tuple[Arrived, Any]:
        """A connection with its request, and its address. Raises BlockingIOError if there is none."""
        self.recv(1)
        return self._ready.popleft()

    def close(self) -> None:
        """Hear nobody any more, and let go who is still sending."""
        self._loop.stop()
        self._loop.join(4 * _TICK)
        for each in [*self._waiting.values()]:
            each.connection.close()
        self._listener.close()
        self._tell.close()
        super().close()

    # In its own thread

    def _step(self) -> float:
        for key, _ in self._selector.select(_TICK):
            if key.data is None:
                self._take_in()
            elif isinstance(key.data, _Waiting):
                self._hear(key.data)
            else:
                self._throw_away(key.data)
        self._let_go()
        return 0.0

    def _take_in(self) -> None:
        try:
            taken, address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._waiting:
                raise
            self._drop(self._least_wanted())  # it may be taken with the next step
            return
        taken.setblocking(False)
        if taken.family != getattr(socket, "AF_UNIX", None):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ANSWER_BYTES)
        if len(self._ready) >= MOST:
            taken.close()
            return
        if len(self._waiting) >= MOST:
            self._drop(self._least_wanted())
        waiting = _Waiting(taken, address, clock.now() + FIRST_SECONDS)
        self._waiting[taken.fileno()] = waiting
        self._selector.register(taken, selectors.EVENT_READ, waiting)

    def _hear(self, one: _Waiting) -> None:
        """Take what has come, but for the last byte of the request: with that in it the server sees it readable."""
        if one.connection.fileno() < 0:
            return  # dropped since it was seen
        try:
            piece = one.connection.recv(_PIECE, socket.MSG_PEEK)
            if not piece:
                self._drop(one)
                return
            if not one.came:
                one.until += WHOLE_SECONDS - FIRST_SECONDS
            end = one.framing.feed(piece)
            if end != 1:
                taken = one.connection.recv(len(piece) if end is None else end - 1)
                one.came += taken
                self._bytes += len(taken)
            if one.framing.expects:
                one.framing.expects = False
                one.connection.send(_GO_ON)
        except BlockingIOError:
            return
        except OSError:
            self._drop(one)
            return
        if end is not None:
            self._hand_over(one)
        elif self._bytes > MOST_BYTES:
            self._drop(self._least_wanted())

    def _hand_over(self, one: _Waiting) -> None:
        self._forget(one)
        old = one.connection
        arrived = Arrived(old.family, old.type, old.proto, old.detach())
        arrived.setblocking(True)
        arrived.came = one.came
        if one.framing.cut_off:
            arrived.unread = self._unread
        self._ready.append((arrived, one.address))
        self._tell.send(b"\0")

    def _let_go(self) -> None:
        """Who is too late; and who has been answered before it had sent everything."""
        now = clock.now()
        for one in [each for each in self._waiting.values() if each.until < now]:
            self._drop(one, _LATE if one.came else b"")
        while self._unread:
            left = self._unread.popleft()
            left.setblocking(False)
            self._leaving[left] = now + LEAVING_SECONDS
            self._selector.register(left, selectors.EVENT_READ, left)
        for left in [each for each, until in self._leaving.items() if until < now]:
            self._leave(left)

    def _throw_away(self, left: socket.socket) -> None:
        if left not in self._leaving:
            return
        try:
            if left.recv(_PIECE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._leave(left)

    def _leave(self, left: socket.socket) -> None:
        del self._leaving[left]
        self._selector.unregister(left)
        left.close()

    def _least_wanted(self) -> _Waiting:
        """The oldest of the address that has most on their way."""
        addresses = Counter(_host(each.address) for each in self._waiting.values())
        most = addresses.most_common(1)[0][0]
        return next(each for each in self._waiting.values() if _host(each.address) == most)

    def _forget(self, one: _Waiting) -> None:
        del self._waiting[one.connection.fileno()]
        self._bytes -= len(one.came)
        self._selector.unregister(one.connection)

    def _drop(self, one: _Waiting, last_words: bytes = b"") -> None:
        self._forget(one)
        try:
            if last_words:
                one.connection.send(last_words)
        except OSError:
            pass
        one.connection.close()


def _host(address: Any) -> Any:
    return address[0] if isinstance(address, tuple) else address
