"""One attempt: what the task sees, what its result becomes, and that whatever it does stays its own affair."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from typing import Any
from uuid import UUID

import pytest

from fairchild import Record, current_job
from fairchild.context import CurrentJob, get_current_job
from fairchild.errors import NoResult, SpawnAfterEnd
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


def test_a_task_sees_the_job_it_runs_in(app: App) -> None:
    @app.task(tags=["a"], queue="q", timeout=60, max_attempts=4, tenant="acme", priority=2)
    def look(x: int, job: CurrentJob) -> Any:
        assert current_job() is job
        return {
            "id": str(job.id), "attempt": job.attempt, "max_attempts": job.max_attempts, "args": job.args,
            "meta": job.meta, "tags": job.tags, "queue": job.queue, "tenant": job.tenant, "priority": job.priority,
            "workflow_id": str(job.workflow_id), "task": job.task, "cancelled": job.cancelled,
            "time": job.time_left is not None and 0 < job.time_left <= 60,
        }  # fmt: skip

    job = look.enqueue(5, _meta={"m": [1]}, _tags=["b"])
    app.work()

    assert app.result(job) == {
        "id": str(job.id), "attempt": 1, "max_attempts": 4, "args": {"x": 5}, "meta": {"m": [1]}, "tags": ["a", "b"],
        "queue": "q", "tenant": "acme", "priority": 2, "workflow_id": str(job.id), "task": look.name,
        "cancelled": False, "time": True,
    }  # fmt: skip


def test_there_is_no_current_job_outside_of_one(app: App) -> None:
    seen: list[Any] = []

    @app.task
    def work() -> None:
        thread = threading.Thread(target=lambda: seen.append(get_current_job()))
        thread.start()
        thread.join()

    app.work()
    app.wait(work.enqueue())

    assert seen == [None]
    assert get_current_job() is None


def test_the_fence_grows_and_the_attempt_counts_with_every_run(app: App) -> None:
    seen: list[tuple[int, int]] = []

    @app.task(backoff="none", max_attempts=3)
    def work() -> None:
        job = current_job()
        seen.append((job.attempt, job.fence))
        if job.attempt < 3:
            raise ValueError("again")

    app.work()
    app.wait(work.enqueue())

    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    fences = [fence for _, fence in seen]
    assert fences == sorted(set(fences))


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "text", [], [1, [2]], {}, {"a": {"b": None}}, "ü🔑", 2**70])
def test_plain_json_and_records_come_back_as_they_were(app: App, value: Any) -> None:
    @app.task
    def plain() -> Any:
        return value

    @app.task
    def record() -> Any:
        return Record(value)

    app.work()

    assert app.result(plain.enqueue()) == value
    assert app.result(record.enqueue()) == value


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, "\x00", "\ud800", {"x": [object()]}])
def test_a_plain_result_that_is_not_json_is_dropped_with_a_warning(
    app: App, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def plain() -> Any:
        return value

    job = plain.enqueue()
    with caplog.at_level(logging.WARNING, "fairchild.worker"):
        app.work()
        (done,) = app.wait(job)

    assert (done.state, done.has_result) == ("completed", False)
    assert "its result is dropped" in caplog.text
    with pytest.raises(NoResult):
        app.result(job)


@pytest.mark.parametrize("value", [object(), float("inf"), "x" * 2_000_000])
def test_a_record_that_is_not_json_fails_the_attempt_and_names_the_place(app: App, value: Any) -> None:
    @app.task(max_attempts=1)
    def record() -> Any:
        return Record({"here": value})

    job = record.enqueue()
    app.work()
    (done,) = app.wait(job)

    assert (done.state, done.reason, done.attempt) == ("failed", "error", 1)
    assert "result" in done.errors[0]["message"]


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), SystemExit(), BaseException("x")]
)
def test_what_would_end_a_process_fails_one_job_only(app: App, raised: BaseException) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise raised

    @app.task
    def good() -> int:
        return 1

    worker = app.work(concurrency=1)
    job = bad.enqueue()
    (done,) = app.wait(job)

    assert (done.state, done.errors[0]["type"]) == ("failed", type(raised).__name__)
    assert app.result(good.enqueue()) == 1
    assert worker.alive


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _Mute(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def _circular() -> Exception:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    return first


def _deep() -> Exception:
    error: Exception = ValueError("0")
    for number in range(300):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(
    "make",
    [
        _Unspeakable,
        _Mute,
        _circular,
        _deep,
        lambda: ValueError("x" * 50_000_000),
        lambda: ValueError("\U0001f600" * 1_000_000),
        lambda: ValueError("\x00 \ud800 \x1b[31m \n" * 100),
        lambda: ValueError(),
        lambda: ValueError(_Unspeakable()),
        lambda: type("N" * 5000, (Exception,), {})("long name"),
    ],
    ids=["unspeakable", "mute", "circular", "deep", "huge", "wide", "dirty", "empty", "nested", "long name"],
)
def test_an_error_of_any_shape_is_recorded_in_bounds_and_the_worker_goes_on(
    app: App, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The record carries the error itself, and xdist cannot send lone surrogates on.
    monkeypatch.setattr(logging.getLogger("fairchild.worker"), "disabled", True)

    @app.task(max_attempts=1)
    def bad() -> None:
        raise make()

    @app.task
    def good() -> int:
        return 1

    app.work(concurrency=1)
    (done,) = app.wait(bad.enqueue())

    assert done.state == "failed"
    (entry,) = done.errors
    assert set(entry) == {"attempt", "kind", "type", "message", "traceback", "at", "worker", "fingerprint"}
    assert (entry["attempt"], entry["kind"]) == (1, "error")
    assert len(entry["message"]) < 10_000
    assert len(entry["traceback"] or "") < 40_000
    assert len(json.dumps(entry, ensure_ascii=False).encode()) < 64 * 1024
    assert app.result(good.enqueue()) == 1


def test_a_traceback_begins_in_the_task_and_shows_no_frame_of_ours(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("here")

    app.work()
    (done,) = app.wait(bad.enqueue())
    text = done.errors[0]["traceback"]

    assert 'raise ValueError("here")' in text
    assert "fairchild/worker" not in text
    assert text.rstrip().endswith("ValueError: here")


_TYPES = {"timeout_seconds": "float8", "scheduled_at": "timestamptz", "inserted_at": "timestamptz"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("args", "[]"),
        ("args", "3"),
        ("args", "null"),
        ("args", "{}"),
        ("args", '{"x": "text"}'),
        ("args", '{"x": 1, "y": 2}'),
        ("refs", "5"),
        ("refs", "[[1]]"),
        ("refs", '{"a": "b"}'),
        ("refs", '[[["x"], "no id"]]'),
        ("refs", '[[["x"], 7]]'),
        ("refs", '[[["a", "b"], "00000000-0000-0000-0000-000000000000"]]'),
        ("meta", "[1]"),
        ("timeout_seconds", "NaN"),
        ("scheduled_at", "infinity"),
        ("inserted_at", "-infinity"),
    ],
)
def test_a_row_that_was_spoilt_is_its_own_affair_among_fifty(app: App, column: str, value: str) -> None:
    @app.task(max_attempts=1)
    def work(x: int) -> int:
        return x

    jobs = [work.enqueue(number) for number in range(50)]
    spoilt = jobs.pop(25)
    app.store.sql(
        f"UPDATE {{jobs}} SET {column} = (%(value)s::text)::{_TYPES.get(column, 'jsonb')} WHERE id = %(id)s",
        value=value,
        id=spoilt.id,
    )
    worker = app.work()

    assert [app.result(job) for job in jobs] == [number for number in range(50) if number != 25]
    eventually(lambda: app.store.sql("SELECT count(*) FROM {claims}") == [(0,)])
    if column in ("args", "refs"):
        ended = app.store.sql("SELECT state, attempt, errors->0->>'kind' FROM {jobs} WHERE id = %(id)s", id=spoilt.id)
        assert ended in ([("failed", 1, "invalid_args")], [("failed", 1, "upstream_failed")])
    assert worker.alive


def test_check_raises_when_the_time_is_up_and_time_left_is_never_negative(app: App) -> None:
    left: list[float | None] = []

    @app.task(timeout=0.05, max_attempts=2, backoff="none")
    def slow(job: CurrentJob) -> None:
        try:
            while True:
                job.check()
        except BaseException:
            left.append(job.time_left)
            raise

    job = slow.enqueue()
    app.work()
    (done,) = app.wait(job)

    assert (done.state, done.reason, done.attempt) == ("failed", "timeout", 2)
    assert [entry["kind"] for entry in done.errors] == ["timeout", "timeout"]
    assert left == [0.0, 0.0]


def test_what_unwinds_after_check_is_not_interrupted_in_its_midst(app: App) -> None:
    cleaned: list[str] = []

    @app.task(timeout=0.02, max_attempts=1)
    def careful(job: CurrentJob) -> None:
        try:
            while True:
                job.check()
        finally:
            began = time.monotonic()
            while time.monotonic() < began + 0.2:  # Python code, in which an interrupt would be raised at once
                pass
            cleaned.append("done")

    jobs = [careful.enqueue() for _ in range(10)]
    app.work(concurrency=10)

    assert {job.reason for job in app.wait(*jobs)} == {"timeout"}
    assert cleaned == ["done"] * 10


def test_who_goes_on_after_check_is_interrupted_from_outside(app: App) -> None:
    @app.task(timeout=0.02, max_attempts=1)
    def stubborn(job: CurrentJob) -> None:
        try:
            while True:
                job.check()
        except BaseException:  # noqa: BLE001
            while True:
                pass

    app.work()
    (done,) = app.wait(stubborn.enqueue())

    assert (done.state, done.reason) == ("failed", "timeout")


def test_an_interrupt_is_not_eaten_by_a_tasks_own_handlers(app: App) -> None:
    @app.task(timeout=0.01, max_attempts=1)
    def stubborn(job: CurrentJob) -> None:
        while True:
            try:
                job.check()
            except Exception:  # noqa: BLE001
                pass

    app.work()

    assert app.wait(stubborn.enqueue())[0].reason == "timeout"


def test_a_job_that_was_not_started_in_time_is_cancelled_without_running(app: App) -> None:
    ran: list[int] = []

    @app.task(expires=60)
    def work() -> None:
        ran.append(1)

    late, fresh = work.enqueue(), work.enqueue()
    app.store.sql("UPDATE {ready} SET at = at - interval '2 minutes' WHERE job_id = %(id)s", id=late.id)
    app.work()
    one, other = app.wait(late, fresh)

    assert (one.state, one.reason, one.attempt, one.errors) == ("cancelled", "expired", 0, [])
    assert other.state == "completed"
    assert ran == [1]


def test_meta_changed_by_an_attempt_is_kept_whatever_it_comes_to(app: App) -> None:
    @app.task(max_attempts=2, backoff="none")
    def work(job: CurrentJob) -> None:
        job.update_meta({"seen": [*job.meta.get("seen", []), job.attempt]})
        if job.attempt == 1:
            raise ValueError("again")

    app.work()

    assert app.wait(work.enqueue(_meta={"a": 1}))[0].meta == {"a": 1, "seen": [1, 2]}


def test_a_job_passed_to_a_task_while_it_runs_is_refused(app: App) -> None:
    @app.task(max_attempts=1)
    def child(x: Any) -> None: ...

    @app.task(max_attempts=1)
    def flow() -> None:
        child(current_job())

    app.work()
    (done,) = app.wait(flow.enqueue())

    assert "would wait for itself" in done.errors[0]["message"]


def test_the_worker_is_named_in_what_it_recorded(app: App) -> None:
    @app.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("x")

    worker = app.work(name="worker-seven")
    (done,) = app.wait(bad.enqueue())

    assert done.errors[0]["worker"] == "worker-seven"
    assert done.worker == worker.session
    assert isinstance(done.worker, UUID)


def test_a_context_that_outlives_the_attempt_takes_no_children(app: App) -> None:
    kept: list[contextvars.Context] = []

    @app.task
    def child() -> None: ...

    @app.task
    def parent() -> str:
        kept.append(contextvars.copy_context())
        return "done"  # without ever asking which job it is

    app.work()
    job = app.wait(parent.enqueue())[0]

    assert kept[0].run(current_job).id == job.id
    with pytest.raises(SpawnAfterEnd):
        kept[0].run(child)


def test_threads_with_a_copied_context_see_one_job(app: App) -> None:
    seen: list[CurrentJob] = []

    @app.task
    def child(n: int) -> int:
        return n

    @app.task
    def parent() -> None:
        start = threading.Barrier(8)

        def call(n: int) -> None:
            start.wait(PATIENCE)
            seen.append(current_job())
            child(n)

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(call, n)) for n in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    app.work()
    job = app.wait(parent.enqueue())[0]

    assert len({id(each) for each in seen}) == 1
    found = list(app.client.jobs(task=child.name))
    assert sorted(each.args["n"] for each in found) == list(range(8))
    assert {each.parent_id for each in found} == {job.id}
