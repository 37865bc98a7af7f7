"""What happens to jobs, as it happens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fairchild.context import CurrentJob
from fairchild.db import events, lease
from fairchild.db.connect import Link
from fairchild.db.statement import Sql
from fairchild.errors import UsageError
from tests.support.app import App, app
from tests.support.store import fresh_link

__all__ = ["app"]


def until_ended(listening: Iterator[dict[str, Any] | None], *job_ids: str) -> list[tuple[str, str]]:
    """(job, event) of all events until these jobs have ended."""
    left, found = set(job_ids), []
    for event in itertools.islice(listening, 5000):
        if event is not None:
            found.append((event["job_id"], event["event"]))
            if event["event"] in ("job_completed", "job_failed", "job_cancelled"):
                left.discard(event["job_id"])
        if not left:
            return found
    raise AssertionError(f"{len(found)} events, the last {found[-3:]}")


def test_a_job_is_told_from_its_making_to_its_end(app: App) -> None:
    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    @app.task(name="fails", max_attempts=2, backoff=[0.01])
    def fails() -> None:
        raise ValueError

    listening = app.client.listen(timeout=60, poll_interval=0.02)
    assert next(listening) is None
    app.work()
    good, bad = app.client.enqueue("double", {"n": 1}), app.client.enqueue("fails")
    found = until_ended(listening, str(good.id), str(bad.id))
    assert [event for job_id, event in found if job_id == str(good.id)] == [
        "job_created",
        "job_started",
        "job_completed",
    ]
    assert [event for job_id, event in found if job_id == str(bad.id)] == [
        "job_created", "job_started", "job_retrying", "job_ready", "job_started", "job_failed",
    ]  # fmt: skip


def test_many_and_cancelled_jobs_are_told_too(app: App) -> None:
    listening = app.client.listen(timeout=60, poll_interval=0.02)
    assert next(listening) is None
    ids = app.client.enqueue_many("t", ({} for _ in range(300)))
    app.client.cancel(ids)
    found = until_ended(listening, *map(str, ids))
    assert sum(event == "job_created" for _, event in found) == 300
    assert sum(event == "job_cancelled" for _, event in found) == 300


def test_nothing_is_written_while_nobody_listens(app: App) -> None:
    app.client.cancel(app.client.enqueue("t"))
    assert app.store.sql("SELECT FROM {events}") == []
    listening = app.client.listen(timeout=60)
    assert next(listening) is None
    app.store.sql("UPDATE {listeners} SET until = now() - interval '1 second'")
    app.client.cancel(app.client.enqueue("t"))
    assert app.store.sql("SELECT FROM {events}") == []


def test_a_listener_resumes_and_is_told_when_it_cannot(app: App) -> None:
    listening = app.client.listen(timeout=60, poll_interval=0.02)
    assert next(listening) is None
    first, second = app.client.enqueue("t"), app.client.enqueue("t")
    told = [event for event in itertools.islice(listening, 2) if event]
    assert [event["job_id"] for event in told] == [str(first.id), str(second.id)]
    resumed = app.client.listen(after=told[0]["seq"] - 1, timeout=60)
    event = next(resumed)
    assert event is not None
    app.store.sql("UPDATE {events} SET at = at - interval '1 hour'")
    with app.client.database.link() as link:
        events.forget(link)
    event = next(app.client.listen(after=1, timeout=60))
    assert event is not None
    assert event["type"] == "resync"


@pytest.fixture
def other(app: App) -> Iterator[Link]:
    link = fresh_link(app.client.database)
    yield link
    link.connection.close()


def test_what_commits_late_is_seen_and_what_never_does_is_given_up(app: App, other: Link) -> None:
    now = 0.0
    follower = events.Follower(0, lambda: now)
    add = Sql("add", "INSERT INTO {events} (jobs) VALUES ('[]') RETURNING seq")

    def read() -> list[int]:
        return [row.seq for row in follower.read(app.store.link)]

    assert app.store.link.rows(add) == [(1,)]
    with other.connection.transaction():
        assert other.rows(add) == [(2,)]
        assert app.store.link.rows(add) == [(3,)]
        assert read() == [1, 3]
        assert follower.low == 1
    assert read() == [2]
    assert follower.low == 3
    app.store.sql("SELECT nextval(pg_get_serial_sequence('fairchild_events', 'seq'))")
    assert app.store.link.rows(add) == [(5,)]
    assert read() == [5]
    now = 11.0
    assert read() == []
    assert follower.low == 5


def names_of(listening: Iterator[dict[str, Any] | None], last: str) -> list[str]:
    """The names of events up to the first called ``last``."""
    names = []
    for event in itertools.islice(listening, 5000):
        if event is not None:
            names.append(event["event"])
            if event["event"] == last:
                return names
    raise AssertionError(names)


def test_progress_and_time_limits_are_told(app: App) -> None:
    @app.task(name="slow", max_attempts=1, timeout=0.3)
    def slow(job: CurrentJob) -> None:
        job.progress(1, total=2)
        while True:
            time.sleep(0.005)

    listening = app.client.listen(timeout=60, poll_interval=0.02)
    assert next(listening) is None
    app.work()
    app.client.enqueue("slow")
    names = names_of(listening, "job_failed")
    assert "job_progress" in names
    assert names[-2:] == ["job_timeout", "job_failed"]


def test_what_happens_to_workers_and_queues_is_told_to_those_who_ask(app: App) -> None:
    app.task(name="t")(lambda: None)
    listening = app.client.listen(timeout=60, poll_interval=0.02, events=["worker_*", "queue_paused", "queue_resumed"])
    assert next(listening) is None
    worker = app.work(name="w", heartbeat_interval=0.05, lease=5)
    app.wait(app.client.enqueue("t"))
    app.client.workers.pause("w")
    app.client.workers.resume("w")
    for _ in range(2):
        app.client.queues.pause("q", "ann")
    app.client.queues.resume("q")
    app.client.queues.resume("q")
    worker.stop(timeout=5)
    events = []
    for event in itertools.islice(listening, 5000):
        if event is not None:
            events.append(event)
            if event["event"] == "worker_stopped":
                break
    assert [each["event"] for each in events] == [
        "worker_started", "worker_paused", "worker_resumed", "queue_paused", "queue_resumed", "worker_stopping",
        "worker_stopped",
    ]  # fmt: skip
    assert (events[0]["type"], events[0]["data"]["name"]) == ("worker_update", "w")
    assert (events[3]["type"], events[3]["data"]["queue"], events[3]["data"]["by"]) == ("queue_update", "q", "ann")


def test_a_worker_that_is_lost_is_told(app: App) -> None:
    listening = app.client.listen(timeout=60, poll_interval=0.02, events="worker_lost")
    assert next(listening) is None
    app.store.add()
    app.store.claim()
    (seen,) = lease.watch(app.store.link)
    assert lease.declare_dead(app.store.link, seen)
    assert not lease.declare_dead(app.store.link, seen)
    (event,) = [each for each in itertools.islice(listening, 3) if each is not None]
    assert event["data"]["held"] == 1


def test_only_what_was_asked_for_is_told(app: App) -> None:
    quick: dict[str, Any] = {"timeout": 60, "poll_interval": 0.02}
    ends = app.client.listen(**quick, events=["job_completed", "job_failed", "job_cancelled"])
    mail = app.client.listen(**quick, queue="mail")
    assert [next(ends), next(mail)] == [None, None]
    one, other = app.client.enqueue("t", queue="mail"), app.client.enqueue("t", queue="web")
    single = app.client.listen(0, **quick, job=other.id)
    assert (next(single) or {})["type"] == "resync"
    app.client.cancel([one, other])
    assert until_ended(ends, str(one.id), str(other.id)) == [
        (str(each.id), "job_cancelled") for each in sorted([one, other], key=lambda job: job.id)
    ]
    assert until_ended(mail, str(one.id)) == [(str(one.id), "job_created"), (str(one.id), "job_cancelled")]
    assert until_ended(single, str(other.id))[-1] == (str(other.id), "job_cancelled")


@pytest.mark.parametrize("events", ["job_exploded", ["job_*", "nothing_*"], "job_*x"])
def test_an_event_that_there_is_not_is_refused(app: App, events: Any) -> None:
    with pytest.raises(UsageError, match="no event is called"):
        app.client.listen(events=events)


# Asked for now and then


def test_who_asks_now_and_then_gets_each_event_once(app: App) -> None:
    other = app.other_client()  # as another process that is asked next
    place = app.client.events_after()["after"]
    assert app.client.events_after(place)["events"] == []
    ids = [str(app.client.enqueue("t", queue="mail").id) for _ in range(3)]
    app.client.queues.pause("mail")
    first = app.client.events_after(place, events=["job_*", "queue_paused"])
    assert [each.get("job_id") or each["event"] for each in first["events"]] == [*ids, "queue_paused"]
    assert other.events_after(first["after"], events=["job_*", "queue_*"])["events"] == []
    again = other.events_after(str(first["events"][0]["seq"]))  # the seq of an event leads on too
    assert [each["job_id"] for each in again["events"]] == ids[1:]
    many = app.client.enqueue_many("t", [{}] * 3)
    told = app.client.events_after(first["after"])["events"]
    assert [each["job_id"] for each in told] == [*map(str, many)]
    seqs = [each["seq"] for each in told]
    assert seqs[0] == seqs[1] < seqs[2]  # of one row only the last says that all of it was told
    for number in (0, 1):  # nor does who listens, and goes on from what came in the middle of a look
        listening = app.client.listen(after=first["events"][number]["seq"], timeout=10)
        assert (next(listening) or {})["job_id"] == ids[number + 1]
    assert other.events_after(place, queue="other")["events"] == []
    assert len(other.events_after(place, job=ids[0])["events"]) == 1


def test_what_commits_late_is_told_once_and_what_never_does_is_given_up(app: App) -> None:
    place = app.client.events_after()["after"]
    late = fresh_link(app.client.database)
    with late.connection.transaction():
        late.script("INSERT INTO fairchild_events (jobs) VALUES ('[]')")
        late.script("INSERT INTO fairchild_events (jobs, others) VALUES ('[]', '[{\"event\": \"queue_paused\"}]')")
        job = app.client.enqueue("t")
        found = app.client.events_after(place, events=["*"])
        assert [each.get("job_id") for each in found["events"]] == [str(job.id)]
        assert len(events.Place.parse(found["after"]).missing) == 2
        assert app.client.events_after(found["after"], events=["*"])["events"] == []
    found = app.client.events_after(found["after"], events=["*"])
    assert [each["event"] for each in found["events"]] == ["queue_paused"]
    late.connection.close()
    old = events.Place(0, 0, ((1, 0), (2, 0)))
    with app.client.database.link() as link:
        rows, place_after = old.read(link, time.time(), 1000)
    assert rows
    assert place_after.missing == ()


def test_much_that_has_happened_comes_in_parts(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairchild.client.overview._MOST_EVENTS", 2)
    place = app.client.events_after()["after"]
    ids = [str(app.client.enqueue("t").id) for _ in range(5)]
    found: list[str] = []
    for _ in range(3):
        answer = app.client.events_after(place)
        found += [each["job_id"] for each in answer["events"]]
        place = answer["after"]
    assert found == ids


def test_who_was_away_for_long_is_told_to_look_anew(app: App) -> None:
    app.client.events_after()
    app.client.enqueue("t")
    answer = app.client.events_after(str(events.Place(0, int(time.time()) - 301)))
    assert (answer["events"], answer["resync"]) == ([], True)
    assert app.client.events_after(answer["after"])["resync"] is False
    assert app.client.events_after("999")["resync"] is True
    for wrong in ("x", "1.", "1.2.3", "-1", "1" * 19, "1.5." + ".".join(["1-1"] * 51)):
        with pytest.raises(UsageError, match="after is what an answer gave"):
            app.client.events_after(wrong)
