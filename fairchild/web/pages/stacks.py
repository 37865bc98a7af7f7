"""Where a worker's threads are: asked for by a POST, shown when the answer is there.

A page never waits for the answer: the redirect leads back to it, and its live fragment shows what has come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.workers import Stacks, ThreadStack
from fairchild.errors import UnknownWorker
from fairchild.job import Job, JobState
from fairchild.web import words
from fairchild.web.pages.site import Site
from fairchild.web.problems import Problem

RIGHT = "workers:control"
OLD = timedelta(seconds=30)
SILENT = timedelta(seconds=5)
KEPT = timedelta(hours=1)
"""An answer is shown for so long."""


@dataclass(frozen=True)
class Thread:
    """A thread as it is shown: its frames in parts, those of libraries folded."""

    stack: ThreadStack
    parts: tuple[tuple[words.Frame, ...] | str, ...]
    at: words.Frame | None
    """Its innermost frame in the project."""


@dataclass(frozen=True)
class Seen:
    """What was asked, and what is known."""

    asked_at: datetime
    at: datetime | None
    waits: bool
    """The answer to the last question has not come."""
    silent: bool
    """And it should have."""
    old: bool
    threads: list[Thread]


def ask(site: Site, worker: UUID) -> None:
    """Ask a worker. Raises Problem 409 if it is not at work."""
    try:
        site.fc.workers.ask_stacks(worker)
    except UnknownWorker:
        raise Problem(409, "this worker is not at work any more; there is nobody to ask") from None
    site.audit("workers:stacks", str(worker), 1)


def of_worker(site: Site, worker: UUID) -> Seen | None:
    """What a worker has said of late, for those who may ask it."""
    if site.gate.read_only or not site.gate.allows(RIGHT):
        return None
    found = site.fc.workers.last_stacks([worker])
    return _seen(site, found[0], found[0].threads) if found else None


def of_job(site: Site, job: Job) -> Seen | None:
    """The same of the thread that runs a job; nothing of earlier attempts."""
    if job.state is not JobState.RUNNING or job.worker is None or job.attempted_at is None:
        return None
    if site.gate.read_only or not site.gate.allows(RIGHT):
        return None
    found = site.fc.workers.last_stacks([job.worker])
    if not found or found[0].asked_at < job.attempted_at:
        return None
    mine = found[0].of_job(job.id)
    return _seen(site, found[0], [mine] if mine is not None and mine.attempt == job.attempt else [])


def add_to(site: Site) -> None:
    """Add what asks, from the page of a worker and from that of a job."""

    @site.page("/workers/<id>/stacks", RIGHT, methods=("POST",))
    def page_worker_stacks(id: str) -> AnyResponse:
        try:
            worker = UUID(id)
        except ValueError:
            raise Problem(404, f"{id[:60]!r} is not the id of a worker") from None
        ask(site, worker)
        return site.done("asked", 1, "worker", id=worker, _anchor="stacks")

    @site.page("/jobs/<id>/stacks", RIGHT, methods=("POST",))
    def page_job_stacks(id: str) -> AnyResponse:
        try:
            job = site.fc.get_job(UUID(id))
        except ValueError:
            job = None
        if job is None:
            raise Problem(404, "there is no such job")
        if job.state is not JobState.RUNNING or job.worker is None:
            raise Problem(409, f"this job is {job.state}: it runs nowhere")
        ask(site, job.worker)
        return site.done("asked", 1, "job", id=job.id, _anchor="where")


def _seen(site: Site, found: Stacks, threads: list[ThreadStack]) -> Seen | None:
    now = site.now()
    if now - found.asked_at > KEPT:
        return None
    waits = not found.answered
    shown = [] if waits else [_thread(each) for each in threads]
    old = found.at is not None and now - found.at > OLD
    return Seen(found.asked_at, None if waits else found.at, waits, waits and now - found.asked_at > SILENT, old, shown)


def _thread(stack: ThreadStack) -> Thread:
    traced = words.traced(stack.traceback) if stack.frames else words.Traced((), None)
    return Thread(stack, traced.parts, traced.innermost)
