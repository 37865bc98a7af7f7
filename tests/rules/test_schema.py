"""The part of JSON Schema that parameters are described in."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairchild.rules.schema import argument_problems, problems


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    name: str
    price: float
    tags: list[str]
    inner: Item | None = None


KINDS: list[tuple[Any, Any, Any, str]] = [
    (int, 3, "3", "$"),
    (int, 3, True, "$"),
    (int, 3, 3.0, "$"),
    (bool, False, 0, "$"),
    (float, 3, "x", "$"),
    (str, "x", 3, "$"),
    (None, None, 0, "$"),
    (int | None, None, "x", "$"),
    (Literal["a", "b"], "b", "c", "$"),
    (Colour, "red", "green", "$"),
    (UUID, "01900000-0000-7000-8000-000000000000", "0190", "$"),
    (dt.date, "2026-01-31", "2026-02-31", "$"),
    (Annotated[dt.time, msgspec.Meta(tz=True)], "10:00:00Z", "25:00:00Z", "$"),
    (Annotated[dt.datetime, msgspec.Meta(tz=True)], "2026-01-31T10:00:00Z", "2026-01-31T10:00:00", "$"),
    (list[int], [1, 2], [1, "x"], "$[1]"),
    (tuple[int, str], [1, "x"], [1, 2], "$[1]"),
    (tuple[int, str], [1, "x"], [1], "$"),
    (dict[str, int], {"a": 1}, {"a": 1, "b": "x"}, "$.b"),
    (Item, {"name": "x", "price": 1, "tags": ["a"]}, {"name": "x", "price": 1, "tags": [1]}, "$.tags[0]"),
    (Item, {"name": "x", "price": 1, "tags": []}, {"name": "x", "tags": []}, "$.price"),
    (
        Item,
        {"name": "x", "price": 1, "tags": [], "inner": {"name": "y", "price": 2, "tags": []}},
        {"name": "x", "price": 1, "tags": [], "inner": {"name": "y", "price": "2", "tags": []}},
        "$.inner.price",
    ),
    (Annotated[int, msgspec.Meta(ge=1, le=5)], 5, 6, "$"),
    (Annotated[float, msgspec.Meta(gt=0, lt=1)], 0.5, 0, "$"),
    (Annotated[str, msgspec.Meta(min_length=2, max_length=3)], "ab", "abcd", "$"),
    (Annotated[str, msgspec.Meta(pattern="^a")], "ab", "b", "$"),
    (Annotated[list[int], msgspec.Meta(max_length=1)], [1], [1, 2], "$"),
]


@pytest.mark.parametrize(("kind", "good", "bad", "path"), KINDS)
def test_what_msgspec_describes_is_checked(kind: Any, good: Any, bad: Any, path: str) -> None:
    schema = msgspec.json.schema(kind)
    assert problems(good, schema, "$") == []
    assert [where for where, _ in problems(bad, schema, "$")] == [path]


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "price", "tags", "x"]), inner),
    max_leaves=8,
)


@example(0.0, int)  # an integer to JSON Schema, and not to msgspec, nor then to the task
@given(value=_json, kind=st.sampled_from([int, float, str, Item, list[int], dict[str, float], Item | None, Colour]))
def test_what_passes_here_is_what_msgspec_takes(value: Any, kind: Any) -> None:
    try:
        msgspec.convert(value, kind)
        taken = True
    except msgspec.ValidationError:
        taken = False
    assert (problems(value, msgspec.json.schema(kind), "$") == []) == taken


def test_arguments_are_checked_by_name() -> None:
    params = [
        {"name": "a", "required": True, "schema": {"type": "integer"}},
        {"name": "b", "required": False},
    ]
    assert argument_problems({"a": 1, "b": object()}, params) == []
    assert argument_problems({"b": 1}, params) == [("$.args.a", "is missing")]
    assert argument_problems({"a": "x", "c": 1}, params) == [
        ("$.args.a", "must be an integer"),
        ("$.args.c", "is not a parameter of this task"),
    ]
    assert argument_problems({"a": 1, "c": 1}, [*params, {"name": "more", "variadic": True}]) == []


def test_a_schema_without_end_ends() -> None:
    endless: dict[str, Any] = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert problems(1, endless, "$") == []
