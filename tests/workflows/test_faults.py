"""What may go wrong with workflows, by the numbers of the fault catalogue (F87 to F100)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from fairchild import Cancel, Discard, Fairchild, current_job
from fairchild.db import finish as finishing
from fairchild.db.cancel import cancel
from fairchild.db.settle import settle
from fairchild.errors import UnknownJob, UsageError
from fairchild.ids import uuid7
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually
from tests.support.store import Store, child_of, new_job, outcome, store_of


@pytest.fixture
def store(app: App) -> Store:
    """The application's store: jobs are moved by hand in it."""
    return app.store


def test_f87_a_recursion_bomb_is_cancelled_and_the_queue_is_healthy(app: App) -> None:
    @app.task
    def bomb() -> None:
        for _ in range(10):
            bomb()

    @app.task
    def healthy() -> str:
        return "yes"

    job = bomb.enqueue()
    app.work(concurrency=4)
    app.work(concurrency=4)
    eventually(lambda: app.store.sql("SELECT count(*) > 5000 FROM {jobs}")[0][0], PATIENCE * 2)
    began = time.monotonic()
    app.client.workflows.get(job.id).cancel("a bomb")

    assert app.result(healthy.enqueue()) == "yes"
    eventually(lambda: not app.store.sql("SELECT true FROM {jobs} WHERE state = 'pending' LIMIT 1"), PATIENCE)
    assert time.monotonic() - began < 60
    assert app.get(job).state == "cancelled"


@pytest.mark.parametrize("seed", range(20))
def test_f88_a_circle_is_refused_whatever_its_shape_and_the_message_shows_it(app: App, seed: int) -> None:
    @app.task
    def step() -> None: ...

    rng = random.Random(seed)
    ids = [uuid7() for _ in range(rng.randint(2, 30))]
    edges: dict[UUID, set[UUID]] = {
        each: set(rng.sample(ids[:number], min(number, 2))) for number, each in enumerate(ids)
    }
    circle = rng.sample(ids, rng.randint(2, len(ids)))
    for number, each in enumerate(circle):
        edges[each].add(circle[number - 1])
    called: Any = step
    with pytest.raises(UsageError, match="wait for each other for ever: .* -> .*") as raised:
        _compose(app.client, lambda: [called(_id=each, _depends_on=list(edges[each])) for each in ids])
    shown = [UUID(each) for each in str(raised.value).partition(": ")[2].partition(";")[0].split(" -> ")]

    assert shown[0] == shown[-1]
    assert all(later in edges[earlier] for earlier, later in pairwise(shown))
    assert app.store.sql("SELECT count(*)::int FROM {jobs}") == [(0,)]


def _compose(client: Fairchild, calls: Callable[[], Any]) -> None:
    with client.workflow("w"):
        calls()


@pytest.mark.parametrize("how", ["failed", "cancelled", "by hand", "expired", "poison"])
def test_f89_however_an_upstream_ends_nobody_waits_for_ever(app: App, how: str) -> None:
    @app.task(name="up", max_attempts=1)
    def up() -> None:
        raise {"failed": Discard, "cancelled": Cancel}.get(how, ValueError)("so")

    @app.task
    def take(x: Any) -> Any:
        return x

    first = up.enqueue()
    needs, defaults, tells = take.enqueue(first), take.enqueue(first.or_else("d")), take.enqueue(first.outcome())
    after = take.enqueue("a", _depends_on=first.outcome())
    if how == "by hand":
        first.cancel("no")
    elif how in ("expired", "poison"):
        claimed = app.store.claim(tasks=("up",))[0]
        state = "cancelled" if how == "expired" else "failed"
        app.store.finish(outcome(claimed, state, reason=how, error=True))
    app.work()
    app.wait(needs, defaults, tells, after)

    assert (app.get(needs).state, app.get(needs).reason) == ("cancelled", "upstream_failed")
    assert (app.result(defaults), app.result(after)) == ("d", "a")
    assert app.result(tells)["error"]["state"] == app.get(first).state


