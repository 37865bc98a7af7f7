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
    fc: Fairchild, workers: Iterable[Mapping[str, Any]], series: Mapping[str, Any], histories: int = 8
) -> list[Queue]:
    """All queues. ``series`` is a time series of the last hour; the busiest ``histories`` get one of their own."""
    workers = list(workers)
    facts = fc.queues.list()
    busiest = sorted(facts, key=lambda each: -_weight(each["counts"]))[:histories]
    ended = {each["name"]: _history(fc, each["name"]) for each in busiest}
    rows = []
    for each in facts:
        taking = [w for w in workers if w["queues"] is None or each["name"] in w["queues"]]
        waits = [
            t["wait"]["p95"] for t in series["tasks"] if t["queue"] == each["name"] and t["wait"]["p95"] is not None
        ]
        rows.append(
            Queue(
                each["name"],
                each["counts"],
                len(taking),
                sum(w["concurrency"] for w in taking),
                each["oldest_at"],
                each["oldest_seconds"],
                max(waits, default=None),
                ended.get(each["name"], ()),
                _status(each["paused"], len(taking), each["counts"]),
            )
        )
    return rows


def lost_queues(queues: Iterable[Queue]) -> list[Queue]:
    """Those with jobs to run and nobody to run them, the fullest first."""
    return sorted((each for each in queues if each.status.word == "no workers"), key=lambda each: -each.available)


def _weight(counts: Mapping[str, int]) -> int:
    return sum(counts.get(state, 0) for state in ("available", "running", "completed", "failed"))


def _history(fc: Fairchild, name: str) -> list[float]:
    minutes = fc.timeseries(HISTORY_MINUTES, queue=name)["minutes"]
    return [each["completed"] + each["failed"] + each["cancelled"] for each in minutes]


def _status(paused: bool, workers: int, counts: Mapping[str, int]) -> Status:
    if paused:
        return Status("paused", "waiting")
    if workers:
        return Status("active", "completed")
    return Status("no workers", "failed") if counts.get("available") else Status("idle", "waiting")
