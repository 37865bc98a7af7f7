from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairchild import __version__
from fairchild.cli import command, main
from tests.support.command import fairchild, python

HEAVY = ["alembic", "flask", "msgspec", "psycopg", "rich", "sqlalchemy", "fairchild.client", "fairchild.tasks"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["worker", "--help"], ["jobs", "list", "--help"], ["demo", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom fairchild.cli import main\n"
        f"code = main({arguments!r})\n"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = python("-c", program, folder=tmp_path)
    assert done.stderr.strip() == "0 []"
    assert "Usage: fairchild" in done.stdout


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
        return
    for name, each in commands.items():
        yield from leaves(each, f"{path} {name}")


COMMANDS = dict(leaves(command(), "fairchild"))


def test_the_commands_are_those_of_the_contract() -> None:
    assert set(COMMANDS) >= {
        f"fairchild {name}"
        for name in (
            "install", "migrate", "worker", "ui", "enqueue", "run", "demo", "stats", "prune",
            "queues list", "queues pause", "queues resume", "tokens create", "tokens list", "tokens revoke",
            "jobs list", "jobs show", "jobs why", "jobs cancel", "jobs retry",
            "workflows list", "workflows show", "workflows cancel", "workflows retry",
            "workers list", "workers pause", "workers resume", "workers stop", "health",
        )
    }  # fmt: skip


@pytest.mark.parametrize("path", list(COMMANDS))
def test_every_option_has_an_environment_variable_that_help_shows(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*path.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    for parameter in COMMANDS[path].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.envvar, parameter.name
            for variable in [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar:
                assert variable.startswith("FAIRCHILD_")
                assert variable in shown


@pytest.mark.parametrize("path", list(COMMANDS))
def test_every_command_says_what_it_does(path: str) -> None:
    assert (COMMANDS[path].help or "").strip().endswith(".")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_no_command_at_all_prints_help_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Commands:" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "No such command 'nope'"),
        (["worker", "--nope"], "No such option"),
        (["worker", "--concurrency", "many"], "--concurrency"),
        (["worker", "--log-level", "loud"], "loud"),
        (["enqueue"], "NAME"),
        (["jobs"], "Missing command"),
        (["jobs", "show"], "ID"),
        (["enqueue", "a.b", "--args", "{"], "--args must be a JSON object"),
        (["enqueue", "a.b", "--args", "[1]"], "--args must be a JSON object"),
        (["enqueue", "a.b", "--args", '{"x": NaN}'], "NaN"),
        (["enqueue", "a.b", "-a", "novalue"], "-a takes key=value, got 'novalue'"),
        (["enqueue", "a.b", "-a", "=1"], "-a takes key=value"),
        (["enqueue", "a.b", "--meta", "7"], "--meta must be a JSON object"),
        (["enqueue", "a.b", "--in", "soon"], "--in takes a duration"),
        (["enqueue", "a.b", "--at", "2030-01-31T08:00:00"], "has no time zone"),
        (["enqueue", "a.b", "--at", "tomorrow"], "--at takes an ISO 8601 time"),
        (["enqueue", "a.b", "--in", "5m", "--at", "2030-01-31T08:00:00Z"], "exclude each other"),
        (["enqueue", "a.b", "--timeout", "-1"], "--timeout takes a duration"),
        (["run", "a.b", "-a", "x"], "-a takes key=value, got 'x'"),
        (["migrate", "--check", "--sql"], "exclude each other"),
        (["demo", "--symbols", "0"], "--symbols is a number from 1"),
    ],
)
def test_wrong_use_is_one_line_on_stderr_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith(("FAIRCHILD_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FAIRCHILD_DATABASE_URL", "postgresql://nobody@localhost:1/nowhere")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize(
    "arguments", [["stats"], ["install"], ["migrate"], ["jobs", "list"], ["enqueue", "a.b"], ["worker", "-i", "shop"]]
)
def test_without_a_database_url_it_says_what_to_set(arguments: list[str], folder: Path) -> None:
    done = fairchild(*arguments, folder=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "set FAIRCHILD_DATABASE_URL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(tmp_path: Path) -> None:
    done = fairchild("stats", "--database-url", "postgresql://u:s3cret@localhost:1/x", folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr
    assert "refused" in done.stderr


def test_a_url_that_is_none_does_not_show_its_password(tmp_path: Path) -> None:
    done = fairchild("stats", "--database-url", "mysql://u:s3cret@localhost/x", folder=tmp_path)
    assert done.returncode == 2
    assert "s3cret" not in done.stderr
    assert "postgresql://" in done.stderr
