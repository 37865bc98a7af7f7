"""Filters as people type them, and what of them may be asked."""

from __future__ import annotations

from fairchild.errors import UsageError
from fairchild.rules.query import Query, parse
from fairchild.web.auth import Gate
from fairchild.web.redact import SECRET


def read_filter(gate: Gate, text: str) -> tuple[Query | None, str]:
    """The query that a text means, or None and what is wrong. What may not be read may not be asked for either."""
    try:
        query = parse(text)
    except UsageError as error:
        return None, str(error)
    for term in query.terms:
        hidden = any(SECRET.search(part) for part in term.path) or not gate.tells_messages()
        if term.key in ("args", "meta", "error") and hidden:
            return None, f"you have no right to ask for {term.name}"
    return query, ""