@pytest.mark.parametrize("policy", ["need", "any"])
def test_f90_a_dependent_whose_upstream_was_deleted_ends(app: App, policy: str) -> None:
    @app.task
    def never() -> None: ...

    @app.task
    def take(x: Any) -> Any:
        return x

    first = never.enqueue(_queue="nobody")
    job = take.enqueue(first if policy == "need" else first.or_else("instead"))
    for table in ("jobs", "ready"):
        column = "id" if table == "jobs" else "job_id"
        app.store.sql(f"DELETE FROM {{{table}}} WHERE {column} = %(id)s", id=first.id)
    app.work()
    (done,) = app.wait(job)

    assert done.state == ("failed" if policy == "need" else "completed")
    assert done.result == (None if policy == "need" else "instead")


def test_f91_an_unknown_upstream_is_an_error_of_the_call(app: App) -> None:
    @app.task
    def take() -> None: ...

    called: Any = take
    with pytest.raises(UnknownJob, match="no job has this id"):
        take.enqueue(_depends_on=uuid7())
    with pytest.raises(UnknownJob, match="no job has this id"):
        _compose(app.client, lambda: called(_depends_on=uuid7()))
    assert app.store.sql("SELECT count(*)::int FROM {jobs}") == [(0,)]


def test_f92_the_last_children_may_end_at_the_same_moment(app: App) -> None:
    store = app.store
    with store_of(app.client) as other:
        for number in range(40):
            parent = store.claim_one(store.add())
            children = [child_of(parent) for _ in range(2)]
            dependent = new_job(depends_on=[parent.job_id])
            store.finish(outcome(parent, "waiting", children=children))
            store.insert(dependent)
            claims = {each.job_id: each for each in store.claim()}
            ended = [outcome(claims[each.id], "failed" if number % 4 == 3 else "completed") for each in children]
            barrier = threading.Barrier(2)

            def end(which: Store, its: Any, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                which.finish(its)

            with ThreadPoolExecutor(2) as threads:
                for done in [threads.submit(end, store, ended[0]), threads.submit(end, other, ended[1])]:
                    done.result()
            expected = ("failed", "cancelled") if number % 4 == 3 else ("completed", "available")
            assert (store.state(parent.job_id), store.state(dependent.id)) == expected
            store.claim()


def test_f93_children_that_end_at_once_never_end_before_their_parent_is_recorded(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def flow() -> Any:
        return [leaf(n) for n in range(3)]

    jobs = [app.client.enqueue(flow) for _ in range(150)]
    for _ in range(3):
        app.work(concurrency=4)
    app.wait(*jobs)

    assert [app.result(job) for job in jobs] == [[0, 1, 2]] * 150


def test_f94_the_children_of_attempts_that_failed_are_never_there(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task(max_attempts=4, backoff=[0.01])
    def flow() -> Any:
        called = [leaf(n) for n in range(5)]
        if current_job().attempt < 4:
            raise ValueError("again")
        return called

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [0, 1, 2, 3, 4]
    assert len(app.children(job)) == 5


def test_f95_an_outcome_that_is_recorded_again_makes_no_second_children(store: Store) -> None:
    parent = store.claim_one(store.add())
    ended = outcome(parent, "waiting", children=[child_of(parent), child_of(parent)])

    assert store.finish(ended).lost == {}
    assert store.finish(ended).lost == {parent.job_id: "already"}
    assert store.sql("SELECT count(*)::int FROM {jobs} WHERE parent_id = %(id)s", id=parent.job_id) == [(2,)]
    assert store.wait_row(parent.job_id) == (0, 2, None, None, True, False)


def test_f96_a_family_that_is_cancelled_while_it_is_claimed_ends_and_a_second_time_does_nothing(app: App) -> None:
    store = app.store
    parent = store.claim_one(store.add())
    store.finish(outcome(parent, "waiting", children=[child_of(parent) for _ in range(1000)]))
    claims: list[Any] = []
    with store_of(app.client) as claimer, ThreadPoolExecutor(1) as threads:

        def take() -> None:
            while found := claimer.claim(50):
                claims.extend(found)

        claiming = threads.submit(take)
        cancelled, asked = cancel(store.link, [parent.job_id], "no")
        claiming.result()

    assert len(cancelled) + len(asked) == 1001
    assert set(asked) == {each.job_id for each in claims}
    assert not set(cancelled) & set(asked)
    assert cancel(store.link, [parent.job_id], "again") == ([], [])
    store.finish(*(outcome(each, "waiting", children=[child_of(each)]) for each in claims))
    assert store.sql("SELECT state, count(*)::int FROM {jobs} GROUP BY state") == [("cancelled", 1001)]


def test_f97_a_retry_of_one_node_reopens_those_above_it_and_those_who_need_it_and_nobody_else(app: App) -> None:
    broken = [True]

    @app.task
    def good(x: Any = None) -> str:
        return "good"

    @app.task(max_attempts=1)
    def bad() -> str:
        if broken:
            raise ValueError("no")
        return "mended"

    @app.task
    def inner() -> Any:
        good()
        return good(bad())

    @app.task
    def flow() -> Any:
        side = good()
        return [good(inner()), side]

    job = flow.enqueue()
    app.work()
    app.wait(job)
    before = app.store.sql("SELECT id, attempt FROM {jobs} WHERE state = 'completed'")
    broken.clear()
    node = app.store.sql("SELECT id FROM {jobs} WHERE reason = 'error'")[0][0]
    app.client.retry(node)

    assert app.result(job) == ["good", "good"]
    after = dict(app.store.sql("SELECT id, attempt FROM {jobs}"))
    assert all(after[each] == attempt for each, attempt in before)
    assert len(before) == 2
    assert (after[job.id], after[node]) == (1, 2)


@pytest.mark.slow
def test_f98_a_wide_fan_out_and_in_by_several_workers_has_no_deadlock(app: App) -> None:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.task
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task
    def flow(width: int) -> Any:
        return total(leaf.map(range(width)))

    jobs = [flow.enqueue(2000), flow.enqueue(2000)]
    for _ in range(3):
        app.work(concurrency=4)

    assert [app.result(job) for job in jobs] == [1999000, 1999000]
    rows = app.store.sql("SELECT count(*)::int, max(attempt)::int FROM {jobs}")
    assert rows == [(2 * 2002, 1)]
    database = "SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()"
    assert app.store.sql(database) == [(0,)]


def test_f99_the_results_of_many_reach_one_job_by_one_statement(app: App) -> None:
    @app.task
    def leaf(n: int) -> str:
        return "x" * 1000

    @app.task
    def lengths(values: list[str]) -> list[int]:
        return [len(values), sum(map(len, values))]

    with app.client.workflow("w"):
        last: Any = lengths(leaf.map(range(1500)))
    app.work(concurrency=4)

    assert app.client.get_result(last, PATIENCE) == [1500, 1_500_000]


def test_f100_a_crash_in_the_middle_of_a_fan_in_leaves_it_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = store.claim_one(store.add())
    children = [child_of(parent) for _ in range(2)]
    last = child_of(parent, depends_on=[each.id for each in children])
    store.finish(outcome(parent, "waiting", children=[*children, last]))
    claims = {each.job_id: each for each in store.claim()}
    ended = [outcome(claims[each.id], "failed") for each in children]

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(finishing, "settle", crash)
        with pytest.raises(KeyboardInterrupt):
            store.finish(*ended)
    # The statement before stands, with its marks; what was not settled is found by any worker's sweep.
    assert settle(store.link, [last.id]) == [last.id, parent.job_id]

    assert store.states(parent.job_id, last.id) == ["failed", "cancelled"]
    assert store.violations() == []
