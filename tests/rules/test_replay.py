"""Which call of a run is which call of the journal."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from fairchild.errors import JournalFull, NonDeterminismError
from fairchild.rules import replay
from fairchild.rules.replay import Entry, History, Known, Replay, Sent, from_json, to_json


def journal(*names: str) -> list[Entry]:
    return [Entry("step", name, seq=number) for number, name in enumerate(names, 1)]


def test_equal_calls_are_told_apart_by_their_occurrence() -> None:
    run = Replay("job", journal("a", "b", "a"))

    assert [entry.seq for name in ("a", "a", "b") if (entry := run.take("step", name)) is not None] == [1, 3, 2]
    assert run.take("step", "a") is None
    run.check("returned")


def test_a_call_that_was_left_out_is_named_with_the_one_in_its_place() -> None:
    run = Replay("job 1", journal("a", "b", "c"))
    run.take("step", "a")
    run.add(Entry("step", "x"))
    run.take("step", "c")

    with pytest.raises(NonDeterminismError, match=r"has the step b \(call 2\), and this run had the step x instead"):
        run.check("returned")


def test_what_a_replay_need_not_come_to_is_not_missed() -> None:
    entries = journal("a", "b")
    entries[1].optional = True
    run = Replay("job", [*entries, Entry("await", "x", seq=3), Entry("anew", "t", seq=4)])
    run.take("step", "a")

    run.check("returned")
    assert run.add(Entry("step", "z")).optional
    assert [entry.seq for entry in run.unwritten()] == [5]


def test_entries_are_numbered_once_and_written_once() -> None:
    run = Replay("job", journal("a"))
    run.take("step", "a")
    first, second = run.add(Entry("call", "t")), run.add(Entry("step", "s"))

    assert run.unwritten(frozenset({"call"})) == [second]
    assert run.unwritten(frozenset({"call"})) == [second]
    run.written([second])
    assert run.unwritten() == [first]
    assert (second.seq, first.seq) == (2, 3)
    assert not first.optional


def test_a_full_journal_refuses_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_ENTRIES", 2)
    run = Replay("job", journal("a"))
    run.take("step", "a")
    run.add(Entry("step", "b"))

    with pytest.raises(JournalFull, match="it may have 2 calls"):
        run.add(Entry("step", "c"))


def test_a_history_survives_json() -> None:
    history = History(
        entries=[Entry("step", "s", "h", uuid4(), b'{"b": [1.5]}', False, None, 1, -2.0), Entry("call", "t", seq=2)],
        ended=[Known(uuid4(), "completed", "", b"null", failed=False, at=1.0)],
        signals=[Sent(uuid4(), "go", b'"x"')],
        now=5.0,
        begun=True,
    )
    again = from_json(json.loads(json.dumps(to_json(history))))

    assert again.entries[0].value == b'{"b":[1.5]}'
    assert (again.entries[1].value, again.ended, again.signals) == (None, history.ended, history.signals)
    assert to_json(again) == to_json(history)
