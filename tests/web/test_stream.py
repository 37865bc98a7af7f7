"""Server-sent events: their form, how they resume, and how many there may be."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from fairchild.web import polling
from tests.support.app import App

Mount = Callable[..., FlaskClient]


def messages(chunks: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """Each message of a stream by its fields."""
    for chunk in chunks:
        yield dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines() if not line.startswith(":"))


def test_a_stream_tells_and_resumes(app: App, mount: Mount) -> None:
    client = mount(streams=True)
    answer = client.get("/ops/api/stream", buffered=False)
    assert answer.mimetype == "text/event-stream"
    told = messages(iter(answer.response))  # type: ignore[arg-type]
    assert next(told) == {"retry": "2000"}
    with app.client.reading_within(5):
        pass
    app.store.sql("INSERT INTO {listeners} VALUES (gen_random_uuid(), now() + interval '1 minute')")
    app.store.sql("INSERT INTO {events} (jobs) VALUES ('[]')")
    job = app.client.enqueue("t")
    answer.close()
    again = client.get("/ops/api/stream", headers={"Last-Event-ID": "1"}, buffered=False)
    told = messages(iter(again.response))  # type: ignore[arg-type]
    assert next(told) == {"retry": "2000"}
    message = next(told)
    assert message["event"] == "job_update"
    data: dict[str, Any] = json.loads(message["data"])
    assert (data["event"], data["job_id"], data["data"]["type"]) == ("job_created", str(job.id), "t")
    again.close()


def test_a_stream_that_cannot_resume_says_so(app: App, mount: Mount) -> None:
    answer = mount(streams=True).get("/ops/api/stream?after=999", buffered=False)
    told = messages(iter(answer.response))  # type: ignore[arg-type]
    next(told)
    assert next(told)["event"] == "resync"
    answer.close()


def test_there_are_so_many_streams_and_no_more(mount: Mount) -> None:
    client = mount(streams=2)
    first, second = (client.get("/ops/api/stream", buffered=False) for _ in range(2))
    refused = client.get("/ops/api/stream")
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    first.close()
    third = client.get("/ops/api/stream", buffered=False)
    assert third.status_code == 200
    second.close()
    third.close()


def test_there_are_no_streams_unless_asked_for(mount: Mount) -> None:
    assert mount().get("/ops/api/stream").status_code == 404
    for wrong in ("-1", "x", "1" * 30):
        assert mount(streams=True).get("/ops/api/stream", headers={"Last-Event-ID": wrong}).status_code == 422


def test_events_are_asked_for_where_nothing_can_be_streamed(app: App, site: FlaskClient) -> None:
    def ask(**query: Any) -> dict[str, Any]:
        answer = site.get("/ops/api/events", query_string=query)
        assert answer.status_code == 200
        return dict(answer.json or {})

    begin = ask()
    assert (begin["events"], begin["retry"]) == ([], 0)
    threading.Timer(0.3, lambda: app.client.enqueue("t")).start()
    began = time.monotonic()
    answer = ask(after=begin["after"])
    assert [each["event"] for each in answer["events"]] == ["job_created"]
    assert time.monotonic() - began < polling.WAIT_SECONDS
    began = time.monotonic()
    assert ask(after=answer["after"], events="job_failed")["events"] == []
    assert 1.0 < time.monotonic() - began < 2.0
    for query in ("after=x", "events=no_such", "job=x", "after=&queue=q"):
        assert site.get(f"/ops/api/events?{query}").status_code == 422, query


def test_only_a_few_wait_for_events_at_once(app: App, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "WAITERS", 0)
    client = mount()
    place = (client.get("/ops/api/events").json or {})["after"]
    began = time.monotonic()
    answer = client.get(f"/ops/api/events?after={place}").json or {}
    assert time.monotonic() - began < 1.0
    assert (answer["events"], answer["retry"]) == ([], 1)
