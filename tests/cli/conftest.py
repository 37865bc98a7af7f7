"""A folder with a module of tasks, as a user of the command line has it."""

from __future__ import annotations

from pathlib import Path

import pytest

TASKS = '''\
import time
from datetime import datetime
from pathlib import Path

from fairchild import Cancel, Record, Snooze, task


@task
def add(a: int, b: int = 1):
    return a + b


@task(queue="mail", tags=["mail"])
def greet(name: str):
    print("greeting", name)
    return Record({"greeted": name})


@task
def year(at: datetime):
    return at.year


@task(max_attempts=1)
def boom(text: str = "no"):
    return inner(text)


@task(max_attempts=1)
def inner(text: str):
    raise RuntimeError(text)


@task
def unkept():
    return object()


@task
def later():
    return Snooze(minutes=5)


@task
def unwanted():
    return Cancel("not wanted")


@task
def until(file: str):
    """Runs until there is a file of this name in the current folder."""
    while not Path(file).exists():
        time.sleep(0.01)
    return "seen"
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(TASKS)
    return tmp_path
