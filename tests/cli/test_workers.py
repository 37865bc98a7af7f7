from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from fairchild import Fairchild
from tests.support.command import TIMEOUT, started
from tests.support.command import fairchild as command
from tests.support.eventually import eventually


def shown(client: Fairchild) -> list[tuple[str, str]]:
    return [(each.name, str(each.state)) for each in client.workers.list(ended=True)]


def test_workers_are_listed_paused_resumed_and_stopped(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    def run(*arguments: str) -> Any:
        done = command("workers", *arguments, "--json", folder=folder, url=fairchild_db)
        assert done.returncode == 0, done.stderr
        return [(each["name"], each["state"]) for each in json.loads(done.stdout)["workers"]]

    with started(["worker", "-i", "shop", "--name", "one"], folder=folder, url=fairchild_db) as running:
        eventually(lambda: shown(fairchild) == [("one", "running")], TIMEOUT)
        assert run("list") == [("one", "running")]
        assert run("pause", "one") == [("one", "paused")]
        assert run("resume", "--all") == [("one", "running")]
        table = command("workers", "list", folder=folder, url=fairchild_db).stdout
        assert table.split()[:2] == ["name", "state"]
        assert "one" in table
        assert run("stop", "one") == [("one", "draining")]
        assert running.process.wait(TIMEOUT) == 0
    assert run("list") == []
    assert run("list", "--ended") == [("one", "stopped")]


def test_stacks_are_printed_for_people_and_programs(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    with started(["worker", "-i", "shop", "--name", "one"], folder=folder, url=fairchild_db):
        eventually(lambda: shown(fairchild) == [("one", "running")], TIMEOUT)
        done = command("workers", "stacks", "one", folder=folder, url=fairchild_db)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("one (")
        assert "\nfairchild-heartbeat\n  File " in done.stdout
        (found,) = json.loads(command("workers", "stacks", "one", "--json", folder=folder, url=fairchild_db).stdout)[
            "workers"
        ]
        assert "MainThread" in [each["name"] for each in found["threads"]]
    done = command("workers", "stacks", "two", folder=folder, url=fairchild_db)
    assert done.returncode == 2
    assert "'two'" in done.stderr


def test_a_worker_that_does_not_answer_is_an_error(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    with started(
        ["worker", "-i", "shop", "--name", "one", "--lease", "60"], folder=folder, url=fairchild_db
    ) as running:
        eventually(lambda: shown(fairchild) == [("one", "running")], TIMEOUT)
        running.process.send_signal(signal.SIGSTOP)
        try:
            done = command("workers", "stacks", "one", "--timeout", "0.2", folder=folder, url=fairchild_db)
        finally:
            running.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "no answer within 0.2 s from: one" in done.stderr


def test_processes_that_were_stopped_are_not_replaced(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    arguments = ["worker", "-i", "shop", "--name", "crew", "--processes", "2"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        eventually(lambda: len(fairchild.workers.list()) == 2, TIMEOUT)
        fairchild.workers.stop("crew.0")
        eventually(lambda: ("crew.0", "stopped") in shown(fairchild), TIMEOUT)
        fairchild.workers.stop("crew")
        assert running.process.wait(TIMEOUT) == 0
    assert shown(fairchild) == [("crew.0", "stopped"), ("crew.1", "stopped")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["pause"], "or --all"), (["stop", "one", "--all"], "and not both"), (["resume", "one"], "'one'")],
)
def test_wrong_use(arguments: list[str], says: str, fairchild_db: str, folder: Path) -> None:
    done = command("workers", *arguments, folder=folder, url=fairchild_db)
    assert done.returncode == 2
    assert says in done.stderr
