"""LISTEN: wakes the claimer when another process has made something available. Nothing depends on it but speed."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable

from fairchild.db.connect import Database, Link
from fairchild.db.statement import quote

WAIT_SECONDS = 10.0
MANY = 1000


class Listener:
    """The step of the listener's loop: waits on a connection of its own, and wakes."""

    def __init__(self, database: Database, channel: str, wake: Callable[[], None]) -> None:
        self._database = database
        self._channel = channel
        self._wake = wake
        self._link: Link | None = None
        self._interrupted, self._interrupt = os.pipe()

    def step(self) -> float:
        """Wait for notifications for a while. After a reconnect something may have been missed, so that wakes too."""
        link = self._link
        try:
            if link is None or link.connection.closed:
                link = self._link = self._database.open("listener")
                link.script("LISTEN " + quote(self._channel))
                self._wake()
            with selectors.DefaultSelector() as selector:
                selector.register(self._interrupted, selectors.EVENT_READ)
                selector.register(link.connection.fileno(), selectors.EVENT_READ)
                selector.select(WAIT_SECONDS)
            # Reads what has come, if anything; raises if the connection is gone.
            if list(link.connection.notifies(timeout=0, stop_after=MANY)):
                self._wake()
        except BaseException:
            self._close_link()
            raise
        return 0.0

    def interrupt(self) -> None:
        """End the wait that goes on, and all that follow: the loop is to stop."""
        os.write(self._interrupt, b"x")

    def close(self) -> None:
        """Close the connection. Called when the loop has ended."""
        self._close_link()
        os.close(self._interrupted)
        os.close(self._interrupt)

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.connection.close()
            self._link = None
