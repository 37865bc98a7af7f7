"""What people type, as values. Everything raises UsageError with what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fairchild.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Arguments:
    """What ``--args`` and ``-a`` gave."""

    whole: dict[str, Any]
    single: list[tuple[str, str]]

    @staticmethod
    def read(whole: str | None, single: Sequence[str] | None) -> Arguments:
        """From the text of both."""
        pairs = []
        for each in single or ():
            name, equals, text = each.partition("=")
            if not equals or not name.strip():
                raise UsageError(f"-a takes key=value, got {each!r}")
            pairs.append((name.strip(), text))
        return Arguments({} if whole is None else json_object("--args", whole), pairs)

    def values(self, types: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The arguments; those of ``-a`` win. ``types``: the task's annotations, if it is known."""
        return {**self.whole, **{name: _value(text, (types or {}).get(name)) for name, text in self.single}}


def json_object(what: str, text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise UsageError(f"{what} must be a JSON object, and {text[:80]!r} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f'{what} must be a JSON object, such as \'{{"key": "value"}}\', got {text[:80]!r}')
    return value


def _value(text: str, kind: Any) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    # -a title=123 for a parameter that is annotated as text.
    return text if kind is str and not isinstance(value, str) else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def duration(what: str, text: str) -> timedelta:
    """``30s``, ``5m``, ``1h30m``, ``1d``, ``2w``, or a plain number of seconds."""
    given = text.strip().lower()
    try:
        if _NUMBER.fullmatch(given):
            return timedelta(seconds=float(given))
        if _DURATION.fullmatch(given):
            return timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(given)))
    except OverflowError:
        raise UsageError(f"{what}: {text!r} is too long") from None
    raise UsageError(f"{what} takes a duration such as 30s, 5m, 1h30m or 1d, got {text!r}")


def is_duration(text: str) -> bool:
    """Whether ``duration`` can read it."""
    given = text.strip().lower()
    return bool(_NUMBER.fullmatch(given) or _DURATION.fullmatch(given))


def instant(what: str, text: str) -> datetime:
    """An ISO 8601 time with its zone."""
    given = text.strip()
    try:
        # Python 3.10 does not know the Z.
        value = datetime.fromisoformat(given[:-1] + "+00:00" if given[-1:] in ("Z", "z") else given)
    except ValueError:
        raise UsageError(f"{what} takes an ISO 8601 time such as 2030-01-31T08:00:00Z, got {text!r}") from None
    if value.tzinfo is None:
        raise UsageError(f"{what}: {text!r} has no time zone, so it does not name a moment; add Z or +02:00")
    return value
