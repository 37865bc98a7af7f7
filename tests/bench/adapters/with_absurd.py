"""Absurd. Options: concurrency, poll (seconds)."""
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: reportMissingImports=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd

from tests.bench.adapters.common import URL, Adapter, hit, main, option


class AbsurdAdapter(Adapter):
    loop = "none"

    async def open(self) -> None:
        self.connection = psycopg.connect(URL, autocommit=True)
        self.app: Any = Absurd(self.connection)

    async def setup(self) -> None:
        subprocess.run(  # noqa: ASYNC221 - there is no loop
            [Path(sys.executable).with_name("absurdctl"), "init", "-d", URL], check=True, stdout=subprocess.DEVNULL
        )
        Absurd(URL).create_queue("default")

    async def enqueue(self, i: int, sent: float) -> None:
        self.app.spawn("noop", {"i": i, "sent": sent}, queue="default")

    async def enqueue_many(self, jobs: int) -> None:
        with self.connection.transaction():
            for i in range(jobs):
                self.app.spawn("noop", {"i": i, "sent": 0.0}, queue="default")

    async def work(self) -> None:
        app: Any = Absurd(URL)

        @app.register_task(name="noop")
        def noop(params: dict[str, Any], context: Any) -> None:
            hit(params["sent"])

        app.start_worker(concurrency=option("concurrency", 10), poll_interval=option("poll", 0.25))


if __name__ == "__main__":
    main(AbsurdAdapter())
