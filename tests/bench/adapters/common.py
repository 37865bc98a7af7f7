"""What all adapters share: ``python -m tests.bench.adapters.NAME setup|one|bulk|delays|work [JOBS]``.

They run in the peer's own environment, where fairchild is not installed; so this imports the standard library alone,
and the counter of fairchild's bench by its path. The database is BENCH_URL, the settings are the JSON of BENCH_OPTIONS.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

URL = os.environ.get("BENCH_URL", "")
OPTIONS: dict[str, Any] = json.loads(os.environ.get("BENCH_OPTIONS") or "{}")


class Adapter:
    """One peer: how it is installed, how a job is enqueued, how a worker is run."""

    loop: str = "asyncio"
    """Or ``uvloop``, where the peer's own documentation advises it; or ``none``, for those that are synchronous."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        """Closed at the end, but not for workers, which are ended from outside."""

    async def open(self) -> None:
        """Connect."""

    async def setup(self) -> None:
        """Create the tables."""
        raise NotImplementedError

    async def enqueue(self, i: int, sent: float) -> None:
        """Enqueue one job, which calls ``hit(sent)`` when it starts."""
        raise NotImplementedError

    async def enqueue_many(self, jobs: int) -> None:
        """Enqueue so many in the best way there is."""
        raise NotImplementedError

    async def work(self) -> None:
        """Run jobs for ever."""
        raise NotImplementedError


def option(name: str, otherwise: Any) -> Any:
    """A setting of this run."""
    return OPTIONS.get(name, otherwise)


def hit(sent: float = 0.0) -> None:
    """A job starts."""
    _tally().hit(sent)


def main(adapter: Adapter) -> None:
    """Do what the command line says; timed commands print their seconds."""
    command, *rest = sys.argv[1:]
    jobs = int(rest[0]) if rest else 0
    if command == "work":
        threading.Thread(target=_end_with_the_starter, daemon=True).start()
    if adapter.loop == "uvloop":
        import uvloop  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

        seconds = uvloop.run(_do(adapter, command, jobs))
    elif adapter.loop == "none":
        seconds = _run_at_once(_do(adapter, command, jobs))
    else:
        seconds = asyncio.run(_do(adapter, command, jobs))
    print(json.dumps({"seconds": seconds}), flush=True)
    os._exit(0)  # some leave threads behind


async def _do(adapter: Adapter, command: str, jobs: int) -> float:
    async with adapter.stack:
        if command == "setup":
            await adapter.setup()
            return 0.0
        await adapter.open()
        if command == "work":
            await adapter.work()
            return 0.0
        if command == "one":
            await adapter.enqueue(0, 0.0)  # connections are open now
        started = time.monotonic()
        if command == "bulk":
            await adapter.enqueue_many(jobs)
        for i in range(jobs if command != "bulk" else 0):
            await adapter.enqueue(i, time.monotonic() if command == "delays" else 0.0)
            if command == "delays":
                await _pause(adapter, option("pace", 0.05))
        return time.monotonic() - started


def _run_at_once(work: Coroutine[Any, Any, float]) -> float:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return float(end.value)
    raise RuntimeError("a synchronous adapter has waited for something")


async def _pause(adapter: Adapter, seconds: float) -> None:
    if adapter.loop == "none":
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop
    else:
        await asyncio.sleep(seconds)


def _end_with_the_starter() -> None:
    sys.stdin.read()
    os._exit(1)


_counter: Any = None
_counter_lock = threading.Lock()


def _tally() -> Any:
    global _counter  # noqa: PLW0603 - one for each process
    if _counter is None:
        with _counter_lock:
            if _counter is None:
                _counter = _load_tally().Tally(os.environ["BENCH_FOLDER"])
    return _counter


def _load_tally() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "fairchild" / "bench" / "tally.py"
    spec = importlib.util.spec_from_file_location("bench_tally", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
