"""Finding jobs again: one, pages of many, counted, and by plain SQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from fairchild import Job, JobState, Snooze, Task
from fairchild.errors import InvalidArguments, UnknownJob, UsageError
from tests.support.app import App


@pytest.fixture
def note(app: App) -> Task[..., Any]:
    def note(n: int = 0) -> int:
        return n

    return app.task(name="note")(note)


class Zoo:
    """One job in each state; the running one holds until told."""

    def __init__(self, app: App) -> None:
        import threading

        self.release = threading.Event()
        running = threading.Event()

        @app.task(name="hold", queue="hold", tenant="acme")
        def hold() -> None:
            running.set()
            assert self.release.wait(60)

        @app.task(name="fail", queue="work", max_attempts=1)
        def fail() -> None:
            raise LookupError("no such animal")

        @app.task(name="done", queue="work", tags=["fine"])
        def done() -> dict[str, list[int]]:
            return {"legs": [4]}

        @app.task(name="idle", queue="idle", tags=["fine", "idle"], tenant="zoo")
        def idle(after: Any = None) -> None: ...

        self.jobs = {
            "completed": done.enqueue(),
            "failed": fail.enqueue(),
            "running": hold.enqueue(),
            "available": idle.enqueue(),
            "scheduled": idle.enqueue_in(hours=1),
            "cancelled": idle.enqueue(),
        }
        self.jobs["waiting"] = idle.enqueue(self.jobs["scheduled"])
        self.jobs["cancelled"].cancel("shut")
        self.worker = app.work(queues=["work", "hold"], concurrency=2, poll_interval=0.05)
        app.wait(self.jobs["completed"], self.jobs["failed"])
        assert running.wait(30)


@pytest.fixture
def zoo(app: App) -> Any:
    made = Zoo(app)
    yield made
    made.release.set()


def ids(jobs: Any) -> list[uuid.UUID]:
    return [job.id for job in jobs]


def test_a_job_that_does_not_exist_is_none(app: App) -> None:
    assert app.client.get_job(uuid.uuid4()) is None


def test_a_job_is_found_by_its_id_as_text_too(app: App, note: Task[..., Any]) -> None:
    job = note.enqueue(1)

    assert app.client.get_job(str(job.id)) == app.client.get_job(job.id) == job


@pytest.mark.parametrize("bad", ["", "x", 5, None])
def test_what_is_no_id_is_refused(app: App, bad: Any) -> None:
    for one in (app.client.get_job, app.client.get_result):
        with pytest.raises(UsageError, match="not a job id"):
            one(bad)
    for many in (app.client.wait, app.client.cancel, app.client.retry):
        with pytest.raises(UsageError, match="not a job id"):
            many([bad])


def test_every_state_is_shown_as_it_is(app: App, zoo: Zoo) -> None:
    for state, job in zoo.jobs.items():
        found = app.get(job)
        assert found.state == state
        assert found.state is JobState(state)
        assert found.ended == (state in ("completed", "failed", "cancelled"))
        assert ids(app.client.jobs(state=state)) == [job.id]
        assert ids(app.client.jobs(state=JobState(state))) == [job.id]


def test_a_job_tells_what_became_of_it(app: App, zoo: Zoo) -> None:
    done, failed, running, cancelled = (
        app.get(zoo.jobs[state]) for state in ("completed", "failed", "running", "cancelled")
    )

    assert (done.has_result, done.result, done.attempt, done.reason) == (True, {"legs": [4]}, 1, None)
    assert done.inserted_at is not None
    assert done.attempted_at is not None
    assert done.completed_at is not None
    assert done.inserted_at <= done.attempted_at <= done.completed_at == done.ended_at == done.updated_at
    assert (failed.reason, failed.completed_at, failed.has_result) == ("error", None, False)
    (error,) = failed.errors
    assert set(error) == {"attempt", "kind", "type", "message", "traceback", "at", "worker", "fingerprint"}
    assert (error["attempt"], error["kind"], error["type"], error["message"]) == (
        1, "error", "LookupError", "no such animal",
    )  # fmt: skip
    assert (running.attempt, running.worker, running.ended_at) == (1, zoo.worker.session, None)
    assert (cancelled.reason, cancelled.errors) == ("shut", [])


def test_pages_are_filtered_by_everything_and_by_all_at_once(app: App, zoo: Zoo) -> None:
    jobs = zoo.jobs
    find = app.client.jobs

    assert set(ids(find(queue="work"))) == {jobs["completed"].id, jobs["failed"].id}
    assert ids(find(task="fail")) == [jobs["failed"].id]
    assert ids(find(task=app.client.registry.get_task("fail"))) == [jobs["failed"].id]
    assert len(find(tag="fine")) == 5
    assert ids(find(tag="fine", queue="work")) == [jobs["completed"].id]
    assert ids(find(tenant="acme")) == [jobs["running"].id]
    assert set(ids(find(tenant=""))) == {jobs["completed"].id, jobs["failed"].id}
    assert ids(find(worker=zoo.worker.session, state="running")) == [jobs["running"].id]
    assert ids(find(state="waiting", queue="idle", task="idle", tag="idle", tenant="zoo")) == [jobs["waiting"].id]
    assert ids(find(state="waiting", queue="work")) == []
    assert ids(find(tag="no such tag")) == []


def test_a_workflow_is_its_root_and_all_below(app: App) -> None:
    leaf = app.task(name="leaf")(lambda n: n)

    def branch(n: int) -> Any:
        return [leaf(n), leaf(n + 1)]

    stem = app.task(name="branch")(branch)
    root = app.task(name="root")(lambda: stem(5))

    lone, top = leaf.enqueue(1), root.enqueue()
    app.work(concurrency=2, poll_interval=0.05)
    assert app.result(top) == [5, 6]

    found = app.client.jobs(workflow=top.id)
    assert [job.task for job in found] == ["leaf", "leaf", "branch", "root"]
    assert {job.workflow_id for job in found} == {top.id}
    assert [job.depth for job in found] == [2, 2, 1, 0]
    assert ids(app.client.jobs(workflow=str(lone.id))) == [lone.id]
    assert ids(app.client.jobs(workflow=found[0].id)) == [found[0].id]


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25, 26])
def test_pages_lead_through_all_jobs_once_whatever_comes_in_between(app: App, note: Task[..., Any], limit: int) -> None:
    made = note.enqueue_many({"n": n} for n in range(25))
    seen: list[uuid.UUID] = []
    cursor = None
    while True:
        page = app.client.jobs(limit=limit, cursor=cursor, task="note")
        assert len(page) == min(limit, 25 - len(seen))
        seen.extend(ids(page))
        note.enqueue(99)
        cursor = page.cursor
        if cursor is None:
            break

    assert seen == made[::-1]


def test_a_page_can_be_indexed_and_its_jobs_act(app: App, note: Task[..., Any]) -> None:
    note.enqueue(1)

    page = app.client.jobs()

    assert page[0].args == {"n": 1}
    assert page[0].refresh().state == "available"
    assert page.cursor is None


@pytest.mark.parametrize(
    "filters",
    [
        {"limit": 0}, {"limit": 1001}, {"state": "done"}, {"state": "pending"}, {"workflow": "x"}, {"worker": "x"},
        {"cursor": "x"}, {"queue": 5}, {"tag": "a\x00b"}, {"tenant": b"a"}, {"task": ["a"]},
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused(app: App, filters: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        app.client.jobs(**filters)


def test_stats_count_every_state_also_those_with_none(app: App, zoo: Zoo) -> None:
    stats = app.client.stats()

    assert stats["jobs"] == dict.fromkeys(map(str, JobState), 1)
    assert set(stats["queues"]) == {"work", "hold", "idle"}
    assert stats["queues"]["hold"] == {**dict.fromkeys(map(str, JobState), 0), "running": 1}
    json.dumps(stats)


def test_stats_of_nothing_are_zeros(app: App) -> None:
    assert app.client.stats() == {"jobs": dict.fromkeys(map(str, JobState), 0), "queues": {}}


def test_the_view_shows_the_same_to_plain_sql(app: App, zoo: Zoo) -> None:
    with psycopg.Connection[Any].connect(app.url, row_factory=dict_row) as connection:
        rows: dict[Any, dict[str, Any]] = {
            row["id"]: row for row in connection.execute("SELECT * FROM fairchild_jobs").fetchall()
        }

    assert len(rows) == 7
    for state, job in zoo.jobs.items():
        row, found = rows[job.id], app.get(job)
        assert row["state"] == state
        for name in ("task", "queue", "tenant", "priority", "args", "result", "attempt", "max_attempts", "reason"):
            assert row[name] == getattr(found, name), name
        for name in ("tags", "meta", "errors", "worker", "workflow_id", "parent_id", "inserted_at", "scheduled_at"):
            assert row[name] == getattr(found, name), name
        for name in ("attempted_at", "completed_at", "ended_at", "updated_at"):
            assert row[name] == getattr(found, name), name
        again = Job.from_row(row)
        assert (again.id, again.state, again.result) == (found.id, found.state, found.result)


def test_the_view_counts_what_was_asked_in_the_contracts_own_words(app: App, zoo: Zoo) -> None:
    with psycopg.connect(app.url) as connection:
        rows = connection.execute("SELECT state, count(*) FROM fairchild_jobs GROUP BY state").fetchall()

    assert dict(rows) == dict.fromkeys(map(str, JobState), 1)


def test_a_job_becomes_json(app: App, zoo: Zoo) -> None:
    for job in [*zoo.jobs.values(), *app.client.jobs()]:
        plain = job.to_dict()
        assert json.loads(json.dumps(plain)) == plain
        assert plain["id"] == str(job.id)
        assert plain["state"] == job.state
        assert not any(name.startswith("_") for name in plain)
        assert datetime.fromisoformat(plain["scheduled_at"]) == job.scheduled_at
    assert app.get(zoo.jobs["waiting"]).to_dict()["deps"] == [str(zoo.jobs["scheduled"].id)]


def test_a_snoozed_job_shows_its_next_time(app: App) -> None:
    job = app.task(name="later")(lambda: Snooze(hours=1)).enqueue()
    app.work(concurrency=1, poll_interval=0.05)

    found = app.reaches(job, "scheduled")

    assert found.attempt == 0
    assert found.scheduled_at is not None
    assert found.attempted_at is not None
    assert timedelta(minutes=59) < found.scheduled_at - found.attempted_at < timedelta(minutes=61)


def test_refresh_reads_again_and_says_if_there_is_nothing_left(app: App, note: Task[..., Any]) -> None:
    job = note.enqueue(1)
    app.client.cancel(job.id)
    assert job.state == "available"
    assert job.refresh() is job
    assert job.state == "cancelled"

    app.store.sql("DELETE FROM {jobs}")
    with pytest.raises(UnknownJob, match="deleted or pruned"):
        job.refresh()
    assert job.state == "cancelled"


@pytest.mark.parametrize("act", [Job.refresh, Job.wait, Job.cancel, Job.retry])
def test_a_job_made_by_hand_has_no_client_to_act_with(act: Callable[[Job], object]) -> None:
    with pytest.raises(RuntimeError, match="client"):
        act(Job(id=uuid.uuid4(), task="t"))


def test_a_reason_of_many_lines_is_refused(app: App, note: Task[..., Any]) -> None:
    with pytest.raises(InvalidArguments, match="control characters"):
        note.enqueue().cancel("two\nlines")
