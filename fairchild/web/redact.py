"""Hiding values whose names say that they are secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|authorization|credential|private_?key|cookie|cvv|card_?number",
    re.IGNORECASE,
)
MASK = "[hidden]"


def mask_defaults(params: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A task's parameters with ``[hidden]`` for defaults of those whose names say so."""
    return [
        {**each, "default": MASK} if "default" in each and SECRET.search(each["name"]) else {**each} for each in params
    ]


def mask(value: Any) -> Any:
    """A JSON value with ``[hidden]`` in place of what stands under a name such as password or token, at any depth."""
    if isinstance(value, dict):
        return {name: MASK if SECRET.search(name) and each is not None else mask(each) for name, each in value.items()}
    if isinstance(value, list):
        return [mask(each) for each in value]
    return value
