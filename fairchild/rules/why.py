"""What the facts about a job mean: which of them keep it from running, and how to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol
from uuid import UUID


class JobFacts(Protocol):
    """What must be known; see ``fairchild.db.explain.Facts``."""

    @property
    def state(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def due_seconds(self) -> float | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def clean(self) -> bool: ...
    @property
    def deps(self) -> int | None: ...
    @property
    def children(self) -> int | None: ...
    @property
    def ran(self) -> bool | None: ...
    @property
    def upstreams(self) -> Sequence[UUID]: ...
    @property
    def open_children(self) -> Sequence[UUID]: ...
    @property
    def active(self) -> bool: ...
    @property
    def paused_at(self) -> datetime | None: ...
    @property
    def paused_by(self) -> str | None: ...
    @property
    def takers(self) -> int: ...
    @property
    def knowing(self) -> int: ...
    @property
    def at_work(self) -> int: ...
    @property
    def ahead(self) -> int: ...
    @property
    def worker(self) -> UUID | None: ...
    @property
    def worker_name(self) -> str | None: ...
    @property
    def worker_host(self) -> str | None: ...
    @property
    def beat_seconds(self) -> float | None: ...


@dataclass(frozen=True)
class Reason:
    """One thing that matters to whether a job runs. ``blocks``: it keeps every claim from taking it."""

    code: str
    text: str
    blocks: bool
    jobs: tuple[UUID, ...] = ()
    queue: str | None = None
    """The queue that it speaks of."""
    worker: UUID | None = None


def reasons(facts: JobFacts) -> list[Reason]:
    """All that keeps the job from running, then what does not. Without a blocker the next claim takes it."""
    found = [*_place(facts), *_way(facts)]
    return sorted(found, key=lambda reason: not reason.blocks)


def _place(facts: JobFacts) -> list[Reason]:
    """What its state says."""
    match facts.state:
        case "completed" | "failed" | "cancelled":
            why = f" ({facts.reason})" if facts.reason else ""
            return [Reason("ended", f"it has ended: {facts.state}{why}", True)]
        case "running":
            return [Reason("running", _running(facts), True, worker=facts.worker)]
        case "scheduled":
            return [Reason("not_due", _due(facts), True)]
        case "waiting":
            return _waits(facts)
        case _:
            if facts.ahead == 0:
                text = "it is the first of its queue"
            elif facts.ahead == 1:
                text = "1 job of its queue comes before it"
            else:
                text = f"{facts.ahead:,}{'+' if facts.ahead >= 10_000 else ''} jobs of its queue come before it"
            return [Reason("available", text, False, queue=facts.queue)]


def _running(facts: JobFacts) -> str:
    if facts.worker_name is None:
        return "a worker is running it"
    heard = "" if facts.beat_seconds is None else f", last heard of {max(facts.beat_seconds, 0):.0f} s ago"
    return f"the worker {facts.worker_name} on {facts.worker_host} is running it{heard}"


def _due(facts: JobFacts) -> str:
    again = "" if facts.clean else f" (attempt {facts.attempt} went wrong, and the next is put off)"
    left = facts.due_seconds or 0.0
    return f"it is due in {_span(left)}{again}" if left > 0 else f"it is due and about to become available{again}"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _waits(facts: JobFacts) -> list[Reason]:
    found = []
    if facts.deps or facts.upstreams:
        what = "the value it returned" if facts.ran else "jobs that it depends on"
        text = f"it waits for {what}: {_open(max(facts.deps or 0, len(facts.upstreams)))}"
        found.append(Reason("upstream", text, True, tuple(facts.upstreams)))
    if facts.children:
        text = f"it has run and waits for its children: {_open(facts.children)}"
        found.append(Reason("children", text, True, tuple(facts.open_children)))
    return found or [Reason("settling", "it waits for nothing more and is about to be ended", True)]


def _open(count: int) -> str:
    return "1 has not ended" if count == 1 else f"{count:,} have not ended"


def _paused(facts: JobFacts) -> str:
    since = (
        "" if facts.paused_at is None else f" since {facts.paused_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    )
    return f"the queue {facts.queue} is paused{since}{f' by {facts.paused_by}' if facts.paused_by else ''}"


def _way(facts: JobFacts) -> list[Reason]:
    """What stands between a job and a worker, for a job that may still run."""
    if facts.state in ("completed", "failed", "cancelled", "running") or facts.ran:
        return []
    found = [
        Reason("queue_active", f"the queue {facts.queue} is not paused", False, queue=facts.queue)
        if facts.active
        else Reason("queue_paused", _paused(facts), True, queue=facts.queue)
    ]
    if facts.takers:
        who = "1 live worker knows" if facts.takers == 1 else f"{facts.takers:,} live workers know"
        takes = "takes" if facts.takers == 1 else "take"
        return [*found, Reason("workers", f"{who} {facts.task} and {takes} from {facts.queue}", False)]
    if not facts.at_work:
        text = "no worker is at work"
    elif not facts.knowing:
        of = (
            "the one live worker does not know"
            if facts.at_work == 1
            else f"none of {facts.at_work:,} live workers knows"
        )
        text = f"{of} the task {facts.task}"
    elif facts.knowing == 1:
        text = f"the one live worker that knows {facts.task} does not take from the queue {facts.queue}"
    else:
        text = f"none of {facts.knowing:,} live workers that know {facts.task} takes from the queue {facts.queue}"
    return [*found, Reason("no_worker", text, True)]
