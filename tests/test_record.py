"""What a task hands back: a Record, or a planned ending."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from fairchild import Cancel, Discard, Record, Retry, Snooze
from fairchild.record import Ending


def test_a_record_is_a_value_that_equals_another_of_the_same() -> None:
    assert Record({"a": 1}) == Record({"a": 1})
    assert Record(None).value is None
    with pytest.raises(AttributeError):
        Record(1).value = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("snooze", "seconds"),
    [
        (Snooze(30), 30.0),
        (Snooze(0), 0.0),
        (Snooze(minutes=5), 300.0),
        (Snooze(timedelta(hours=1)), 3600.0),
        (Snooze(weeks=1, days=1, hours=1, minutes=1, seconds=1), 694_861.0),
        (Snooze(10, minutes=1), 70.0),
    ],
)
def test_a_snooze_takes_seconds_units_or_a_timedelta(snooze: Snooze, seconds: float) -> None:
    assert snooze.delay == seconds


def test_a_retry_may_leave_the_delay_to_the_task_and_takes_a_timedelta() -> None:
    assert Retry().delay is None
    assert Retry(delay=0).delay == 0
    assert Retry("busy", delay=timedelta(minutes=1)).delay == 60
    assert str(Retry("busy")) == "busy"


@pytest.mark.parametrize("delay", [-1, timedelta(seconds=-1), float("nan"), float("inf")])
def test_an_impossible_delay_is_refused_where_it_is_written(delay: float | timedelta) -> None:
    with pytest.raises(ValueError, match="delay"):
        Retry(delay=delay)
    with pytest.raises(ValueError, match="delay"):
        Snooze(delay)


@pytest.mark.parametrize("ending", [Snooze(5), Retry("r", delay=1), Cancel("why"), Discard("why")])
def test_an_ending_can_be_raised_and_survives_a_pickle(ending: Ending) -> None:
    with pytest.raises(type(ending)):
        raise ending
    again = pickle.loads(pickle.dumps(ending))
    assert vars(again) == vars(ending)


def test_cancel_and_discard_carry_their_reason() -> None:
    assert (Cancel("asked to").reason, Discard("hopeless").reason) == ("asked to", "hopeless")
    assert Cancel().reason == "cancelled by the task"
