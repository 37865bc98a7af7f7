"""Waiting for a fact, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(fact: Callable[[], T], timeout: float = 10.0, *, what: Callable[[], object] | None = None) -> T:
    """Ask ``fact`` again and again until it is true, and return its value.

    After ``timeout`` seconds it fails with the last value, or with what ``what`` says. An AssertionError of ``fact``
    counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        failure: AssertionError | None = None
        value: T | None = None
        try:
            value = fact()
            if value:
                return value
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            if failure is not None:
                raise failure
            last = value if what is None else what()
            raise AssertionError(f"not within {timeout} seconds; the last value was {last!r}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
