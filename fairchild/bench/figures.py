"""The arithmetic of a run: samples, medians, percentiles and ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Measure:
    """What is measured. ``against`` names the measure of the same run that it is compared with."""

    name: str
    title: str
    unit: str
    better: Better
    against: str | None = None


@dataclass
class Measurement:
    """The samples of a measure, one for each round in which it could be taken, by round."""

    measure: Measure
    samples: dict[int, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)
    """For each round the share of the machine that others used meanwhile, where that is known."""
    missing: str | None = None
    """Why a sample is missing."""
    failed: bool = False
    """Whether it is missing because something went wrong."""

    @property
    def median(self) -> float | None:
        """The median of the samples; None without any."""
        return median(list(self.samples.values()))


def median(values: Sequence[float]) -> float | None:
    """The middle value; None of nothing."""
    return statistics.median(values) if values else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` (0 to 1) of them do not exceed: the nearest rank."""
    if not values:
        raise ValueError("nothing has no percentile")
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, got {share}")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratios(of: Measurement, to: Measurement) -> dict[int, float]:
    """The ratio in each round that has a sample of both. Nothing is divided by zero: such a round has none."""
    return {number: value / to.samples[number] for number, value in of.samples.items() if to.samples.get(number)}


def ratio(of: Measurement, to: Measurement) -> float | None:
    """The median over the rounds of the ratio within each round.

    A machine that is faster in some minutes than in others moves both samples of a round, and the ratio hardly.
    """
    return median(list(ratios(of, to).values()))


def fifths(samples: Sequence[tuple[float, int]], started: float, ended: float, jobs: int) -> tuple[float, float]:
    """Jobs per second in the first and in the last fifth of a drain.

    ``samples`` are (time, jobs started by then) in their order; the drain lasted from ``started`` to ``ended``. A limit
    of a fifth that lies between two samples is interpolated.
    """
    fifth = jobs / 5
    return fifth / max(_reached(samples, started, fifth, ended) - started, 1e-9), fifth / max(
        ended - _reached(samples, started, jobs - fifth, ended), 1e-9
    )


def _reached(samples: Sequence[tuple[float, int]], started: float, count: float, ended: float) -> float:
    at, had = started, 0
    for time, number in samples:
        if number >= count:
            return time if number == had else at + (time - at) * (count - had) / (number - had)
        at, had = time, number
    return ended
