"""Durations in buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairchild.rules.histogram import BUCKETS, bucket, quantile, upper_bound


def test_buckets_double_from_a_millisecond_on() -> None:
    assert [bucket(each) for each in (-1, 0, 0.0009, 0.001, 0.002, 0.0039, 0.004, 1, 1e9)] == [
        0, 0, 0, 1, 2, 2, 3, 10, BUCKETS - 1,
    ]  # fmt: skip
    assert upper_bound(0) == 0.001
    assert upper_bound(10) == 1.024
    assert upper_bound(BUCKETS - 1) is None


def test_nothing_has_no_quantile() -> None:
    assert quantile([0] * BUCKETS, 0.5) is None


@given(st.lists(st.floats(0, 10_000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    counts = [0] * BUCKETS
    for value in values:
        counts[bucket(value)] += 1
    ordered = sorted(values)
    true = ordered[max(0, -(-int(share * len(values) * 1e9) // 10**9) - 1)]
    found = quantile(counts, share)
    assert found is not None
    assert abs(bucket(max(found - 1e-9, 0)) - bucket(true)) <= 1
