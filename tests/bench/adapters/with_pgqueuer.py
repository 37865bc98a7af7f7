"""PGQueuer. Options: batch (its batch_size)."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false

from __future__ import annotations

import json
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from tests.bench.adapters.common import URL, Adapter, hit, main, option


class PgQueuerAdapter(Adapter):
    loop = "uvloop"

    async def open(self) -> None:
        self.driver = AsyncpgDriver(await asyncpg.connect(URL))
        self.queries = Queries(self.driver)

    async def setup(self) -> None:
        await self.open()
        await self.queries.install()
        await self.queries.optimize_autovacuum()

    async def enqueue(self, i: int, sent: float) -> None:
        await self.queries.enqueue("noop", json.dumps({"i": i, "sent": sent}).encode(), 0)

    async def enqueue_many(self, jobs: int) -> None:
        payloads = [json.dumps({"i": i, "sent": 0.0}).encode() for i in range(jobs)]
        await self.queries.enqueue(["noop"] * jobs, payloads, [0] * jobs)

    async def work(self) -> None:
        worker = PgQueuer(self.driver)

        @worker.entrypoint("noop")
        async def noop(job: Any) -> None:
            hit(json.loads(job.payload)["sent"])

        await worker.run(batch_size=option("batch", 10))


if __name__ == "__main__":
    main(PgQueuerAdapter())
