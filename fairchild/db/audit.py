"""Who did what through the API or the pages."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

ADD_ENTRY = Sql(
    "add_audit_entry",
    """
INSERT INTO {audit} (who, action, target, number)
VALUES (left(%(who)s, 200), %(action)s, left(%(target)s, 2000), %(number)s)""",
)
READ_ENTRIES = Sql(
    "read_audit_entries",
    """
SELECT id, at, who, action, target, number FROM {audit}
 WHERE id < coalesce(%(cursor)s::bigint, 9223372036854775807) ORDER BY id DESC LIMIT %(limit)s""",
)


class Entry(NamedTuple):
    """One thing that somebody did; ``number`` is how many jobs, or whatever it was, it changed."""

    id: int
    at: datetime
    who: str
    action: str
    target: str
    number: int


def add_entry(link: Link, who: str, action: str, target: str, number: int) -> None:
    """Keep what somebody has done."""
    link.rows(ADD_ENTRY, {"who": who, "action": action, "target": target, "number": number})


def read_entries(link: Link, cursor: int | None, limit: int) -> list[Entry]:
    """The newest entries before ``cursor``."""
    return [Entry(*row) for row in link.rows(READ_ENTRIES, {"cursor": cursor, "limit": limit})]
