from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fairchild import events

PACKAGE = Path(events.__file__).parent


def test_the_catalogue_is_what_is_emitted() -> None:
    emitted: list[tuple[str, frozenset[str]]] = []
    for source in PACKAGE.rglob("*.py"):
        calls = re.findall(r"\bemit\(\s*\"(\w+)\",(.*?)\)\n", source.read_text(), re.DOTALL)
        emitted.extend((name, frozenset(re.findall(r"(?:^|[\s,(])(\w+)=(?!=)", fields))) for name, fields in calls)
    documented = re.findall(r"^(\w+_\w+) +((?:\w+, )*\w+)  ", events.__doc__ or "", re.MULTILINE)

    assert sorted(emitted) == sorted((name, frozenset(fields.split(", "))) for name, fields in documented)
    assert {name for name, _ in documented} == events.NAMES


def test_subscribers_hear_what_they_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []

    def broken(name: str, fields: dict[str, Any]) -> None:
        raise RuntimeError(name)

    undo = [events.subscribe(broken), events.subscribe(lambda *event: heard.append(event), "loop_failed")]
    try:
        for _ in range(2):
            events.emit("loop_failed", loop="x", failures=1)
            events.emit("worker_fenced", worker="w")
    finally:
        for each in undo:
            each()
    events.emit("loop_failed", loop="x")

    assert heard == [("loop_failed", {"loop": "x", "failures": 1})] * 2
    assert caplog.text.count("a subscriber failed at the event") == 4


def test_a_name_that_no_event_has_is_refused() -> None:
    with pytest.raises(ValueError, match="loop_failed"):
        events.subscribe(lambda *_: None, "loop_succeeded")
