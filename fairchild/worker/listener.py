"""LISTEN: wakes the claimer when another process has made something available. Nothing depends on it but speed."""

from __future__ import annotations

from collections.abc import Callable

from fairchild.db.connect import Database, Link
from fairchild.db.statement import quote

WAIT_SECONDS = 0.5


class Listener:
    """The step of the listener's loop: waits on a connection of its own, and wakes."""

    def __init__(self, database: Database, channel: str, wake: Callable[[], None]) -> None:
        self._database = database
        self._channel = channel
        self._wake = wake
        self._link: Link | None = None

    def step(self) -> float:
        """Wait for notifications for a while. After a reconnect something may have been missed, so that wakes too."""
        link = self._link
        try:
            if link is None or link.connection.closed:
                link = self._link = self._database.open("listener")
                link.script("LISTEN " + quote(self._channel))
                self._wake()
            for _ in link.connection.notifies(timeout=WAIT_SECONDS, stop_after=1):
                self._wake()
        except BaseException:
            self.close()
            raise
        return 0.0

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.connection.close()
            self._link = None
