"""Charts as numbers: where each bar of an SVG lies. Templates draw them; axis text is HTML beside the drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fairchild.rules.histogram import quantile
from fairchild.web.words import duration

WIDTH = 600.0
HEIGHT = 120.0
GRID_LINES = 3
_NICE = (1, 2, 3, 5, 10)
_DURATIONS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000, 86400,
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A rectangle of one kind (a state)."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Column:
    """The bars of one moment, from the base up, and what they stand for."""

    label: str | datetime
    x: float
    width: float
    values: dict[str, float]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Line:
    """A line over the columns, in parts where values are missing, on a scale from 0 to ``top``."""

    kind: str
    values: tuple[float | None, ...]
    paths: tuple[str, ...]
    top: float


@dataclass(frozen=True)
class Chart:
    """A drawing ``width`` by ``height``; ``grid`` are (y, value) from the top down, ending with zero."""

    width: float
    height: float
    columns: tuple[Column, ...]
    grid: tuple[tuple[float, float], ...]
    top: float


def nice_top(value: float, lines: int = GRID_LINES) -> float:
    """The smallest round number at or above ``value`` that ``lines`` equal whole steps lead to."""
    step = max(value, 1) / lines
    size = 10.0 ** math.floor(math.log10(step))
    for nice in _NICE:
        if nice * size >= step * (1 - 1e-9):
            return float(max(nice * size, 1) * lines)
    return 10 * size * lines


def stacked(
    moments: Sequence[tuple[str | datetime, Mapping[str, float]]],
    kinds: Sequence[str],
    width: float = WIDTH,
    height: float = HEIGHT,
    gap: float = 1.0,
    least: float = 0,
) -> Chart:
    """Columns of stacked bars, ``kinds`` from the base up. What is not zero is at least one unit high.

    ``least``: a value that the scale reaches at least.
    """
    highest = max((sum(max(values.get(kind, 0), 0) for kind in kinds) for _, values in moments), default=0)
    top = nice_top(max(highest, least))
    pitch = width / max(len(moments), 1)
    columns = []
    for place, (label, values) in enumerate(moments):
        x, room = place * pitch, max(pitch - gap, pitch * 0.5)
        base = height
        bars = []
        for kind in kinds:
            value = max(values.get(kind, 0), 0)
            if value <= 0:
                continue
            tall = min(max(value / top * height, 1.0), base)
            bars.append(Bar(kind, _r(x), _r(base - tall), _r(room), _r(tall)))
            base = max(base - tall, 0.0)
        columns.append(Column(label, _r(x), _r(room), {kind: values.get(kind, 0) for kind in kinds}, tuple(bars)))
    grid = tuple((_r(height * line / GRID_LINES), top * (GRID_LINES - line) / GRID_LINES) for line in range(4))
    return Chart(width, height, tuple(columns), grid, top)


def line(kind: str, values: Sequence[float | None], top: float, width: float = WIDTH, height: float = HEIGHT) -> Line:
    """A line through the middles of as many columns as there are values; one that stands alone is a short stroke."""
    pitch = width / max(len(values), 1)
    paths, run = [], []
    for place, value in enumerate([*values, None]):
        if value is not None:
            run.append((place * pitch + pitch / 2, height - min(max(value, 0) / (top or 1), 1) * height))
            continue
        if len(run) == 1:
            (x, y), half = run[0], pitch / 2
            run = [(x - half, y), (x + half, y)]
        if run:
            paths.append("M" + "L".join(f"{_r(x):g} {_r(y):g}" for x, y in run))
        run = []
    return Line(kind, tuple(values), tuple(paths), top)


@dataclass(frozen=True)
class Histogram:
    """Durations by bucket: columns from the first to the last that is not empty, and the bounds below them."""

    chart: Chart
    bounds: tuple[float, ...]
    """In seconds: the lower one of each column, and the upper one of the last."""
    count: int
    p50: float | None
    p95: float | None


def histogram(parts: Sequence[Sequence[int]], kind: str = "running") -> Histogram | None:
    """All of these counts by bucket (rules/histogram.py) as one drawing; None of no durations."""
    counts = [sum(each) for each in zip(*parts, strict=True)]
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return None
    # Five columns at least, so that one does not look like a wall.
    first, last = filled[0], filled[-1]
    last = min(max(last, first + 4), len(counts) - 1)
    first = max(min(first, last - 4), 0)
    bounds = [0.0 if place == 0 else 2 ** (place - 1) / 1000 for place in range(first, last + 2)]
    columns = [
        (f"{duration(bounds[n])} to {duration(bounds[n + 1])}", {kind: float(counts[first + n])})
        for n in range(last - first + 1)
    ]
    return Histogram(
        stacked(columns, (kind,), gap=2), tuple(bounds), sum(counts), quantile(counts, 0.5), quantile(counts, 0.95)
    )


def nice_seconds(seconds: float) -> float:
    """The smallest of some round durations at or above ``seconds``."""
    return next((each for each in _DURATIONS if each >= seconds), math.ceil(seconds / 86400) * 86400.0)


def sparkline(values: Sequence[float], kind: str = "running", width: float = 120, height: float = 20) -> list[Bar]:
    """A bar for each value; the tallest fills the height, what is not zero shows."""
    top = max(max(values, default=0), 1)
    pitch = width / max(len(values), 1)
    bars = []
    for place, value in enumerate(values):
        if value > 0:
            tall = max(value / top * height, 1.0)
            bars.append(Bar(kind, _r(place * pitch), _r(height - tall), _r(pitch * 0.7), _r(tall)))
    return bars


def shares(counts: Mapping[str, float], kinds: Sequence[str], width: float = 100.0, least: float = 0.6) -> list[Bar]:
    """One bar divided by ``counts``. What is not zero is at least ``least`` wide, taken from the wider ones."""
    parts = {kind: counts.get(kind, 0) for kind in kinds if counts.get(kind, 0) > 0}
    total = sum(parts.values())
    if not total:
        return []
    least = min(least, width / len(parts))
    wide = {kind: max(value / total * width, least) for kind, value in parts.items()}
    over = sum(wide.values()) - width
    spare = sum(size - least for size in wide.values())
    bars = []
    x = 0.0
    for kind, size in wide.items():
        fitted = size - (over * (size - least) / spare if spare > 0 else 0)
        bars.append(Bar(kind, _r(x), 0, _r(fitted), 8))
        x += fitted
    return bars


def _r(value: float) -> float:
    """Two decimals: enough for a screen, and short."""
    return round(value, 2)
