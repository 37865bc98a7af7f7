"""LISTEN: wakes the claimer when another process has made something available. Nothing depends on it but speed.

Behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives. So each connection begins with a
notification that another one sends it: when that does not come, the listener says so and the worker polls.

A connection that is silent may have been cut without a word, or lead to a server that is not the primary any more. So
after ten seconds without a notification, of whomever, one is sent again, by way of the connections that write. When it
does not come either, the listener connects anew.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Callable

from fairchild.db.connect import Database, Link
from fairchild.db.statement import quote
from fairchild.db.wake import BEAT, PROBE, SIGNAL
from fairchild.errors import DatabaseUnavailable

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
        self._heard_at = 0.0
        self._ending = False
        self._interrupted, self._interrupt = os.pipe()

    def step(self) -> float | None:
        """Wait for notifications for a while. After a reconnect something may have been missed, so that wakes too."""
        try:
            if self._link is None or self._link.connection.closed:
                hears = self._open()
                self._wake()
                if not hears:  # a pooler stays deaf; a direct connection was only slow to hear
                    return None if self._database.pooled else AGAIN_SECONDS
            heard = self._hear(self._heard_at + WAIT_SECONDS)
            if not heard:
                heard = self._probe()
                if not heard and not self._ending:
                    raise DatabaseUnavailable(
                        "notifications arrive no more on the connection that listens; the worker polls meanwhile"
                    )
            if BEAT in heard:
                self._beat()
            if SIGNAL in heard:
                self._signal()
            if heard - {BEAT, PROBE, SIGNAL}:
                self._wake()
        except BaseException:
            self._close_link()
            raise
        return 0.0

    def _open(self) -> bool:
        """Listen on a new connection; whether notifications arrive on it."""
        link = self._link = self._database.open("listener")  # kept at once: whatever fails from here on closes it
        if not self._database.pooled:
            link.script(SESSION)
        link.script("LISTEN " + quote(self._channel))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._interrupted, selectors.EVENT_READ)
        self._selector.register(link.connection.fileno(), selectors.EVENT_READ)
        if self._probe() or self._ending:
            return True
        self._close_link()
        log.warning(
            "notifications do not arrive on this database connection (a pooler in transaction mode?); the worker polls "
            "instead, and starts jobs up to a poll interval later"
        )
        return False

    def _probe(self) -> set[str]:
        """Have a notification sent, and give what arrives; nothing if none does."""
        if self._ending:
            return set()
        with self._database.link() as other:  # a session's own notification comes back even through a pooler
            other.script(f"NOTIFY {quote(self._channel)}, '{PROBE}'")
        return self._hear(time.monotonic() + PROBE_SECONDS)

    def _hear(self, until: float) -> set[str]:
        """The first notifications that arrive before a moment."""
        assert self._selector is not None
        assert self._link is not None
        while True:
            left = until - time.monotonic()
            self._selector.select(max(left, 0.0))
            if heard := self._link.heard():
                self._heard_at = time.monotonic()
            if heard or left <= 0 or self._ending:
                return heard

    def interrupt(self) -> None:
        """End the wait that goes on, and all that follow: the loop is to stop."""
        self._ending = True
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
