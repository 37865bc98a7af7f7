from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild.web import charts

KINDS: tuple[str, ...] = ("completed", "cancelled", "failed")
counts = st.fixed_dictionaries({kind: st.integers(0, 10**7) for kind in KINDS})


@pytest.mark.parametrize(("value", "top"), [(0, 3), (1, 3), (4, 6), (700, 900), (901, 1500), (1500, 1500), (9e6, 9e6)])
def test_the_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert charts.nice_top(value) == top


@given(st.lists(counts, max_size=80))
def test_bars_stand_on_each_other_and_inside_the_drawing(moments: list[dict[str, int]]) -> None:
    chart = charts.stacked([(str(n), values) for n, values in enumerate(moments)], KINDS)
    assert chart.grid[-1][1] == 0
    for column, values in zip(chart.columns, moments, strict=True):
        assert [bar.kind for bar in column.bars] == [kind for kind in KINDS if values[kind]]
        base = chart.height
        for bar in column.bars:
            assert bar.y + bar.height == pytest.approx(base, abs=0.02)
            assert bar.x >= 0
            assert bar.x + bar.width <= chart.width + 0.01
            base = bar.y
        assert base >= -0.01


@given(counts)
def test_shares_fill_the_bar_and_every_kind_shows(values: dict[str, float]) -> None:
    bars = charts.shares(values, KINDS)
    assert [bar.kind for bar in bars] == [kind for kind in KINDS if values[kind]]
    if bars:
        assert sum(bar.width for bar in bars) == pytest.approx(100, abs=0.05)
        assert min(bar.width for bar in bars) >= 0.5


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_a_sparkline_has_a_bar_for_each_value_that_is_not_zero(values: list[int]) -> None:
    bars = charts.sparkline(values)
    assert len(bars) == sum(value > 0 for value in values)
    assert all(0 <= bar.y <= 19 and bar.x + bar.width <= 120.01 for bar in bars)
