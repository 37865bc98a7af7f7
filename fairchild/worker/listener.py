"""LISTEN: wakes the claimer when another process has made something available. Nothing depends on it but speed.

Behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives. So each connection begins with a
notification that another one sends it: when that does not come, the listener says so and the worker polls.
"""

from __future__ import annotations

import logging
import os
import selectors
from collections.abc import Callable

from fairchild.db.connect import Database, Link
from fairchild.db.statement import quote
from fairchild.db.wake import CANCEL, SIGNAL

WAIT_SECONDS = 10.0
PROBE_SECONDS = 2.0
AGAIN_SECONDS = 60.0
# The server drops a listener that has gone away without a word: one that does not read holds up vacuum everywhere.
SESSION = "SET tcp_user_timeout = '30s'"

log = logging.getLogger("fairchild.worker")


class Listener:
    """The step of the listener's loop: waits on a connection of its own, and wakes whoever has something to do.

    ``beat``: jobs are to stop; ``signal``: a signal was sent.
    """

    def __init__(
        self,
        database: Database,
        channel: str,
        wake: Callable[[], None],
        beat: Callable[[], None],
        signal: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._channel = channel
        self._wake = wake
        self._beat = beat
        self._signal = signal
        self._link: Link | None = None
        self._selector: selectors.BaseSelector | None = None
        self._interrupted, self._interrupt = os.pipe()

    def step(self) -> float | None:
        """Wait for notifications for a while. After a reconnect something may have been missed, so that wakes too."""
        link = self._link
        try:
            if link is None or link.connection.closed:
                link = self._open()
                self._wake()
                if link is None:  # a pooler stays deaf; a direct connection was only slow to hear
                    return None if self._database.pooled else AGAIN_SECONDS
            assert self._selector is not None
            self._selector.select(WAIT_SECONDS)
            heard = link.heard()
            if CANCEL in heard:
                self._beat()
            if SIGNAL in heard:
                self._signal()
            if heard - {CANCEL, SIGNAL}:
                self._wake()
        except BaseException:
            self._close_link()
            raise
        return 0.0

    def _open(self) -> Link | None:
        """A connection on which notifications arrive, or None if they do not."""
        link = self._link = self._database.open("listener")  # kept at once: whatever fails from here on closes it
        if not self._database.pooled:
            link.script(SESSION)
        link.script("LISTEN " + quote(self._channel))
        with self._database.link() as other:  # a session's own notification comes back even through a pooler
            other.script("NOTIFY " + quote(self._channel))
        if list(link.connection.notifies(timeout=PROBE_SECONDS, stop_after=1)):
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._interrupted, selectors.EVENT_READ)
            self._selector.register(link.connection.fileno(), selectors.EVENT_READ)
            return link
        self._close_link()
        log.warning(
            "notifications do not arrive on this database connection (a pooler in transaction mode?); the worker polls "
            "instead, and starts jobs up to a poll interval later"
        )
        return None

    def interrupt(self) -> None:
        """End the wait that goes on, and all that follow: the loop is to stop."""
        os.write(self._interrupt, b"x")

    def close(self) -> None:
        """Close the connection. Called when the loop has ended."""
        self._close_link()
        os.close(self._interrupted)
        os.close(self._interrupt)

    def _close_link(self) -> None:
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._link is not None:
            self._link.connection.close()
            self._link = None
