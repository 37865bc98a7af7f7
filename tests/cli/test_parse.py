from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fairchild.cli import parse
from fairchild.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("90", timedelta(seconds=90)),
        (" 5M ", timedelta(minutes=5)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse.duration("--in", text) == expected
    assert parse.is_duration(text)


@pytest.mark.parametrize("text", ["", "m", "5 m", "-5m", "5x", "inf", "1e3", "9" * 30 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--in"):
        parse.duration("--in", text)


def test_an_instant_needs_a_zone() -> None:
    assert parse.instant("--at", "2030-01-31T08:00:00Z") == datetime(2030, 1, 31, 8, tzinfo=timezone.utc)
    assert parse.instant("--at", "2030-01-31T08:00:00+02:00") == datetime(2030, 1, 31, 6, tzinfo=timezone.utc)
    with pytest.raises(UsageError, match="no time zone"):
        parse.instant("--at", "2030-01-31")
    with pytest.raises(UsageError, match="ISO 8601"):
        parse.instant("--at", "")


def test_values_are_json_where_they_can_be_and_text_where_not() -> None:
    given = parse.Arguments.read(
        None, ["n=2", "ok=true", "none=null", "list=[1, 2]", "text=a=b", 'quoted="7"', "name=a@b.c", "x=NaN", "empty="]
    )
    assert given.values() == {
        "n": 2, "ok": True, "none": None, "list": [1, 2], "text": "a=b", "quoted": "7", "name": "a@b.c", "x": "NaN",
        "empty": "",
    }  # fmt: skip


def test_a_parameter_annotated_as_text_gets_text() -> None:
    types = {"title": str, "n": int}
    assert parse.Arguments.read(None, ["title=123", "n=123"]).values(types) == {"title": "123", "n": 123}
    assert parse.Arguments.read(None, ['title="123"']).values(types) == {"title": "123"}


def test_single_arguments_win_over_the_object() -> None:
    assert parse.Arguments.read('{"a": 1, "b": 2}', ["b=3"]).values() == {"a": 1, "b": 3}
