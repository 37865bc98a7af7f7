"""Server-sent events: their form, how they resume, and how many there may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from flask.testing import FlaskClient

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
