"""Where a worker's threads are, asked through the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fairchild.db import stacks as stored
from fairchild.errors import UnknownWorker, WorkerSilent
from tests.support import isolated
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def test_a_running_job_is_found_at_its_line(app: App, gate: threading.Event) -> None:
    @app.task(name="shop.hold")
    def hold(secret: str) -> None:
        inner(secret)

    def inner(password: str) -> None:
        gate.wait(PATIENCE)

    job = app.client.enqueue("shop.hold", {"secret": "pa55word"})
    app.work(name="one", concurrency=2)
    app.reaches(job, "running")

    (found,) = app.client.workers.stacks("one", PATIENCE)

    thread = found.of_job(job.id)
    assert thread is not None
    assert thread is found.threads[0]
    assert (thread.task, thread.attempt, thread.note) == ("shop.hold", 1, "")
    functions = [each.function for each in thread.frames]
    assert functions[functions.index("hold") :][:2] == ["hold", "inner"]
    (inside,) = [each for each in thread.frames if each.function == "inner"]
    assert (inside.file, inside.code) == (__file__, "gate.wait(PATIENCE)")
    assert f'File "{__file__}", line {inside.line}, in inner\n    gate.wait(PATIENCE)' in str(found)
    assert f"job {job.id} (shop.hold, attempt 1)" in str(found)
    assert "pa55word" not in str(found) + str(found.to_dict())
    assert {"fairchild-runner-0", "fairchild-heartbeat", "MainThread"} <= {each.name for each in found.threads}
    assert found.answered
    assert found.to_dict()["threads"][0]["job"] == str(job.id)


def test_a_coroutine_is_walked_through_what_it_awaits(app: App) -> None:
    go_on = asyncio.Event()

    @app.task(name="wait")
    async def wait() -> None:
        await deeper()

    async def deeper() -> None:
        await go_on.wait()

    job = app.client.enqueue("wait")
    app.work(name="one")
    app.reaches(job, "running")

    def walked() -> list[str]:
        (found,) = app.client.workers.stacks("one", PATIENCE)
        thread = found.of_job(job.id)
        return [] if thread is None else [thread.note, *(each.function for each in thread.frames)]

    eventually(lambda: walked() == ["a coroutine", "wait", "deeper", "wait"], PATIENCE, what=walked)
    app.client.cancel(job, "enough")


def test_a_job_in_a_process_of_its_own_is_asked_there(app: App, tmp_path: Path) -> None:
    app.client.registry.register(isolated.holds)
    path = tmp_path / "pid"
    job = app.client.enqueue(isolated.holds.name, {"path": str(path)})
    app.work(name="one", concurrency=1)
    app.reaches(job, "running")

    def inside() -> str:
        (found,) = app.client.workers.stacks("one", PATIENCE)
        thread = found.of_job(job.id)
        return "" if thread is None else f"{thread.note} {[each.function for each in thread.frames]}"

    eventually(lambda: "'holds'" in inside(), PATIENCE, what=inside)
    assert inside().startswith(f"in process {path.read_text()}, its own [")
    Path(f"{path}.go").touch()
    app.reaches(job, "completed")


def test_who_is_not_at_work_cannot_be_asked(app: App) -> None:
    with pytest.raises(UnknownWorker, match="'nobody'"):
        app.client.workers.stacks("nobody")
    assert app.client.workers.last_stacks([uuid4()]) == []


def test_who_does_not_answer_is_named_and_an_old_answer_is_none(app: App) -> None:
    session = app.store.open_session()
    with pytest.raises(WorkerSilent, match=f"w-{session}") as silent:
        app.client.workers.stacks(session, timeout=0)
    assert silent.value.answered == []

    stored.answer(app.store.link, session, [stored.ThreadStack("t", [])])
    (found,) = app.client.workers.last_stacks([session])
    assert found.answered
    (asked,) = app.client.workers.ask_stacks(session)
    (found,) = app.client.workers.last_stacks([asked])
    assert not found.answered
    assert [each.name for each in found.threads] == ["t"]


def test_a_deep_recursion_is_cut_in_its_middle(app: App, gate: threading.Event) -> None:
    @app.task(name="deep")
    def deep(n: int) -> None:
        if n:
            deep.fn(n - 1)
        else:
            gate.wait(PATIENCE)

    job = app.client.enqueue("deep", {"n": 500})
    app.work(name="one")
    app.reaches(job, "running")

    def frames() -> list[str]:
        (found,) = app.client.workers.stacks("one", PATIENCE)
        thread = found.of_job(job.id)
        return [] if thread is None else [each.function for each in thread.frames]

    eventually(lambda: frames()[-1:] == ["wait"], PATIENCE)
    assert 100 <= len(frames()) <= 101
    assert "…" in frames()


def test_a_consumer_answers_as_well(app: App) -> None:
    app.task(name="t")(lambda: None)
    app.client.enqueue("t")
    with app.client.claim() as jobs:
        assert len(jobs) == 1
        (found,) = app.client.workers.stacks(app.client.workers.list()[0], PATIENCE)
    assert "MainThread" in {each.name for each in found.threads}
