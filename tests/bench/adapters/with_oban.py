"""Oban for Python. Options: limit (jobs at once)."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import asyncio
from typing import Any

from oban import Oban, job
from oban._config import Config
from oban.schema import install

from tests.bench.adapters.common import URL, Adapter, hit, main, option


@job(queue="default")
async def noop(i: int, sent: float) -> None:
    hit(sent)


class ObanAdapter(Adapter):
    loop = "uvloop"

    async def open(self) -> None:
        self.pool: Any = await Config(dsn=URL).create_pool()
        self.oban = Oban(pool=self.pool)

    async def setup(self) -> None:
        await self.open()
        await install(self.pool)

    async def enqueue(self, i: int, sent: float) -> None:
        await self.oban.enqueue(noop.new(i=i, sent=sent))

    async def enqueue_many(self, jobs: int) -> None:
        await self.oban.enqueue_many(noop.new(i=i, sent=0.0) for i in range(jobs))

    async def work(self) -> None:
        async with Oban(pool=self.pool, queues={"default": option("limit", 10)}):
            await asyncio.Event().wait()


if __name__ == "__main__":
    main(ObanAdapter())
