"""A process that works and does nothing else."""

from __future__ import annotations

import gc

from fairchild.worker import process


def test_the_collector_is_as_it_was_when_the_worker_has_ended() -> None:
    before = gc.get_threshold()

    with process.tuned():
        assert gc.get_threshold()[0] == process.YOUNG_OBJECTS
        assert gc.get_freeze_count() > 0

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
