"""The pytest plugin as a project that installed fairchild sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import psycopg
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fairchild_server: str) -> pytest.Pytester:
    """A project with a test database at hand, run in processes of their own."""
    monkeypatch.setenv("FAIRCHILD_TEST_DATABASE_URL", _named(fairchild_server))
    return pytester


def _named(server: str) -> str:
    from fairchild.testing import databases

    return databases.database_url(server, "a_project_test")


def test_a_project_gets_a_database_for_each_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        HEAD
        + """
names = []

def count(url):
    with psycopg.connect(url, autocommit=True) as connection:
        names.append(connection.info.dbname)
        connection.execute("INSERT INTO fairchild_catalogs VALUES ('a', '{}')")
        return connection.execute("SELECT count(*) FROM fairchild_catalogs").fetchone()[0]

def test_one(fairchild_db):
    assert count(fairchild_db) == 1

def test_two(fairchild_db):
    assert count(fairchild_db) == 1
    assert names[0] != names[1]
    assert all("_test" in name for name in names)
"""
    )

    result = project.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=2)


def test_under_xdist_all_workers_share_one_server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAIRCHILD_TEST_DATABASE_URL", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(
        HEAD
        + """
import pathlib, time
import pytest

@pytest.mark.parametrize("n", range(4))
def test_it(fairchild_db, n):
    with psycopg.connect(fairchild_db) as connection:
        started = connection.execute("SELECT extract(epoch FROM pg_postmaster_start_time())::text").fetchone()[0]
        folder = connection.execute("SHOW data_directory").fetchone()[0]
        here = pathlib.Path(__file__).parent
        (here / f"seen.{n}").write_text(f"{started} {folder}")
        deadline = time.monotonic() + 30
        while len(list(here.glob("seen.*"))) < 2:  # so that neither worker is done before the other began
            assert time.monotonic() < deadline
            time.sleep(0.01)
"""
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2")

    result.assert_outcomes(passed=4)
    seen = {path.read_text() for path in pytester.path.glob("seen.*")}
    assert len(seen) == 1
    assert not Path(seen.pop().split(" ", 1)[1]).exists()


def test_a_database_that_is_not_for_tests_is_an_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRCHILD_TEST_DATABASE_URL", "postgresql://localhost/production")
    pytester.makepyfile("def test_it(fairchild_db):\n    pass\n")

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: production does not look like a database for tests*"])


def test_a_project_that_asks_for_nothing_gets_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRCHILD_TEST_DATABASE_URL", "postgresql://nonexistent.invalid/x_test")
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert 'psycopg' not in sys.modules and 'fairchild.db' not in sys.modules\n"
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_client_of_the_fixture_is_connected(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
def test_it(fairchild, fairchild_db):
    from fairchild import Fairchild
    assert isinstance(fairchild, Fairchild)
    assert fairchild.stats() is not None
"""
    )

    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
