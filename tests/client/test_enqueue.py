"""Enqueuing one job: what is checked, what is kept, and that a refused call writes nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fairchild import CurrentJob, Fairchild, Future, Job, JobState, Task
from fairchild.db import redactions
from fairchild.db.connect import Link
from fairchild.errors import (
    InvalidArguments,
    NotConnected,
    NotSerializable,
    PayloadTooLarge,
    UnknownJob,
    UsageError,
)
from fairchild.tasks import Registry, TaskDecorator
from tests.support.app import App

ODD_NAMES = [
    'it\'s "quoted"',
    "%s %(x)s %%",
    ":x :y::text",
    "back\\slash",
    "{braces} $1 $$",
    "'; DROP TABLE fairchild_jobs; --",
    "naïve ☃ \U0001d4b3",
    "عربى עברית",
    "\u200f\u202bmarks of direction\u202c",
    "👩\u200d🔬",
    "no\u00a0break",
    " ",
    "NULL",
    "\\N",
    "x" * 255,
    "\U0001d4b3" * 255,
]


@pytest.fixture
def add(app: App) -> Task[..., Any]:
    def add(a: int, b: int = 0) -> int:
        return a + b

    return app.task(name="add", tags=["own"])(add)


def test_a_job_is_made_with_the_options_of_its_task(app: App) -> None:
    @app.task(name="t", queue="q", priority=2, max_attempts=7, tags=["a", "b"], timeout=9, tenant="acme")
    def configured(x: int) -> None: ...

    made = configured.enqueue(5)
    found = app.get(made)

    assert made == found
    for job in (made, found):
        assert (job.task, job.args, job.queue, job.priority, job.max_attempts) == ("t", {"x": 5}, "q", 2, 7)
        assert (job.tags, job.timeout, job.tenant, job.meta, job.attempt) == (["a", "b"], 9.0, "acme", {}, 0)
        assert (job.state, job.workflow_id, job.parent_id, job.depth) == (JobState.AVAILABLE, made.id, None, 0)
        assert (job.deps, job.errors, job.conflict, job.has_result) == ([], [], False, False)
        assert job.scheduled_at is not None
        assert job.scheduled_at.tzinfo is not None
    assert made.scheduled_at == found.scheduled_at


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda t, fc: t.enqueue(1, 2),
        lambda t, fc: t.enqueue(1, b=2),
        lambda t, fc: t.enqueue(b=2, a=1),
        lambda t, fc: t.options().enqueue(1, 2),
        lambda t, fc: fc.enqueue(t, {"a": 1, "b": 2}),
        lambda t, fc: fc.enqueue("add", {"a": 1, "b": 2}),
        lambda t, fc: fc.enqueue(t.options(priority=5), {"a": 1, "b": 2}),
    ],
)
def test_all_ways_of_enqueuing_make_the_same_job(
    app: App, add: Task[..., Any], enqueue: Callable[[Task[..., Any], Fairchild], Job]
) -> None:
    job = app.get(enqueue(add, app.client))

    assert (job.task, job.args, job.tags, job.priority) == ("add", {"a": 1, "b": 2}, ["own"], 5)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: t.enqueue(), TypeError),
        (lambda t: t.enqueue(1, 2, 3), TypeError),
        (lambda t: t.enqueue(1, c=3), TypeError),
        (lambda t: t.enqueue("1"), TypeError),
        (lambda t: t.enqueue(None), TypeError),
        (lambda t: t.enqueue(1, _prioritty=1), TypeError),
        (lambda t: t.enqueue(1, _rate=1), TypeError),
        (lambda t: t.options(_priority=1), TypeError),
        (lambda t: t.options(priority=10).enqueue(1), InvalidArguments),
        (lambda t: t.enqueue(1, _priority=-1), InvalidArguments),
        (lambda t: t.enqueue(1, _priority=True), InvalidArguments),
        (lambda t: t.enqueue(1, _priority="5"), InvalidArguments),
        (lambda t: t.enqueue(1, _queue=""), InvalidArguments),
        (lambda t: t.enqueue(1, _queue="x" * 256), InvalidArguments),
        (lambda t: t.enqueue(1, _queue=b"q"), InvalidArguments),
        (lambda t: t.enqueue(1, _tags="abc"), InvalidArguments),
        (lambda t: t.enqueue(1, _tags=["ok", ""]), InvalidArguments),
        (lambda t: t.enqueue(1, _tenant=5), InvalidArguments),
        (lambda t: t.enqueue(1, _meta=[1]), InvalidArguments),
        (lambda t: t.enqueue(1, _meta={"a": Future(uuid.uuid4(), "t")}), InvalidArguments),
        (lambda t: t.enqueue(1, _meta={"a": {1}, "b": object()}), NotSerializable),
        (lambda t: t.enqueue(1, _meta={"a": "x" * 2**20}), PayloadTooLarge),
        (lambda t: t.enqueue(1, _max_attempts=0), InvalidArguments),
        (lambda t: t.enqueue(1, _timeout=0), InvalidArguments),
        (lambda t: t.enqueue(1, _timeout="5"), InvalidArguments),
        (lambda t: t.enqueue(1, _expires=timedelta(0)), InvalidArguments),
        (lambda t: t.enqueue(1, _id="not an id"), InvalidArguments),
        (lambda t: t.enqueue(1, _id=5), InvalidArguments),
        (lambda t: t.enqueue(1, _depends_on=5), InvalidArguments),
        (lambda t: t.enqueue(1, _depends_on=["x"]), InvalidArguments),
        (lambda t: t.enqueue(1, _depends_on=[None]), InvalidArguments),
        (lambda t: t.enqueue(1, _depends_on=uuid.uuid4()), UnknownJob),
        (lambda t: t.enqueue(Future(uuid.uuid4(), "t")), UnknownJob),
        (lambda t: t.enqueue(1, _scheduled_at=datetime(2030, 1, 1)), InvalidArguments),  # noqa: DTZ001
        (lambda t: t.enqueue(1, _scheduled_at="2030-01-01T00:00:00Z"), InvalidArguments),
        (lambda t: t.enqueue_at(datetime(2030, 1, 1), 1), InvalidArguments),  # noqa: DTZ001
        (lambda t: t.enqueue_at(timedelta(1), 1), InvalidArguments),
        (lambda t: t.enqueue_in(1, seconds=-1), InvalidArguments),
        (lambda t: t.enqueue_in(1, seconds=float("nan")), ValueError),
        (lambda t: t.enqueue_in(1, minutes=1, _scheduled_at=datetime.now(timezone.utc)), InvalidArguments),
        (lambda t: t.enqueue(1, _connection=object()), UsageError),
    ],
)
def test_a_wrong_call_raises_here_and_writes_nothing(
    app: App, add: Task[..., Any], call: Callable[[Task[..., Any]], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(add)

    assert len(app.client.jobs()) == 0


def test_the_path_of_an_argument_that_is_not_json_is_named(app: App) -> None:
    @app.task
    def report(data: Any) -> None: ...

    with pytest.raises(NotSerializable, match=r"\$\.data\.rows\[1\].*object") as refusal:
        report.enqueue({"rows": [1, object()]})
    assert refusal.value.path == "$.data.rows[1]"


def test_every_option_of_a_call_is_kept(app: App, add: Task[..., Any]) -> None:
    when = datetime(2040, 5, 6, 7, 8, 9, 123456, tzinfo=ZoneInfo("Asia/Kolkata"))
    given = uuid.uuid4()
    first = add.enqueue(1)

    add.enqueue(
        1, _id=given, _queue="q", _priority=0, _tags=["x", "own"], _tenant="acme", _meta={"a": [1.5, None]},
        _max_attempts=9, _timeout=timedelta(minutes=2), _expires=60, _scheduled_at=when, _depends_on=[first],
    )  # fmt: skip
    job = app.get(given)

    assert (job.queue, job.priority, job.tags, job.tenant) == ("q", 0, ["own", "x"], "acme")
    assert (job.meta, job.max_attempts, job.timeout, job.scheduled_at) == ({"a": [1.5, None]}, 9, 120.0, when)
    assert (job.deps, job.state) == ([first.id], "waiting")
    assert app.store.sql("SELECT expires_seconds FROM {jobs} WHERE id = %(id)s", id=given) == [(60.0,)]


def test_an_option_of_none_leaves_the_tasks_own(app: App, add: Task[..., Any]) -> None:
    job = add.enqueue(1, _queue=None, _priority=None, _tags=None, _connection=None, _id=None)

    assert (job.queue, job.priority, job.tags) == ("default", 5, ["own"])


def test_a_parameter_with_the_name_of_an_option_is_an_argument_and_options_sets_the_other(app: App) -> None:
    @app.task
    def clash(_priority: int, priority: int, minutes: int = 0, _nobody: int = 0) -> None: ...

    job = clash.options(priority=1).enqueue(7, priority=8, minutes=9, _nobody=1)
    assert (job.args, job.priority) == ({"_priority": 7, "priority": 8, "minutes": 9, "_nobody": 1}, 1)

    later = clash.options(delay=timedelta(hours=1)).enqueue(_priority=7, priority=8, minutes=9)
    assert (later.args["minutes"], later.state) == (9, "scheduled")


def test_options_add_up_and_the_last_wins(app: App, add: Task[..., Any]) -> None:
    job = add.options(priority=1, queue="a").options(queue="b").enqueue(1, _priority=3)

    assert (job.priority, job.queue) == (3, "b")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_text_and_nothing_else(app: App, add: Task[..., Any], name: str) -> None:
    job = app.get(add.enqueue(1, _queue=name, _tags=[name, name + "'"[: 255 - len(name)]], _tenant=name))

    assert (job.queue, job.tenant, job.tags[1]) == (name, name, name)
    for found in (app.client.jobs(queue=name), app.client.jobs(tenant=name), app.client.jobs(tag=name)):
        assert [each.id for each in found] == [job.id]
    assert app.client.stats()["queues"][name]["available"] == 1


@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_control_characters_in_names_are_refused(app: App, add: Task[..., Any], character: str) -> None:
    for option in ("_queue", "_tenant"):
        with pytest.raises(InvalidArguments, match="control characters"):
            add.enqueue(1, **{option: f"a{character}b"})
    with pytest.raises(InvalidArguments, match="control characters"):
        add.enqueue(1, _tags=[f"a{character}b"])
    with pytest.raises(InvalidArguments, match="control characters"):
        app.client.enqueue(f"a{character}b")


def test_a_tenant_may_be_worked_out_from_the_arguments(app: App) -> None:
    @app.task(tenant=lambda customer, n=0: f"c-{customer['id']}")
    def bill(customer: dict[str, int], n: int = 0) -> None: ...

    assert bill.enqueue({"id": 5}).tenant == "c-5"
    assert bill.enqueue(customer={"id": 6}, n=1, _tenant="own").tenant == "own"


# Times


@pytest.mark.parametrize(
    ("units", "seconds"),
    [
        ({"seconds": 90}, 90),
        ({"minutes": 30}, 1800),
        ({"hours": 1, "minutes": 0.5}, 3630),
        ({"days": 1}, 86400),
        ({"weeks": 2}, 1_209_600),
        ({"delay": timedelta(minutes=1), "seconds": 1}, 61),
    ],
)
def test_a_delay_counts_from_the_databases_clock(
    app: App, add: Task[..., Any], units: dict[str, Any], seconds: float
) -> None:
    before = app.store.sql("SELECT clock_timestamp()")[0][0]
    jobs = [add.enqueue_in(1, **units), add.options(priority=1).enqueue_in(1, **units)]
    after = app.store.sql("SELECT clock_timestamp()")[0][0]

    for job in jobs:
        assert job.state == app.get(job).state == "scheduled"
        assert job.scheduled_at is not None
        assert before <= job.scheduled_at - timedelta(seconds=seconds) <= after
        assert job.args == {"a": 1}


def test_no_delay_and_a_time_that_has_passed_mean_now(app: App, add: Task[..., Any]) -> None:
    past = datetime(2001, 1, 1, tzinfo=timezone.utc)

    assert add.enqueue_in(1).state == "available"
    job = add.enqueue_at(past, 1)
    assert (job.state, job.scheduled_at) == ("available", past)


def test_a_moment_is_kept_to_the_microsecond_whatever_its_zone(app: App, add: Task[..., Any]) -> None:
    when = datetime(2040, 10, 28, 2, 30, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)

    for job in (add.enqueue_at(when, 1), add.enqueue(1, _scheduled_at=when), add.options(scheduled_at=when).enqueue(1)):
        found = app.get(job)
        assert found.scheduled_at is not None
        assert found.scheduled_at.timestamp() == when.timestamp()
        assert found.state == "scheduled"


def test_a_time_in_the_oddest_zone_is_the_same_moment(app: App, add: Task[..., Any]) -> None:
    for hours in (-23, 18, 23):
        when = datetime(2100, 1, 1, tzinfo=timezone(timedelta(hours=hours)))
        assert app.get(add.enqueue_at(when, 1)).scheduled_at == when


def test_a_time_that_could_not_be_read_again_is_refused(add: Task[..., Any]) -> None:
    for zone in (timezone(timedelta(hours=hours)) for hours in (-12, 0, 12)):
        for when in (
            datetime(9999, 12, 31, 23, tzinfo=zone),
            datetime(9999, 1, 2, tzinfo=zone),
            datetime(1, 1, 1, tzinfo=zone),
        ):
            with pytest.raises(InvalidArguments, match="between the years"):
                add.enqueue_at(when, 1)


def test_a_naive_time_is_refused_with_what_to_write(app: App, add: Task[..., Any]) -> None:
    with pytest.raises(InvalidArguments, match=r"no time zone.*datetime\.now\(timezone\.utc\)"):
        add.enqueue_at(datetime(2040, 1, 1), 1)  # noqa: DTZ001


# Ids that the caller chooses


def test_the_same_id_again_gives_the_job_that_is_there(app: App, add: Task[..., Any]) -> None:
    given = uuid.uuid4()

    first = add.enqueue(1, _id=given)
    again = add.enqueue(2, _id=str(given), _queue="other")

    assert (first.conflict, again.conflict) == (False, True)
    assert (again.id, again.args, again.queue) == (given, {"a": 1}, "default")
    assert len(app.client.jobs()) == 1
    assert again.refresh().args == {"a": 1}


def test_an_id_that_conflicts_changes_no_dependency(app: App, add: Task[..., Any]) -> None:
    first, other = add.enqueue(1), add.enqueue(2)

    again = add.enqueue(1, _id=first.id, _depends_on=other)

    assert (again.conflict, again.state, again.deps) == (True, "available", [])


# Jobs that wait for others


def test_a_job_given_as_an_argument_makes_an_edge_and_its_value_arrives(app: App, add: Task[..., Any]) -> None:
    one = add.enqueue(1)
    two = add.enqueue(one, b=one)
    three = add.enqueue(Future(two.id, "add"), 100)

    assert (two.state, two.deps, two.args) == ("waiting", [one.id], {"a": None, "b": None})
    app.work(concurrency=2, poll_interval=0.05)
    assert app.result(three) == 102
    assert app.get(two).deps == [one.id]


def test_a_job_deep_inside_an_argument_makes_an_edge_too(app: App, add: Task[..., Any]) -> None:
    @app.task
    def total(values: dict[str, list[int]]) -> int:
        return sum(values["all"])

    jobs = [add.enqueue(n) for n in (1, 2, 3)]
    last = total.enqueue({"all": [*jobs, 4]})

    assert sorted(last.deps) == sorted(job.id for job in jobs)
    app.work(concurrency=2, poll_interval=0.05)
    assert app.result(last) == 10


def test_depends_on_takes_jobs_futures_ids_and_one_alone(app: App, add: Task[..., Any]) -> None:
    one, two, three = add.enqueue(1), add.enqueue(2), add.enqueue(3)

    last = add.enqueue(9, _depends_on=[one, Future(two.id, "add"), three.id, str(one.id)])

    assert (last.state, sorted(last.deps)) == ("waiting", sorted([one.id, two.id, three.id]))
    ways: list[Any] = [one, one.id, str(one.id), Future(one.id, "add"), (one,), iter([one])]
    for alone in ways:
        assert add.enqueue(9, _depends_on=alone).deps == [one.id]
    assert add.enqueue(9, _depends_on=[]).state == "available"


def test_an_upstream_that_does_not_exist_is_named_and_nothing_is_written(app: App, add: Task[..., Any]) -> None:
    nobody = uuid.uuid4()

    with pytest.raises(UnknownJob, match=f"{nobody}.*nothing was enqueued"):
        add.enqueue(1, _depends_on=[nobody])

    assert len(app.client.jobs()) == 0


def test_a_job_that_would_wait_for_itself_is_refused(app: App, add: Task[..., Any]) -> None:
    given = uuid.uuid4()

    with pytest.raises(UsageError, match=f"{given} -> {given}; nothing was enqueued"):
        add.enqueue(1, _id=given, _depends_on=given)


def test_a_circle_among_jobs_made_together_is_shown(app: App) -> None:
    @app.task
    def step() -> None: ...

    a, b, c = sorted(uuid.uuid4() for _ in range(3))
    rows: list[dict[str, Any]] = [
        {"_id": a, "_depends_on": [c]},
        {"_id": b, "_depends_on": [a]},
        {"_id": c, "_depends_on": [b]},
    ]

    with pytest.raises(UsageError, match=f"{a} -> {c} -> {b} -> {a}"):
        step.enqueue_many(rows)
    assert len(app.client.jobs()) == 0


def test_an_upstream_that_has_completed_holds_nothing_back(app: App, add: Task[..., Any]) -> None:
    one = add.enqueue(1)
    app.work(concurrency=1, poll_interval=0.05)
    app.wait(one)

    two = add.enqueue(one, 10)

    assert two.state != "waiting"
    assert app.result(two) == 11


def test_an_upstream_that_has_failed_cancels_at_once_and_says_so(app: App, add: Task[..., Any]) -> None:
    one = add.enqueue(1)
    one.cancel("not wanted")

    two = add.enqueue(one, 10)
    three = add.enqueue(1, _depends_on=[two])

    for job in (two, three):
        assert (job.state, job.reason) == ("cancelled", "upstream_failed")
    assert str(one.id) in two.errors[0]["message"]


# Names instead of tasks


def test_a_name_that_is_registered_is_checked_like_the_task(app: App, add: Task[..., Any]) -> None:
    with pytest.raises(InvalidArguments, match="missing a required argument: 'a'"):
        app.client.enqueue("add", {})
    with pytest.raises(InvalidArguments, match="does not fit int"):
        app.client.enqueue("add", {"a": "x"})
    with pytest.raises(InvalidArguments, match="args must be a dict"):
        app.client.enqueue("add", [1])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArguments, match="unknown option '_priority'"):
        app.client.enqueue("add", {"a": 1}, _priority=1)


def test_a_name_that_is_not_registered_here_is_left_to_a_worker_that_knows_it(app: App, add: Task[..., Any]) -> None:
    producer = app.other_client(Registry())

    good = producer.enqueue("add", {"a": 1, "b": 2}, priority=1, queue="q")
    bad = producer.enqueue("add", {"a": "x"})

    assert (good.queue, good.priority, good.max_attempts, good.tags) == ("q", 1, 3, [])
    app.work(concurrency=1, poll_interval=0.05)
    assert app.result(good) == 3
    failed = app.wait(bad)[0]
    assert (failed.state, failed.reason, failed.errors[0]["kind"]) == ("failed", "invalid_args", "invalid_args")


def test_an_alias_enqueues_under_the_tasks_own_name(app: App) -> None:
    app.task(name="new.name", aliases=["old.name"])(lambda: None)

    assert app.client.enqueue("old.name").task == "new.name"


# Which client


def test_the_client_of_the_block_goes_before_that_of_the_process(app: App, add: Task[..., Any]) -> None:
    other = app.other_client()
    with other.active():
        job = add.enqueue(1)

    assert job._client is other
    assert add.enqueue(1)._client is app.client


def test_a_client_in_a_with_is_connected_and_then_not(fairchild_db: str) -> None:
    with Fairchild(fairchild_db, registry=Registry()) as client:

        @client.task
        def job(me: CurrentJob, x: int) -> None: ...

        assert job.enqueue(1)._client is client
    with pytest.raises(NotConnected, match="FAIRCHILD_DATABASE_URL"):
        job.enqueue(1)


def test_a_disconnected_client_connects_again_when_asked(app: App, add: Task[..., Any]) -> None:
    app.client.disconnect()
    with pytest.raises(NotConnected):
        add.enqueue(1)

    app.client.connect()
    app.client.connect()

    assert add.enqueue(1).state == "available"


def test_the_url_comes_from_the_environment(fairchild_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRCHILD_DATABASE_URL", fairchild_db)

    with Fairchild() as client:
        assert client.enqueue("some.task").state == "available"


def test_ids_grow_so_that_the_newest_job_is_listed_first(app: App, add: Task[..., Any]) -> None:
    before = time.time()
    jobs = [add.enqueue(n) for n in range(5)]

    assert [job.id for job in app.client.jobs()] == [job.id for job in reversed(jobs)]
    assert jobs[0].id.int >> 80 >= int(before * 1000)


# What a task hides


def pay(card: str, owner: dict[str, Any] | None = None) -> None: ...


def hidden(app: App) -> set[tuple[str, str]]:
    return set(app.store.sql("SELECT task, path FROM {redactions}"))


def test_what_a_task_hides_is_kept_once_before_its_first_job(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = app.task(name="plain")(lambda: None)
    shy = app.task(name="shy", aliases=["timid"], redact=["card", "owner.ssn"])(pay)
    said: list[Any] = []
    add = redactions.add_redactions

    def noted(link: Link, rows: Any) -> None:
        said.append(set(rows))
        add(link, rows)

    monkeypatch.setattr(redactions, "add_redactions", noted)
    plain.enqueue()
    assert (said, hidden(app)) == ([], set())
    shy.enqueue("4111")
    rows = {(name, path) for name in ("shy", "timid") for path in ("card", "owner.ssn")}
    assert hidden(app) == rows
    shy.enqueue("4111")
    shy.enqueue_many([{"card": "1"}] * 3)
    app.client.enqueue("shy", {"card": "1"})
    assert said == [rows]


@pytest.mark.parametrize("way", ["many", "workflow", "rolled back", "child", "pool of one"])
def test_it_is_kept_however_the_job_is_made(app: App, way: str) -> None:
    shy = app.task(name="shy", redact=["card"])(pay)
    client = app.client
    if way == "many":
        shy.enqueue_many([{"card": "1"}] * 2000)
    elif way == "workflow":
        with client.workflow("all"):
            shy("1")
    elif way == "rolled back":
        with psycopg.connect(app.url) as connection:
            shy.using(connection).enqueue("1")
            assert hidden(app) == {("shy", "card")}  # others would wait for it if it were of this transaction
            connection.rollback()
    elif way == "child":
        registry = Registry()
        late = TaskDecorator(registry)(name="shy", redact=["card"])(pay)
        parent = app.client.registry.add(lambda: late("1"), name="parent")
        del app.client.registry._tasks["shy"]  # as one that is imported when it is called
        app.work()
        app.reaches(parent.enqueue(), "waiting")
    else:
        client = Fairchild(app.url, pool_size=1, registry=app.client.registry)
        assert len(client.enqueue_many(shy, [{"card": "1"}] * 2)) == 2
        client.disconnect()
    assert hidden(app) == {("shy", "card")}


def test_a_worker_says_what_its_tasks_hide_before_it_is_there(app: App) -> None:
    app.task(name="shy", redact=["card"])(pay)
    app.work()
    assert hidden(app) == {("shy", "card")}


@pytest.mark.parametrize(
    ("redact", "said"),
    [
        ("card", "a list of names"),
        (["crad"], "no argument 'crad'"),
        (["card..x"], "no path"),
        ([""], "empty"),
        (5, "a list"),
    ],
)
def test_what_would_hide_nothing_is_refused(app: App, redact: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        app.task(name="shy", redact=redact)(pay)


def test_arguments_that_vary_are_hidden_by_their_names(app: App) -> None:
    def varying(*numbers: int, **others: Any) -> None: ...

    assert app.task(name="a", redact=["numbers", "token.x"])(varying).settings.redact == ("*numbers", "token.x")
    with pytest.raises(UsageError, match="by its own name"):
        app.task(name="b", redact=["others"])(varying)
