"""``fc.queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairchild.db import queues
from fairchild.errors import UsageError
from fairchild.tasks import check_text

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild


class Queues:
    """A queue is there as soon as a job is in it. A pause is kept, so it also holds for jobs and workers to come."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def list(self) -> list[dict[str, Any]]:
        """``[{name, paused, paused_at, oldest_at, oldest_seconds, workers, counts: {state: n}}, ...]`` by name.

        ``oldest_at``: since when the job that has been available longest is so; ``workers``: how many take from it.
        """
        counts = self._client.stats()["queues"]
        facts = self._client.ask(lambda link: queues.read_queues(link, [*counts]))
        empty = dict.fromkeys(self._client.stats_states(), 0)
        return [
            {**each._asdict(), "paused": each.paused_at is not None, "counts": counts.get(each.name, dict(empty))}
            for each in facts
        ]

    def get(self, name: str) -> dict[str, Any]:
        """One of ``list()``. Raises UsageError if there is no such queue."""
        for each in self.list():
            if each["name"] == name:
                return each
        raise UsageError(f"there is no queue {name!r}: nothing is or was in it, and it was never paused")

    def pause(self, name: str) -> None:
        """Let nobody take jobs from it any more, from the next look of each worker on. What runs goes on."""
        check_text("queue", name)
        with self._client.database.link() as link:
            queues.pause_queue(link, name)

    def resume(self, name: str) -> None:
        """Undo a pause. Workers look at once."""
        check_text("queue", name)
        with self._client.database.link() as link:
            queues.resume_queue(link, name)
        self._client.wake_workers()
