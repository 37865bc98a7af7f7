from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fairchild import Fairchild, JobState
from tests.support.command import TIMEOUT, started
from tests.support.command import fairchild as command
from tests.support.eventually import eventually


def enqueued(*arguments: str, folder: Path, url: str) -> dict[str, Any]:
    done = command("enqueue", *arguments, "--json", folder=folder, url=url)
    assert (done.returncode, done.stderr) == (0, "")
    job: dict[str, Any] = json.loads(done.stdout)
    return job


def test_the_id_goes_to_stdout_and_the_job_is_there(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    done = command("enqueue", "shop.add", "--args", '{"a": 1}', "-a", "b=2", folder=folder, url=fairchild_db)
    assert (done.returncode, done.stderr) == (0, "")
    job = fairchild.get_job(done.stdout.strip())
    assert job is not None
    assert (job.task, job.args, job.state) == ("shop.add", {"a": 1, "b": 2}, JobState.AVAILABLE)


def test_all_options_reach_the_job(fairchild: Fairchild, fairchild_db: str, folder: Path) -> None:
    made = enqueued(
        "shop.greet", "-a", "name=Ada", "--queue", "urgent", "--priority", "0", "--tag", "x", "--tag", "y", "--tenant",
        "acme", "--meta", '{"from": "shell"}', "--max-attempts", "7", "--timeout", "1m30s", "-i", "shop",
        folder=folder, url=fairchild_db,
    )  # fmt: skip
    job = fairchild.get_job(made["id"])
    assert job is not None
    assert (job.queue, job.priority, job.tags, job.tenant) == ("urgent", 0, ["mail", "x", "y"], "acme")
    assert (job.meta, job.max_attempts, job.timeout) == ({"from": "shell"}, 7, 90.0)


def test_in_and_at_put_it_off(fairchild_db: str, folder: Path) -> None:
    before = datetime.now(timezone.utc)
    made = enqueued("shop.add", "-a", "a=1", "--in", "1h", folder=folder, url=fairchild_db)
    assert made["state"] == "scheduled"
    due = datetime.fromisoformat(made["scheduled_at"])
    assert timedelta(minutes=59) < due - before < timedelta(minutes=61)
    made = enqueued("shop.add", "-a", "a=1", "--at", "2130-01-31T08:00:00Z", folder=folder, url=fairchild_db)
    assert datetime.fromisoformat(made["scheduled_at"]) == datetime(2130, 1, 31, 8, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop.add"], "missing a required argument: 'a'"),
        (["shop.add", "-a", "a=x"], "does not fit"),
        (["shop.ad", "-a", "a=1"], "did you mean shop.add"),
        (["shop.add", "-a", "a=1", "--priority", "10"], "priority is a whole number from 0"),
        (["shop.add", "-a", "a=1", "--max-attempts", "0"], "max_attempts"),
        (["shop.add", "-a", "a=1", "--queue", ""], "queue must not be empty"),
    ],
)
def test_what_the_task_does_not_take_is_refused(
    arguments: list[str], words: str, fairchild: Fairchild, fairchild_db: str, folder: Path
) -> None:
    done = command("enqueue", *arguments, folder=folder, url=fairchild_db)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert len(fairchild.jobs()) == 0


def test_a_task_known_elsewhere_is_enqueued_by_name_with_a_note(
    fairchild: Fairchild, fairchild_db: str, folder: Path
) -> None:
    (folder / "heavy.py").write_text("import no_such_library\n")
    for name, why in (("elsewhere.train", "no module of this name"), ("heavy.train", "no_such_library")):
        done = command("enqueue", name, "-a", "n=1", folder=folder, url=fairchild_db)
        assert done.returncode == 0
        assert done.stderr.startswith(f"note: {name} is not known here (")
        assert why in done.stderr
        job = fairchild.get_job(done.stdout.strip())
        assert job is not None
        assert job.args == {"n": 1}


def test_wait_prints_the_result(fairchild_db: str, folder: Path) -> None:
    with started(["worker", "-i", "shop"], folder=folder, url=fairchild_db):
        done = command("enqueue", "--wait", "shop.add", "-a", "a=1", folder=folder, url=fairchild_db)
        assert (done.returncode, done.stdout) == (0, "2\n")
        assert done.stderr.startswith("waiting for job ")
        done = command(
            "enqueue", "shop.greet", "-a", "name=Ada", "--wait", "30s", "--json", folder=folder, url=fairchild_db
        )
        assert done.returncode == 0
        assert json.loads(done.stdout)["result"] == {"greeted": "Ada"}
        failed = command("enqueue", "shop.boom", "--wait", folder=folder, url=fairchild_db)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "in inner" in failed.stderr
        assert "failed" in failed.stderr.splitlines()[-1]
        nothing = command("enqueue", "shop.unkept", "--wait=30", folder=folder, url=fairchild_db)
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert "kept no result" in nothing.stderr
        cancelled = command("enqueue", "shop.unwanted", "--wait", folder=folder, url=fairchild_db)
        assert cancelled.returncode == 1
        assert "not wanted" in cancelled.stderr


def test_wait_gives_up_after_its_time_and_the_job_goes_on(
    fairchild: Fairchild, fairchild_db: str, folder: Path
) -> None:
    done = command("enqueue", "shop.add", "-a", "a=1", "--wait", "0.2", folder=folder, url=fairchild_db)
    assert (done.returncode, done.stdout) == (1, "")
    assert "they go on" in done.stderr.splitlines()[-1]
    assert fairchild.stats()["jobs"]["available"] == 1


def test_interrupting_a_wait_exits_130(fairchild_db: str, folder: Path) -> None:
    arguments = ["enqueue", "shop.add", "-a", "a=1", "--wait"]
    with started(arguments, folder=folder, url=fairchild_db) as running:
        eventually(lambda: "waiting for job" in running.said(), what=running.said)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(TIMEOUT) == 130
        assert running.said().splitlines()[1:] == ["interrupted"]
