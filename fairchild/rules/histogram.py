"""Durations as counts in buckets that double: fine enough for percentiles, and sums of them are sums of counts.

Bucket 0 is below one millisecond, bucket n below ``2 ** n`` milliseconds, the last one open. Behind the counts stands
the sum of all durations, in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = 26


def empty() -> list[int]:
    """No durations."""
    return [0] * (BUCKETS + 1)


def note(counts: list[int], seconds: float) -> None:
    """Count one duration."""
    counts[bucket(seconds)] += 1
    counts[BUCKETS] += max(0, int(seconds * 1e6))


def split(counts: Sequence[int]) -> tuple[Sequence[int], float]:
    """The counts by bucket, and the sum of the durations in seconds."""
    return counts[:BUCKETS], sum(counts[BUCKETS:]) / 1e6


def bucket(seconds: float) -> int:
    """The bucket of a duration; negative ones, which a clock that was set gives, are in the first."""
    return min(int(seconds * 1000).bit_length(), BUCKETS - 1) if seconds > 0 else 0


def upper_bound(number: int) -> float | None:
    """Where a bucket ends, in seconds; None for the last."""
    return None if number >= BUCKETS - 1 else 2**number / 1000


def add(into: list[int], counts: Sequence[int]) -> None:
    """Add counts to others."""
    for number, count in enumerate(counts):
        into[number] += count


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The duration in seconds that ``share`` of all stay below, straight lines between the bounds; None for none."""
    total = sum(counts)
    if total == 0:
        return None
    wanted = share * total
    below = 0
    for number, count in enumerate(counts):
        if count and below + count >= wanted:
            low = 0.0 if number == 0 else 2 ** (number - 1) / 1000
            high = 2**number / 1000
            return float(low + (high - low) * (wanted - below) / count)
        below += count
    return None
