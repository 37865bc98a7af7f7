"""Many jobs in one call: in order, in any number, all or none."""

from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from fairchild import Task
from fairchild.errors import InvalidArguments, NotSerializable, UnknownJob
from fairchild.tasks import Registry
from tests.support.app import App

ODD = [
    "back\\slash \\n \\N \\. \\\\",
    "tab\there",
    "line\nfeed\r\nand return\r",
    "quote \" and ' and {curly, braces}",
    "\\.",
    "NULL",
    "",
    "\x01\x1f\x7f",
    "naïve ☃ \U0001d4b3 \u2028",
    "%s %(a)s %% :x $1",
]
ODD_NAMES = [
    "back\\slash \\t \\N",
    "quote \" ' {a,b}",
    "NULL",
    "\\.",
    "naïve ☃ \U0001d4b3",
    "%s :x",
    "tail\\",
    "a,b",
    " ",
]


@pytest.fixture
def note(app: App) -> Task[..., Any]:
    def note(n: int, text: str = "") -> int:
        return n

    return app.task(name="note")(note)


def count(app: App) -> int:
    return int(app.store.sql("SELECT count(*) FROM {jobs}")[0][0])


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 5001, 12_000])
def test_any_number_of_jobs_is_made_in_the_order_given(app: App, note: Task[..., Any], number: int) -> None:
    ids = note.enqueue_many({"n": n, "text": ODD[n % len(ODD)]} for n in range(number))

    assert len(ids) == len(set(ids)) == number
    assert ids == sorted(ids)
    rows = app.store.sql("SELECT id, (args->>'n')::int, args->>'text', queue, max_attempts FROM {jobs} ORDER BY id")
    assert rows == [(ids[n], n, ODD[n % len(ODD)], "default", 3) for n in range(number)]
    assert app.client.stats()["jobs"]["available"] == number


