"""What the facts about a job mean: which of them keep it from running, and how to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    def takers(self) -> int: ...
    @property
    def knowing(self) -> int: ...
    @property
    def at_work(self) -> int: ...
    @property
    def ahead(self) -> int: ...


@dataclass(frozen=True)
class Reason:
    """One thing that matters to whether a job runs. ``blocks``: it keeps every claim from taking it."""

    code: str
    text: str
    blocks: bool
    jobs: tuple[UUID, ...] = ()


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
            return [Reason("running", "a worker is running it", True)]
        case "scheduled":
            return [Reason("not_due", _due(facts), True)]
        case "waiting":
            return _waits(facts)
        case _:
            ahead = f"{facts.ahead:,}{'+' if facts.ahead >= 10_000 else ''}"
            text = "it is the first of its queue" if facts.ahead == 0 else f"{ahead} jobs of its queue come before it"
            return [Reason("available", text, False)]


def _due(facts: JobFacts) -> str:
    again = "" if facts.clean else f" (attempt {facts.attempt} went wrong, and the next is put off)"
    left = facts.due_seconds or 0.0
    return f"it is due in {left:.0f} s{again}" if left > 0 else f"it is due and about to become available{again}"


def _waits(facts: JobFacts) -> list[Reason]:
    found = []
    if facts.deps or facts.upstreams:
        what = "the value it returned" if facts.ran else "jobs that it depends on"
        text = f"it waits for {what}: {max(facts.deps or 0, len(facts.upstreams)):,} have not ended"
        found.append(Reason("upstream", text, True, tuple(facts.upstreams)))
    if facts.children:
        text = f"it has run and waits for its children: {facts.children:,} have not ended"
        found.append(Reason("children", text, True, tuple(facts.open_children)))
    return found or [Reason("settling", "it waits for nothing more and is about to be ended", True)]


def _way(facts: JobFacts) -> list[Reason]:
    """What stands between a job and a worker, for a job that may still run."""
    if facts.state in ("completed", "failed", "cancelled", "running") or facts.ran:
        return []
    found = [
        Reason("queue_active", f"the queue {facts.queue} is not paused", False)
        if facts.active
        else Reason("queue_paused", f"the queue {facts.queue} is paused", True)
    ]
    if facts.takers:
        text = f"{facts.takers} live workers know {facts.task} and take from {facts.queue}"
        return [*found, Reason("workers", text, False)]
    if not facts.at_work:
        text = "no worker is at work"
    elif not facts.knowing:
        text = f"none of {facts.at_work} live workers knows the task {facts.task}"
    else:
        text = f"none of {facts.knowing} live workers that know {facts.task} takes from the queue {facts.queue}"
    return [*found, Reason("no_worker", text, True)]
