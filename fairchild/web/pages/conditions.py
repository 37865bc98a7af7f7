"""What the filter of jobs offers while it is typed: keys, then what is there for them, then arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.rules.query import KEYS
from fairchild.web import words
from fairchild.web.operations import as_json
from fairchild.web.pages.site import Site
from fairchild.web.redact import SECRET, touches

MOST = 12
MOST_TEXT = 300
NOTES = {
    "id": "the id of a job",
    "state": "available, running, failed …",
    "queue": "the queue it is in",
    "task": "the whole name of its task",
    "tag": "one of its tags",
    "tenant": "whose job it is",
    "worker": "the id of the worker that ran it last",
    "workflow": "the id of the root of its workflow",
    "parent": "the id of the job that called it",
    "group": "a group of its workflow, as the graph's nodes name them",
    "priority": "0 to 9, also >5",
    "attempt": "how often it was tried, also >1",
    "error": "the type of its last error, or words of the message",
    "fp": "the fingerprint of its last error",
    "reason": "why it ended badly",
    "unique": "its unique key",
    "args": "an argument: args.user_id:7",
    "meta": "of its meta: meta.source:web",
    "ran": "how long it ran: >5s",
    "waited": "how long it waited to run: >1m",
    "due": "when it is due: <1h",
    "after": "made since: 2h, or a time",
    "before": "made before: 2h, or a time",
}
_MEASURES = {
    "ran": (">1s", ">10s", ">1m", ">10m"), "waited": (">10s", ">1m", ">10m", ">1h"), "due": ("<1h", "<24h", ">24h"),
    "after": ("1h", "24h", "7d", "all"), "before": ("1h", "24h", "7d"),
    "priority": ("<5", ">5"), "attempt": (">1", ">2"),
}  # fmt: skip
_BY_NAME = ("state", "queue", "task", "tag", "tenant", "worker", "error")
"""The keys whose values are also offered for a word without a key."""


class Condition(NamedTuple):
    """What may stand in the filter, and what it means. One that ends with ``:`` or ``.`` waits for more."""

    text: str
    note: str = ""


Values = Mapping[str, Sequence[Condition]]
"""By key, or path of an argument: the values that there are."""


def add_to(site: Site) -> None:
    """Add what the filter asks while something is typed."""

    @site.page("/conditions")
    def page_conditions() -> AnyResponse:
        return as_json([each._asdict() for each in complete(request.args.get("for", "")[:MOST_TEXT], _values(site))])


def complete(text: str, values: Values) -> list[Condition]:
    """How a condition that has been begun may go on."""
    minus, rest = ("-", text[1:]) if text.startswith("-") else ("", text)
    key, colon, begun = rest.partition(":")
    if colon:
        kept, comma, last = begun.rpartition(",")
        there = values.get(key, ())
        found: Iterator[Condition] = (
            Condition(f"{key}:{kept}{comma}{words.quoted(each.text)}", each.note)
            for each in _matching(there, last.strip('"'))
        )
        if not comma:
            measures = (each for each in _MEASURES.get(key, ()) if each.startswith(begun))
            found = iter([*found, *(Condition(f"{key}:{each}") for each in measures)])
    else:
        found = _of_word(rest, values)
    return [Condition(minus + each.text, each.note) for each, _ in zip(found, range(MOST), strict=False)]


def _of_word(word: str, values: Values) -> Iterator[Condition]:
    wanted = word.lower()
    paths = [path for path in values if "." in path]
    for key in KEYS:
        if key.startswith(wanted):
            yield Condition(f"{key}." if key in ("args", "meta") else f"{key}:", NOTES[key])
    if not wanted:
        return
    if not wanted.startswith(("args.", "meta.")):
        for key in _BY_NAME:
            for each in _beginning(values.get(key, ()), wanted):
                yield Condition(f"{key}:{words.quoted(each.text)}", each.note)
    for path in paths:
        if wanted in path.lower():
            yield Condition(f"{path}:", "an argument")


def _matching(there: Sequence[Condition], begun: str) -> list[Condition]:
    """Those that hold what was begun, those that begin with it first."""
    wanted = begun.lower()
    holding = [each for each in there if wanted in each.text.lower() or wanted in each.note.lower()]
    return sorted(holding, key=lambda each: not each.text.lower().startswith(wanted))


def _beginning(there: Sequence[Condition], word: str) -> list[Condition]:
    """Those of which a part begins with the word."""
    parts = re.compile(rf"(?<![^\W_]){re.escape(word)}", re.IGNORECASE)
    return [each for each in there if parts.search(each.text)]


def _values(site: Site) -> Values:
    """All values that whoever asks may see: what a host's own redact= hides is not known here, so none of that."""
    stats = site.shell().stats
    found: dict[str, dict[str, str]] = {key: {} for key in _BY_NAME}
    found["state"] = dict.fromkeys(words.STATES, "")
    found["queue"] = dict.fromkeys(stats["queues"] if stats else (), "")
    found["task"] = dict.fromkeys(site.known.tasks(), "")
    found["worker"] = {str(each["id"]): each["name"] for each in site.known.sessions()}
    found["error"] = dict.fromkeys((group.type for group in site.known.errors()), "")
    redacted = [path for paths in site.gate.redactions().values() for path in paths]
    for each in site.known.sample():
        root, *path = each.key.split(".")
        hidden = root not in ("task", "queue") and site.gate.redacts
        if root == "args":
            hidden = hidden or not site.gate.tells_messages() or any(SECRET.search(part) for part in path)
            hidden = hidden or any(touches(path, kept) for kept in redacted)
        if not hidden:
            there = found.setdefault(each.key, {})
            if each.value is not None:
                there[each.value] = f"{words.plural(each.jobs, 'job')} of the newest"
    if not site.gate.tells_messages():
        found["error"] = {}
    return {key: [Condition(*each) for each in there.items()] for key, there in found.items()}
