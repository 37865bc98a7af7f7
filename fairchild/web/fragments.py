"""Answers that many tabs ask for at once are made once: shared for a second, by whoever may see the same."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from fairchild import clock

T = TypeVar("T")

_TIMES = re.compile(r"(<time[^>]*>)[^<]*")


def digest(html: str) -> str:
    """A tag for a fragment. What a clock alone changes does not count: the text of ``<time>`` elements."""
    return hashlib.sha256(_TIMES.sub(r"\1", html).encode()).hexdigest()[:16]


class Shared(Generic[T]):
    """Values by key, each made by one thread at a time and kept for ``seconds``; at most ``most`` of them.

    An error is not kept: each who waited tries for themselves.
    """

    def __init__(self, seconds: float, most: int = 256) -> None:
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``, made now if none is fresh."""
        with self._lock:
            found = self._values.get(key)
            if found is not None and found[0] > clock.now():
                return found[1]
            own = self._making.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                found = self._values.get(key)
                if found is not None and found[0] > clock.now():
                    return found[1]
            try:
                value = make()
                with self._lock:
                    self._values[key] = (clock.now() + self._seconds, value)
                    self._values.move_to_end(key)
                    while len(self._values) > self._most:
                        self._values.popitem(last=False)
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)
