"""An enqueue whose reply was lost: made once, told truly, and only unknown when nobody can be asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from fairchild import Fairchild, Task
from fairchild.errors import ConfigError, DatabaseUnavailable, OutcomeUnknown, StoreError
from fairchild.ids import uuid7
from tests.support.app import App
from tests.support.proxy import Proxy, proxy_to


@pytest.fixture
def proxy(app: App) -> Iterator[Proxy]:
    with proxy_to(app.url) as proxy:
        yield proxy


@pytest.fixture
def client(app: App, proxy: Proxy) -> Iterator[Fairchild]:
    """A client on the other side of the proxy, with a connection on which the statement has been prepared."""
    client = Fairchild(proxy.url, registry=app.client.registry, enqueue_timeout=2.0)
    client.connect()
    yield client
    client.disconnect()


@pytest.fixture
def note(app: App) -> Task[..., Any]:
    def note(n: int) -> int:
        return n

    return app.task(name="note")(note)


def jobs(app: App) -> int:
    return int(app.store.sql("SELECT count(*) FROM {jobs}")[0][0])


@pytest.mark.parametrize("given", [False, True])
def test_f27_a_job_whose_reply_was_lost_is_made_once(
    app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any], given: bool
) -> None:
    options = {"id": uuid4()} if given else {}
    client.enqueue(note, {"n": 0})
    proxy.eat_reply()

    job = client.enqueue(note, {"n": 1}, **options)

    assert proxy.eaten == 1
    assert jobs(app) == 2
    assert app.get(job).args == {"n": 1}
    assert not job.conflict
    assert len(app.store.sql("SELECT job_id FROM {ready}")) == 2


def test_a_job_of_another_call_with_this_id_is_still_a_conflict(
    app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any]
) -> None:
    other = app.client.enqueue(note, {"n": 7})
    client.enqueue(note, {"n": 0})
    proxy.eat_reply()

    job = client.enqueue(note, {"n": 1}, id=other.id)

    assert job.conflict
    assert job.args == {"n": 7}


def test_when_nobody_can_be_asked_the_outcome_is_unknown_and_repeating_is_safe(
    app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any]
) -> None:
    client.enqueue(note, {"n": 0})
    job_id = uuid7()
    proxy.eat_reply()
    proxy.down = True

    with pytest.raises(OutcomeUnknown, match=str(job_id)) as caught:
        client.enqueue(note, {"n": 1}, id=job_id)
    assert (caught.value.job_id, caught.value.job_ids) == (job_id, [job_id])
    assert jobs(app) == 2  # it had been made, which the caller could not know

    proxy.down = False
    assert client.enqueue(note, {"n": 1}, id=job_id).id == job_id
    assert jobs(app) == 2


def test_what_was_never_sent_is_not_unknown(app: App, proxy: Proxy, note: Task[..., Any]) -> None:
    client = Fairchild(proxy.url, registry=app.client.registry, enqueue_timeout=0.5)
    proxy.down = True

    with pytest.raises(DatabaseUnavailable):
        client.enqueue(note, {"n": 1})
    assert jobs(app) == 0
    client.disconnect()


@pytest.mark.parametrize("number", [3, 1500, 6000])
def test_f27_many_jobs_whose_commit_was_not_answered_are_there(
    app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any], number: int
) -> None:
    client.enqueue(note, {"n": 0})
    proxy.eat_reply(b"COMMIT")

    ids = client.enqueue_many(note, ({"n": n} for n in range(number)))

    assert proxy.eaten == 1
    assert len(ids) == number
    assert jobs(app) == number + 1


def test_f28_many_jobs_whose_commit_was_not_delivered_are_not_there_and_that_is_said(
    app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any]
) -> None:
    client.enqueue(note, {"n": 0})
    proxy.cut_before(b"COMMIT")

    with pytest.raises(StoreError) as caught:
        client.enqueue_many(note, ({"n": n} for n in range(6000)))

    assert not isinstance(caught.value, OutcomeUnknown)
    assert jobs(app) == 1


def test_many_jobs_may_be_unknown_too(app: App, client: Fairchild, proxy: Proxy, note: Task[..., Any]) -> None:
    client.enqueue(note, {"n": 0})
    proxy.eat_reply(b"COMMIT")
    stop = threading.Event()

    def calls() -> Iterator[dict[str, int]]:
        for n in range(10):
            yield {"n": n}
        proxy.down = True
        stop.set()

    with pytest.raises(OutcomeUnknown) as caught:
        client.enqueue_many(note, calls())

    assert stop.is_set()
    assert len(caught.value.job_ids) == 10
    assert all(app.get(job_id).args == {"n": n} for n, job_id in enumerate(caught.value.job_ids))


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(ConfigError, match="enqueue_timeout"):
        Fairchild("postgresql://", enqueue_timeout=-1)
