"""What the jobs of a measurement leave behind: how many have started, when, and how long each was on its way.

Each worker process maps a file of its own and counts in it, so that watching a drain costs the database nothing. Times
are of the monotonic clock, which all processes of one machine share. Nothing but the standard library is used here:
what is compared with fairchild counts by the same code, in environments where fairchild is not installed.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CAPACITY = 8192
"""So many delays are kept for each process."""

_HEAD = struct.Struct("<QQdd")  # jobs started, delays kept, first start, latest start
_DELAY = struct.Struct("<d")


class Tally:
    """The counter of this process, in ``folder``. Safe to share between threads."""

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / f"{os.getpid()}.tally"
        path.write_bytes(bytes(_HEAD.size + CAPACITY * _DELAY.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._lock = threading.Lock()
        self._jobs = 0
        self._delays = 0
        self._first = 0.0

    def hit(self, sent: float = 0.0) -> None:
        """A job starts. ``sent``: when it was enqueued, if its delay is wanted."""
        now = time.monotonic()
        with self._lock:
            if self._jobs == 0:
                self._first = now
            self._jobs += 1
            if sent and self._delays < CAPACITY:
                _DELAY.pack_into(self._map, _HEAD.size + self._delays * _DELAY.size, now - sent)
                self._delays += 1
            _HEAD.pack_into(self._map, 0, self._jobs, self._delays, self._first, now)


@dataclass(frozen=True)
class Counted:
    """All processes together; times are those of the monotonic clock, 0 when no job has started."""

    jobs: int
    first: float
    latest: float


def read(folder: str | Path) -> Counted:
    """What has been counted in ``folder`` so far."""
    heads = [head for head, _ in _open(folder, _HEAD.size) if head[0]]
    if not heads:
        return Counted(0, 0.0, 0.0)
    return Counted(sum(head[0] for head in heads), min(head[2] for head in heads), max(head[3] for head in heads))


def delays(folder: str | Path) -> list[float]:
    """The delays counted in ``folder`` so far, in seconds, in the order of their starts in each process."""
    found: list[float] = []
    for head, raw in _open(folder, _HEAD.size + CAPACITY * _DELAY.size):
        found.extend(_DELAY.unpack_from(raw, _HEAD.size + at * _DELAY.size)[0] for at in range(head[1]))
    return found


def _open(folder: str | Path, size: int) -> Iterator[tuple[tuple[int, int, float, float], bytes]]:
    for path in Path(folder).glob("*.tally"):
        with path.open("rb") as file:
            raw = file.read(size)
        if len(raw) == size:
            jobs, kept, first, latest = _HEAD.unpack_from(raw)
            yield (jobs, kept, first, latest), raw
