"""Hiding values whose names say that they are secret."""

from __future__ import annotations

import re
from typing import Any

SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|authorization|credential|private_?key|cookie|cvv|card_?number",
    re.IGNORECASE,
)
MASK = "[hidden]"


def mask(value: Any) -> Any:
    """A JSON value with ``[hidden]`` in place of what stands under a name such as password or token, at any depth."""
    if isinstance(value, dict):
        return {name: MASK if SECRET.search(name) and each is not None else mask(each) for name, each in value.items()}
    if isinstance(value, list):
        return [mask(each) for each in value]
    return value
