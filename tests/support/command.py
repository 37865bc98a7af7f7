"""The command line as a process, as people and supervisors run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60


def environment(url: str | None = None, **more: str) -> dict[str, str]:
    """This process's environment without what configures fairchild or libpq, and with ``url``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRCHILD_", "PG"))}
    if url is not None:
        kept["FAIRCHILD_DATABASE_URL"] = url
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def python(
    *arguments: str, folder: Path, url: str | None = None, typed: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python ...`` in a folder to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(url, **more),
        input=typed,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def fairchild(
    *arguments: str, folder: Path, url: str | None = None, typed: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run ``fairchild ...`` in a folder to its end."""
    return python("-m", "fairchild", *arguments, folder=folder, url=url, typed=typed, **more)


@dataclass
class Running:
    """A command under way."""

    process: subprocess.Popen[str]
    log: Path

    def said(self) -> str:
        """What it has written to stderr so far."""
        return self.log.read_text()

    def printed(self) -> str:
        """What it has written to stdout so far."""
        return self.log.with_suffix(".out").read_text()


@contextmanager
def started(arguments: Sequence[str], *, folder: Path, url: str | None = None, **more: str) -> Iterator[Running]:
    """``fairchild ...`` in the background; killed at the end of the block if it still runs."""
    log = folder / "command.err"
    with log.open("w") as errors, log.with_suffix(".out").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairchild", *arguments],
            cwd=folder,
            env=environment(url, **more),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
        )
    try:
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT)
