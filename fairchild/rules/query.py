"""The language of the jobs page: ``state:failed,cancelled task:mail -tag:test args.plan:pro ran:>5s after:24h``.

A space means and, a comma means or, ``-`` means not, quotes keep spaces and commas together, ``>`` and ``<`` compare
times and numbers. A word without a key is a job's id if it looks like one, else a part of a task's name.

``parse()`` checks all of it. ``str(query)`` writes it down again, so that a query can be a link, and reads the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal
from uuid import UUID

from fairchild.errors import UsageError
from fairchild.job import JobState

RETRYING = "retrying"
"""Not a state of its own: ``scheduled`` with attempts behind it."""
STATES = (*(state.value for state in JobState), RETRYING)
EVER = "all"
WINDOW = "24h"
MAX_TERMS = 30
MAX_TEXT = 2000

Operator = Literal["=", "<", ">"]
Value = str | int | float | UUID | datetime | timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
_KEY = re.compile(r"(-?)([a-z]+(?:\.[^\s:<>\"]+)?)(:[<>]?|[<>])")
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_PLAIN = re.compile(r"[^\s,\"<>]+")
_IDENTIFIED = {"id", "workflow", "parent"}
_FEW = {"running", "scheduled", "retrying", "waiting", "available", "failed", "cancelled"}


@dataclass(frozen=True)
class Term:
    """One condition. ``values`` are alternatives; ``path`` is the way into the arguments, ``("user", "id")``."""

    key: str
    values: tuple[Value, ...]
    operator: Operator = "="
    negated: bool = False
    path: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The key as it is written: ``args.user.id``."""
        return ".".join((self.key, *self.path))

    def __str__(self) -> str:
        values = ",".join(_written(value) for value in self.values)
        if self.key == "text":
            return f"{'-' if self.negated else ''}{values}"
        mark = "" if self.operator == "=" else self.operator
        return f"{'-' if self.negated else ''}{self.name}:{mark}{values}"


@dataclass(frozen=True)
class Query:
    """Conditions that all must hold. ``windowed`` says that ``bounded()`` has added the last of them."""

    terms: tuple[Term, ...] = ()
    windowed: bool = False

    def __str__(self) -> str:
        return " ".join(str(term) for term in self.terms)

    def without(self, *gone: Term) -> Query:
        """The same less some of its terms."""
        return Query(tuple(term for term in self.terms if term not in gone))

    def with_key(self, key: str, value: str | None) -> Query:
        """The same with one plain condition on ``key``, or with none."""
        others = tuple(term for term in self.terms if term.name != key)
        return parse(" ".join([str(Query(others)), "" if value is None else f"{key}:{_written(value)}"]))

    def value(self, key: str) -> Value | None:
        """The value of the one plain condition on ``key``, if there is just one."""
        found = [term for term in self.terms if term.key == key]
        plain = len(found) == 1 and not found[0].negated and found[0].operator == "=" and len(found[0].values) == 1
        return found[0].values[0] if plain else None

    def bounded(self) -> Query:
        """The same, with the last day added where an answer could otherwise mean reading every job there is."""
        if not self.terms or any(_narrows(term) for term in self.terms):
            return self
        if all(term.key == "state" for term in self.terms):
            return self
        return Query((*self.terms, *parse(f"after:{WINDOW}").terms), windowed=True)


def _narrows(term: Term) -> bool:
    """Whether an index, or a window in time, leads to what passes."""
    if term.negated:
        return False
    return (
        term.key in _IDENTIFIED | {"after", "due"} or (term.key == "state" and set(map(str, term.values)) <= _FEW)
    )  # fmt: skip


