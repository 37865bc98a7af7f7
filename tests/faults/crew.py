"""Worker processes at the mercy of a section: started, frozen, stopped, killed, and none of them left at its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.faults.jobs import WITNESS
from tests.support.command import ROOT, environment
from tests.support.eventually import eventually

START_SECONDS = 60.0


@dataclass
class Member:
    """One worker process."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)
    frozen: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.terminate()

    def freeze(self) -> None:
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.process.send_signal(signal.SIGCONT)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]


class Crew:
    """``fairchild worker`` processes with the tasks of jobs.py, on a database. A context manager.

    Their jobs bear witness on connections of their own to ``url``, whatever way the worker itself goes.
    """

    def __init__(self, url: str, *options: str) -> None:
        self.url = url
        self.options = options
        self.members: list[Member] = []
        self._folder = tempfile.TemporaryDirectory(prefix="fairchild-faults-")
        self._number = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.members:
            if each.alive():
                each.kill()
        self._folder.cleanup()

    def start(self, *options: str, url: str | None = None, more: Mapping[str, str] | None = None) -> Member:
        """Another one; ``url``: it goes this way to the database."""
        self._number += 1
        log = Path(self._folder.name) / f"{self._number}.log"
        command = [
            sys.executable,
            "-m",
            "fairchild",
            "worker",
            "--import",
            "tests.faults.jobs",
            "--log-level",
            "warning",
        ]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, *self.options, *options],
                cwd=ROOT,
                env=environment(url or self.url, **{WITNESS: self.url}, **(more or {})),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        member = Member(process, log)
        self.members.append(member)
        return member

    def living(self) -> list[Member]:
        """Those that run and are not frozen, the oldest first."""
        return [each for each in self.members if each.alive() and not each.frozen]

    def stop(self, patience: float = 30.0) -> None:
        """Have all of them stop in good order."""
        for each in self.members:
            if each.alive():
                each.terminate()
        for each in self.members:
            eventually(lambda each=each: not each.alive(), patience, what=each.said)  # type: ignore[misc]
