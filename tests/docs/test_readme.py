"""The README and the pages in docs/ are run: files are written, commands typed, what they print compared."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in (README, *sorted(README.parent.glob("docs/*.md"))) if FENCE.search(page.read_text())]
TIMEOUT = 90


@dataclass
class Command:
    line: str
    expected: list[str] = field(default_factory=list)


def python_files(page: Path) -> dict[str, str]:
    """``{name: text}`` of all Python blocks; each begins with its name."""
    files = {}
    for language, text in FENCE.findall(page.read_text()):
        if language == "python":
            first = text.splitlines()[0]
            assert re.fullmatch(r"# \w+\.py", first), f"a Python block must begin with its file's name, not {first!r}"
            name = first.removeprefix("# ")
            assert name not in files, f"two blocks are called {name}: the first would never run"
            files[name] = text
    return files


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    for language, text in FENCE.findall(page.read_text()):
        if language != "console":
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append(Command(re.sub(r"\s{2,}#.*$", "", line[2:])))
            else:
                found[-1].expected.append(line)
    return found


def read_until(process: subprocess.Popen[str], expected: list[str], log: Path) -> list[str]:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        lines = log.read_text().splitlines()
        if all(any(want in line for line in lines) for want in expected) or process.poll() is not None:
            return lines
        time.sleep(0.05)
    return log.read_text().splitlines()


def run_worker(line: str, expected: list[str], folder: Path, environment: dict[str, str]) -> None:
    log = folder / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            line, shell=True, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        lines = read_until(process, expected or ["runs 10 jobs at once"], log)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(TIMEOUT) in (0, -signal.SIGTERM), lines
    for want in expected:
        assert any(want in line for line in lines), lines


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `python` and `fairchild` as the README's reader has them."""
    folder = tmp_path_factory.mktemp("bin")
    for name, command in (("python", ""), ("fairchild", " -m fairchild")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_and_prints_what_it_says(page: Path, bin_folder: Path) -> None:
    # Not pytest's own folder: each run of pytest closes that to others, and as root the server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="fairchild-readme-"))
    for name, text in python_files(page).items():
        (folder / name).write_text(text)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("FAIRCHILD_", "PG", "PYTEST_"))
    }
    environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
    environment["PYTHONUNBUFFERED"] = "1"
    try:
        for command in commands(page):
            if command.line.startswith("pip install"):
                continue
            if command.line.startswith("export "):
                name, _, value = command.line.removeprefix("export ").partition("=")
                environment[name] = value
                continue
            if command.line.startswith(("fairchild worker", "fairchild ui")):
                run_worker(command.line, command.expected, folder, environment)
                continue
            done = subprocess.run(
                command.line, shell=True, cwd=folder, env=environment, capture_output=True, text=True,
                timeout=TIMEOUT, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command.line}: {done.stdout}{done.stderr}"
            if command.expected:
                assert done.stdout.splitlines() == command.expected, command.line
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_no_command_runs_can_be_imported(page: Path, tmp_path: Path) -> None:
    files = python_files(page)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    run = " ".join(command.line for command in commands(page))
    unused = [name.removesuffix(".py") for name in files if name not in run]
    assert unused
    for module in unused:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=TIMEOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_every_command_named_in_the_table_exists(bin_folder: Path) -> None:
    table = re.findall(r"^\| (`fairchild [^|]+) \|", README.read_text(), re.MULTILINE)
    names = {match for row in table for match in re.findall(r"`fairchild (\w+)", row)}
    shown = subprocess.run(
        [str(bin_folder / "fairchild"), "--help"], capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout
    assert names
    for name in names:
        assert name in shown
