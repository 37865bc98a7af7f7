"""Chancy. Options: concurrency, outgoing (seconds between batches of finished jobs), eager (poll again when full)."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

from typing import Any

from chancy import Chancy, Queue, Worker, job

from tests.bench.adapters.common import URL, Adapter, hit, main, option


@job(queue="default")
async def noop(*, i: int, sent: float) -> None:
    hit(sent)


class ChancyAdapter(Adapter):
    async def open(self) -> None:
        self.chancy: Any = await self.stack.enter_async_context(Chancy(URL))

    async def setup(self) -> None:
        await self.open()
        await self.chancy.migrate()
        queue = Queue(
            "default",
            concurrency=option("concurrency", 100),
            executor=Chancy.Executor.Async,
            eager_polling=option("eager", True),
            polling_interval=option("poll", 1),
        )
        await self.chancy.declare(queue, upsert=True)

    async def enqueue(self, i: int, sent: float) -> None:
        await self.chancy.push(noop.job.with_kwargs(i=i, sent=sent))

    async def enqueue_many(self, jobs: int) -> None:
        async for _ in self.chancy.push_many([noop.job.with_kwargs(i=i, sent=0.0) for i in range(jobs)]):
            pass

    async def work(self) -> None:
        worker = Worker(self.chancy)
        worker.send_outgoing_interval = option("outgoing", 1)
        async with worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    main(ChancyAdapter())
