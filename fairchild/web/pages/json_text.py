"""JSON as it is stored, in parts that a template can colour."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 64 * 1024
MOST_LINES = 20
"""That are shown before anything is opened."""
# The last string may be cut off anywhere; if it did not match, it would be tried again from every quote in it.
_PART = re.compile(r'("(?:[^"\\]|\\.)*(?:"|\\?\Z))(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)', re.DOTALL)


@dataclass(frozen=True)
class JsonText:
    """A value as indented text. ``size`` and ``lines`` are of all of it, ``text`` is the first 64 KiB."""

    text: str
    size: int
    lines: int

    @property
    def cut(self) -> bool:
        """Whether there is more than ``text``."""
        return self.size > len(self.text)

    @property
    def folded(self) -> bool:
        """Whether it is long enough to be opened first."""
        return self.lines > MOST_LINES

    def tokens(self) -> Iterator[tuple[str, str]]:
        """``(class, text)`` of its parts; the class is empty for what has no colour."""
        yield from _tokens(self.text)
        if self.cut:
            yield "", "\n…"


def written(value: Any) -> str:
    """All of a value, indented."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def json_text(value: Any) -> JsonText:
    """A value as a page shows it."""
    text = written(value)
    return JsonText(text[:MOST_CHARACTERS], len(text), text.count("\n") + 1)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    for found in _PART.finditer(text):
        if found.start() > at:
            yield "", text[at : found.start()]
        string, colon, number, literal = found.groups()
        if string is not None:
            yield ("j-k" if colon else "j-s"), string
            if colon:
                yield "", colon
        elif number is not None:
            yield "j-n", number
        else:
            yield "j-l", literal
        at = found.end()
    if at < len(text):
        yield "", text[at:]
