"""``/api/stream``: what happens to jobs, as server-sent events, to a few at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from flask import Response, request

from fairchild.errors import StoreError, UsageError
from fairchild.web.auth import VIEW
from fairchild.web.operations import Api
from fairchild.web.problems import Problem

SLOTS = 4
LASTS_SECONDS = 600.0
"""Then the stream ends and the client comes again with what it has seen, perhaps elsewhere."""
QUIET_POLLS = 20
"""Empty polls after which a comment keeps the connection, and shows whether the other side is there."""


def add_to(api: Api, slots: int) -> None:
    """Add the stream, for at most ``slots`` at once."""
    free = threading.BoundedSemaphore(slots)

    @api.add("GET", "/api/stream", VIEW, query={"after": {"type": "integer", "minimum": 0}}, refusals=(503,))
    def stream(query: dict[str, Any]) -> Any:
        """What happens to jobs, as server-sent events; Last-Event-ID, or ``after``, resumes."""
        given = request.headers.get("Last-Event-ID")
        if given is not None and not (given.isascii() and given.isdigit() and len(given) < 19):
            raise Problem(422, "Last-Event-ID is none of this stream")
        after = query.get("after") if given is None else int(given)
        if not free.acquire(blocking=False):
            raise Problem(503, f"all {slots} streams are in use; come again, or ask for what you need instead")
        response = Response(_messages(api, after), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
        response.call_on_close(free.release)
        return response


def _messages(api: Api, after: int | None) -> Iterator[str]:
    yield "retry: 2000\n\n"
    quiet = 0
    try:
        for event in api.fc.listen(after=after, timeout=LASTS_SECONDS):
            if event is not None:
                quiet = 0
                yield f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
                continue
            quiet += 1
            if quiet % QUIET_POLLS == 0:
                yield ": here\n\n"
    except (StoreError, UsageError):
        yield "event: away\ndata: {}\n\n"
