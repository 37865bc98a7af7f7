"""How long the database may take for what is being done: a request of a page, say.

The server is told, and breaks off what takes longer or waits for a lock. But a server that is frozen, or behind a
network that loses everything, breaks off nothing, so the connection is given up a moment later, and another one takes
its place. Until a commit has been sent that undoes the transaction; afterwards nobody knows.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg

from fairchild import clock

GRACE_SECONDS = 0.5
"""That a server gets beyond the deadline to say that it has broken something off."""
CONNECT_SECONDS = 2
"""To connect, for whoever has a deadline; less is taken as this."""
LOCK_SECONDS = 1.0
"""For a lock that somebody else holds."""


class Deadline:
    """Until when, by ``clock.now()``.

    ``sent``: the commit of something written was sent since, so something may have been changed. ``reads``: nothing is
    written.
    """

    def __init__(self, seconds: float, *, reads: bool = False) -> None:
        self.seconds = seconds
        self.reads = reads
        self.until = clock.now() + seconds
        self.sent = False

    @property
    def left(self) -> float:
        return self.until - clock.now()


current: ContextVar[Deadline | None] = ContextVar("fairchild_deadline", default=None)
"""Of what this thread does now. Every connection that it takes keeps to it."""


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """What is done in this block, in this thread, gets so many seconds in all."""
    made = Deadline(seconds)
    before = current.set(made)
    try:
        yield made
    finally:
        current.reset(before)


class OutOfTime(psycopg.OperationalError):
    """The server did not answer by the deadline, and the connection was given up."""


class Timed(psycopg.Connection[Any]):
    """A connection that waits for its server no longer than ``until``, if that is set."""

    until: float | None = None

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if self.until is None:
            return super().wait(gen, *args, **kwargs)
        try:
            wanted = next(gen)
            with selectors.DefaultSelector() as selector:
                selector.register(self.pgconn.socket, wanted)
                while True:
                    left = self.until - clock.now()
                    ready = selector.select(max(left, 0.0))
                    if ready:
                        wants = gen.send(ready[0][1])
                        if wants != wanted:
                            wanted = wants
                            selector.modify(self.pgconn.socket, wanted)
                    elif left <= 0:
                        break
        except StopIteration as end:
            return end.value
        self.close()
        raise OutOfTime("the server did not answer in time; the connection was given up")
