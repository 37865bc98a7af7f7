"""Which arguments of which tasks are shown to nobody. Kept beside the jobs, since whoever shows those has no code.

Rows are only added: while two releases run side by side the one that hides more counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

Hidden = tuple[str, str]
"""A task's name, or one of its aliases, and the dotted path of an argument."""

# Once in a process for each task that hides something, before its first job; and when a worker opens its session.
ADD_REDACTIONS = Sql(
    "add_redactions",
    """
INSERT INTO {redactions} (task, path)
SELECT * FROM unnest(%(tasks)s::text[], %(paths)s::text[]) ON CONFLICT DO NOTHING""",
)
READ_REDACTIONS = Sql("read_redactions", "SELECT task, path FROM {redactions} ORDER BY task, path")


def add_redactions(link: Link, hidden: Iterable[Hidden]) -> None:
    """Hide these from now on, in all jobs there are and will be."""
    rows = sorted(hidden)  # in one order, so that two never wait for each other
    link.rows(ADD_REDACTIONS, {"tasks": [task for task, _ in rows], "paths": [path for _, path in rows]})


def read_redactions(link: Link) -> list[Hidden]:
    """All that is hidden, by task."""
    return [(task, path) for task, path in link.rows(READ_REDACTIONS)]
