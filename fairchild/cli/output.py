"""Printing: tables and JSON to stdout, words to stderr. Passwords of URLs are hidden in the words."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any
from uuid import UUID

_NUMBER = re.compile(r"[+-]?[\d,]+(\.\d+)?")


def say(text: str) -> None:
    """One line for the person at the terminal."""
    from fairchild.config import hide_password  # noqa: PLC0415 - help comes first

    print(hide_password(" ".join(text.split())), file=sys.stderr, flush=True)


def ask(question: str) -> str | None:
    """What the person at the terminal answers; None if there is nobody."""
    print(question, end=" ", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.strip() if answer else None


def print_json(value: object) -> None:
    """One JSON value; over several lines for a person, on one for a program."""
    print(json.dumps(value, default=_plain, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns under their names, numbers to the right."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    right = [all(_NUMBER.fullmatch(row[at]) for row in cells[1:] if row[at]) for at in range(len(columns))]
    for row in cells:
        line = "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        print(line.rstrip())


def print_fields(pairs: Sequence[tuple[str, object]]) -> None:
    """``name  value`` lines; what has no value is left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value is not None and value not in ("", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *rest = value.splitlines() or [""]
        print(f"{name.ljust(width)}  {first}")
        for line in rest:
            print(" " * (width + 2) + line)


def moment(value: datetime | None) -> str | None:
    """A time in UTC, to the second."""
    if value is None:
        return None
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(sep=" ", timespec="seconds") + "Z"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return moment(value) or ""
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (UUID, timedelta)):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be printed as JSON")
