"""The queues as pages show them: how busy, how late, and whether anybody takes from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fairchild.client import Fairchild
from fairchild.web.pages.state_of_workers import at_work

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
    """The jobs of it that could run at once now: those that do, and threads of its workers that are free."""
    shared: int
    """Threads of its workers that run jobs of other queues."""
    paused_at: datetime | None
    paused_by: str | None
    retrying: int
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
    fc: Fairchild,
    workers: Iterable[Mapping[str, Any]],
    timings: Iterable[Mapping[str, Any]],
    retrying: Mapping[str, int] | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> list[Queue]:
    """All queues. ``timings``: those of the last hour, as the client gives them; ``retrying``, ``counts``: by queue."""
    workers, timings, retrying = at_work(workers), list(timings), retrying or {}
    facts = fc.queues.list(counts)
    ended = fc.ended_by_queue(HISTORY_MINUTES)
    rows = []
    for each in facts:
        taking = takers(workers, each["name"])
        running = each["counts"].get("running", 0)
        waits = [t["wait"]["p95"] for t in timings if t["queue"] == each["name"] and t["wait"]["p95"] is not None]
        rows.append(
            Queue(
                each["name"],
                each["counts"],
                len(taking),
                running + sum(_free(w, each["name"]) for w in taking),
                sum(w["running"] - w["running_by_queue"].get(each["name"], 0) for w in taking),
                each["paused_at"],
                each["paused_by"],
                retrying.get(each["name"], 0),
                each["oldest_at"],
                each["oldest_seconds"],
                max(waits, default=None),
                ended.get(each["name"], [0] * HISTORY_MINUTES),
                _status(each["paused"], len(taking), each["counts"]),
            )
        )
    return rows


def takers(workers: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Those of them that take jobs from a queue."""
    return [each for each in at_work(workers) if _serves(each, name)]


def _serves(worker: Mapping[str, Any], name: str) -> bool:
    if worker["metadata"].get("kind") == "consumer":
        return False
    return worker["queues"] is None or name in worker["queues"]


def _free(worker: Mapping[str, Any], name: str) -> int:
    """How many more jobs of a queue a worker could start now."""
    if worker["state"] != "running":
        return 0
    free: int = worker["concurrency"] - worker["running"]
    most = worker["metadata"].get("slots", {}).get(name)
    return max(free if most is None else min(free, most - worker["running_by_queue"].get(name, 0)), 0)


def lost_queues(queues: Iterable[Queue]) -> list[Queue]:
    """Those with jobs to run and nobody to run them, the fullest first."""
    return sorted((each for each in queues if each.status.word == "no workers"), key=lambda each: -each.available)


def _status(paused: bool, workers: int, counts: Mapping[str, int]) -> Status:
    if paused:
        return Status("paused", "waiting")
    if workers:
        return Status("active", "completed")
    return Status("no workers", "failed") if counts.get("available") else Status("idle", "waiting")
