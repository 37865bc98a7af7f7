"""``fairchild bench`` on a server: it measures everything it says it does, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fairchild.bench import arena, report, run
from fairchild.bench.plan import QUICK, of_jobs
from fairchild.errors import DatabaseUnavailable
from tests.support.command import fairchild, started
from tests.support.eventually import eventually

TINY = ("--quick", "--jobs", "20", "--ended", "50")


def schemas(url: str) -> list[str]:
    """The throwaway schemas that there are."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", (arena.PREFIX + "%",)
        ).fetchall()
    return [row[0] for row in found]


@pytest.mark.slow
def test_every_measurement_can_be_made(fairchild_db: str) -> None:
    plan = replace(
        of_jobs(QUICK, 20), rounds=2, ended=50, settle=0.2, counted=0.2, idle=0.5, pace=0.01, poll_delays=1, limit=60.0
    )
    done = run.run(fairchild_db, plan)
    found = report.as_json(done)
    assert [each["missing"] for each in found["measurements"] if each["missing"]] == []
    assert not done.failed
    for each in found["measurements"]:
        assert len(each["samples"]) == 2
        assert each["median"] is not None
        if each["against"] is not None and all(each["samples"]) and each["against"] != "limit.cpu.worker":
            other = done.find(each["against"])
            assert other is not None
            # A few jobs may take too little CPU for the server's clock ticks.
            assert each["ratio"] is not None or 0 in other.samples.values()
    assert schemas(fairchild_db) == []
    assert len(report.rows(done)) == len(found["measurements"])
    assert "| drain.default |" in report.markdown(done)


def test_the_command_prints_json_with_all_that_was_measured(fairchild_db: str, tmp_path: Path) -> None:
    ran = fairchild("bench", *TINY, "--json", "--rounds", "2", "--only", "enqueue", folder=tmp_path, url=fairchild_db)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    names = {each["name"]: each for each in found["measurements"]}
    assert set(names) == {
        "limit.insert", "enqueue.one", "limit.copy", "enqueue.bulk", "limit.executemany", "enqueue.caller",
    }  # fmt: skip
    one = names["enqueue.one"]
    assert one["against"] == "limit.insert"
    assert len(one["samples"]) == len(one["ratios"]) == found["rounds"] == 2
    assert one["ratio"] == pytest.approx(sum(one["ratios"]) / 2)
    assert names["limit.insert"]["ratio"] is None
    assert found["versions"].keys() == {"fairchild", "python", "psycopg", "postgresql"}
    assert found["machine"]["cores"] >= 1
    assert schemas(fairchild_db) == []


def test_the_table_says_what_each_number_is_compared_with(fairchild_db: str, tmp_path: Path) -> None:
    ran = fairchild("bench", *TINY, "--only", "enqueue.one", folder=tmp_path, url=fairchild_db)
    assert ran.returncode == 0, ran.stderr
    head, limit, ours = ran.stdout.splitlines()
    assert head.split() == ["measure", "median", "unit", "spread", "ratio", "to", "noise"]
    assert limit.startswith("limit.insert")
    assert ours.startswith("enqueue.one")
    assert " limit.insert" in ours


def test_a_page_names_versions_and_machine(fairchild_db: str, tmp_path: Path) -> None:
    ran = fairchild("bench", *TINY, "--only", "enqueue.one", "--markdown", folder=tmp_path, url=fairchild_db)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("# Benchmarks\n")
    assert "PostgreSQL" in ran.stdout
    assert "cores" in ran.stdout
    assert "| enqueue.one |" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "'nothing'"),
        (["--rounds", "0"], "--rounds"),
        (["--jobs", "-1"], "--jobs"),
        (["--json", "--markdown"], "exclude each other"),
    ],
)
def test_wrong_use_is_told_before_anything_is_measured(tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = fairchild("bench", *arguments, folder=tmp_path)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_what_can_be_measured_is_listed_without_a_server(tmp_path: Path) -> None:
    ran = fairchild("bench", "--list", "--json", folder=tmp_path)
    assert ran.returncode == 0
    assert {"name": "drain.two", "against": "drain.default"}.items() <= next(
        each for each in json.loads(ran.stdout) if each["name"] == "drain.two"
    ).items()


def test_a_server_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        run.run("postgresql://127.0.0.1:1/nowhere", QUICK)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_schema_behind(fairchild_db: str, tmp_path: Path, number: signal.Signals) -> None:
    with started(["bench", "--only", "drain.default"], folder=tmp_path, url=fairchild_db) as running:
        eventually(lambda: "drain.default" in running.said(), timeout=60.0, what=running.said)
        assert schemas(fairchild_db)
        running.process.send_signal(number)
        assert running.process.wait(60) == 130, running.said()
    assert schemas(fairchild_db) == []


def test_what_a_killed_run_left_behind_is_dropped_by_the_next(fairchild_db: str, tmp_path: Path) -> None:
    with started(["bench", "--only", "enqueue.one"], folder=tmp_path, url=fairchild_db) as running:
        eventually(lambda: "round 1" in running.said(), timeout=60.0, what=running.said)
        running.process.kill()
        running.process.wait(60)
    left = schemas(fairchild_db)
    assert left

    def dropped() -> bool:  # the killed one's session ends a moment later, and its lock with it
        ran = fairchild("bench", *TINY, "--only", "limit.insert", folder=tmp_path, url=fairchild_db)
        assert ran.returncode == 0, ran.stderr
        return not set(left) & set(schemas(fairchild_db))

    eventually(dropped, timeout=60.0)
    assert schemas(fairchild_db) == []


def test_the_schemas_of_a_run_under_way_are_left_alone(fairchild_db: str) -> None:
    with arena.Arena(fairchild_db, QUICK) as first:
        with arena.Arena(fairchild_db, QUICK):
            assert first.plain.schema in schemas(fairchild_db)
        assert schemas(fairchild_db) == [first.plain.schema]
