"""``/api/events``: what happens to jobs, for those to whom nothing can be streamed: they ask again and again."""

from __future__ import annotations

import threading
from typing import Any

from fairchild.errors import UsageError
from fairchild.web import shapes
from fairchild.web.auth import VIEW
from fairchild.web.operations import Api, Schema, invalid
from fairchild.web.shapes import ID, NAME

WAIT_SECONDS = 1.2
WAITERS = 2
"""Of a process, since each holds a thread of the host. Others are told what there is at once."""
QUERY: dict[str, Schema] = {
    "after": {"type": "string", "minLength": 1, "maxLength": 2000},
    "events": {"type": "string", "minLength": 1, "maxLength": 500},
    "queue": NAME,
    "job": ID,
}


def add_to(api: Api) -> None:
    """Add it."""
    waiters = threading.BoundedSemaphore(WAITERS)

    @api.add("GET", "/api/events", VIEW, query=QUERY, answer=shapes.EVENTS)
    def poll_events(query: dict[str, Any]) -> Any:
        """What has happened since the ``after`` of the answer before; if nothing has, waits up to 1.2 seconds for it.

        Without ``after`` it only says where to begin. ``resync``: look at what is of interest anew. ``retry``: for how
        many seconds not to ask again.
        """
        events = query.get("events")
        more = {"events": events and events.split(","), "queue": query.get("queue"), "job": query.get("job")}
        waits = waiters.acquire(blocking=False)
        try:
            found = api.fc.events_after(query.get("after"), WAIT_SECONDS if waits else 0.0, **more)
        except UsageError as error:
            raise invalid([("?after" if "after" in str(error) else "?events", str(error))]) from None
        finally:
            if waits:
                waiters.release()
        return {**found, "retry": 0 if waits or found["events"] else 1}
