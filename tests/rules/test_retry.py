"""When a failed attempt is tried again, and how long that takes."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild.rules.retry import MAX_DELAY_SECONDS, Backoff, after_error, delay_after, parse_backoff

ATTEMPTS = st.integers(1, 2**31 - 1)
NUMBERS = st.floats(0, 1e6)
BACKOFFS = st.builds(Backoff, NUMBERS, NUMBERS, st.floats(0, 10), NUMBERS, st.floats(0, 1))


class Boring(Exception):
    pass


class Useless(Boring):
    pass


def test_exponential_doubles_from_five_seconds_up_to_an_hour() -> None:
    delays = [Backoff.exponential().delay(attempt, 0.5) for attempt in (1, 2, 3, 4, 20, 10**6)]

    assert delays == [5, 10, 20, 40, 3600, 3600]


def test_linear_grows_by_its_step_and_none_is_nothing() -> None:
    assert [Backoff.linear(7, limit=20).delay(attempt) for attempt in (1, 2, 3, 4)] == [7, 14, 20, 20]
    assert [Backoff.none().delay(attempt) for attempt in (1, 50, 10**9)] == [0, 0, 0]


@given(BACKOFFS, ATTEMPTS, st.floats(0, 1, exclude_max=True))
def test_a_delay_is_finite_and_not_past_its_limit_and_jitter(backoff: Backoff, attempt: int, share: float) -> None:
    delay = backoff.delay(attempt, share)

    assert math.isfinite(delay)
    assert 0 <= delay <= backoff.limit * (1 + backoff.jitter) * (1 + 1e-12)


@given(BACKOFFS, ATTEMPTS)
def test_jitter_lies_evenly_around_the_plain_delay(backoff: Backoff, attempt: int) -> None:
    lowest, middle = backoff.delay(attempt, 0.0), backoff.delay(attempt, 0.5)

    assert lowest == pytest.approx(middle * (1 - backoff.jitter), abs=1e-9)


@given(st.one_of(BACKOFFS, st.lists(st.floats(0, 1e12), min_size=1).map(tuple)), ATTEMPTS)
def test_no_delay_is_longer_than_a_year(backoff: Any, attempt: int) -> None:
    assert 0 <= delay_after(backoff, attempt, ValueError()) <= MAX_DELAY_SECONDS


def test_the_last_delay_of_a_list_holds_for_all_further_attempts() -> None:
    delays = parse_backoff([1, timedelta(minutes=1), 600])

    assert [delay_after(delays, attempt, ValueError()) for attempt in (1, 2, 3, 4, 99)] == [1, 60, 600, 600, 600]


def test_a_function_is_told_the_attempt_and_the_error() -> None:
    def mine(attempt: int, error: BaseException) -> timedelta:
        return timedelta(seconds=attempt * 100 + len(str(error)))

    assert delay_after(parse_backoff(mine), 3, ValueError("four")) == 304


@pytest.mark.parametrize("seconds", [-5, float("-inf"), float("nan")])
def test_a_function_that_gives_no_delay_means_at_once(seconds: float) -> None:
    assert delay_after(lambda attempt, error: seconds, 1, ValueError()) == 0


@pytest.mark.parametrize("name", ["none", "linear", "exponential"])
def test_a_backoff_may_be_named(name: str) -> None:
    assert parse_backoff(name) == getattr(Backoff, name)()


@pytest.mark.parametrize("option", ["fibonacci", [], [1, -1], 30, None])
def test_anything_else_is_refused(option: object) -> None:
    with pytest.raises(ValueError, match="backoff"):
        parse_backoff(option)


@pytest.mark.parametrize("numbers", [{"base": -1}, {"base": 1, "jitter": 1.5}, {"base": 1, "factor": -2}])
def test_impossible_numbers_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="negative"):
        Backoff(**numbers)


def verdict(error: BaseException, attempt: int = 1, max_attempts: int = 3, **options: Any) -> Any:
    given = {"retry_on": (Exception,), "discard_on": (), "backoff": (7.0,), **options}
    return after_error(error, attempt=attempt, max_attempts=max_attempts, **given)


def test_an_error_is_tried_again_until_the_attempts_are_spent() -> None:
    assert verdict(Boring()).retry
    assert verdict(Boring()).delay == 7
    assert verdict(Boring(), attempt=2).retry
    assert not verdict(Boring(), attempt=3).retry
    assert not verdict(Boring(), attempt=4).retry


def test_only_errors_of_retry_on_are_tried_again() -> None:
    assert verdict(Useless(), retry_on=(Boring,)).retry
    assert not verdict(ValueError(), retry_on=(Boring,)).retry
    assert not verdict(SystemExit()).retry
    assert not verdict(Boring(), retry_on=()).retry


def test_discard_on_goes_before_retry_on_and_says_so() -> None:
    discarded = verdict(Useless(), retry_on=(Boring,), discard_on=(Useless,))

    assert (discarded.retry, discarded.reason) == (False, "discarded")
    assert verdict(Boring(), retry_on=(Boring,), discard_on=(Useless,)).retry
