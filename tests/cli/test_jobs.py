from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from fairchild import Fairchild, JobState, Registry, current_job
from fairchild.worker import Worker
from tests.support.command import fairchild as command


@pytest.fixture
def client(fairchild_db: str) -> Fairchild:
    return Fairchild(fairchild_db, registry=Registry())


def failed_job(client: Fairchild) -> str:
    def pity() -> None:
        raise ValueError("what a pity")

    client.registry.add(pity, name="shop.pity", max_attempts=1)
    with client, Worker(client, concurrency=1):
        return str(client.enqueue("shop.pity").wait(30).id)


def test_list_filters_and_pages(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        for number in range(3):
            client.enqueue("shop.a", {"n": number}, queue="one", tags=["red"])
        other = client.enqueue("shop.b", queue="two", tenant="acme")
    first = json.loads(command("jobs", "list", "--json", "--limit", "3", folder=tmp_path, url=fairchild_db).stdout)
    assert [job["task"] for job in first["jobs"]] == ["shop.b", "shop.a", "shop.a"]
    rest = command("jobs", "list", "--json", "--cursor", first["cursor"], folder=tmp_path, url=fairchild_db)
    assert [job["args"] for job in json.loads(rest.stdout)["jobs"]] == [{"n": 0}]
    for filters, number in (
        (["--queue", "two"], 1), (["--task", "shop.a"], 3), (["--tag", "red"], 3), (["--tenant", "acme"], 1),
        (["--state", "available"], 4), (["--state", "failed"], 0), (["--workflow", str(other.id)], 1),
    ):  # fmt: skip
        found = command("jobs", "list", "--json", *filters, folder=tmp_path, url=fairchild_db)
        assert len(json.loads(found.stdout)["jobs"]) == number, filters


def test_list_is_a_table_for_people(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        jobs = [client.enqueue("shop.a") for _ in range(2)]
    done = command("jobs", "list", "--limit", "1", folder=tmp_path, url=fairchild_db)
    head, row = done.stdout.splitlines()
    assert head.split()[:3] == ["id", "state", "task"]
    assert row.split()[:3] == [str(jobs[1].id), "available", "shop.a"]
    assert f"--cursor {jobs[1].id}" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--state", "done"], ["--limit", "0"], ["--limit", "1001"], ["--workflow", "x"], ["--cursor", "x"]]
)
def test_a_filter_that_is_none_is_wrong_use(arguments: list[str], fairchild_db: str, tmp_path: Path) -> None:
    done = command("jobs", "list", *arguments, folder=tmp_path, url=fairchild_db)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_show_tells_all_of_a_job(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    job_id = failed_job(client)
    done = command("jobs", "show", job_id, folder=tmp_path, url=fairchild_db)
    assert done.returncode == 0
    for words in (job_id, "shop.pity", "failed", "ValueError: what a pity", "Traceback"):
        assert words in done.stdout
    as_json = json.loads(command("jobs", "show", job_id, "--json", folder=tmp_path, url=fairchild_db).stdout)
    assert (as_json["id"], as_json["state"], as_json["errors"][0]["type"]) == (job_id, "failed", "ValueError")


def test_show_of_no_job_says_so(fairchild_db: str, tmp_path: Path) -> None:
    for given in (str(uuid4()), "x"):
        done = command("jobs", "show", given, folder=tmp_path, url=fairchild_db)
        assert (done.returncode, done.stdout) == (2, "")
        assert given in done.stderr


def test_cancel_by_id(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        job = client.enqueue("shop.a")
        done = command("jobs", "cancel", str(job.id), "--reason", "too late", folder=tmp_path, url=fairchild_db)
        assert (done.returncode, done.stdout) == (0, f"{job.id}\n")
        assert (job.refresh().state, job.reason) == (JobState.CANCELLED, "too late")
        again = command("jobs", "cancel", str(job.id), str(uuid4()), "--json", folder=tmp_path, url=fairchild_db)
        assert again.returncode == 1
        assert json.loads(again.stdout)["jobs"] == []
        assert "not changed, it is cancelled" in again.stderr
        assert "no such job" in again.stderr


def test_retry_by_id(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    job_id = failed_job(client)
    done = command("jobs", "retry", job_id, "--json", folder=tmp_path, url=fairchild_db)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"jobs": [job_id], "unchanged": []})
    with client:
        job = client.get_job(job_id)
        assert job is not None
        assert job.state is JobState.AVAILABLE


def test_filters_ask_before_anything_changes(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        for queue in ("one", "one", "two"):
            client.enqueue("shop.a", queue=queue)
        cancel = ["jobs", "cancel", "--queue", "one"]
        nobody = command(*cancel, folder=tmp_path, url=fairchild_db)
        assert (nobody.returncode, nobody.stdout) == (2, "")
        assert "2 jobs match" in nobody.stderr
        no = command(*cancel, folder=tmp_path, url=fairchild_db, typed="n\n")
        assert no.returncode == 2
        assert client.stats()["jobs"]["cancelled"] == 0
        yes = command(*cancel, folder=tmp_path, url=fairchild_db, typed="y\n")
        assert (yes.returncode, len(yes.stdout.splitlines())) == (0, 2)
        assert client.stats()["queues"]["two"]["available"] == 1
        again = command("jobs", "retry", "--queue", "one", "--yes", "--json", folder=tmp_path, url=fairchild_db)
        assert len(json.loads(again.stdout)["jobs"]) == 2
        assert client.stats()["queues"]["one"]["available"] == 2
        nothing = command("jobs", "cancel", "--queue", "none", folder=tmp_path, url=fairchild_db)
        assert (nothing.returncode, nothing.stdout) == (0, "")


@pytest.mark.parametrize("arguments", [[], ["--queue", "one", str(uuid4())], ["x"], ["--state", "done", "--yes"]])
def test_neither_or_both_of_ids_and_filters_is_wrong_use(
    arguments: list[str], fairchild_db: str, tmp_path: Path
) -> None:
    for verb in ("cancel", "retry"):
        done = command("jobs", verb, *arguments, folder=tmp_path, url=fairchild_db)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


def test_stats_count_by_queue_and_state(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        client.enqueue("shop.a", queue="one")
    as_json = command("stats", "--json", folder=tmp_path, url=fairchild_db)
    assert json.loads(as_json.stdout)["queues"]["one"]["available"] == 1
    table = command("stats", folder=tmp_path, url=fairchild_db).stdout.splitlines()
    assert table[0].split() == ["queue", *(state.value for state in JobState)]
    assert table[1].split() == ["one", "0", "1", "0", "0", "0", "0", "0"]


def test_a_reader_that_goes_away_is_no_error(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.support.command import environment

    with client:
        client.enqueue_many("shop.a", ({"n": number} for number in range(1000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "fairchild", "jobs", "list", "--json", "--limit", "1000"],
        cwd=tmp_path, env=environment(fairchild_db), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1
    process.stderr.close()


def test_logs_are_printed_from_a_level_up(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    def scan() -> None:
        current_job().log("page read", page=7)
        current_job().log("torn", level="warning")
        current_job().progress(1, total=2, message="half")

    client.registry.add(scan, name="shop.scan")
    with client, Worker(client, concurrency=1):
        job = str(client.enqueue("shop.scan").wait(30).id)

    def logs(*arguments: str) -> str:
        return command("jobs", "logs", job, *arguments, folder=tmp_path, url=fairchild_db).stdout

    first, second = logs().splitlines()
    assert first.endswith('1 INFO shop.scan: page read {"page": 7}')
    assert second.endswith("1 WARNING shop.scan: torn")
    lines = json.loads(logs("--level", "warning", "--json"))["lines"]
    assert [line["message"] for line in lines] == ["torn"]
    assert len(logs("--attempt", "1").splitlines()) == 2
    assert logs("--attempt", "2") == ""
    shown = command("jobs", "show", job, folder=tmp_path, url=fairchild_db).stdout
    assert "1 of 2: half" in shown
    unknown = command("jobs", "logs", str(uuid4()), folder=tmp_path, url=fairchild_db)
    assert unknown.returncode == 2


def test_run_makes_scheduled_jobs_available(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        later, other = (client.enqueue("shop.a", {}, delay=3600) for _ in range(2))
        ready = client.enqueue("shop.a", {})

    done = command("jobs", "run", str(later.id), str(ready.id), folder=tmp_path, url=fairchild_db)
    assert (done.returncode, done.stdout) == (1, f"{later.id}\n")
    assert "1 jobs made available" in done.stderr
    assert f"{ready.id}: not changed, it is available" in done.stderr
    matching = command("jobs", "run", "--task", "shop.a", "--yes", "--json", folder=tmp_path, url=fairchild_db)
    assert json.loads(matching.stdout) == {"jobs": [str(other.id)], "unchanged": []}


def test_move_puts_jobs_elsewhere(client: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    with client:
        job = client.enqueue("shop.a", {})

    moved = command(
        "jobs", "move", str(job.id), "--to-queue", "slow", "--priority", "8", folder=tmp_path, url=fairchild_db
    )
    assert (moved.returncode, moved.stdout) == (0, f"{job.id}\n")
    with client:
        found = client.get_job(job.id)
    assert found is not None
    assert (found.queue, found.priority) == ("slow", 8)
    nowhere = command("jobs", "move", str(job.id), folder=tmp_path, url=fairchild_db)
    assert (nowhere.returncode, "say where to move" in nowhere.stderr) == (2, True)
