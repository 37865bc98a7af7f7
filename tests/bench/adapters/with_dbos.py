"""DBOS. Options: poll (seconds between looks into the queue), concurrency."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient

from tests.bench.adapters.common import URL, Adapter, hit, main, option

JOB: Any = {"queue_name": "bench", "workflow_name": "noop", "app_version": "1"}


@DBOS.workflow(name="noop")
def noop(i: int, sent: float) -> None:
    hit(sent)


class DbosAdapter(Adapter):
    loop = "none"

    async def open(self) -> None:
        self.client = DBOSClient(system_database_url=URL)

    async def setup(self) -> None:
        self._launch()
        DBOS.destroy()

    async def enqueue(self, i: int, sent: float) -> None:
        self.client.enqueue(JOB, i, sent)

    async def enqueue_many(self, jobs: int) -> None:
        engine = sa.create_engine(URL.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as connection:
            for i in range(jobs):
                self.client.enqueue_in_transaction(connection, JOB, i, 0.0)

    async def work(self) -> None:
        self._launch()
        threading.Event().wait()

    def _launch(self) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": URL,
                "log_level": "ERROR",
                "run_admin_server": False,
                "application_version": "1",
            }
        )
        DBOS.launch()
        DBOS.register_queue(
            "bench", polling_interval_sec=option("poll", 1.0), worker_concurrency=option("concurrency", None)
        )


if __name__ == "__main__":
    main(DbosAdapter())
