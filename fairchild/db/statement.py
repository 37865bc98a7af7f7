"""A statement's text with its table names still open: ``{jobs}`` becomes ``"myschema"."fairchild_jobs_base"``.

Statements are written as SQL, once, beside the one function that runs them. The hot ones are chains of data-modifying
common table expressions; as SQL they can be read, explained and compared with a plan, which is why they are not
composed in Core. Names of tables and schema come from here and are quoted here; values are always bound.
"""

from __future__ import annotations

from functools import lru_cache

PREFIX = "fairchild_"
"""Of the names of all tables, views and indexes."""

# The braces' names -> table names; tests compare them with tables.metadata so that neither can drift.
NAMES = {
    "jobs": "fairchild_jobs_base",
    "ready": "fairchild_ready",
    "claims": "fairchild_claims",
    "due": "fairchild_due",
    "waiting": "fairchild_waiting",
    "edges": "fairchild_edges",
    "sessions": "fairchild_sessions",
    "catalogs": "fairchild_catalogs",
    "counters": "fairchild_counters",
    "progress": "fairchild_progress",
    "logs": "fairchild_logs",
    "journal": "fairchild_journal",
    "signals": "fairchild_signals",
    "timers": "fairchild_timers",
    "xcom": "fairchild_xcom",
    "minutes": "fairchild_minutes",
    "queues": "fairchild_queues",
    "tokens": "fairchild_tokens",
    "audit": "fairchild_audit",
    "events": "fairchild_events",
    "listeners": "fairchild_listeners",
    "muted": "fairchild_muted",
    "marks": "fairchild_marks",
    "redactions": "fairchild_redactions",
    "cancellations": "fairchild_cancellations",
    "view": "fairchild_jobs",
}


def quote(identifier: str) -> str:
    """An SQL identifier in double quotes, whatever characters it holds."""
    return '"' + identifier.replace('"', '""') + '"'


@lru_cache(maxsize=64)
def _names(schema: str) -> dict[str, str]:
    return {key: f"{quote(schema)}.{quote(name)}" for key, name in NAMES.items()}


class Sql:
    """One statement. ``text`` uses ``{table}`` for tables and ``%(name)s`` for values.

    ``binary``: its rows come in PostgreSQL's binary form, cheaper on both sides where there are many.
    """

    __slots__ = ("_rendered", "binary", "name", "text")

    def __init__(self, name: str, text: str, *, binary: bool = False) -> None:
        self.name = name
        self.text = text
        self.binary = binary
        self._rendered: dict[str, str] = {}

    def for_schema(self, schema: str) -> str:
        """The text with its tables qualified by ``schema``; a ``%`` in a schema's name is doubled for the driver."""
        rendered = self._rendered.get(schema)
        if rendered is None:
            names = {key: name.replace("%", "%%") for key, name in _names(schema).items()}
            rendered = f"/* fairchild:{self.name} */ " + self.text.format_map(names)
            self._rendered[schema] = rendered
        return rendered

    def __repr__(self) -> str:
        return f"Sql({self.name!r})"
