"""A worker in a process of its own: ``python -m fairchild.bench.child``, started by processes.py.

The first line on stdin is its settings as JSON, the second lets it begin, each further one asks for a report; each is
answered by a line. It ends when stdin is closed, so that it does not outlive whoever started it, however that ended.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from fairchild.bench import ideal
from fairchild.bench.tally import Tally

READY_SECONDS = 30.0


def main() -> None:
    """Do what the first line says."""
    settings = json.loads(sys.stdin.readline())
    part = _PARTS[settings["role"]](settings, Tally(settings["folder"]))
    _answer({"ready": True})
    if sys.stdin.readline():
        part.begin()
        _answer({"begun": True})
        for _ in sys.stdin:
            _answer(part.report())
        part.end()


class _Part:
    """What a child does between its lines."""

    def __init__(self, settings: dict[str, Any], tally: Tally) -> None:
        self.settings = settings
        self.tally = tally

    def begin(self) -> None:
        raise NotImplementedError

    def report(self) -> dict[str, Any]:
        return {}

    def end(self) -> None:
        """Everything else runs in daemon threads."""


class _Worker(_Part):
    def __init__(self, settings: dict[str, Any], tally: Tally) -> None:
        from fairchild.bench import tasks  # noqa: PLC0415 - the others are as small as can be
        from fairchild.client import Fairchild  # noqa: PLC0415
        from fairchild.worker import Worker, process  # noqa: PLC0415

        super().__init__(settings, tally)
        registry = tasks.make(tally.hit).registry
        self.client = Fairchild(settings["url"], schema=settings["schema"], registry=registry)
        self.client.connect()
        self.worker = Worker(self.client, **settings["options"])
        self._stack = ExitStack()
        self._stack.enter_context(process.tuned())  # as `fairchild worker` does

    def begin(self) -> None:
        self.worker.start()

    def report(self) -> dict[str, Any]:
        return {"statements": self.worker.statements}

    def end(self) -> None:
        self.worker.stop()
        self._stack.close()
        self.client.disconnect()


class _Ideal(_Part):
    def begin(self) -> None:
        ideal.drain(self.settings["url"], self.settings["schema"], self.tally.hit)


class _Starts(_Part):
    def begin(self) -> None:
        _until_ready(
            lambda ready: ideal.start_each(self.settings["url"], self.settings["schema"], self.tally.hit, ready)
        )


class _Hears(_Part):
    def begin(self) -> None:
        _until_ready(lambda ready: ideal.hear_each(self.settings["url"], self.tally.hit, ready))


_PARTS: dict[str, type[_Part]] = {"worker": _Worker, "ideal": _Ideal, "start": _Starts, "hear": _Hears}


def _until_ready(run: Callable[[Callable[[], None]], None]) -> None:
    ready = threading.Event()
    threading.Thread(target=run, args=(ready.set,), daemon=True).start()
    if not ready.wait(READY_SECONDS):
        raise SystemExit("not ready in time")


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
