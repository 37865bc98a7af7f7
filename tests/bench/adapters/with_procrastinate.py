"""Procrastinate. Options: concurrency."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

from procrastinate import App, PsycopgConnector

from tests.bench.adapters.common import URL, Adapter, hit, main, option

CONCURRENCY = option("concurrency", 10)
app = App(connector=PsycopgConnector(conninfo=URL, min_size=4, max_size=max(10, CONCURRENCY)))


@app.task(name="noop", queue="default")
async def noop(i: int, sent: float) -> None:
    hit(sent)


class ProcrastinateAdapter(Adapter):
    async def open(self) -> None:
        await self.stack.enter_async_context(app.open_async())

    async def setup(self) -> None:
        await self.open()
        await app.schema_manager.apply_schema_async()

    async def enqueue(self, i: int, sent: float) -> None:
        await noop.defer_async(i=i, sent=sent)

    async def enqueue_many(self, jobs: int) -> None:
        await noop.batch_defer_async(*({"i": i, "sent": 0.0} for i in range(jobs)))

    async def work(self) -> None:
        await app.run_worker_async(queues=["default"], concurrency=CONCURRENCY, install_signal_handlers=False)


if __name__ == "__main__":
    main(ProcrastinateAdapter())
