"""Who did what through the API or the pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

ADD_ENTRY = Sql(
    "add_audit_entry",
    """
INSERT INTO {audit} (who, action, target, number, request_id, before, after)
VALUES (left(%(who)s, 200), %(action)s, left(%(target)s, 2000), %(number)s, left(%(request_id)s, 64),
        %(before)s::jsonb, %(after)s::jsonb)""",
)
READ_ENTRIES = Sql(
    "read_audit_entries",
    """
SELECT id, at, who, action, target, number, request_id, before::text, after::text FROM {audit}
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
    request_id: str | None = None
    before: dict[str, Any] | None = None
    """What of it was changed, as it was and as it became: ``{"state": "failed"}``. None: there was nothing, or many."""
    after: dict[str, Any] | None = None


def add_entry(
    link: Link,
    who: str,
    action: str,
    target: str,
    number: int,
    request_id: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Keep what somebody has done."""
    facts = {"before": _json(before), "after": _json(after)}
    params = {"who": who, "action": action, "target": target, "number": number, "request_id": request_id}
    link.rows(ADD_ENTRY, {**params, **facts})


def read_entries(link: Link, cursor: int | None, limit: int) -> list[Entry]:
    """The newest entries before ``cursor``."""
    return [
        Entry(*entry, *(None if each is None else msgspec.json.decode(each) for each in (before, after)))
        for *entry, before, after in link.rows(READ_ENTRIES, {"cursor": cursor, "limit": limit})
    ]


def _json(facts: Mapping[str, Any] | None) -> str | None:
    return None if facts is None else msgspec.json.encode(facts).decode()
