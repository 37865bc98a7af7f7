"""``fc.queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairchild.db import queues
from fairchild.errors import UsageError
from fairchild.tasks import check_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fairchild.client.client import Fairchild
    from fairchild.job import Job

    Waiting = list[tuple[Job, datetime]]


class Queues:
    """A queue is there as soon as a job is in it. A pause is kept, so it also holds for jobs and workers to come."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def list(self, counts: Mapping[str, Mapping[str, int]] | None = None) -> list[dict[str, Any]]:
        """``[{name, paused, paused_at, paused_by, oldest_at, oldest_seconds, workers, counts: {state: n}}, ...]``.

        ``oldest_at``: since when the job that has been available longest is so; ``workers``: how many take from it.
        ``counts``: the queues of ``stats()``, if those have just been read.
        """
        known = self._client.stats()["queues"] if counts is None else counts
        facts = self._client.ask(lambda link: queues.read_queues(link, [*known]))
        empty = dict.fromkeys(self._client.stats_states(), 0)
        return [
            {**each._asdict(), "paused": each.paused_at is not None, "counts": known.get(each.name, dict(empty))}
            for each in facts
        ]

    def get(self, name: str) -> dict[str, Any]:
        """One of ``list()``. Raises UsageError if there is no such queue."""
        for each in self.list():
            if each["name"] == name:
                return each
        raise UsageError(f"there is no queue {name!r}: nothing is or was in it, and it was never paused")

    def longest_waiting(self, name: str, limit: int = 10) -> Waiting:
        """The jobs in it that have been available for longest, each with since when."""
        found = self._client.ask(lambda link: queues.longest_waiting(link, name, limit))
        jobs = self._client._read([job_id for job_id, _ in found], short=True)
        return [(jobs[job_id], at) for job_id, at in found if job_id in jobs]

    def priorities(self, name: str, cap: int = 1000) -> dict[int, int]:
        """How many of its available jobs have which priority; ``cap + 1`` says that there are more than ``cap``."""
        return self._client.ask(lambda link: queues.count_priorities(link, name, cap))

    def pause(self, name: str, by: str | None = None) -> bool:
        """Let nobody take jobs from it any more, from the next look of each worker on. What runs goes on.

        ``by``: who wants it so, for others to see. Whether it was not paused before.
        """
        check_text("queue", name)
        with self._client.database.link() as link:
            return queues.pause_queue(link, name, by)

    def resume(self, name: str) -> bool:
        """Undo a pause. Workers look at once. Whether there was one."""
        check_text("queue", name)
        with self._client.database.link() as link:
            resumed = queues.resume_queue(link, name)
        self._client.wake_workers()
        return resumed
