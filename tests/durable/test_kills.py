"""A small cut of ``make durable``: processes killed between calls, and a sleep across restarts of everything."""

from __future__ import annotations

import shutil
import tempfile

import pytest

from tests.durable import restart, show


@pytest.mark.slow
def test_kills_between_any_two_calls_do_not_show(fairchild_db: str) -> None:
    verdict = show.kill(fairchild_db, kills=12, number=3, patience=150.0)

    assert verdict.wrong == []
    assert verdict.kills == 12


@pytest.mark.slow
def test_a_sleep_survives_a_restart_of_everything() -> None:
    folder = tempfile.mkdtemp(prefix="fairchild-durable-")
    try:
        assert "completed" in restart.nap_across_a_restart(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
