"""JSON as it is stored, in parts that a template can colour."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 64 * 1024
# The last string may be cut off anywhere; if it did not match, it would be tried again from every quote in it.
_PART = re.compile(r'("(?:[^"\\]|\\.)*(?:"|\\?\Z))(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)', re.DOTALL)


def tokens(value: Any) -> Iterator[tuple[str, str]]:
    """``(class, text)`` of indented JSON, cut after 64 KiB; the class is empty for what has no colour."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    cut = len(text) > MOST_CHARACTERS
    text = text[:MOST_CHARACTERS]
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
    if cut:
        yield "", "\n…"