def parse(text: str) -> Query:
    """The query that a line of text means. Raises UsageError that shows the part that cannot be read."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"a filter has at most {MAX_TEXT} characters, this one {len(text)}")
    terms: list[Term] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            break
        term, at = _term(text, at)
        if term not in terms:
            terms.append(term)
    if len(terms) > MAX_TERMS:
        raise UsageError(f"a filter has at most {MAX_TERMS} conditions, this one {len(terms)}")
    return Query(tuple(terms))


def _term(text: str, at: int) -> tuple[Term, int]:
    found = _KEY.match(text, at)
    if found is None:
        return _bare(text, at)
    minus, name, mark = found.groups()
    key, *path = name.split(".")
    at = found.end()
    operator = _operator(mark)
    if operator == "=" and text[at : at + 1] in ("<", ">"):
        operator, at = _operator(text[at]), at + 1
    raw, at = _values(text, at, name)
    if key not in _KINDS:
        raise UsageError(f"unknown key {key!r} in the filter; keys are {', '.join(_KINDS)}")
    if path and key not in ("args", "meta"):
        raise UsageError(f"{key!r} has no parts; write {key}:value")
    if key in ("args", "meta") and not all(path or [""]):
        raise UsageError(f"say which argument: {key}.name:value")
    read, comparable = _KINDS[key]
    if operator != "=" and not comparable:
        raise UsageError(f"{name!r} cannot be compared with {operator}; write {name}:value")
    if operator != "=" and len(raw) > 1:
        raise UsageError(f"{name!r} is compared with one value, not with {len(raw)}")
    if key in ("ran", "waited", "due") and operator == "=":
        raise UsageError(f"write {name}:>{raw[0]} or {name}:<{raw[0]}")
    if key in ("after", "before") and len(raw) > 1:
        raise UsageError(f"{name!r} takes one time, not {len(raw)}")
    if operator != "=" and key in ("args", "meta") and not _NUMBER.fullmatch(raw[0]):
        raise UsageError(f"{name}: {raw[0]!r} is not a number to compare with")
    return Term(key, tuple(read(name, value) for value in raw), operator, minus == "-", tuple(path)), at


def _operator(mark: str) -> Operator:
    match mark[-1]:
        case ">":
            return ">"
        case "<":
            return "<"
        case _:
            return "="


def _bare(text: str, at: int) -> tuple[Term, int]:
    negated = text[at] == "-" and at + 1 < len(text) and not text[at + 1].isspace()
    raw, at = _values(text, at + negated, "the filter")
    ids = [_as_id(value) for value in raw]
    if all(ids):
        return Term("id", tuple(each for each in ids if each), negated=negated), at
    return Term("text", tuple(raw), negated=negated), at


def _values(text: str, at: int, name: str) -> tuple[list[str], int]:
    """Values with commas between, from ``at`` on, and where they end."""
    values: list[str] = []
    while True:
        if text[at : at + 1] == '"':
            value, at = _quoted(text, at)
            values.append(value)
        elif found := _PLAIN.match(text, at):
            values.append(found.group())
            at = found.end()
        elif not values:
            raise UsageError(f"a value is missing after {name!r} at character {at + 1} of the filter")
        if text[at : at + 1] != ",":
            break
        at += 1
        if at >= len(text) or text[at].isspace():
            break
    if at < len(text) and not text[at].isspace():
        raise UsageError(f"{text[at]!r} at character {at + 1} of the filter is out of place; put the value in quotes")
    return values, at


def _quoted(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    here = at + 1
    while here < len(text):
        char = text[here]
        if char == "\\" and here + 1 < len(text):
            out.append(text[here + 1])
            here += 2
        elif char == '"':
            return "".join(out), here + 1
        else:
            out.append(char)
            here += 1
    raise UsageError(f"the quote at character {at + 1} of the filter is never closed")


def _written(value: Value) -> str:
    if isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, timedelta):
        return _duration_text(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and ":" not in text and not text.startswith("-"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _duration_text(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) >= 32 else None
    except ValueError:
        return None


def _text(name: str, value: str) -> str:
    if "\x00" in value:
        raise UsageError(f"{name}: a NUL character cannot be stored, so no job has it")
    return value


def _state(name: str, value: str) -> str:
    if value not in STATES:
        raise UsageError(f"{name}: {value!r} is not a state; states are {', '.join(STATES)}")
    return value


def _id(name: str, value: str) -> UUID:
    found = _as_id(value)
    if found is None:
        raise UsageError(f"{name}: {value!r} is not a job id (a UUID)")
    return found


def _fingerprint(name: str, value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{12}", value):
        raise UsageError(f"{name}: {value!r} is not an error's fingerprint (12 hex digits)")
    return value


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
        raise UsageError(f"{name}: {value!r} is not a whole number")
    return int(value)


def _group(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d{1,19}", value, re.ASCII) or not -(2**63) <= int(value) < 2**63:
        raise UsageError(f"{name}: {value!r} is not a group of a workflow's graph")
    return int(value)


def _duration(name: str, value: str) -> timedelta:
    found = _DURATION.fullmatch(value)
    if found is None:
        raise UsageError(f"{name}: {value!r} is not a duration; write 500ms, 5s, 2m, 3h, 1d or 2w")
    seconds = float(found.group(1)) * _UNITS[found.group(2)]
    if seconds > 10 * 366 * 86400:
        raise UsageError(f"{name}: {value!r} is longer than ten years")
    return timedelta(seconds=seconds)


def _moment(name: str, value: str) -> datetime | timedelta | str:
    """A time, or how long ago, or ``all``. A time without a zone is UTC."""
    if value == EVER and name == "after":
        return EVER
    if _DURATION.fullmatch(value):
        return _duration(name, value)
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"{name}: {value!r} is no time; write 2h for two hours ago, or 2026-07-01T12:00") from None
    try:
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise UsageError(f"{name}: {value!r} is out of range") from None


def moment_before(text: str, now: datetime) -> datetime:
    """The time that ``2h`` (two hours ago) or a date means. Raises UsageError for what is neither."""
    found = _moment("after", text)
    if isinstance(found, timedelta):
        return now - found
    if isinstance(found, datetime):
        return found
    raise UsageError(f"after: {text!r} is no time; write 2h for two hours ago, or 2026-07-01T12:00")


_KINDS: dict[str, tuple[Callable[[str, str], Value], bool]] = {
    "id": (_id, False),
    "state": (_state, False),
    "queue": (_text, False),
    "task": (_text, False),
    "tag": (_text, False),
    "tenant": (_text, False),
    "worker": (_id, False),
    "workflow": (_id, False),
    "parent": (_id, False),
    "group": (_group, False),
    "priority": (_whole, True),
    "attempt": (_whole, True),
    "error": (_text, False),
    "fp": (_fingerprint, False),
    "reason": (_text, False),
    "unique": (_text, False),
    "args": (_text, True),
    "meta": (_text, True),
    "ran": (_duration, True),
    "waited": (_duration, True),
    "due": (_duration, True),
    "after": (_moment, False),
    "before": (_moment, False),
}
KEYS = tuple(_KINDS)
