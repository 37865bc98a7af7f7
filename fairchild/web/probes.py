"""``/livez`` and ``/readyz``, for whoever restarts processes and sends requests to them. They say ok or not, no more.

They are answered to this machine, whatever ``authorize`` says, and with ``probes=True`` to everybody.
"""

from __future__ import annotations

from typing import Any

from fairchild.errors import StoreError
from fairchild.web.auth import PROBE
from fairchild.web.fragments import Shared
from fairchild.web.operations import Api
from fairchild.web.shapes import MAX_AGE, OK

READY_SECONDS = 1.0
"""For so long an answer holds for all: a look makes connections of its own, and everybody may ask."""


def add_to(api: Api) -> None:
    """Add the probes."""
    ready: Shared[bool] = Shared(READY_SECONDS, most=1)
    oldest: Shared[float | None] = Shared(READY_SECONDS, most=1)

    @api.add("GET", "/livez", PROBE, answer=OK)
    def livez() -> Any:
        """Whether this process answers; the database is not asked."""
        return {"ok": True}

    @api.add("GET", "/readyz", PROBE, query=MAX_AGE, answer=OK, also={503: OK})
    def readyz(query: dict[str, Any]) -> Any:
        """Whether the database answers and its tables are those of this release.

        With ``max_age`` also whether no job has been available for more seconds than that.
        """
        good = ready.get("ready", lambda: all(each["ok"] for each in api.fc.check_database().values()))
        if good and "max_age" in query:
            try:
                waited = oldest.get("oldest", api.fc.oldest_wait)
            except StoreError:
                good = False
            else:
                good = waited is None or waited <= query["max_age"]
        return {"ok": good}, 200 if good else 503
