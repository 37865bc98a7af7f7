"""A short storm for every run of the tests; ``make faults`` has a long one."""

from __future__ import annotations

from fairchild.embedded import TemporaryServer
from tests.faults.storm import Storm


def test_a_short_storm_loses_nothing_and_does_nothing_twice() -> None:
    with TemporaryServer() as server:
        storm = Storm(server.url, seed=1, seconds=10, number=600, workers=2)
        verdict = storm.run()

    assert not verdict.violations, verdict.histories
    assert verdict.jobs >= 600
    assert sum(storm.done.values()) >= 10
