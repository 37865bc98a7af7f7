"""Hiding values whose names say that they are secret, and those that their task says are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|authorization|credential|private_?key|cookie|cvv|card_?number",
    re.IGNORECASE,
)
MASK = "[hidden]"


def mask_defaults(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A task's parameters with ``[hidden]`` for defaults of those whose names say so, or of which it hides anything."""
    return [
        {**each, "default": MASK} if "default" in each and hides_default(task, each["name"]) else {**each}
        for each in task["params"]
    ]


def hides_default(task: Mapping[str, Any], name: str) -> bool:
    """Whether nobody is shown the default of a parameter."""
    return bool(SECRET.search(name)) or any(_steps(path)[:1] == [name] for path in task.get("redact") or ())


def mask(value: Any) -> Any:
    """A JSON value with ``[hidden]`` in place of what stands under a name such as password or token, at any depth."""
    if isinstance(value, dict):
        return {name: MASK if SECRET.search(name) and each is not None else mask(each) for name, each in value.items()}
    if isinstance(value, list):
        return [mask(each) for each in value]
    return value


def hide(args: Any, paths: Iterable[str]) -> Any:
    """Arguments with ``[hidden]`` at these dotted paths, in each item of a list on the way.

    What a path leads into and cannot, such as a text, is hidden as a whole.
    """
    for path in paths:
        args = _hide(args, path.split("."))
    return args


def _hide(value: Any, steps: Sequence[str]) -> Any:
    if value is None:
        return None
    if not steps:
        return MASK
    if isinstance(value, list):
        return [_hide(each, steps) for each in value]
    if not isinstance(value, dict):
        return MASK
    name, *rest = steps
    return {**value, name: _hide(value[name], rest)} if name in value else value


def touches(asked: Sequence[str], hidden: str) -> bool:
    """Whether who learns of the value at ``asked`` learns of what is hidden: either lies within the other."""
    wanted, kept = [each for each in asked if not each.isdigit()], _steps(hidden)
    short = min(len(wanted), len(kept))
    return [each.removeprefix("*") for each in wanted[:short]] == kept[:short]


def _steps(path: str) -> list[str]:
    return [each.removeprefix("*") for each in path.split(".") if not each.isdigit()]
