"""Answers that many tabs ask for at once are made once: shared for a second, by whoever may see the same."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from fairchild import clock

T = TypeVar("T")

_TIMES = re.compile(r"(<time[^>]*>)[^<]*")


def digest(html: str) -> str:
    """A tag for a fragment. What a clock alone changes does not count: the text of ``<time>`` elements."""
    return hashlib.sha256(_TIMES.sub(r"\1", html).encode()).hexdigest()[:16]


class Shared(Generic[T]):
    """Values by key, each made by one thread at a time and kept for ``seconds``; at most ``most`` of them.

    With ``sign``, a value with the sign of the one before it is kept for twice as long: what stands still costs half.

    An error is not kept, but whoever waited for it gets it too: were each to try for themselves, one after another,
    the last of many would hold a thread for as long as all of them together.
    """

    def __init__(self, seconds: float, most: int = 256, sign: Callable[[T], object] | None = None) -> None:
        self._seconds = seconds
        self._sign = sign
        self._most = most
        self.waiting = 0
        """Threads that wait for what another makes."""
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._making: dict[Hashable, Future[T]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``, made now if none is fresh."""
        with self._lock:
            found = self._values.get(key)
            if found is not None and found[0] > clock.now():
                return found[1]
            making = self._making.get(key)
            own: Future[T] = Future()
            if making is None:
                self._making[key] = own
            else:
                self.waiting += 1
        return self._make(key, own, make) if making is None else self._wait(making)

    def _wait(self, making: Future[T]) -> T:
        try:
            return making.result()
        finally:
            with self._lock:
                self.waiting -= 1

    def _make(self, key: Hashable, own: Future[T], make: Callable[[], T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            own.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            before = self._values.get(key)
            same = before is not None and self._sign is not None and self._sign(before[1]) == self._sign(value)
            self._values[key] = (clock.now() + self._seconds * (2 if same else 1), value)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        own.set_result(value)
        return value
