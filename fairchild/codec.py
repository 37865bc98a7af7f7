"""Values to JSON and back.

``encode`` turns a Python value into JSON text that PostgreSQL's ``jsonb`` keeps without change (but for the sign of a
negative zero), and takes the Futures out of it: where one stood, the text has ``null`` and ``refs`` gets ``[path, job
id]``. References are never written into the JSON itself, so no user's data can look like one.

Beyond JSON's own types it accepts tuples and sets (they arrive as lists unless the annotation says otherwise), aware
datetimes, dates, times, timedeltas, UUIDs, Decimals, Enums, dataclasses, named tuples, bytes (base64) and msgspec
Structs; the receiving task gets the annotated type back. Refused, with the path of the value: NaN and infinities,
NUL and lone surrogates in text, keys that are not text, naive datetimes, integers of thousands of digits, everything
else.

A reference by ``or_else`` or ``outcome`` has a third part, ``["default", value]`` or ``["outcome", null]``.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import math
import re
import uuid
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import msgspec

from fairchild.errors import NotSerializable, PayloadTooLarge
from fairchild.future import Future, Outcome, Path, Ref, Way

MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_DEPTH = 200
MAX_INT_BITS = 14_000
"""Some 4,200 digits: Python itself reads no longer ones."""
_WHOLE = 1e16
"""From here on Python writes floats with an exponent, and ``jsonb`` would make whole numbers of them."""
_FORBIDDEN_TEXT = re.compile("[\x00\ud800-\udfff]")
_encoder = msgspec.json.Encoder()


class Encoded(NamedTuple):
    """JSON text and the places in it that other jobs' values will take."""

    json: bytes
    refs: list[Ref]


def encode(value: object, *, limit: int = MAX_PAYLOAD_BYTES, root: str = "$") -> Encoded:
    """JSON text of ``value`` and the Futures found in it.

    Raises NotSerializable with the path of the offending value, PayloadTooLarge past ``limit`` bytes.
    """
    refs: list[Ref] = []
    if value is None:
        return Encoded(b"null", refs)
    plain = _plain(value, (), refs, root)
    text = _encoder.encode(plain)
    if len(text) > limit:
        raise PayloadTooLarge(
            f"the value at {root} takes {len(text):,} bytes as JSON; the limit is {limit:,}. "
            "Nothing was stored. Store the data elsewhere and pass a reference, or raise max_payload_bytes",
            root,
        )
    return Encoded(text, refs)


def decode(text: bytes | str) -> Any:
    """The JSON value of ``text`` in Python's own types."""
    return msgspec.json.decode(text)


def plain_refs(refs: Iterable[Sequence[Any]]) -> list[Sequence[Any]] | None:
    """References as they are stored: pairs, where nothing but the value is wanted; None for none."""
    return [ref[:2] if len(ref) < 3 or ref[2] is None else ref for ref in refs] or None


def stand_in(way: Sequence[Any], state: str, text: bytes | None) -> Any:
    """What arrives for a reference by ``or_else`` or ``outcome`` to a job that ended so.

    ``text``: the result as JSON if it completed and kept one, else its error if there is one.
    """
    kind, default = way
    ok = state == "completed" and text is not None
    value = None if text is None else decode(text)
    if kind == "default":
        return value if ok else default
    if ok:
        return Outcome(ok=True, value=value)
    why = {"reason": "no_result", "message": "it completed and kept no result"} if state == "completed" else value
    return Outcome(ok=False, error={"state": state, "reason": None, "type": None, "message": None, **(why or {})})


def path_text(path: Sequence[str | int], root: str = "$") -> str:
    """``("items", 3, "price")`` as ``$.items[3].price``."""
    parts = [root]
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step.isidentifier():
            parts.append(f".{step}")
        else:
            parts.append(f"[{step!r}]")
    return "".join(parts)


def place(target: Any, path: Sequence[str | int], value: Any) -> Any:
    """``target`` with ``value`` at ``path``; an empty path is the whole. Lists and dicts are changed in place."""
    if not path:
        return value
    inner = target
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return target


def _refuse(path: Path, root: str, why: str) -> NotSerializable:
    where = path_text(path, root)
    return NotSerializable(f"the value at {where} cannot be stored as JSON: {why}", where)


def _fine(value: str) -> bool:
    """Whether PostgreSQL keeps the text; for ASCII, told without looking at each character."""
    return "\x00" not in value and (value.isascii() or not _FORBIDDEN_TEXT.search(value))


