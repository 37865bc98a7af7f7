"""The databases of a test run: which may be touched, and how the processes of a run share one server."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import uuid
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fairchild import testing
from fairchild.db import migrate
from fairchild.errors import UsageError
from fairchild.testing import databases


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://localhost/app_development", "postgresql://localhost/app_test"),
        ("postgresql://ada:p%40ss@db:5433/app_development?sslmode=require",
         "postgresql://ada:p%40ss@db:5433/app_test?sslmode=require"),
        ("postgresql+psycopg://localhost/app_development", "postgresql+psycopg://localhost/app_test"),
        ("postgresql:///?host=/run/pg&dbname=app_development", "postgresql:///?host=/run/pg&dbname=app_test"),
        ("postgresql://localhost/app_development_2", "postgresql://localhost/app_test_2"),
        ("postgresql://localhost/app_test", "postgresql://localhost/app_test"),
        ("postgresql://app_development:x@localhost/app_test", "postgresql://app_development:x@localhost/app_test"),
        ("host=localhost dbname=app_development", "host=localhost dbname=app_test"),
        ("host=localhost dbname=app_test", "host=localhost dbname=app_test"),
        ("embedded:/srv/app_development", "embedded:/srv/app_test"),
        ("embedded:/srv/app_test", "embedded:/srv/app_test"),
    ],
)  # fmt: skip
def test_the_test_database_of_a_url(url: str, expected: str) -> None:
    result = testing.test_database_url(url)

    if "://" in expected or expected.startswith("embedded:"):
        assert result == expected
    else:
        assert conninfo_to_dict(result) == conninfo_to_dict(expected)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/app",
        "postgresql://localhost/app_production",
        "postgresql://app_test:hunter2@localhost/app",
        "postgresql://localhost/",
        "postgresql://",
        "postgresql:///?dbname=app",
        "host=localhost dbname=app user=app_test",
        "embedded:",
        "embedded:/srv/app",
    ],
)
def test_a_database_that_is_not_for_tests_is_refused_unless_forced(url: str) -> None:
    with pytest.raises(UsageError, match=r"no _test.*nothing was touched") as caught:
        testing.test_database_url(url)
    assert "hunter2" not in str(caught.value)
    assert testing.test_database_url(url, force=True) == url


def test_a_server_named_by_a_url_that_is_not_for_tests_is_refused() -> None:
    with pytest.raises(UsageError, match="_test"), databases.server("postgresql://localhost/app", None, None):
        pass


def test_a_server_whose_test_database_does_not_exist_is_used_through_another(fairchild_server: str) -> None:
    url = databases.database_url(fairchild_server, "not_there_test")

    with databases.server(url, None, None) as server, psycopg.connect(server) as connection:
        assert connection.info.dbname == "postgres"


def test_the_fixtures_give_a_migrated_database_for_tests(fairchild_db: str) -> None:
    assert "_test" in str(conninfo_to_dict(fairchild_db)["dbname"])
    assert migrate.current(fairchild_db, None) == migrate.head()


def test_each_test_has_a_database_of_its_own(fairchild_server: str, fairchild_template: str) -> None:
    with (
        databases.copy_of(fairchild_server, fairchild_template) as one,
        databases.copy_of(fairchild_server, fairchild_template) as other,
    ):
        with psycopg.connect(one, autocommit=True) as connection:
            connection.execute("INSERT INTO fairchild_catalogs VALUES ('a', '{}')")
        with psycopg.connect(other, autocommit=True) as connection:
            assert connection.execute("SELECT count(*) FROM fairchild_catalogs").fetchone() == (0,)


def test_a_copy_is_dropped_while_somebody_is_still_connected(fairchild_server: str, fairchild_template: str) -> None:
    with databases.copy_of(fairchild_server, fairchild_template) as url:
        forgotten = psycopg.connect(url)
        name = forgotten.info.dbname
    try:
        with psycopg.connect(fairchild_server) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        assert found is None
    finally:
        forgotten.close()


def test_a_url_of_another_database_keeps_all_else() -> None:
    url = "postgresql://a%40b:p%2Fw@h1:5433,h2:5434/app?sslmode=require&options=-csearch_path%3Dx"

    other = conninfo_to_dict(databases.database_url(url, "o d/d%_test"))

    assert other == {**conninfo_to_dict(url), "dbname": "o d/d%_test"}


def _first_run(run: str, barrier: Any, answers: Any) -> None:
    barrier.wait(60)
    with databases.server(None, None, run) as url:
        name = databases.template(url)
        with psycopg.connect(url) as connection:
            started = connection.execute("SELECT pg_postmaster_start_time()").fetchone()
        with databases.copy_of(url, name) as copy:
            answers.put((started, name, migrate.current(copy, None)))
        barrier.wait(60)


def test_the_processes_of_a_run_share_one_server_and_one_template() -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(4), spawn.Queue()
    run = uuid.uuid4().hex
    processes = [spawn.Process(target=_first_run, args=(run, barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    seen = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    answers.close()
    answers.join_thread()

    assert len(seen) == 1
    assert next(iter(seen))[2] == migrate.head()


def test_the_plugin_loads_next_to_nothing() -> None:
    program = (
        "import sys, pytest, time\n"
        "before, start = set(sys.modules), time.perf_counter()\n"
        "import fairchild.testing.plugin\n"
        "print(time.perf_counter() - start, *sorted(set(sys.modules) - before))\n"
    )
    times, modules = [], [""]
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        seconds, *modules = done.stdout.split()
        times.append(float(seconds))

    assert {"psycopg", "sqlalchemy", "alembic", "msgspec"}.isdisjoint(modules)
    assert min(times) < 0.005, f"{min(times):.4f} s for {modules}"
