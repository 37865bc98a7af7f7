"""Charts as numbers: where each bar of an SVG lies. Templates draw them; axis text is HTML beside the drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 600.0
HEIGHT = 120.0
GRID_LINES = 3
_NICE = (1, 2, 3, 5, 10)


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

    label: str
    x: float
    width: float
    values: dict[str, float]
    bars: tuple[Bar, ...]


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
    moments: Sequence[tuple[str, Mapping[str, float]]],
    kinds: Sequence[str],
    width: float = WIDTH,
    height: float = HEIGHT,
    gap: float = 1.0,
) -> Chart:
    """Columns of stacked bars, ``kinds`` from the base up. What is not zero is at least one unit high."""
    top = nice_top(max((sum(max(values.get(kind, 0), 0) for kind in kinds) for _, values in moments), default=0))
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
