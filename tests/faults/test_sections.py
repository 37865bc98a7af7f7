"""A short cut of each section for every run of the tests; ``make faults`` runs them in full.

What is promised in seconds is not held against a machine that runs other tests: ``make faults`` does that.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.ledger import SETUP, judge
from tests.faults.report import BEGIN, END, Report, percentile, write_block
from tests.faults.sections import SECTIONS
from tests.faults.storm import LEAST, MINUTES, least_of
from tests.support.app import App, app
from tests.support.command import ROOT

__all__ = ["app"]

SMALL = {
    "storm": 0.15,
    "stale": 100,
    "eaten": 33,
    "recovery-short": 2,
    "rescues": 3.0,
    "restarts": 2,
    "sigterm": 4,
    "innocents": 50,
    "memory": 5_000,
}
"""All but ``recovery``, which takes as long as the default lease and is the same code as ``recovery-short``."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_short_cut_of_each_section_breaks_no_promise(name: str) -> None:
    report = SECTIONS[name].run(SMALL[name], random.Random(1))

    assert report.promises
    assert not report.wrong, report.lines()


def test_every_section_has_a_short_cut() -> None:
    assert {*SMALL, "recovery"} == {*SECTIONS}


def test_a_full_storm_plans_what_it_must_count() -> None:
    assert least_of(MINUTES) == LEAST
    assert all(count >= 1 for count in least_of(0.1).values())


def test_the_ledger_sees_edges_that_are_not_legal_and_jobs_that_vanish(app: App) -> None:
    app.store.link.script(SETUP)

    @app.task(name="faults.bare")
    def bare(n: int) -> int:
        return n

    moved, kept = bare.enqueue(1), bare.enqueue(2)
    app.store.sql(
        "WITH gone AS (DELETE FROM {ready} WHERE job_id = %(id)s RETURNING job_id) "
        "INSERT INTO {waiting} (job_id, deps) SELECT job_id, 1 FROM gone",
        id=moved.id,
    )
    app.store.sql("DELETE FROM {jobs} WHERE id = %(id)s", id=kept.id)
    app.store.sql("DELETE FROM {ready} WHERE job_id = %(id)s", id=kept.id)

    found = judge(app.url, [moved.id, kept.id]).violations
    app.store.sql("DELETE FROM {waiting}")
    app.store.sql("DELETE FROM {jobs}")

    assert set(found["I5 edge that is not legal"]) == {moved.id, kept.id}
    assert found["I1 acknowledged and not there"] == [kept.id]
    assert found["I1 not ended"] == [moved.id]


def test_a_page_keeps_what_other_sections_wrote(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")

    for name, text in (("a", "first"), ("b", "second"), ("a", "third")):
        write_block(page, name, text)

    assert page.read_text() == (
        f"before\n{BEGIN}\n<!-- a -->\nthird\n<!-- /a -->\n<!-- b -->\nsecond\n<!-- /b -->\n{END}\nafter\n"
    )
    page.write_text("nothing to write into")
    with pytest.raises(ValueError, match="no generated block"):
        write_block(page, "a", "text")


def test_a_broken_promise_is_told_apart_from_a_busy_machine() -> None:
    report = Report()
    report.promise("in time", held=False, timed=True)
    assert report.broken
    assert not report.wrong
    report.promise("at all", held=False)
    assert [each.text for each in report.wrong] == ["at all"]
    assert report.verdict == "BROKEN: in time; at all"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(each) for each in range(1, 201)], 0.99) == 198.0
    assert percentile([], 0.5) == float("inf")


@pytest.mark.parametrize("arguments", [["nothing"], ["--size", "storm"], ["--size", "nothing=1"]])
def test_what_is_no_section_is_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert arguments[-1] in done.stderr
