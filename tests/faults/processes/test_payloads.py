"""Payloads that are too large, too deep, forged or secret: one job fails at most, and nothing else notices."""

from __future__ import annotations

import io
import json
import logging
import tracemalloc
from typing import Any

import pytest

from fairchild.cli.logs import JsonFormatter, TextFormatter
from fairchild.errors import PayloadTooLarge
from tests.support.app import App

HUNDRED_MB = 100 * 1024 * 1024
CANARY = "c4n4ry-s3cr3t"
FORGED = "\n2026-01-01 00:00:00,000 INFO fairchild.worker: all is well\r\x1b[2J\x1b[31m %n %s \u202e\u2028"


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: {"a": [text]}, lambda text: [text[:1000]] * 100_000])
def test_f79_a_hundred_megabytes_are_refused_at_the_call_within_bounded_memory(app: App, wrap: Any) -> None:
    @app.task
    def take(value: Any) -> None: ...

    value = wrap("x" * HUNDRED_MB)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match=r"limit is 1,048,576.*Nothing was stored.*max_payload_bytes"):
            take.enqueue(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3 * HUNDRED_MB
    assert sum(app.client.stats()["jobs"].values()) == 0


def test_f79_a_result_of_a_hundred_megabytes_is_not_kept_and_the_worker_goes_on(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def large() -> str:
        return "x" * HUNDRED_MB

    @app.task
    def small() -> int:
        return 1

    app.work(concurrency=1)
    (done,) = app.wait(large.enqueue())

    assert (done.state, done.has_result) == ("completed", False)
    assert "its result is dropped" in caplog.text
    assert len(caplog.text) < 10_000
    assert app.result(small.enqueue()) == 1


@pytest.mark.parametrize(
    "args",
    [
        '{"x": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"x": ' + '{"a":' * 5000 + "1" + "}" * 5001,
        '{"x": 1' + "0" * 20_000 + "}",
        '{"y": 1}',
        '"\\\\ud800"',
    ],
    ids=["deep list", "deep object", "long number", "other name", "no object"],
)
def test_f80_f86_a_row_that_another_hand_wrote_fails_alone_in_a_batch_of_fifty(app: App, args: str) -> None:
    @app.task(max_attempts=1)
    def work(x: int) -> int:
        return x

    jobs = [work.enqueue(n) for n in range(50)]
    spoilt = jobs.pop(25)
    app.store.sql("UPDATE {jobs} SET args = (%(args)s::text)::jsonb WHERE id = %(id)s", args=args, id=spoilt.id)
    worker = app.work()

    assert [app.result(job) for job in jobs] == [n for n in range(50) if n != 25]
    (found,) = app.store.sql("SELECT state, attempt, errors->0->>'kind' FROM {jobs} WHERE id = %(id)s", id=spoilt.id)
    assert found == ("failed", 1, "invalid_args")
    assert worker.alive


@pytest.mark.parametrize("style", ["text", "json"])
def test_f82_what_a_task_says_is_never_taken_for_a_line_of_the_log(app: App, style: str) -> None:
    log = logging.getLogger("fairchild")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if style == "text" else JsonFormatter())
    log.addHandler(handler)

    @app.task(max_attempts=2, backoff="none")
    def bad(text: str) -> None:
        logging.getLogger("fairchild.task").error("heard %s", text)
        raise ValueError(text)

    try:
        app.work(concurrency=1)
        app.wait(bad.enqueue(FORGED))
    finally:
        log.removeHandler(handler)

    lines = stream.getvalue().split("\n")
    assert any("2026-01-01" in line for line in lines)
    for line in filter(None, lines):
        assert not line.startswith("2026-01-01")
        assert "\x1b" not in line
        assert "\r" not in line
        if style == "json":
            assert set(json.loads(line)) > {"time", "level", "message"}


def test_f85_arguments_are_in_no_log_no_error_and_no_traceback_unless_the_task_puts_them_there(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(max_attempts=2, backoff="none")
    def bad(password: str) -> None:
        local = password  # a traceback that showed locals would show it
        raise ValueError(len(local))

    @app.task
    def wrong(number: int) -> None: ...

    with caplog.at_level(logging.DEBUG, "fairchild"):
        job = bad.enqueue(CANARY)
        with pytest.raises(TypeError) as refused:
            wrong.enqueue(number=[CANARY])
        app.work(concurrency=1)
        (done,) = app.wait(job)

    assert done.state == "failed"
    assert len(done.errors) == 2
    assert CANARY not in json.dumps(done.errors)
    assert CANARY not in str(refused.value)
    assert CANARY not in caplog.text
    assert CANARY in json.dumps(done.args)  # to who may read the job; a list of fields to hide comes with redact=
