"""An application as tests write one: a client with a registry of its own, and workers that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from fairchild import Fairchild, Job
from fairchild.errors import StoreError
from fairchild.tasks import Registry
from fairchild.worker import Worker
from tests.support.eventually import eventually
from tests.support.store import Store

PATIENCE = 30.0


class App:
    """``app.task`` decorates, ``app.work()`` starts a worker, ``app.store`` looks at the tables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Fairchild(url, registry=Registry())
        self.client.connect()
        self.task = self.client.task
        self.store = Store(self.client.database)
        self.workers: list[Worker] = []
        self._clients: list[Fairchild] = []

    def work(self, *, client: Fairchild | None = None, **options: Any) -> Worker:
        """A worker, started. It is stopped when the test ends."""
        options.setdefault("poll_interval", 0.1)
        worker = Worker(self.client if client is None else client, **options)
        self.workers.append(worker)
        return worker.start()

    def other_client(self, registry: Registry | None = None) -> Fairchild:
        """Another program's client of the same database; by default it knows the same tasks."""
        client = Fairchild(self.url, registry=registry if registry is not None else self.client.registry)
        self._clients.append(client)
        return client

    def wait(self, *jobs: Job | UUID) -> list[Job]:
        """The jobs, once all have ended."""
        return self.client.wait(jobs, timeout=PATIENCE)

    def result(self, job: Job | UUID) -> Any:
        """The result of a job, once it has completed."""
        return self.client.get_result(job.id if isinstance(job, Job) else job, timeout=PATIENCE)

    def get(self, job: Job | UUID) -> Job:
        """The job as it stands now."""
        found = self.client.get_job(job.id if isinstance(job, Job) else job)
        assert found is not None
        return found

    def children(self, job: Job | UUID) -> list[Job]:
        """The jobs that a job has called, oldest first."""
        parent = job.id if isinstance(job, Job) else job
        rows = self.store.sql("SELECT id FROM {jobs} WHERE parent_id = %(id)s ORDER BY id", id=parent)
        return [self.get(row[0]) for row in rows]

    def reaches(self, job: Job | UUID, *states: str) -> Job:
        """The job, once it is in one of these states."""
        eventually(lambda: self.get(job).state in states, PATIENCE, what=lambda: self.get(job))
        return self.get(job)

    def make_due(self, *jobs: Job | UUID) -> None:
        """As if the time of scheduled jobs had come."""
        ids = [job.id if isinstance(job, Job) else job for job in jobs]
        self.store.sql(
            "UPDATE {due} SET run_at = statement_timestamp() - interval '1 second' WHERE job_id = ANY(%(ids)s)", ids=ids
        )

    def kill_backends(self, like: str = "fairchild:%") -> int:
        """Cut the connections of the workers and clients of this database, not of this test's own."""
        return len(
            self.store.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE %(like)s AND application_name NOT LIKE 'fairchild:test%%' "
                "AND pid <> pg_backend_pid()",
                like=like,
            )
        )

    def close(self) -> None:
        for worker in self.workers:
            worker.stop(timeout=5)
        for client in self._clients:
            client.disconnect()
        self.store.close()
        self.client.disconnect()

    @contextmanager
    def closing(self) -> Iterator[App]:
        """Until the end of the block; then nothing may be out of order."""
        try:
            yield self
            for worker in self.workers:
                worker.stop(timeout=5)
            assert self.store.violations() == []
        finally:
            self.close()


def once_again(app: App) -> Store:
    """``app.store`` on a new connection, once its server answers."""

    def tried() -> Store | None:
        try:
            return app.store.again()
        except StoreError:
            return None

    found = eventually(tried, PATIENCE)
    assert found is not None
    return found


@pytest.fixture
def app(fairchild_db: str) -> Iterator[App]:
    """An application on a database of this test's own."""
    with App(fairchild_db).closing() as made:
        yield made