def _text(value: str, path: Path, root: str) -> str:
    if _fine(value):
        return value
    found = _FORBIDDEN_TEXT.search(value)
    assert found is not None
    what = "a NUL character" if found.group() == "\x00" else "a lone surrogate"
    raise _refuse(path, root, f"text with {what} (at character {found.start()}) cannot be kept by PostgreSQL")


def _is_simple(value: Any) -> bool:
    """Whether a value stays as it is, wherever it stands: most are such, and need no path."""
    kind = type(value)
    if kind is int or kind is float:
        return bool(-_WHOLE < value < _WHOLE)
    return kind is bool or value is None or (kind is str and _fine(value))


def _plain(value: Any, path: Path, refs: list[Ref], root: str) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value, path, root)
    if kind is bool or value is None:
        return value
    if kind is int:
        if value.bit_length() <= MAX_INT_BITS:
            return value
        raise _refuse(path, root, f"an integer of {value.bit_length():,} bits is too long; pass it as text")
    if kind is float:
        if -_WHOLE < value < _WHOLE:
            return value
        if math.isfinite(value):
            return msgspec.Raw(f"{value:.1f}".encode())
        raise _refuse(path, root, f"{value!r} is not a JSON number")
    if len(path) > MAX_DEPTH:
        raise _refuse(path[:8], root, f"it is nested more than {MAX_DEPTH} levels deep (or contains itself)")
    if kind is dict:
        return _mapping(value, path, refs, root)
    if kind is list or kind is tuple:
        return [item if _is_simple(item) else _plain(item, (*path, i), refs, root) for i, item in enumerate(value)]
    return _other(value, path, refs, root)


def _mapping(value: dict[Any, Any], path: Path, refs: list[Ref], root: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is str and _is_simple(item) and _fine(key) and key not in plain:
            plain[key] = item
            continue
        name = key.value if isinstance(key, enum.Enum) else key
        if not isinstance(name, str):
            raise _refuse(path, root, f"the key {key!r} is {type(key).__name__}; JSON keys are text")
        name = _text(str(name), path, root)
        if name in plain:
            raise _refuse(path, root, f"the key {name!r} is there twice")
        plain[name] = _plain(item, (*path, name), refs, root)
    return plain


def _other(value: Any, path: Path, refs: list[Ref], root: str) -> Any:
    if isinstance(value, Future):
        refs.append(Ref(path, value.job_id, _way(value.way, path, root)))
        return None
    if hasattr(type(value), "__fairchild_reference__"):
        refs.append(Ref(path, value.__fairchild_reference__()))
        return None
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, refs, root)
    if isinstance(value, str):
        return _text(str(value), path, root)
    if isinstance(value, int):
        return _plain(int(value), path, refs, root)
    if isinstance(value, float):
        return _plain(float(value), path, refs, root)
    if isinstance(value, dt.datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise _refuse(path, root, f"{value!r} has no time zone; give it one, e.g. datetime.now(timezone.utc)")
        return value.isoformat()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        if isinstance(value, decimal.Decimal) and not value.is_finite():
            raise _refuse(path, root, f"{value!r} is not a number")
        return str(value)
    if isinstance(value, dt.timedelta):
        return msgspec.to_builtins(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return _mapping(value, path, refs, root)
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, i), refs, root) for i, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [_plain(item, (*path, i), refs, root) for i, item in enumerate(_ordered(value))]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _mapping(fields, path, refs, root)
    if isinstance(value, msgspec.Struct):
        return _plain(_struct(value), path, refs, root)
    raise _refuse(path, root, f"{type(value).__module__}.{type(value).__qualname__} is not a type JSON can hold")


def _way(way: Way | None, path: Path, root: str) -> Way | None:
    if way is None:
        return None
    inside: list[Ref] = []
    plain = _plain(way[1], path, inside, root)
    if inside:
        raise _refuse(path, root, "the default of or_else() holds a Future; it must be plain data")
    return way[0], decode(_encoder.encode(plain))


def _ordered(items: AbstractSet[Any]) -> list[Any]:
    """The same order in every process: equal sets make equal JSON."""
    try:
        return sorted(items)
    except TypeError:  # of several kinds, or of none that has an order
        return sorted(items, key=repr)


def _struct(value: msgspec.Struct) -> dict[str, Any] | list[Any]:
    """A Struct in the shape that msgspec reads: renamed fields, tags and ``array_like`` as its class says."""
    config = value.__struct_config__
    fields = {
        name: item
        for attribute, name in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        if (item := getattr(value, attribute)) is not msgspec.UNSET
    }
    if config.array_like:
        return [*([] if config.tag is None else [config.tag]), *fields.values()]
    return fields if config.tag is None else {str(config.tag_field): config.tag, **fields}
