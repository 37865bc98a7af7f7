"""Processes that fork: jobs that do, and web servers that load the application before they fork their workers."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairchild import current_job
from fairchild.errors import UsageError
from tests.support.app import PATIENCE, App
from tests.support.command import environment
from tests.support.eventually import eventually


@contextmanager
def forking() -> Iterator[None]:
    """Without the warning of Python 3.12 and later about forks of processes with threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def test_f20_a_process_that_a_job_forks_uses_no_connection_of_its_parent(app: App) -> None:
    @app.task(name="note")
    def note(n: int) -> int:
        return n

    @app.task
    def forks() -> int:
        job = current_job()
        with job.transaction() as connection:  # open while the others are at work
            connection.execute("SELECT 1")

        def enqueue(first: int) -> None:
            for n in range(first, first + 20):
                made = app.client.enqueue(note, {"n": n}, queue="later")
                assert made.refresh().args == {"n": n}

        with forking():
            children = [multiprocessing.get_context("fork").Process(target=enqueue, args=(n,)) for n in (100, 200)]
            for child in children:
                child.start()
        enqueue(300)
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0]
        return 1

    job = forks.enqueue()
    app.work(queues=["default"])

    assert app.result(job) == 1
    made = app.store.sql("SELECT (args->>'n')::int FROM {jobs} WHERE queue = 'later'")
    assert sorted(row[0] for row in made) == [n for first in (100, 200, 300) for n in range(first, first + 20)]


@pytest.mark.parametrize("how", ["returns", "exits", "raises"])
def test_f20_a_forked_process_that_comes_back_from_its_task_ends_and_the_job_is_the_parents(app: App, how: str) -> None:
    ran: list[int] = []

    @app.task
    def forks() -> int:
        with current_job().transaction() as connection:
            connection.execute("SELECT 1")
        with forking():
            pid = os.fork()
        if pid == 0:
            if how == "exits":
                sys.exit(0)
            if how == "raises":
                raise ValueError
            return 0
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ended == (1 if how == "raises" else 0)
        return pid

    @app.task
    def other(n: int) -> int:
        ran.append(n)
        return os.getpid()

    job = forks.enqueue()
    others = [other.enqueue(n) for n in range(20)]
    app.work(concurrency=1)

    assert app.result(job) != 0
    assert {app.result(each) for each in others} == {os.getpid()}
    assert ran == list(range(20))
    assert app.get(job).attempt == 1


def test_f20_what_belongs_to_the_job_is_refused_in_a_process_forked_from_it(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def forks() -> list[str]:
        job = current_job()

        def call() -> object:
            return leaf(7)

        def transaction() -> object:
            with job.transaction() as connection:
                return connection

        acts: dict[str, Callable[[], object]] = {
            "call": call,  # as in a thread of its own: here and now
            "wrapped": job.wrap(call),
            "transaction": transaction,
            "meta": lambda: job.update_meta({"a": 1}),
        }
        read, write = os.pipe()
        with forking():
            pid = os.fork()
        if pid == 0:
            for name, act in acts.items():
                try:
                    said = repr(act())
                except UsageError as error:
                    said = str(error)
                os.write(write, f"{name}: {said}\n".encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        with os.fdopen(read) as pipe:
            return pipe.read().splitlines()

    job = forks.enqueue()
    app.work()
    said = app.result(job)

    assert said[0] == "call: 7"
    assert [each.split(":")[0] for each in said[1:]] == ["wrapped", "transaction", "meta"]
    assert all("was forked from it" in each and "Nothing was written" in each for each in said[1:])
    assert app.children(job) == []


SITE = """
import os
from fairchild import Fairchild, task

@task(name="site.mail")
def mail(n):
    return n

fc = Fairchild(pool_size=2)
fc.connect()
mail.enqueue(0)  # used before the fork

def application(environ, start_response):
    job = mail.enqueue(int(environ["QUERY_STRING"]))
    assert job.refresh().args == {"n": int(environ["QUERY_STRING"])}  # what a crossed connection would mix up
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], folder: Path, url: str, port: int) -> Iterator[None]:
    """A web server, until the end of the block."""
    (folder / "site_of_tests.py").write_text(SITE)
    log = folder / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(url), stdout=out, stderr=out, start_new_session=True
        )
    try:

        def answers() -> bool:
            assert server.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        eventually(answers, PATIENCE, what=log.read_text)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(port: int, n: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{n}", timeout=60) as answer:
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed")
def test_f21_gunicorn_loads_the_application_before_it_forks_and_no_enqueue_fails(app: App, tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--threads", "2",
        "--bind", f"127.0.0.1:{port}", "site_of_tests:application",
    ]  # fmt: skip
    with serving(command, tmp_path, app.url, port), ThreadPoolExecutor(8) as pool:
        pids = set(pool.map(lambda n: ask(port, n), range(1, 1001)))

    assert len(pids) == 4
    assert sorted(row[0] for row in app.store.sql("SELECT (args->>'n')::int FROM {jobs}")) == list(range(1001))


UWSGI = Path(sys.executable).with_name("uwsgi")


@pytest.mark.slow
@pytest.mark.skipif(not UWSGI.exists(), reason="uWSGI is not installed")
def test_f22_enqueuing_works_in_uwsgi_without_its_option_for_threads(app: App, tmp_path: Path) -> None:
    port = free_port()
    command = [
        str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2",
        "--module", "site_of_tests:application", "--virtualenv", sys.prefix, "--python-path", str(tmp_path),
    ]  # fmt: skip
    with serving(command, tmp_path, app.url, port):
        for n in range(1, 51):
            ask(port, n)

    assert sorted(row[0] for row in app.store.sql("SELECT (args->>'n')::int FROM {jobs}")) == list(range(51))
