from __future__ import annotations

import traceback
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild.ids import uuid7
from fairchild.job import Job, JobState
from fairchild.web import words

NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 ms"), (0.0123, "12 ms"), (0.9996, "1.00 s"), (5.02, "5.02 s"), (42, "42.0 s"),
     (59.96, "1m"), (192, "3m 12s"), (3600, "1h"), (3660, "1h 1m"), (187200, "2d 4h"), (-5, "−5.00 s")],
)  # fmt: skip
def test_durations_have_at_most_two_units(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (1284, "1,284"), (99_999, "99,999"), (100_000, "100k"), (999_499, "999k"),
     (999_999, "1.00M"), (1_184_000, "1.18M"), (12_345_678, "12.3M"), (2_500_000_000, "2.50B")],
)  # fmt: skip
def test_large_numbers_keep_three_figures(value: float | None, text: str) -> None:
    assert words.short_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "now"), (-5, "5 s ago"), (42, "in 42 s"), (-180, "3 min ago"), (7200, "in 2 h"), (-172800, "2 d ago")],
)
def test_times_are_told_from_now(seconds: float, text: str) -> None:
    assert words.relative(NOW + timedelta(seconds=seconds), NOW) == text


def test_a_scheduled_job_with_attempts_behind_it_is_retrying() -> None:
    assert words.shown_state(Job(uuid7(), "t", state=JobState.SCHEDULED, attempt=1)) == "retrying"
    assert words.shown_state(Job(uuid7(), "t", state=JobState.SCHEDULED)) == "scheduled"


def test_a_traceback_folds_what_is_not_the_projects_own() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/app/.venv/lib/python3.11/site-packages/fairchild/worker/attempt.py", line 9, in run\n'
        "    value = call()\n"
        '  File "/app/myapp/tasks.py", line 41, in fetch_price\n'
        "    r = session.get(url)\n"
        "        ^^^^^^^^^^^^^^^^\n"
        '  File "/app/.venv/lib/python3.11/site-packages/requests/a.py", line 1, in get\n'
        "    return b()\n"
        '  File "/app/.venv/lib/python3.11/site-packages/requests/b.py", line 2, in b\n'
        "    raise ReadTimeout()\n"
        "requests.exceptions.ReadTimeout: timed out\nsecond line"
    )
    shown = words.traced(text)
    assert [len(part) if isinstance(part, tuple) else part.split("\n")[0] for part in shown.parts] == [
        "Traceback (most recent call last):", 1, 1, 2, "requests.exceptions.ReadTimeout: timed out",
    ]  # fmt: skip
    assert shown.innermost is not None
    assert (shown.innermost.file, shown.innermost.line) == ("/app/myapp/tasks.py", 41)


@given(st.lists(st.sampled_from(['  File "a", line 1, in f', '  File "", line x', "    code", "text", ""])))
def test_nothing_of_a_traceback_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines).rstrip("\n")
    parts = words.traced(text).parts
    again = "\n".join(
        part if isinstance(part, str) else "\n".join(line for frame in part for line in frame.lines) for part in parts
    )
    assert again == text


def test_a_real_traceback_is_read() -> None:
    text = ""
    try:
        int("x")
    except ValueError:
        text = traceback.format_exc()
    innermost = words.traced(text).innermost
    assert innermost is not None
    assert innermost.function == "test_a_real_traceback_is_read"
