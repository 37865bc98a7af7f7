"""WebSocket ``/api/jobs/stream``: the events of ``/api/stream``, a message each.

The server has to hand its socket over, as gunicorn and werkzeug do; where it does not, the answer names the other way.
Nothing is expected of the other side but that it answers pings. It may speak, unheard, a little.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import threading
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any, NoReturn

from flask import Response, request

from fairchild.errors import StoreError, UsageError
from fairchild.web.auth import VIEW
from fairchild.web.operations import Api
from fairchild.web.problems import Problem
from fairchild.web.stream import AFTER, Slots, events_after

PING_SECONDS = 25.0
"""Who has not answered a ping by the next one is gone."""
STUCK_SECONDS = 10
"""For so long a message may wait for a peer that takes nothing in."""
MOST_BYTES = 4096
MOST_MESSAGES = 100
"""Of those that nobody reads, between two looks half a second apart."""
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")


def add_to(api: Api, slots: Slots) -> None:
    """Add the WebSocket, which takes its slots from those of all streams."""

    @api.add("GET", "/api/jobs/stream", VIEW, query=AFTER, status=101, refusals=(400, 426, 501), websocket=True)
    def job_stream(query: dict[str, Any]) -> Any:
        """What happens to jobs, as messages of a WebSocket; ``after`` resumes."""
        if request.url_rule is None or not request.url_rule.websocket:
            raise Problem(426, "this is a WebSocket; /api/stream sends the same as server-sent events")
        if request.headers.get("Sec-WebSocket-Version") != "13" or "Sec-WebSocket-Key" not in request.headers:
            raise Problem(400, "this is no handshake of WebSocket version 13")
        if find_spec("simple_websocket") is None:
            raise Problem(501, "this needs `pip install 'fairchild[websocket]'`; use /api/stream instead")
        if not any(name in request.environ for name in _SOCKETS):
            raise Problem(501, "this server does not hand its sockets over; use /api/stream instead")
        body = iter(partial(_conversation, request.environ, events_after(api, query)), b"")
        return slots.take(Response(body))


def _conversation(environ: dict[str, Any], events: Iterable[dict[str, Any] | None]) -> NoReturn:
    """What a server takes for the first piece of the body: it asks for it once the host is done with the request."""
    _tell(environ, events)
    # As if the client had gone: servers write nothing more then, not even their own headers, and close.
    raise ConnectionResetError(errno.ECONNRESET, "the WebSocket has ended")


def _tell(environ: dict[str, Any], events: Iterable[dict[str, Any] | None]) -> None:
    from simple_websocket import ConnectionClosed, ConnectionError, Server  # noqa: A004, PLC0415 - optional
    from wsproto.utilities import ProtocolError  # noqa: PLC0415

    taken: socket.socket = next(environ[name] for name in _SOCKETS if name in environ)
    getattr(taken, "go_on", bool)()  # where a server of ours has heard the request and no more
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STUCK_SECONDS, 0))
    accept: Any = Server.accept  # its annotations know less than it takes
    gone = (ConnectionClosed, ConnectionError, ProtocolError, OSError)
    try:
        peer = accept(
            environ, ping_interval=PING_SECONDS, max_message_size=MOST_BYTES,
            thread_class=partial(threading.Thread, daemon=True),
        )  # fmt: skip
    except gone:
        return
    try:
        peer.close(*_tell_peer(peer, events))
    except gone:
        pass
    finally:
        try:
            taken.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
        except OSError:
            pass
        peer.thread.join(1.0)


def _tell_peer(peer: Any, events: Iterable[dict[str, Any] | None]) -> tuple[int, str]:
    """Tell all events; gives the code and the words to close with."""
    try:
        for event in events:
            if event is not None:
                peer.send(json.dumps(event))
            if not (peer.connected and peer.thread.is_alive()):
                break
            if len(peer.input_buffer) > MOST_MESSAGES:
                return 1008, "nothing is read here"
            peer.input_buffer.clear()
    except (StoreError, UsageError):
        return 1013, "the database is away"
    return 1001, "come again, with after"
