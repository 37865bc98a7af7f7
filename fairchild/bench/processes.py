"""The processes that a measurement starts: fairchild's own children, and those of others that are compared."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fairchild.bench import machine
from fairchild.errors import FairchildError

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class BenchError(FairchildError):
    """A measurement has failed."""


class Unavailable(BenchError):
    """A measurement cannot be made here, and nothing is wrong."""


class Process:
    """A program under way, in a session of its own, so that Ctrl-C reaches only us. Killed at the end of the block."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        self.popen = subprocess.Popen(  # noqa: S603 - our own programs
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def cpu_seconds(self) -> float | None:
        """What it has used, with its own children."""
        return machine.cpu_seconds(self.pid)

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if self.popen.poll() is not None:
            raise BenchError(f"a process ended with {self.popen.returncode}: {self._said()}")

    def stop(self) -> None:
        """Let it end, and kill it if it does not."""
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # it has ended already
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.popen.poll() is None:
                self.popen.kill()
                self.popen.wait()
            self._log.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.popen.kill()
        self.stop()

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].strip() or "it said nothing"


class Child(Process):
    """A process of child.py. ``get_ready`` and ``begin`` it; several may get ready side by side."""

    def __init__(self, **settings: Any) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        super().__init__([sys.executable, "-m", "fairchild.bench.child"], environment={"PYTHONPATH": path})
        self._tell(json.dumps(settings))

    def get_ready(self) -> Child:
        """Wait until it has loaded everything."""
        self._hear()
        return self

    def begin(self) -> Child:
        """Let it begin."""
        self._tell("begin")
        self._hear()
        return self

    def __enter__(self) -> Child:
        try:
            return self.get_ready().begin()
        except BaseException:
            self.popen.kill()
            self.stop()
            raise

    def report(self) -> dict[str, Any]:
        """What it has to say of itself."""
        self._tell("report")
        return self._hear()

    def _tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(line + "\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; _hear() says with what words

    def _hear(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        readable, _, _ = select.select([self.popen.stdout], [], [], START_SECONDS)
        answer = self.popen.stdout.readline() if readable else ""
        if not answer:
            if readable:
                self.popen.wait(STOP_SECONDS)
                self.check()
            raise BenchError(f"a process did not answer within {START_SECONDS:.0f} s: {self._said()}")
        value: dict[str, Any] = json.loads(answer)
        return value


def until(deadline: float, what: str) -> float:
    """Seconds left. Raises BenchError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise BenchError(f"{what} took too long")
    return left