@pytest.mark.parametrize("number", [len(ODD_NAMES), 1500])
def test_odd_names_are_kept_on_the_short_way_and_on_the_long_one(app: App, note: Task[..., Any], number: int) -> None:
    def name(n: int) -> str:
        return ODD_NAMES[n % len(ODD_NAMES)]

    ids = note.enqueue_many(
        {"n": n, "_queue": name(n), "_tenant": name(n), "_tags": [name(n), ",", "{}", '"'], "_meta": {name(n): ODD}}
        for n in range(number)
    )

    for n, job_id in enumerate(ids[: len(ODD_NAMES)]):
        job = app.get(job_id)
        assert (job.queue, job.tenant, job.tags) == (name(n), name(n), list(dict.fromkeys([name(n), ",", "{}", '"'])))
        assert job.meta == {name(n): ODD}
    assert set(app.client.stats()["queues"]) == set(ODD_NAMES)
    assert app.store.sql("SELECT DISTINCT queue, tenant FROM {ready} ORDER BY 1") == app.store.sql(
        "SELECT DISTINCT queue, tenant FROM {jobs} ORDER BY 1"
    )


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"n": "not a number"}, InvalidArguments),
        ({}, InvalidArguments),
        ({"n": 1, "text": "\x00"}, NotSerializable),
        ({"n": 1, "_priority": 10}, InvalidArguments),
        ({"n": 1, "_prioritty": 1}, InvalidArguments),
        ({"n": 1, "_depends_on": uuid.UUID(int=1)}, UnknownJob),
        ({"n": 1, "_connection": None}, InvalidArguments),
        ([1], InvalidArguments),
    ],
)
def test_nothing_is_made_if_row_7000_is_wrong(app: App, note: Task[..., Any], bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        note.enqueue_many(bad if n == 7000 else {"n": n} for n in range(12_000))

    assert count(app) == 0
    assert app.store.violations() == []


def test_nothing_is_made_if_the_callers_generator_raises(app: App, note: Task[..., Any]) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield from ({"n": n} for n in range(6000))
        raise RuntimeError("the file ends here")

    with pytest.raises(RuntimeError, match="the file ends here"):
        note.enqueue_many(rows())

    assert count(app) == 0


def test_the_rows_are_streamed(app: App, note: Task[..., Any]) -> None:
    large = "x" * 10_000

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"n": n, "text": large} for n in range(8_000))

    tracemalloc.start()
    note.enqueue_many({"n": 1} for _ in range(10))
    ids = app.client.enqueue_many(note, rows(), tags=["bulk"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(ids) == 8_000
    assert peak < 60_000_000  # all of them together are more


def test_options_go_for_all_and_a_rows_own_go_first(app: App, note: Task[..., Any]) -> None:
    when = datetime(2040, 1, 1, tzinfo=timezone.utc)

    ids = note.options(priority=1).enqueue_many(
        [
            {"n": 0},
            {"n": 1, "_priority": 9, "_tags": ["x"], "_meta": {"k": 1}, "_max_attempts": 5, "_timeout": 7},
            {"n": 2, "_scheduled_at": when},
            {"n": 3, "_delay": timedelta(hours=1)},
        ],
        _queue="q",
        _tags=["all"],
    )
    plain, own, later, delayed = (app.get(job_id) for job_id in ids)

    assert (plain.priority, plain.queue, plain.tags) == (1, "q", ["all"])
    assert (own.priority, own.queue, own.tags, own.meta) == (9, "q", ["x"], {"k": 1})
    assert (own.max_attempts, own.timeout, own.args) == (5, 7.0, {"n": 1})
    assert (later.state, later.scheduled_at, delayed.state) == ("scheduled", when, "scheduled")


@pytest.mark.parametrize("number", [3, 2500])
def test_rows_may_wait_for_other_jobs_and_for_each_other(app: App, note: Task[..., Any], number: int) -> None:
    before = note.enqueue(0)
    first = uuid.uuid4()

    ids = note.enqueue_many(
        [
            {"n": 1, "_id": first, "_depends_on": before},
            *({"n": before, "_tags": ["wants value"]} for _ in range(number)),
            {"n": 9, "_depends_on": [first, before]},
        ]
    )

    assert ids[0] == first
    assert app.get(ids[1]).deps == [before.id]
    assert sorted(app.get(ids[-1]).deps) == sorted([first, before.id])
    assert app.client.stats()["jobs"]["waiting"] == number + 2
    assert app.store.violations() == []


@pytest.mark.parametrize("number", [2, 1200])
def test_jobs_that_are_there_already_are_left_alone(app: App, note: Task[..., Any], number: int) -> None:
    given = [uuid.uuid4() for _ in range(number)]

    note.enqueue_many({"n": n, "_id": given[n]} for n in range(number - 1))
    ids = note.enqueue_many({"n": -1, "_id": each} for each in given)

    assert ids == given
    assert count(app) == number
    assert [app.get(each).args["n"] for each in (given[0], given[-1])] == [0, -1]


def test_one_id_for_many_jobs_is_refused(app: App, note: Task[..., Any]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: note.enqueue_many([{"n": 1}], _id=uuid.uuid4()),
        lambda: app.client.enqueue_many(note, [{"n": 1}], id=uuid.uuid4()),
        lambda: app.client.enqueue_many("unknown.here", [{"n": 1}], id=uuid.uuid4()),
    ]
    for enqueue in calls:
        with pytest.raises(InvalidArguments, match="cannot name many jobs"):
            enqueue()


def test_a_task_with_parameters_like_options_gets_them(app: App) -> None:
    @app.task
    def clash(_priority: int, *rest: int, **more: int) -> None: ...

    (job_id,) = clash.enqueue_many([{"_priority": 7, "*rest": [1, 2], "other": 3, "_queue": "q"}])
    job = app.get(job_id)

    assert (job.args, job.priority, job.queue) == ({"_priority": 7, "*rest": [1, 2], "other": 3}, 5, "q")


@pytest.mark.parametrize(
    "enqueue_many",
    [
        lambda app, rows: app.client.registry.get_task("note").enqueue_many(rows),
        lambda app, rows: app.client.enqueue_many("note", rows),
        lambda app, rows: app.client.enqueue_many(app.client.registry.get_task("note"), rows),
        lambda app, rows: app.other_client(Registry()).enqueue_many("note", rows),
    ],
)
def test_by_name_or_by_task_the_jobs_are_the_same_and_run(
    app: App, note: Task[..., Any], enqueue_many: Callable[[App, Any], list[uuid.UUID]]
) -> None:
    ids = enqueue_many(app, [{"n": n} for n in range(20)])

    app.work(concurrency=4, poll_interval=0.05)

    assert [app.result(each) for each in ids] == list(range(20))


def test_a_worker_runs_thousands_that_were_copied(app: App, note: Task[..., Any]) -> None:
    ids = note.enqueue_many({"n": n} for n in range(3000))

    app.work(concurrency=8, poll_interval=0.05)

    assert {job.state for job in app.wait(*ids)} == {"completed"}


# In the caller's transaction


def test_a_callers_transaction_decides_about_all_of_them(app: App, note: Task[..., Any]) -> None:
    with psycopg.connect(app.url) as connection:
        note.using(connection).enqueue_many({"n": n} for n in range(6000))
        assert count(app) == 0
        connection.rollback()
        assert count(app) == 0

        ids = note.enqueue_many(({"n": n} for n in range(6000)), _connection=connection)
        connection.commit()
        assert count(app) == 6000

    assert app.get(ids[-1]).args == {"n": 5999}


def test_a_callers_connection_may_speak_another_encoding(app: App, note: Task[..., Any]) -> None:
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute("SET client_encoding TO latin1")
        with connection.transaction():
            ids = app.client.using(connection).enqueue_many(note, ({"n": 1, "text": "é"} for _ in range(1001)))

    assert app.get(ids[-1]).args == {"n": 1, "text": "é"}


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_wrong_row_leaves_the_callers_transaction_usable_and_without_a_job(
    app: App, note: Task[..., Any], autocommit: bool
) -> None:
    rows = [{"n": n} for n in range(7000)]
    with psycopg.connect(app.url, autocommit=autocommit) as connection:
        with pytest.raises(InvalidArguments):
            app.client.using(connection).enqueue_many(note, [*rows, {"n": "wrong"}])
        connection.execute("CREATE TABLE own (n int)")
        note.using(connection).enqueue(1)
        if not autocommit:
            connection.commit()

    assert count(app) == 1
    assert app.store.sql("SELECT count(*) FROM own") == [(0,)]


def test_a_job_waits_for_nothing_that_had_ended_before_its_batch_named_it_again(app: App, note: Task[..., Any]) -> None:
    old = note.enqueue(n=1)
    worker = app.work()
    app.wait(old)
    worker.stop()

    again, after = note.enqueue_many([{"n": 1, "_id": old.id}, {"n": 2, "_depends_on": [old.id]}])

    assert again == old.id
    assert app.get(after).state == "available"
