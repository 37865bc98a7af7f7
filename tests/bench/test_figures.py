"""The arithmetic of a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fairchild.bench import catalogue, report, tally
from fairchild.bench.catalogue import Probe
from fairchild.bench.figures import Measure, Measurement, fifths, median, percentile, ratio, ratios
from fairchild.bench.plan import QUICK, of_jobs
from fairchild.errors import UsageError


def measured(name: str, *samples: float | None, against: str | None = None) -> Measurement:
    found = Measurement(Measure(name, name, "jobs/s", "more", against))
    found.samples = {number: each for number, each in enumerate(samples, start=1) if each is not None}
    return found


def test_the_median_is_the_middle_value() -> None:
    assert median([3.0, 1.0, 100.0]) == 3.0
    assert median([1.0, 2.0]) == 1.5
    assert median([]) is None


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(each) for each in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 1) == 100.0
    assert percentile(values, 0) == 1.0
    assert percentile([7.0], 0.5) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile|share"):
        percentile(values, share)


def test_a_ratio_compares_within_each_round() -> None:
    # The machine was twice as slow in the second round: that moves both, and the ratio not at all.
    ours, theirs = measured("ours", 100.0, 50.0, 100.0), measured("theirs", 200.0, 100.0, 200.0)
    assert ratios(ours, theirs) == {1: 0.5, 2: 0.5, 3: 0.5}
    assert ratio(ours, theirs) == 0.5


def test_a_round_that_lacks_either_sample_has_no_ratio() -> None:
    assert ratios(measured("ours", 1.0, None, 3.0, 4.0), measured("theirs", 2.0, 2.0, None, 0.0)) == {1: 0.5}
    assert ratio(measured("ours"), measured("theirs", 1.0)) is None


def test_the_fifths_of_a_steady_drain_are_alike() -> None:
    samples = [(10.0 + each / 100, each * 10) for each in range(1, 101)]
    first, last = fifths(samples, 10.0, 11.0, 1000)
    assert first == pytest.approx(1000)
    assert last == pytest.approx(1000)


def test_the_fifths_of_a_drain_that_slows_down_are_not() -> None:
    samples = [(0.1, 200), (0.4, 800), (1.4, 1000)]
    first, last = fifths(samples, 0.0, 1.4, 1000)
    assert first == pytest.approx(2000)
    assert last == pytest.approx(200)


def test_jobs_are_counted_by_process_with_their_delays(tmp_path: Path) -> None:
    mine = tally.Tally(tmp_path)
    assert tally.read(tmp_path) == tally.Counted(0, 0.0, 0.0)
    before = time.monotonic()
    mine.hit()
    mine.hit(before)
    counted = tally.read(tmp_path)
    assert counted.jobs == 2
    assert before <= counted.first <= counted.latest <= time.monotonic()
    [delay] = tally.delays(tmp_path)
    assert 0 < delay < 60


def test_every_name_is_measured_once_and_compared_with_one_that_is_measured() -> None:
    measures = [measure for probe in catalogue.probes(QUICK) for measure in probe.measures]
    names = [measure.name for measure in measures]
    assert len(set(names)) == len(names)
    assert {measure.against for measure in measures} - {None} <= set(names)


def test_what_is_asked_for_brings_what_it_is_compared_with() -> None:
    chosen, names = catalogue.select(catalogue.probes(QUICK), ["drain.two"])
    assert names == {"drain.two", "drain.default", "limit.ideal"}
    assert len(chosen) == 3
    _, names = catalogue.select(catalogue.probes(QUICK), ["latency.poll", "enqueue.one"])
    assert names == {"latency.poll.p50", "latency.poll.p95", "latency.poll.p99", "enqueue.one", "limit.insert"}


def test_a_name_that_stands_for_nothing_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="'drian'.*drain.default"):
        catalogue.select(catalogue.probes(QUICK), ["drian"])


def test_what_others_do_is_measured_right_after_what_it_is_compared_with() -> None:
    def probe(name: str, against: str | None = None) -> Probe:
        return Probe((Measure(name, name, "jobs/s", "more", against),), lambda _arena: {})

    merged = catalogue.merged([probe("a"), probe("b")], [probe("x", "a"), probe("y", "a"), probe("z", "c")])
    assert [each.measures[0].name for each in merged] == ["a", "x", "y", "b", "z"]


def test_no_measurement_of_a_small_plan_has_more_jobs() -> None:
    plan = of_jobs(QUICK, 10)
    assert (plan.single, plan.bulk, plan.drain, plan.long, plan.fan, plan.wide, plan.memory) == (10,) * 7
    assert plan.ended == QUICK.ended


@pytest.mark.parametrize(
    ("value", "text"), [(123456.7, "123,457"), (12.345, "12.3"), (1.23456, "1.235"), (0.5, "0.5"), (0.0, "0")]
)
def test_numbers_are_shown_with_the_digits_that_mean_something(value: float, text: str) -> None:
    assert report.shown(value) == text
