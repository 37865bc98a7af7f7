"""Tasks for child processes, which import them from here: each child is a fresh Python that knows no test."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fairchild import Discard, Future, Outcome, current_job
from fairchild.errors import AttemptTimedOut
from fairchild.tasks import Registry, TaskDecorator

tasks = Registry()
task = TaskDecorator(tasks)
log = logging.getLogger("tests.isolated")
FOREVER = 60.0


@task(isolation="process")
def pid() -> int:
    return os.getpid()


@task
def pid_in_thread() -> int:
    return os.getpid()


@task(isolation="process")
async def pid_of_coroutine() -> int:
    return os.getpid()


@task(isolation="process")
def add(a: int, b: int) -> int:
    return a + b


@task(isolation="process")
def family(n: int) -> Future:
    current_job().update_meta({"seen": n})
    return add(add(n, 1), 1)  # type: ignore[return-value]


@task
def refuses() -> None:
    raise Discard("as it should")


@task(isolation="process")
def falls_back(outcome: Outcome) -> list[Any]:
    assert outcome.error is not None
    called: Any = refuses()
    return [outcome.error["message"], called.or_else(7)]


@task(isolation="process")
def enqueues() -> str:
    return str(add.enqueue(1, 2).id)


@task(isolation="process", max_attempts=1)
def writes(n: int) -> int:
    with current_job().transaction() as conn:
        conn.execute("INSERT INTO effects VALUES (%s)", [n])
    if n < 0:
        ctypes.string_at(0)
    return n


@task(isolation="process", max_attempts=1)
def fails() -> None:
    log.warning("about to fail", extra={"order": 7})
    raise ValueError("as it should")


@task(isolation="process", timeout=0.3, max_attempts=1)
def spins() -> None:
    end = time.monotonic() + FOREVER
    while time.monotonic() < end:
        sum(range(50))


@task(isolation="process", timeout=0.3, max_attempts=1)
def deaf(path: str) -> None:
    """C code that holds the GIL, so that nothing of Python runs in this process meanwhile."""
    Path(path).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(int(FOREVER))


@task(isolation="process", timeout=0.3, max_attempts=1)
def swallows() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.monotonic() + FOREVER
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except AttemptTimedOut:
            pass


@task(isolation="process")
def holds(path: str, family: bool = False) -> str:
    """Until a file of this name and ``.go`` is there. Writes its process id, or that of a process it has started."""
    number = os.getpid()
    if family:
        number = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER})"]).pid
    Path(path + ".part").write_text(str(number))
    Path(path + ".part").rename(path)
    while not Path(path + ".go").exists():
        current_job().check()
        time.sleep(0.01)
    return "went"


@task(isolation="process", memory_mb=100, max_attempts=1)
def eats(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


@task(isolation="process")
def dies(how: str) -> None:
    log.warning("last words")
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


@task(isolation="process", max_attempts=1)
def sys_exit() -> None:
    sys.exit("enough")


@task(isolation="process")
def leaves_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(FOREVER,)).start()
    return os.getpid()


@task
def segfaults() -> None:
    ctypes.string_at(0)


@task
def innocent(n: int) -> int:
    return n


@task(isolation="process")
def echo(value: Any) -> Any:
    return value


@task(isolation="process")
def notes() -> Any:
    job = current_job()
    job.log("by job.log")
    log.warning("by logging")
    job.progress(3, total=4)
    job.cursor = {"page": 2}
    return job.cursor


@task(isolation="process")
def die_on_page_two() -> Any:
    job = current_job()
    if job.cursor is not None:
        return job.cursor
    job.cursor = {"page": 1}
    job.cursor = {"page": 2}
    os.kill(os.getpid(), signal.SIGKILL)
    return None
