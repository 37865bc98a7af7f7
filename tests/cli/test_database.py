from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fairchild import Fairchild, Registry
from fairchild.testing.databases import database_url
from fairchild.worker import Worker
from tests.support.command import fairchild


@pytest.fixture
def empty(fairchild_db: str) -> str:
    """URL of a database without any of our tables."""
    Fairchild(fairchild_db).drop_tables()
    return fairchild_db


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'fairchild%' AND relkind = 'r'")
        return sorted(str(row[0]) for row in rows)


def test_install_makes_the_tables_and_may_be_repeated(empty: str, tmp_path: Path) -> None:
    first = fairchild("install", folder=tmp_path, url=empty)
    assert (first.returncode, first.stdout) == (0, "")
    assert "applied 0001" in first.stderr
    second = fairchild("install", "--json", folder=tmp_path, url=empty)
    assert (second.returncode, json.loads(second.stdout)) == (0, {"applied": []})
    assert "fairchild_jobs_base" in tables(empty)


def test_install_into_a_schema(empty: str, tmp_path: Path) -> None:
    assert fairchild("install", "--schema", "jobs", folder=tmp_path, url=empty).returncode == 0
    assert fairchild("stats", folder=tmp_path, url=empty, FAIRCHILD_SCHEMA="jobs").returncode == 0
    assert fairchild("stats", folder=tmp_path, url=empty).returncode == 2


def test_a_command_before_install_says_what_to_run(empty: str, folder: Path) -> None:
    for command in (["stats"], ["jobs", "list"], ["enqueue", "shop.add", "-a", "a=1"], ["worker", "-i", "shop"]):
        done = fairchild(*command, folder=folder, url=empty)
        assert (done.returncode, done.stdout) == (2, "")
        assert "fairchild install" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_migrate_check_fails_while_migrations_are_pending(empty: str, tmp_path: Path) -> None:
    before = fairchild("migrate", "--check", "--json", folder=tmp_path, url=empty)
    assert before.returncode == 1
    assert "0001" in json.loads(before.stdout)["pending"]
    assert tables(empty) == []
    assert fairchild("migrate", folder=tmp_path, url=empty).returncode == 0
    after = fairchild("migrate", "--check", folder=tmp_path, url=empty)
    assert (after.returncode, after.stdout) == (0, "")


def test_migrate_sql_needs_no_database_and_makes_the_tables(empty: str, tmp_path: Path) -> None:
    done = fairchild("migrate", "--sql", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(done.stdout.encode())
    assert fairchild("migrate", "--check", folder=tmp_path, url=empty).returncode == 0


def test_force_drops_everything_once_the_name_is_typed(fairchild_db: str, tmp_path: Path) -> None:
    with Fairchild(fairchild_db) as client:
        client.enqueue("some.task")
        name = client.database_name()
    nobody = fairchild("install", "--force", folder=tmp_path, url=fairchild_db)
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert "--yes" in nobody.stderr
    wrong = fairchild("install", "--force", folder=tmp_path, url=fairchild_db, typed="other\n")
    assert wrong.returncode == 2
    assert "nothing was dropped" in wrong.stderr
    with Fairchild(fairchild_db) as client:
        assert client.stats()["jobs"]["available"] == 1
    right = fairchild("install", "--force", folder=tmp_path, url=fairchild_db, typed=f"{name}\n")
    assert right.returncode == 0
    with Fairchild(fairchild_db) as client:
        assert client.stats()["jobs"]["available"] == 0


def test_force_spares_a_database_whose_workers_are_at_work(fairchild_db: str, tmp_path: Path) -> None:
    registry = Registry()
    registry.add(lambda: None, name="some.task")
    with Fairchild(fairchild_db, registry=registry) as client:
        name = client.database_name()
        with Worker(client, concurrency=1, name="worker-7"):
            done = fairchild("install", "--force", folder=tmp_path, url=fairchild_db, typed=f"{name}\n")
            assert done.returncode == 2
            assert "worker-7" in done.stderr
        assert client.live_workers() == []
    done = fairchild("install", "--force", folder=tmp_path, url=fairchild_db, typed=f"{name}\n")
    assert done.returncode == 0


@pytest.fixture
def production(fairchild_server: str) -> Iterator[str]:
    """URL of a database that is in production by its name."""
    name = f"{conninfo_to_dict(fairchild_server)['dbname']}_cli_test_production"
    with psycopg.connect(fairchild_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        yield database_url(fairchild_server, name)
        connection.execute(f'DROP DATABASE "{name}"'.encode())


def test_force_spares_production_unless_told_yes(production: str, tmp_path: Path) -> None:
    assert fairchild("install", folder=tmp_path, url=production).returncode == 0
    name = str(conninfo_to_dict(production)["dbname"])
    refused = fairchild("install", "--force", folder=tmp_path, url=production, typed=f"{name}\n")
    assert refused.returncode == 2
    assert "in production" in refused.stderr
    assert fairchild("install", "--force", "--yes", folder=tmp_path, url=production).returncode == 0
