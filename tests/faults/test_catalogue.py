"""The catalogue of faults: each id has a test, an entry that names one, or a written reason.

A test belongs to a fault by its name, ``test_f07_...``; one that covers several names them all: ``test_f27_f28_...``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
IDS = [f"F{number:02}" for number in (*range(1, 64), *range(68, 71), *range(74, 101))]

# Tests that say what they show, and are named after that.
COVERED = {
    "F04": ["db/test_lease.py::test_a_late_outcome_is_accepted_as_long_as_nobody_took_over"],
    "F11": [
        "worker/test_poison.py::test_a_job_that_kills_its_worker_kills_one_worker_and_then_two_children",
        "worker/test_poison.py::test_innocent_jobs_beside_one_that_segfaults_all_complete_and_none_is_charged",
    ],
    "F12": [
        "worker/test_isolated.py::test_a_process_that_dies_three_times_makes_its_job_poison_and_no_other",
        "worker/test_isolated.py::test_memory_past_its_limit_is_an_error_of_the_task_alone",
    ],
    "F13": [
        "worker/test_attempt.py::test_what_would_end_a_process_fails_one_job_only",
        "worker/test_isolated.py::test_sys_exit_is_a_failure_of_the_job",
    ],
    "F14": [
        "worker/test_limits.py::test_an_interrupt_that_is_swallowed_comes_again",
        "worker/test_limits.py::test_a_thread_that_does_not_come_back_is_replaced_and_its_job_stays_running",
        "worker/test_stuck.py::test_a_process_of_its_own_with_too_many_stuck_threads_ends_and_gives_the_job_back",
        "worker/test_isolated.py::test_code_outside_of_python_past_its_timeout_is_killed",
    ],
    "F16": ["worker/test_attempt.py::test_what_would_end_a_process_fails_one_job_only"],
    "F17": ["worker/test_attempt.py::test_an_error_of_any_shape_is_recorded_in_bounds_and_the_worker_goes_on"],
    "F18": ["worker/test_stuck.py::test_a_thread_that_a_job_has_left_behind_does_not_hold_up_the_end"],
    "F57": [
        "db/test_finish.py::test_of_two_attempts_of_one_job_in_one_batch_the_one_with_the_claim_counts",
        "db/test_finish.py::test_of_two_outcomes_of_one_attempt_in_one_batch_the_first_counts",
    ],
    "F70": [
        "worker/test_worker.py::test_a_worker_that_is_paused_in_the_database_claims_nothing_until_it_is_resumed",
        "db/test_control.py::test_a_claim_and_a_cancellation_at_once_never_both_have_a_job",
    ],
    "F74": ["test_codec.py::test_what_json_cannot_hold_is_refused_with_its_path"],
    "F75": ["test_codec.py::test_what_json_cannot_hold_is_refused_with_its_path"],
    "F76": [
        "test_codec.py::test_json_comes_back_from_the_database_as_it_went_in",
        "test_codec.py::test_what_json_cannot_hold_is_refused_with_its_path",
    ],
    "F77": ["test_codec.py::test_what_json_cannot_hold_is_refused_with_its_path"],
    "F78": [
        "worker/test_attempt.py::test_a_record_that_is_not_json_fails_the_attempt_and_names_the_place",
        "worker/test_attempt.py::test_a_plain_result_that_is_not_json_is_dropped_with_a_warning",
    ],
    "F81": [
        "client/test_enqueue.py::test_names_are_text_and_nothing_else",
        "client/test_enqueue.py::test_control_characters_in_names_are_refused",
        "client/test_enqueue_many.py::test_odd_names_are_kept_on_the_short_way_and_on_the_long_one",
    ],
    "F83": [
        "client/test_enqueue.py::test_a_naive_time_is_refused_with_what_to_write",
        "cli/test_parse.py::test_an_instant_needs_a_zone",
    ],
    "F84": [
        "test_codec.py::test_data_that_looks_like_a_reference_is_data",
        "workflows/test_futures.py::test_data_that_looks_like_a_reference_stays_data",
    ],
}

# What cannot be tested here, and why.
REASONS = {
    "F68": "a conflict of unique keys cannot block a rescue as long as jobs have no unique keys",
}


def named() -> dict[str, list[str]]:
    """The tests of each fault that carry its id."""
    found: dict[str, list[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for name in re.findall(r"^\s*def (test_(?:f\d+_)+\w*)", file.read_text(), re.MULTILINE):
            for number in re.findall(r"f(\d{2,3})(?=_)", re.match(r"test_((?:f\d+_)+)", name)[1]):  # type: ignore[index]
                found.setdefault(f"F{number}", []).append(f"{file.relative_to(TESTS)}::{name}")
    return found


NAMED = named()


@pytest.mark.parametrize("fault", IDS)
def test_every_fault_has_a_test_or_a_reason(fault: str) -> None:
    shown = [*NAMED.get(fault, ()), *COVERED.get(fault, ())]
    assert shown or REASONS.get(fault), f"{fault} has neither a test named test_{fault.lower()}_... nor a reason"


@pytest.mark.parametrize("entry", sorted({entry for entries in COVERED.values() for entry in entries}))
def test_an_entry_names_a_test_that_is_there(entry: str) -> None:
    path, _, name = entry.partition("::")

    assert re.search(rf"^def {name}\(", (TESTS / path).read_text(), re.MULTILINE), f"{entry} does not exist"


def test_no_id_is_one_of_no_fault() -> None:
    known = {f"F{number:02}" for number in range(1, 131)}

    assert set(COVERED) | set(REASONS) <= set(IDS)
    assert set(NAMED) <= known
