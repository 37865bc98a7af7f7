"""Filters as people type them, and what of them may be asked."""

from __future__ import annotations

from fairchild.errors import UsageError
from fairchild.rules.query import Query, Term, parse
from fairchild.web.auth import Gate
from fairchild.web.redact import SECRET, touches


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
    asked = [term for term in query.terms if term.key == "args"]
    if asked:
        named = _tasks(query)
        for task, paths in gate.redactions().items():
            if named is not None and task not in named:
                continue
            for term in asked:
                if any(touches(term.path, path) for path in paths):
                    return (
                        None,
                        f"{term.name} is hidden in jobs of {task}; name others with task: to ask for it",
                    )
    return query, ""


def _tasks(query: Query) -> set[str] | None:
    """The tasks that a query is about; None: all."""
    named = [set(map(str, each.values)) for each in query.terms if _names_tasks(each)]
    return set.intersection(*named) if named else None


def _names_tasks(term: Term) -> bool:
    return term.key == "task" and not term.negated
