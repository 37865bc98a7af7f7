"""Checking JSON values against the part of JSON Schema that a task's published parameters are described in.

What msgspec makes of Python's types: type, enum, const, anyOf, $ref into $defs, properties, required,
additionalProperties, items, prefixItems, bounds, pattern and format. What is not known here lets a value pass: the
worker checks every argument again, against the types themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

MAX_DEPTH = 100
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def problems(value: Any, schema: Any, path: str) -> list[tuple[str, str]]:
    """What does not fit: ``[(path, sentence), ...]``; at most one for each value."""
    root = schema if isinstance(schema, Mapping) else {}
    return list(_problems(value, schema, path, root, 0))


def argument_problems(
    args: Mapping[str, Any], params: Sequence[Mapping[str, Any]], path: str = "$.args"
) -> list[tuple[str, str]]:
    """What does not fit in a task's arguments by name; ``params`` as ``Task.schema()`` describes them."""
    named = {param["name"]: param for param in params}
    found = [
        (f"{path}.{name}", "is missing") for name, param in named.items() if param.get("required") and name not in args
    ]
    open_ended = any(param.get("variadic") for param in params)
    for name, value in args.items():
        param = named.get(name)
        if param is not None and not param.get("variadic"):
            found.extend(problems(value, param.get("schema"), f"{path}.{name}"))
        elif not open_ended:
            found.append((f"{path}.{name}", "is not a parameter of this task"))
    return found


def _problems(value: Any, schema: Any, path: str, root: Mapping[str, Any], depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return
    if "$ref" in schema:
        named = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2])
        yield from _problems(value, named, path, root, depth + 1)
        return
    if schema.get("not") == {}:
        yield path, schema.get("description", "is not known here")
        return
    if "anyOf" in schema:
        tried = [list(_problems(value, each, path, root, depth + 1)) for each in schema["anyOf"]]
        if all(tried):
            # The alternative that came furthest says the most.
            yield from max(tried, key=lambda found: len(found[0][0]))
        return
    if (wrong := _wrong(value, schema)) is not None:
        yield path, wrong
        return
    if isinstance(value, dict):
        yield from _members(value, schema, path, root, depth)
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        for number, each in enumerate(value):
            own = first[number] if number < len(first) else schema.get("items")
            yield from _problems(each, own, f"{path}[{number}]", root, depth + 1)


def _members(
    value: dict[str, Any], schema: Mapping[str, Any], path: str, root: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, str]]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}", "is missing"
    for name, each in value.items():
        own = known.get(name, schema.get("additionalProperties"))
        if own is False:
            yield f"{path}.{name}", "is not known here"
        else:
            yield from _problems(each, own, f"{path}.{name}", root, depth + 1)


def _wrong(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with the value itself, without what is inside of it."""
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _TYPES and not _is_a(value, kind):
        return f"must be {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return "must be one of " + ", ".join(map(repr, schema["enum"]))
    if "const" in schema and value != schema["const"]:
        return f"must be {schema['const']!r}"
    if isinstance(value, str):
        return _wrong_text(value, schema)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _wrong_number(value, schema)
    if isinstance(value, list):
        return _wrong_size(len(value), schema, "Items", "items")
    return None


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _wrong_text(value: str, schema: Mapping[str, Any]) -> str | None:
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        return f"must match {schema['pattern']}"
    form = schema.get("format")
    try:
        if form == "uuid":
            UUID(value)
        elif form == "date":
            date.fromisoformat(value)
        elif form == "date-time":
            if datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is None:
                return "must have a time zone"
        elif form == "time":
            time.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return f"must be a {form}"
    return _wrong_size(len(value), schema, "Length", "characters")


def _wrong_number(value: float, schema: Mapping[str, Any]) -> str | None:
    if "minimum" in schema and value < schema["minimum"]:
        return f"must be at least {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        return f"must be at most {schema['maximum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return f"must be more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return f"must be less than {schema['exclusiveMaximum']}"
    return None


def _wrong_size(size: int, schema: Mapping[str, Any], what: str, words: str) -> str | None:
    if size < schema.get(f"min{what}", 0):
        return f"must have at least {schema[f'min{what}']} {words}"
    if size > schema.get(f"max{what}", size):
        return f"must have at most {schema[f'max{what}']} {words}"
    return None
