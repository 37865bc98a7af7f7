"""Replaying a durable job: which call of this run is which call of an earlier one.

A call is known by what it is (``kind``, ``name``, hash of its arguments) and by how many such calls came before it in
the same run; not by its place among others. So a line that is added or moved shifts nothing. What is checked is that
nothing is left out: when a run comes to an end, or to a point at which it must wait, every call of the journal must
have been made again. One that was not means that the code does something else now, and is an error that names both
calls: the one that the journal has, and the one that was made in its place.

So while a job is suspended its code may gain calls that need not wait (a step, a task that is called and not awaited);
it may not lose any, nor gain one that waits before what is recorded has been replayed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from fairchild.errors import JournalFull, NonDeterminismError

MAX_ENTRIES = 100_000
MAX_BYTES = 64 * 1024 * 1024
"""Of a journal's values: all of it is in memory whenever its job runs."""

Key = tuple[str, str, str]
_NO_CALLS = ("await", "anew")


@dataclass(slots=True)
class Entry:
    """One call of a durable job and what it came to."""

    kind: str
    """What was called: call (a task), result, late (a result() that waited in vain), first, step, sleep, until (a time
    limit), signal, value, pull, xcom. No calls are 'await' (the outcome of a job that is not this job's own is to be
    brought along) and 'anew' (the job had completed and was begun once more)."""
    name: str
    hash: str = ""
    ref: UUID | None = None
    """The job called or awaited, or the signal taken."""
    value: bytes | None = None
    """JSON text; None: there is none."""
    failed: bool = False
    """``value`` says what the call raised."""
    delay: float | None = None
    """Seconds from the writing on, until a sleep or a time limit is over."""
    seq: int = 0
    """Its number in the journal; 0: not written yet."""
    left: float | None = None
    """Seconds, when the journal was read, until that time; negative once it is over."""
    optional: bool = False
    """A replay need not come to it: it was made amid a replay, or followed a failure that has been mended since."""

    @property
    def key(self) -> Key:
        return self.kind, self.name, self.hash


@dataclass(slots=True)
class Known:
    """A job that was called or awaited and has ended; ``value``: its result, or its last error."""

    job_id: UUID
    state: str
    reason: str | None
    value: bytes | None = None
    failed: bool = False
    at: float | None = None


@dataclass(slots=True)
class Sent:
    """A signal that nobody has taken."""

    id: UUID
    name: str
    payload: bytes = b"null"


@dataclass(slots=True)
class History:
    """All that a replay goes by, as it was when the job was claimed. ``now``: the database's clock, Unix seconds.

    ``begun``: the job has been run before.
    """

    entries: list[Entry] = field(default_factory=list)
    ended: list[Known] = field(default_factory=list)
    signals: list[Sent] = field(default_factory=list)
    now: float = 0.0
    begun: bool = False


class Replay:
    """The entries of a journal as one run takes them again, and what it adds."""

    def __init__(self, what: str, entries: list[Entry]) -> None:
        self._what = what
        self._open: dict[Key, deque[Entry]] = {}
        calls = [entry for entry in entries if entry.kind not in _NO_CALLS]
        for entry in calls:
            self._open.setdefault(entry.key, deque()).append(entry)
        self._left = len(calls)
        self._reached = 0
        self._strays: list[tuple[int, Entry]] = []
        self._count = len(entries)
        self._bytes = sum(len(entry.value or b"") for entry in entries)
        self._next = 1 + max((entry.seq for entry in entries), default=0)
        self._unwritten: list[Entry] = []

    def take(self, kind: str, name: str, digest: str = "") -> Entry | None:
        """What this very call came to before; None: the journal does not have it."""
        waiting = self._open.get((kind, name, digest))
        if not waiting:
            return None
        entry = waiting.popleft()
        self._left -= 1
        self._reached = max(self._reached, entry.seq)
        return entry

    def add(self, entry: Entry) -> Entry:
        """A call that was not made before. Raises JournalFull."""
        self._count += 1
        self._bytes += len(entry.value or b"")
        if self._count > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise JournalFull(
                f"{self._what} has a journal of {self._count - 1:,} calls and {self._bytes:,} bytes with this one, "
                f"{describe(entry)}; it may have {MAX_ENTRIES:,} calls and {MAX_BYTES:,} bytes. What was recorded "
                "before is kept; move a part of its work into tasks that it calls"
            )
        if self._left and entry.kind not in _NO_CALLS:
            self._strays.append((self._reached, entry))
            entry.optional = True  # should this turn out to be other code, the journal does not insist on it
        self._unwritten.append(entry)
        return entry

    def unwritten(self, but: frozenset[str] = frozenset()) -> list[Entry]:
        """What this run has added and nobody has written, but for these kinds, numbered."""
        chosen = [entry for entry in self._unwritten if entry.kind not in but]
        for entry in chosen:
            if not entry.seq:
                entry.seq = self._next
                self._next += 1
        return chosen

    def written(self, entries: list[Entry]) -> None:
        """These need not be written any more."""
        done = {entry.seq for entry in entries}
        self._unwritten = [entry for entry in self._unwritten if entry.seq not in done]

    def check(self, now: str) -> None:
        """Raise NonDeterminismError if a call of the journal was not made; ``now``: what the run does instead."""
        if not self._left:
            return
        missed = [entry for waiting in self._open.values() for entry in waiting if not entry.optional]
        if not missed:
            return
        expected = min(missed, key=lambda entry: entry.seq)
        strays = [entry for reached, entry in self._strays if reached <= expected.seq]
        instead = describe(strays[-1], expected) if strays else now
        raise NonDeterminismError(
            f"{self._what} does not do what it did before: its journal has {describe(expected)} (call "
            f"{expected.seq}), and this run had {instead} instead. Its children and the "
            "journal are as they were; run the code that wrote it, or retry the job after its code was put right"
        )


_WORDS = {
    "call": "the task {}",
    "result": "result() of the task {}",
    "late": "result() of the task {}",
    "first": "as_completed()",
    "await": "awaiting the job {}",
    "step": "the step {}",
    "sleep": "sleep()",
    "until": "the time limit of {}",
    "signal": "wait_signal({!r})",
    "value": "{}()",
    "pull": "xcom_pull({!r})",
    "xcom": "a change of the shared value {!r}",
}


def describe(entry: Entry, other: Entry | None = None) -> str:
    """A call in words; where ``other`` reads the same, how they differ."""
    text = _WORDS[entry.kind].format(entry.name)
    if other is not None and (entry.kind, entry.name) == (other.kind, other.name):
        return f"{text} with other arguments"
    return text


_BYTES = ("value", "payload")


def to_json(history: History) -> dict[str, Any]:
    """A history in JSON's own types, values as such; a value that there is not is left out."""

    def plain(record: Entry | Known | Sent) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name in record.__slots__:
            value = getattr(record, name)
            if name in _BYTES:
                if value is not None:
                    row[name] = msgspec.json.decode(value)
            else:
                row[name] = str(value) if isinstance(value, UUID) else value
        return row

    return {
        "entries": [plain(entry) for entry in history.entries],
        "ended": [plain(known) for known in history.ended],
        "signals": [plain(sent) for sent in history.signals],
        "now": history.now,
    }


def from_json(data: Mapping[str, Any]) -> History:
    """The history that ``to_json`` made this of."""

    def restored(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **{name: msgspec.json.encode(row[name]) for name in _BYTES if name in row}} for row in rows]

    parts = {name: restored(data[name]) for name in ("entries", "ended", "signals")}
    return msgspec.convert({**parts, "now": data["now"]}, History, strict=False)
