"""What every test of this repository gets. The databases come from the package's own pytest plugin."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually

# A shell that starts the tests in the background has them ignore Ctrl-C, and all programs that they start inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_thread_of_ours_outlives_its_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    def left_over() -> list[str]:
        return [
            thread.name
            for thread in threading.enumerate()
            if thread.name.startswith("fairchild-") and thread not in before
        ]

    eventually(lambda: not left_over(), timeout=5.0, what=left_over)
