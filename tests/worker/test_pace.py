"""How many jobs are claimed ahead of the threads that run them."""

from __future__ import annotations

from fairchild.worker.pace import FRESH_SECONDS, MAX_AHEAD, Pace


def test_without_a_measure_nothing_is_claimed_ahead() -> None:
    assert Pace().ahead(0.0) == 0


def test_the_first_short_jobs_let_it_claim_ahead_at_once() -> None:
    pace = Pace()
    pace.note(1.0, 10, 0.001)

    assert pace.ahead(1.0) == 500


def test_long_jobs_are_not_claimed_ahead() -> None:
    pace = Pace()
    for second in range(5):
        pace.note(second * 0.1, 1, 1.0)

    assert pace.ahead(0.4) == 0


def test_what_comes_to_its_end_counts_more_than_what_it_took() -> None:
    pace = Pace()
    for step in range(11):
        pace.note(step * 0.01, 10, 1e-6)  # 1,000 jobs a second, though each seems to take no time

    assert pace.ahead(0.1) == 50


def test_there_is_a_limit() -> None:
    pace = Pace()
    pace.note(0.0, 1000, 1e-9)

    assert pace.ahead(0.0) == MAX_AHEAD


def test_jobs_of_a_while_ago_are_forgotten() -> None:
    pace = Pace()
    pace.note(0.0, 1000, 1e-3)
    assert pace.ahead(2 * FRESH_SECONDS) == 0

    pace.note(100.0, 1, 10.0)
    assert pace.ahead(100.0) == 0


def test_jobs_that_were_not_started_say_nothing() -> None:
    pace = Pace()
    pace.note(0.0, 0, 0.0)

    assert pace.ahead(0.0) == 0
