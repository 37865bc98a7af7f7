"""Other words in the body of a new job, those of earlier clients, put into ours; and words of what is not there yet."""

from __future__ import annotations

from typing import Any

from fairchild.web.operations import Schema, invalid

PRIORITIES = {"critical": 0, "very_high": 1, "high": 3, "normal": 5, "low": 7, "very_low": 9}
ALIASES = {"type": "task", "payload": "args"}


def _not_yet(what: str) -> Schema:
    return {"not": {}, "description": f"is not known here: {what}; nothing was enqueued"}


NOT_YET: dict[str, Schema] = {
    "unique_key": _not_yet("jobs cannot be unique yet; an id of your own is taken once"),
    "encrypted": _not_yet("arguments cannot be encrypted yet"),
    "resource_requirements": _not_yet("a job cannot ask for resources yet"),
    "resources": _not_yet("a job cannot ask for resources yet"),
}


def in_our_words(body: dict[str, Any]) -> dict[str, Any]:
    """A body that fits the schema, without aliases. Raises Problem 422 where both words for one thing are given."""
    said = dict(body)
    for alias, name in ALIASES.items():
        if alias in said:
            _refuse_both(said, alias, name)
            said[name] = said.pop(alias)
    attempts = said.pop("retry_config", {}).get("max_attempts")
    if attempts is not None:
        _refuse_both(said, "retry_config.max_attempts", "max_attempts")
        said["max_attempts"] = attempts
    if isinstance(said.get("priority"), str):
        said["priority"] = PRIORITIES[said["priority"]]
    if "task" not in said:
        raise invalid([("$.task", "is missing")])
    return said


def _refuse_both(said: dict[str, Any], alias: str, name: str) -> None:
    if name in said:
        raise invalid([(f"$.{alias}", f"is another word for {name}, which is given too; nothing was enqueued")])
