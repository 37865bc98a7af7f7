from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import fairchild


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["shop.add", "-a", "a=2", "-a", "b=3"], 5),
        (["shop.add", "--args", '{"a": 2}'], 3),
        (["shop.add", "--args", '{"a": 2, "b": 9}', "-a", "b=0"], 2),
        (["shop.year", "-a", "at=2030-01-31T08:00:00Z"], 2030),
    ],
)
def test_a_task_runs_without_a_database(arguments: list[str], result: object, folder: Path) -> None:
    done = fairchild("run", "-i", "shop", *arguments, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == result


def test_the_module_is_found_by_the_name_of_the_task(folder: Path) -> None:
    package = folder / "app" / "mail"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from fairchild import task\n@task\ndef send(n: int):\n    return n * 2\n")
    done = fairchild("run", "app.mail.send", "-a", "n=4", folder=folder)
    assert (done.returncode, done.stdout) == (0, "8\n")


def test_what_the_task_prints_comes_before_the_result(folder: Path) -> None:
    done = fairchild("run", "-i", "shop", "shop.greet", "-a", "name=123", folder=folder)
    assert done.stdout == 'greeting 123\n{"greeted": "123"}\n'


def test_with_json_there_is_nothing_but_the_result_on_stdout(folder: Path) -> None:
    done = fairchild("run", "-i", "shop", "shop.greet", "-a", "name=Ada", "--json", folder=folder)
    assert json.loads(done.stdout) == {"greeted": "Ada"}
    assert done.stderr == "greeting Ada\n"


def test_an_error_is_printed_with_its_traceback_and_exit_1(folder: Path) -> None:
    done = fairchild("run", "-i", "shop", "shop.boom", "-a", "text=pity", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "in boom" in done.stderr
    assert "in inner" in done.stderr
    assert done.stderr.endswith("RuntimeError: pity\n")
    assert "cli/tasks.py" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop.add"], "missing a required argument: 'a'"),
        (["shop.add", "-a", "a=x"], "does not fit"),
        (["shop.add", "-a", "a=1", "-a", "c=1"], "unexpected keyword argument 'c'"),
        (["shop.ad"], "did you mean shop.add"),
        (["elsewhere.add"], "no task"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], words: str, folder: Path) -> None:
    done = fairchild("run", *arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "nothing was enqueued" not in done.stderr


def test_a_value_that_no_worker_could_keep_is_told(folder: Path) -> None:
    done = fairchild("run", "-i", "shop", "shop.unkept", folder=folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert "cannot be stored as JSON" in done.stderr


def test_planned_endings_are_told(folder: Path) -> None:
    later = fairchild("run", "-i", "shop", "shop.later", folder=folder)
    assert later.returncode == 0
    assert "Snooze" in later.stderr
    unwanted = fairchild("run", "-i", "shop", "shop.unwanted", folder=folder)
    assert unwanted.returncode == 1
    assert "Cancel: not wanted" in unwanted.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_thing\n", "cannot import broken: ModuleNotFoundError: No module named 'no_such_thing' ("),
        ("x = 1\n1 / 0\n", "broken.py, line 2)"),
        ("def (\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "cannot import broken: SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_cause(text: str, words: str, folder: Path) -> None:
    (folder / "broken.py").write_text(text)
    for command in (["run", "-i", "broken", "broken.x"], ["worker", "-i", "shop,broken"]):
        done = fairchild(*command, folder=folder, url="postgresql://localhost:1/x")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


def test_a_file_instead_of_a_module_is_explained(folder: Path) -> None:
    done = fairchild("run", "-i", "shop.py", "shop.add", folder=folder)
    assert done.returncode == 2
    assert "name of a module" in done.stderr
