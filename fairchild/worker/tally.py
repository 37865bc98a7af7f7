"""How long jobs waited and ran, as one worker has seen it since it was last asked: by queue and task, in buckets.

It is written with the worker's beats, away from the claim and the finish. What a worker has not written when it is
killed is missing in the history; how many jobs ended how is counted with their ends and never is.
"""

from __future__ import annotations

import threading

from fairchild.rules.histogram import add, empty, note

Counts = dict[tuple[str, str], tuple[list[int], list[int]]]


class Tally:
    """``note`` from any thread; ``take`` gives all since the last time, and ``put_back`` what could not be written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {}

    def note(self, queue: str, task: str, waited: float, ran: float) -> None:
        """One attempt: seconds from available to claimed, and in the task."""
        with self._lock:
            counts = self._counts.get((queue, task))
            if counts is None:
                counts = self._counts[queue, task] = (empty(), empty())
            note(counts[0], waited)
            note(counts[1], ran)

    def take(self) -> Counts:
        """(waits, runs) by (queue, task)."""
        with self._lock:
            taken, self._counts = self._counts, {}
        return taken

    def put_back(self, counts: Counts) -> None:
        """Note again what was taken and could not be written."""
        with self._lock:
            for key, (waits, runs) in counts.items():
                own = self._counts.setdefault(key, (empty(), empty()))
                add(own[0], waits)
                add(own[1], runs)
