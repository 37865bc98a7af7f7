"""Rows for ``COPY ... FROM STDIN (FORMAT binary)``: what the server reads without parsing a line of text.

Each value is its length (32 bits, -1 for null) and its bytes, each row its number of values (16 bits) before them, all
numbers big-endian (PostgreSQL manual, COPY, "Binary Format"; the forms of the types are those of their receive
functions). Packed by hand, since the rows of a bulk insert mostly share all but an id and the arguments: what they
share is packed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from uuid import UUID

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_length = Struct(">i").pack
_int2 = Struct(">ih").pack
_int4 = Struct(">ii").pack
_int8 = Struct(">iq").pack
_double = Struct(">id").pack
_array = Struct(">iiiii").pack
_TEXT_OID = 25
_UUID_LENGTH = _length(16)
TRUE = _length(1) + b"\x01"
FALSE = _length(1) + b"\x00"


def columns(number: int) -> bytes:
    """What begins each row of ``number`` values."""
    return number.to_bytes(2, "big")


def text(value: str) -> bytes:
    """A text."""
    data = value.encode()
    return _length(len(data)) + data


def uuid(value: UUID) -> bytes:
    """A UUID."""
    return _UUID_LENGTH + value.bytes


def optional_uuid(value: UUID | None) -> bytes:
    """A UUID or null."""
    return NULL if value is None else _UUID_LENGTH + value.bytes


def smallint(value: int) -> bytes:
    """A number of 16 bits."""
    return _int2(2, value)


def integer(value: int) -> bytes:
    """A number of 32 bits."""
    return _int4(4, value)


def optional_integer(value: int | None) -> bytes:
    """A number of 32 bits or null."""
    return NULL if value is None else _int4(4, value)


def bigint(value: int | None) -> bytes:
    """A number of 64 bits or null."""
    return NULL if value is None else _int8(8, value)


def double(value: float | None) -> bytes:
    """A float8 or null."""
    return NULL if value is None else _double(8, value)


def json(value: bytes | None) -> bytes:
    """A jsonb, from its text, or null: the text after a version number, which is 1."""
    return NULL if value is None else _length(len(value) + 1) + b"\x01" + value


def texts(values: Sequence[str] | None) -> bytes:
    """A text[] of one dimension, without nulls in it, or null."""
    if values is None:
        return NULL
    if not values:
        return _length(12) + bytes(8) + _length(_TEXT_OID)
    data = _array(1, 0, _TEXT_OID, len(values), 1) + b"".join(map(text, values))
    return _length(len(data)) + data
