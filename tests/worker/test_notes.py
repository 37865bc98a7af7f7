"""What jobs note while they run: progress, a cursor, lines of log."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest

from fairchild import Job, Retry, current_job
from fairchild.context import CurrentJob
from fairchild.db import notes as stored
from fairchild.db.notes import LineNote, ProgressNote
from fairchild.errors import LeaseLost, NotSerializable, UsageError
from fairchild.job import JobState
from fairchild.worker import notes
from tests.support import isolated
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually
from tests.support.store import outcome

log = logging.getLogger("shop")


def messages(app: App, job: Job | UUID, **options: Any) -> list[str]:
    return [line.message for line in app.client.logs(job.id if isinstance(job, Job) else job, **options)]


def written(app: App, job: Job | UUID, *expected: str) -> None:
    eventually(lambda: messages(app, job) == list(expected), what=lambda: messages(app, job))


def test_lines_of_a_job_are_kept_with_it(app: App) -> None:
    @app.task(name="scan")
    def scan() -> None:
        current_job().log("page read", page=7, of={"a": 1})
        current_job().log("torn", level="warning")

    job = scan.enqueue()
    app.work()
    app.wait(job)
    written(app, job, "page read", "torn")
    first, second = app.client.logs(job.id)

    assert (first.level, first.logger, first.attempt, first.fields) == (
        "info",
        "scan",
        1,
        {"page": 7, "of": "{'a': 1}"},
    )
    assert (second.level, second.fields) == ("warning", {})
    assert first.id < second.id
    assert messages(app, job, level="warning") == ["torn"]
    assert messages(app, job, limit=1) == ["page read"]
    assert messages(app, job, after=first.id) == ["torn"]
    assert first.to_dict()["at"] == first.at.isoformat()


def test_what_logging_gets_in_a_job_is_kept_and_nothing_of_others(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @app.task
    def scan() -> None:
        log.info("read %d pages", 3, extra={"book": "Emma"})
        try:
            raise KeyError("leaf")
        except KeyError:
            log.exception("a leaf is missing")
        thread = threading.Thread(target=log.info, args=("from a thread of its own",))
        thread.start()
        thread.join()

    job = scan.enqueue()
    app.work()
    app.wait(job)
    eventually(lambda: len(messages(app, job)) == 2)
    first, second = app.client.logs(job.id)
    assert (first.message, first.logger, first.fields) == ("read 3 pages", "shop", {"book": "Emma"})
    assert second.level == "error"
    assert "Traceback" in second.message
    assert "KeyError: 'leaf'" in second.message


async def _waits() -> None:
    log.warning("in a coroutine")


def test_coroutines_and_wrapped_threads_count_as_the_job(app: App) -> None:
    @app.task
    def threads() -> None:
        thread = threading.Thread(target=current_job().wrap(lambda: log.warning("in a thread")))
        thread.start()
        thread.join()

    jobs = [threads.enqueue(), app.task(name="waits")(_waits).enqueue()]
    app.work()
    app.wait(*jobs)
    written(app, jobs[0], "in a thread")
    written(app, jobs[1], "in a coroutine")


def test_what_a_job_in_a_process_of_its_own_notes_is_kept_as_well(app: App) -> None:
    app.client.registry.register(isolated.notes)
    job = app.client.enqueue(isolated.notes)
    app.work()
    app.wait(job)
    eventually(lambda: len(messages(app, job)) == 2)

    assert sorted(messages(app, job)) == ["by job.log", "by logging"]
    eventually(lambda: app.get(job).progress)
    progress = app.get(job).progress
    assert progress is not None
    assert (progress.value, progress.total) == (3, 4)
    assert app.result(job) == {"page": 2}


def test_lines_of_each_attempt_name_it(app: App) -> None:
    @app.task(backoff="none")
    def flaky() -> None:
        current_job().log("trying")
        if current_job().attempt < 3:
            raise Retry(delay=0)

    job = flaky.enqueue()
    app.work()
    app.wait(job)
    eventually(lambda: [line.attempt for line in app.client.logs(job.id)] == [1, 2, 3])


def test_an_attempt_keeps_so_many_lines_and_says_how_many_were_dropped(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes.Notes.__init__, "__defaults__", (5,))

    @app.task
    def chatter() -> None:
        for n in range(12):
            current_job().log(str(n))

    job = chatter.enqueue()
    app.work()
    app.wait(job)
    written(app, job, "0", "1", "2", "3", "4", "7 further lines of this attempt were dropped")


def test_lines_are_bounded_and_what_no_database_keeps_is_replaced(app: App) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no")

    @app.task
    def odd() -> None:
        current_job().log("x" * 100_000)
        current_job().log("a\x00b \udce4", value="\x00", number=float("nan"), odd=Odd(), big=2**70)
        log.makeRecord("shop", 30, "file", 1, "%d is no number", ("x",), None)  # handlers would complain
        current_job().log("named", name="shop", args=[])

    job = odd.enqueue()
    app.work()
    app.wait(job)
    eventually(lambda: len(messages(app, job)) == 4)
    long, strange, unfit, named = app.client.logs(job.id)
    assert len(long.message) < 8_100
    assert strange.message == "a\ufffdb ?"
    assert strange.fields == {"value": "\ufffd", "number": "nan", "odd": "<Odd>", "big": str(2**70)}
    assert unfit.message == "%d is no number"
    assert named.fields == {"name": "shop", "args": "[]"}


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="levels are"):
        CurrentJob(id=uuid4(), task="t", state=JobState.RUNNING).log("x", level="loud")


def test_logging_as_a_program_sets_it_up_is_left_alone(app: App) -> None:
    handlers = list(logging.getLogger().handlers)
    app.task(name="t")(lambda: None)
    app.work()

    assert logging.getLogger().handlers == handlers


def test_progress_is_seen_while_a_job_runs(app: App) -> None:
    go_on = threading.Event()

    @app.task
    def long() -> None:
        current_job().progress(39, total=100)
        current_job().progress(40, total=100, message="halfway, nearly")
        go_on.wait(PATIENCE)

    job = long.enqueue()
    app.work()
    try:
        progress = eventually(lambda: app.get(job).progress)
        assert progress is not None
        assert progress[:4] == (40, 100, "halfway, nearly", 1)
        shown = app.get(job).to_dict()["progress"]
        assert shown == {**progress._asdict(), "at": progress.at.isoformat()}
        assert app.client.jobs()[0].progress == progress
    finally:
        go_on.set()


def test_progress_is_told_in_finite_numbers() -> None:
    job = CurrentJob(id=uuid4(), task="t", state=JobState.RUNNING)
    with pytest.raises(UsageError, match="finite"):
        job.progress(float("nan"))
    job.progress(1)


def test_a_cursor_survives_errors_retries_and_shutdowns(app: App) -> None:
    stop = threading.Event()

    @app.task(backoff="none")
    def walk() -> list[Any]:
        job = current_job()
        seen = job.cursor
        if seen is None:
            assert job.cursor is None
            job.cursor = {"page": 1}
            raise ValueError("no")
        if seen == {"page": 1}:
            job.cursor = {"page": 2}
            stop.set()
            while True:
                job.check()
        return [seen, job.attempt]

    job = walk.enqueue()
    worker = app.work()
    assert stop.wait(PATIENCE)
    worker.stop(timeout=0)
    app.work()

    assert app.result(job) == [{"page": 2}, 2]


def test_a_cursor_survives_the_death_of_its_process(app: App) -> None:
    app.client.registry.register(isolated.die_on_page_two)
    job = app.client.enqueue(isolated.die_on_page_two)
    app.work()

    assert app.result(job) == {"page": 2}
    assert [each["kind"] for each in app.get(job).errors] == ["lost"]


def test_a_completed_job_that_is_retried_by_hand_begins_anew_and_a_failed_one_goes_on(app: App) -> None:
    seen: list[Any] = []
    fail = True

    @app.task(max_attempts=1)
    def walk() -> None:
        seen.append(current_job().cursor)
        current_job().cursor = len(seen)
        if fail:
            raise ValueError("no")

    job = walk.enqueue()
    app.work()
    app.wait(job)
    fail = False
    for _ in range(2):
        app.get(job).retry()
        app.wait(job)

    assert seen == [None, 1, None]


def test_a_cursor_is_small_json(app: App) -> None:
    job = CurrentJob(id=uuid4(), task="t", state=JobState.RUNNING)
    for wrong in (object(), "x" * 70_000, app.client.enqueue("t")):
        with pytest.raises(NotSerializable):
            job.cursor = wrong
    assert job.cursor is None
    job.cursor = (1, 2)
    assert job.cursor == [1, 2]


def test_who_has_lost_the_job_sets_no_cursor(app: App) -> None:
    job = app.store.add()
    first = app.store.claim_one(job)
    app.store.finish(outcome(first, "ready", spent=False))
    second = app.store.claim_one(job)
    late = CurrentJob(id=job, task="t", state=JobState.RUNNING, client=app.client, _claim=first.claim_id)
    mine = CurrentJob(id=job, task="t", state=JobState.RUNNING, client=app.client, _claim=second.claim_id)
    mine.cursor = "mine"

    with pytest.raises(LeaseLost):
        late.cursor = "late"
    assert stored.read_cursor(app.store.link, job) == "mine"


def test_notes_of_an_attempt_that_has_lost_its_job_are_dropped(app: App) -> None:
    job = app.store.add()
    first = app.store.claim_one(job)
    link = app.store.link

    def note(claim_id: UUID) -> tuple[int, int]:
        return (
            stored.write_lines(link, [LineNote(job, claim_id, 1, 0.0, 20, "t", "x", {})] * 2),
            stored.write_progress(link, [ProgressNote(job, claim_id, 1, 1.0, None, None)]),
        )

    assert note(first.claim_id) == (2, 1)
    app.store.finish(outcome(first, "ready"))
    assert note(first.claim_id) == (2, 1)  # its outcome is the last one
    second = app.store.claim_one(job)
    app.store.finish(outcome(second, "ready"))
    assert note(first.claim_id) == (0, 0)
    assert note(uuid4()) == (0, 0)
    assert note(second.claim_id) == (2, 1)


def test_while_the_database_is_away_notes_are_kept_and_no_job_waits(app: App) -> None:
    @app.task
    def chatter() -> None:
        for n in range(10):
            current_job().log(str(n))
            app.kill_backends("fairchild:client%")

    job = chatter.enqueue()
    app.work()
    app.wait(job)
    written(app, job, *map(str, range(10)))


def test_what_waits_is_bounded_and_counted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_WAITING", 3)
    kept = notes.Notebook(app.client.database)  # not started: nothing is written
    for n in range(5):
        kept.line(LineNote(uuid4(), uuid4(), 1, 0.0, 20, "t", str(n), {}))

    assert kept.dropped == 2
