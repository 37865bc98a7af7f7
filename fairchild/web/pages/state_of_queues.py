"""The queues as pages show them: how busy, how late, and whether anybody takes from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fairchild.client import Fairchild

HISTORY_MINUTES = 30


class Status(NamedTuple):
    """A word, and the state in whose colour it is said."""

    word: str
    state: str


@dataclass(frozen=True)
class Queue:
    """One queue."""

    name: str
    counts: Mapping[str, int]
    workers: int
    slots: int
    oldest_at: datetime | None
    oldest_seconds: float | None
    wait_p95: float | None
    history: Sequence[float]
    status: Status

    @property
    def running(self) -> int:
        return self.counts.get("running", 0)

    @property
    def available(self) -> int:
        return self.counts.get("available", 0)


def queue_rows(
    fc: Fairchild, workers: Iterable[Mapping[str, Any]], timings: Iterable[Mapping[str, Any]]
) -> list[Queue]:
    """All queues. ``timings``: those of the last hour, as the client gives them."""
    workers, timings = list(workers), list(timings)
    facts = fc.queues.list()
    ended = fc.ended_by_queue(HISTORY_MINUTES)
    rows = []
    for each in facts:
        taking = [w for w in workers if w["queues"] is None or each["name"] in w["queues"]]
        waits = [t["wait"]["p95"] for t in timings if t["queue"] == each["name"] and t["wait"]["p95"] is not None]
        rows.append(
            Queue(
                each["name"],
                each["counts"],
                len(taking),
                sum(w["concurrency"] for w in taking),
                each["oldest_at"],
                each["oldest_seconds"],
                max(waits, default=None),
                ended.get(each["name"], [0] * HISTORY_MINUTES),
                _status(each["paused"], len(taking), each["counts"]),
            )
        )
    return rows


def lost_queues(queues: Iterable[Queue]) -> list[Queue]:
    """Those with jobs to run and nobody to run them, the fullest first."""
    return sorted((each for each in queues if each.status.word == "no workers"), key=lambda each: -each.available)


def _status(paused: bool, workers: int, counts: Mapping[str, int]) -> Status:
    if paused:
        return Status("paused", "waiting")
    if workers:
        return Status("active", "completed")
    return Status("no workers", "failed") if counts.get("available") else Status("idle", "waiting")
