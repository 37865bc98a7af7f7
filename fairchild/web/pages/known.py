"""Names that pages offer while something is typed: read now and then for all who ask, never for each key pressed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fairchild.client import Fairchild
from fairchild.client.insight import ErrorGroup, Sampled, Wanted
from fairchild.job import Job
from fairchild.web.fragments import Shared

NAMES_SECONDS = 5.0
SAMPLE_SECONDS = 300.0
RECENT = 20
AT_WORK = ("running", "paused", "draining")


class Known:
    """What one database knows by name. Each read is bounded, whatever the number of jobs."""

    def __init__(self, fc: Fairchild) -> None:
        self._fc = fc
        self._sessions: Shared[list[dict[str, Any]]] = Shared(NAMES_SECONDS)
        self._tasks: Shared[list[str]] = Shared(NAMES_SECONDS)
        self._roots: Shared[list[Job]] = Shared(NAMES_SECONDS)
        self._errors: Shared[list[ErrorGroup]] = Shared(NAMES_SECONDS)
        self._sample: Shared[list[Sampled]] = Shared(SAMPLE_SECONDS)

    def sessions(self) -> list[dict[str, Any]]:
        """Workers that are at work."""
        found = self._sessions.get("", self._fc.worker_sessions)
        return [each for each in found if each["state"] in AT_WORK]

    def tasks(self) -> list[str]:
        """The names of tasks that live workers know."""
        return self._tasks.get("", lambda: [each["name"] for each in self._fc.known_tasks()])

    def roots(self) -> list[Job]:
        """The roots of the newest workflows."""
        return self._roots.get("", lambda: [job for job, _ in self._fc.insight.workflows(Wanted(), RECENT).found])

    def errors(self) -> list[ErrorGroup]:
        """Kinds of errors, the latest first."""
        return self._errors.get("", self._fc.insight.errors)

    def sample(self) -> list[Sampled]:
        """What the newest jobs have in their columns and arguments."""
        return self._sample.get("", self._fc.insight.sample)

    def deployed_at(self) -> datetime | None:
        """When the first worker of the version that was started last was started."""
        sessions = self.sessions()
        if not sessions:
            return None
        newest = max(sessions, key=lambda each: each["started_at"])
        version = newest["metadata"].get("version")
        moment: datetime = min(each["started_at"] for each in sessions if each["metadata"].get("version") == version)
        return moment
