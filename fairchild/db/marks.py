"""When things that are done now and then were done last, and to how much: ``prune``, by a person or a program."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

# At the end of a prune. A row for each name.
SET_MARK = Sql(
    "set_mark",
    """
INSERT INTO {marks} (name, at, number) VALUES (%(name)s, statement_timestamp(), %(number)s)
ON CONFLICT (name) DO UPDATE SET at = excluded.at, number = excluded.number""",
)
READ_MARKS = Sql("read_marks", "SELECT name, at, number FROM {marks}")


class Mark(NamedTuple):
    """Something was done."""

    at: datetime
    number: int
    """How many things it changed."""


def set_mark(link: Link, name: str, number: int = 0) -> None:
    """It was done just now."""
    link.rows(SET_MARK, {"name": name, "number": number})


def read_marks(link: Link) -> dict[str, Mark]:
    """By name, what was ever done."""
    return {name: Mark(at, number) for name, at, number in link.rows(READ_MARKS)}
