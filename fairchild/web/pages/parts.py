"""The parts of a page that are read one by one, so that one that takes too long does not take the others with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fairchild.client import Fairchild
from fairchild.errors import TookTooLong

K = TypeVar("K")
T = TypeVar("T")
U = TypeVar("U")


class Parts:
    """Reads of one page; ``late`` names what had too little time.

    Each gets half of what the request has left, and a quarter once one was late: others will wait for the same.

    A template shows a part that is late as such: ``ui.fragment("queues", late="queues" in late)``.
    """

    def __init__(self, fc: Fairchild) -> None:
        self._fc = fc
        self.late: set[str] = set()

    def read(self, name: str, question: Callable[[], T], instead: U, *, needs: str = "") -> T | U:
        """The answer, or ``instead`` if it does not come in time, or if a part that it ``needs`` is late."""
        if needs in self.late:
            self.late.add(name)
            return instead
        left = self._fc.time_left()
        try:
            if left is None:
                return question()
            with self._fc.reading_within(left / (4 if self.late else 2)):
                return question()
        except TookTooLong:
            self.late.add(name)
            return instead

    def rows(self, name: str, question: Callable[[], list[T]], *, needs: str = "") -> list[T]:
        """The same of a list: none if it does not come in time."""
        none: list[T] = []
        return self.read(name, question, none, needs=needs)

    def by_key(self, name: str, question: Callable[[], dict[K, T]]) -> dict[K, T]:
        """The same of a dict."""
        none: dict[K, T] = {}
        return self.read(name, question, none)
