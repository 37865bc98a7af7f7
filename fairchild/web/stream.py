"""``/api/stream``: what happens to jobs, as server-sent events, to a few at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from flask import Response, request

from fairchild.errors import StoreError, UsageError
from fairchild.web.auth import VIEW, refuse_foreign
from fairchild.web.operations import Api, Schema
from fairchild.web.problems import Problem
from fairchild.web.shapes import ID, NAME, TEXT

SLOTS = 4
LASTS_SECONDS = 600.0
"""Then the stream ends and the client comes again with what it has seen, perhaps elsewhere."""
LOOK_SECONDS = 5.0
"""For one look; a stream must not wait for a frozen database with a thread of the host."""
QUIET_POLLS = 20
"""Empty polls after which a comment keeps the connection, and shows whether the other side is there."""
AFTER: dict[str, Schema] = {
    "after": {"type": "integer", "minimum": 0},
    "events": {"type": "string", "minLength": 1, "maxLength": 500},
    "queue": NAME,
    "job": ID,
}
"""The query of streams: after which event, and which of them: names with commas between, of what queue, of what job."""

Answer = TypeVar("Answer", bound=Response)


class Slots:
    """How many streams there may be at once, of all kinds: each holds a thread of the host while it is open."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = threading.BoundedSemaphore(number)

    def take(self, answer: Answer) -> Answer:
        """The answer, which has a slot until it is closed. Raises Problem 503 when all are taken."""
        if not self._free.acquire(blocking=False):
            raise Problem(503, f"all {self._number} streams are in use; come again, or ask for what you need instead")
        answer.call_on_close(self._free.release)
        return answer


def add_to(api: Api, slots: Slots) -> None:
    """Add the stream."""

    @api.add("GET", "/api/stream", VIEW, query=AFTER, media="text/event-stream", answer=TEXT)
    def stream(query: dict[str, Any]) -> Any:
        """What happens to jobs, as server-sent events; Last-Event-ID, or ``after``, resumes."""
        refuse_foreign()  # a page of another site, even one that only links here, would hold a thread
        messages = _messages(events_after(api, query))
        return slots.take(Response(messages, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"}))


def events_after(api: Api, query: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The events that the request at hand has not seen, as ``fc.listen`` gives them. Raises Problem 422."""
    given = request.headers.get("Last-Event-ID")
    if given is not None and not (given.isascii() and given.isdigit() and len(given) < 19):
        raise Problem(422, "Last-Event-ID is none of this stream")
    after, events = query.get("after") if given is None else int(given), query.get("events")
    try:
        found = api.fc.listen(
            after=after, timeout=LASTS_SECONDS, events=events and events.split(","), queue=query.get("queue"),
            job=query.get("job"),
        )  # fmt: skip
    except UsageError as error:
        raise Problem(422, str(error)) from None
    return _in_time(api, found)


def _in_time(api: Api, events: Iterator[dict[str, Any] | None]) -> Iterator[dict[str, Any] | None]:
    while True:
        try:
            with api.fc.reading_within(LOOK_SECONDS):
                event = next(events)
        except StopIteration:
            return
        yield event


def _messages(events: Iterator[dict[str, Any] | None]) -> Iterator[str]:
    yield "retry: 2000\n\n"
    quiet = 0
    try:
        for event in events:
            if event is not None:
                quiet = 0
                yield f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
                continue
            quiet += 1
            if quiet % QUIET_POLLS == 0:
                yield ": here\n\n"
    except (StoreError, UsageError):
        yield "event: away\ndata: {}\n\n"
