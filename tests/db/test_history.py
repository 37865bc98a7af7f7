"""What is counted per minute, and that moving it changes no sum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairchild import Fairchild
from fairchild.db import browse, history
from fairchild.ids import uuid7
from fairchild.rules.histogram import BUCKETS, bucket
from tests.support.app import App, app
from tests.support.eventually import eventually
from tests.support.store import Store, store_of

__all__ = ["app"]


@pytest.fixture
def store(fairchild: Fairchild) -> Iterator[Store]:
    with store_of(fairchild) as made:
        yield made


def age_counters(store: Store, minutes: int) -> None:
    store.sql("UPDATE {counters} SET minute = minute - make_interval(mins => %(n)s) WHERE minute > 'epoch'", n=minutes)


def test_counts_move_into_history_and_leave_one_total_each(store: Store) -> None:
    for number in range(9):
        store.end(store.add(), "completed" if number % 3 else "failed", error=not number % 3, reason=None)
    before = browse.count_by_queue(store.link)
    age_counters(store, 5)

    history.roll_up(store.link)

    assert browse.count_by_queue(store.link) == before
    assert sorted(store.sql("SELECT minute = 'epoch', state, n FROM {counters}")) == [
        (True, "completed", 6),
        (True, "failed", 3),
    ]
    points = history.read_points(store.link, 10, 1, None, None)
    assert [(each.completed, each.failed) for each in points if each.completed] == [(6, 3)]
    history.roll_up(store.link)
    assert browse.count_by_queue(store.link) == before


def test_the_minute_at_hand_is_read_before_it_is_moved(store: Store) -> None:
    store.end(store.add())
    assert sum(each.completed for each in history.read_points(store.link, 2, 1, None, None)) == 1
    assert sum(each.completed for each in history.read_points(store.link, 2, 1, "other", None)) == 0
    assert sum(each.completed for each in history.read_points(store.link, 2, 1, "default", "t")) == 1


def test_minutes_are_added_up_in_steps_and_by_queue(store: Store) -> None:
    for queue, minutes in (("a", 5), ("b", 2), ("a", 0)):
        store.end(store.add())
        store.sql(
            f"UPDATE {{counters}} SET queue = '{queue}', minute = minute - interval '{minutes} minutes' "
            "WHERE queue = 'default'"
        )
    single = history.read_points(store.link, 8, 1, None, None)
    assert [each.completed for each in single] == [0, 0, 1, 0, 0, 1, 0, 1]
    for step, sums in ((3, [1, 1, 1]), (4, [1, 2]), (8, [3])):
        points = history.read_points(store.link, 8, step, None, None)
        assert [each.completed for each in points] == sums
        assert [each.minute for each in points] == [each.minute for each in single[::step]]
    assert history.read_ended(store.link, 6) == {"a": [1, 0, 0, 0, 0, 1], "b": [0, 0, 0, 1, 0, 0]}


def test_a_retry_takes_from_the_total_and_not_from_history(fairchild: Fairchild, store: Store) -> None:
    job = store.add()
    store.end(job)
    age_counters(store, 5)
    fairchild.retry(job)
    age_counters(store, 3)
    history.roll_up(store.link)
    assert browse.count_by_queue(store.link) == {"default": {"available": 1}}
    assert sum(each.completed for each in history.read_points(store.link, 20, 1, None, None)) == 1


def test_what_was_inserted_is_counted_once_when_its_minute_is_over(store: Store) -> None:
    for _ in range(4):
        store.add()
    store.sql(
        """UPDATE {jobs} SET inserted_at = inserted_at - interval '3 minutes',
           id = (lpad(to_hex((extract(epoch FROM inserted_at - interval '3 minutes') * 1000)::bigint), 12, '0')
                 || right(replace(id::text, '-', ''), 20))::uuid"""
    )
    store.sql("UPDATE {ready} SET job_id = (SELECT id FROM {jobs} LIMIT 1)")
    for _ in range(3):
        history.roll_up(store.link)
    points = history.read_points(store.link, 10, 1, None, None)
    assert sum(each.inserted or 0 for each in points) == 4
    assert points[-1].inserted is None
    store.sql("DELETE FROM {ready}")
    store.sql("DELETE FROM {jobs}")


def test_rows_of_a_minute_become_one_and_old_ones_go_by_the_hour(store: Store) -> None:
    counts = {("q", "t"): ([0] * BUCKETS, [0] * BUCKETS)}
    counts["q", "t"][0][bucket(0.01)] = 2
    counts["q", "t"][1][bucket(1.5)] = 2
    for days in (0, 0, 3, 3):
        history.add_timings(store.link, counts)
        store.sql(
            "UPDATE {minutes} SET minute = date_trunc('hour', now()) - make_interval(days => %(days)s, mins => 53)"
            " - random() * interval '1 second' * %(days)s WHERE minute > now() - interval '1 minute'",
            days=days,
        )
    store.sql(
        "UPDATE {minutes} SET minute = date_trunc('minute', now()) - interval '5 minutes' "
        "WHERE minute > now() - interval '1 day'"
    )
    history.roll_up(store.link)
    rows = store.sql(
        "SELECT minute = date_trunc('hour', minute), waits, runs FROM {minutes} "
        "WHERE task <> '' AND minute > 'epoch' ORDER BY minute"
    )
    assert len(rows) == 2
    assert rows[0][0]
    for _, waits, runs in rows:
        assert (sum(waits), waits[bucket(0.01)], sum(runs), runs[bucket(1.5)]) == (4, 4, 4, 4)
    store.sql("UPDATE {minutes} SET minute = minute - interval '100 days'")
    history.roll_up(store.link)
    assert store.sql("SELECT FROM {minutes} WHERE task <> ''") == []


def test_only_one_rolls_up_at_a_time(fairchild: Fairchild, store: Store) -> None:
    with store_of(fairchild) as other, other.link.atomic():
        assert history.roll_up(other.link)
        assert not history.roll_up(store.link)
    assert history.roll_up(store.link)


def test_a_worker_writes_how_long_jobs_waited_and_ran(app: App) -> None:
    @app.task(name="quick")
    def quick() -> int:
        return 1

    jobs = app.client.enqueue_many("quick", ({} for _ in range(20)))
    worker = app.work(heartbeat_interval=0.2)
    app.wait(*jobs)

    def seen() -> int:
        tasks = app.client.timeseries(5, task="quick")["tasks"]
        return int(tasks[0]["run"]["count"]) if tasks else 0

    eventually(lambda: seen() == 20, 20)
    worker.stop()
    found = app.client.timeseries(5, queue="default")["tasks"][0]
    assert found["wait"]["count"] == 20
    assert 0 <= found["run"]["p50"] <= found["run"]["p99"]


def test_what_ran_last_is_written_when_a_worker_stops(app: App) -> None:
    @app.task(name="quick")
    def quick() -> int:
        return 1

    worker = app.work(heartbeat_interval=7)
    app.wait(app.client.enqueue("quick"))
    worker.stop()
    assert app.client.timeseries(5)["tasks"][0]["run"]["count"] == 1


def test_ids_of_callers_do_not_stop_a_count(store: Store) -> None:
    store.add(id=uuid7())
    assert history.roll_up(store.link)
