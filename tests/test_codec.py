"""Values to JSON, through the database, and back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairchild import Fairchild, Future
from fairchild.codec import MAX_DEPTH, Encoded, decode, encode, path_text, place
from fairchild.errors import NotSerializable, PayloadTooLarge
from fairchild.future import Ref

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
INTEGERS = st.one_of(
    st.integers(), st.integers(-(10**400), 10**400), st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**70)])
)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1e16, 1e22, 1.7e308, 5e-324, 1e-7])
)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
THROUGH_THE_DATABASE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def stored(client: Fairchild, value: Any) -> Any:
    job = client.get_job(client.enqueue("keeps.anything", {"value": value}).id)
    assert job is not None
    return job.args["value"]


@THROUGH_THE_DATABASE
@given(value=JSON)
def test_json_comes_back_from_the_database_as_it_went_in(fairchild: Fairchild, value: Any) -> None:
    assert same(stored(fairchild, value), value)


@settings(THROUGH_THE_DATABASE, max_examples=25)
@given(values=st.lists(JSON, min_size=1, max_size=3), key=TEXT)
def test_copied_in_bulk_it_comes_back_the_same(fairchild: Fairchild, values: list[Any], key: str) -> None:
    rows = [{"value": value, key: value} for value in values]
    ids = fairchild.enqueue_many("keeps.anything", [*rows, *({} for _ in range(1000))])

    for job_id, row in zip(ids, rows, strict=False):
        job = fairchild.get_job(job_id)
        assert job is not None
        assert same(job.args, row)


@given(value=JSON)
def test_without_a_database_encode_and_decode_are_each_others_inverse(value: Any) -> None:
    encoded = encode(value)

    assert same(decode(encoded.json), value)
    assert encoded.refs == []


@given(
    value=st.recursive(
        st.text(st.characters(categories=["Cs"]) | st.just("\x00") | st.characters()) | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
        max_leaves=5,
    )
)
def test_what_encode_accepts_is_utf8_without_nul_and_what_not_has_a_path(value: Any) -> None:
    try:
        text = encode(value).json.decode()
    except NotSerializable as error:
        path, message = error.path, str(error)
        assert path.startswith("$")
        assert path in message
    else:
        assert "\\u0000" not in text.replace("\\\\", "")
        assert same(decode(text), value)


class Colour(enum.Enum):
    RED = "red"
    NUMBER = 7


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


class Count(int):
    pass


class Thing:
    pass


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    total: Decimal
    lines: list[Point]


class Shape(msgspec.Struct, tag=True, rename="camel"):
    side_length: int
    note: str | msgspec.UnsetType = msgspec.UNSET


class Pair(msgspec.Struct, array_like=True):
    left: int
    right: Any


KNOWN = uuid.UUID("00000000-0000-7000-8000-000000000001")
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, (2, 3)), "[1,[2,3]]"),
        ({3, 1, 2}, "[1,2,3]"),
        (frozenset("ba"), '["a","b"]'),
        ({1, "a"}, '["a",1]'),
        ({2.5, None}, "[2.5,null]"),
        (NOON, '"2026-01-02T12:00:00+00:00"'),
        (NOON.date(), '"2026-01-02"'),
        (dt.time(12, 30), '"12:30:00"'),
        (dt.timedelta(days=1, seconds=2), '"P1DT2S"'),
        (KNOWN, f'"{KNOWN}"'),
        (Decimal("1.10"), '"1.10"'),
        (b"\x00\xff", '"AP8="'),
        (bytearray(b"a"), '"YQ=="'),
        (Colour.RED, '"red"'),
        (Colour.NUMBER, "7"),
        (Level.HIGH, "3"),
        (Name("n"), '"n"'),
        (Count(4), "4"),
        (True, "true"),
        (Point(1, 2), "[1,2]"),
        ({Colour.RED: 1}, '{"red":1}'),
        (Order(KNOWN, Decimal(5), [Point(0, 1)]), f'{{"id":"{KNOWN}","total":"5","lines":[[0,1]]}}'),
        (Shape(2), '{"type":"Shape","sideLength":2}'),
        (Shape(2, note="n"), '{"type":"Shape","sideLength":2,"note":"n"}'),
        (Pair(1, Pair(2, None)), "[1,[2,null]]"),
        (1e16, "10000000000000000.0"),
        (-1e300, f"{-1e300:.1f}"),
    ],
)
def test_a_value_has_one_text(value: object, text: str) -> None:
    assert encode(value).json.decode() == text


def itself() -> list[Any]:
    loop: list[Any] = [1]
    loop.append(loop)
    return loop


def circle() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["next"] = {"next": loop}
    return loop


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        ({"a": [1, math.nan]}, "$.a[1]", "not a JSON number"),
        ({"a": {"b": math.inf}}, "$.a.b", "not a JSON number"),
        ([-math.inf], "$[0]", "not a JSON number"),
        ({"total": Decimal("NaN")}, "$.total", "not a number"),
        ({"total": Decimal("-Infinity")}, "$.total", "not a number"),
        ({"a": "x\x00y"}, "$.a", "NUL character (at character 1)"),
        ({"a": ["\ud800"]}, "$.a[0]", "lone surrogate"),
        ({"a b": Name("\x00")}, "$['a b']", "NUL"),
        ({"x": {"k\x00": 1}}, "$.x", "NUL"),
        ({"x": {1: "a"}}, "$.x", "the key 1 is int"),
        ({"x": [{None: "a"}]}, "$.x[0]", "NoneType"),
        ({"x": {(1, 2): "a"}}, "$.x", "tuple"),
        ({"x": {Colour.NUMBER: "a"}}, "$.x", "JSON keys are text"),
        ({"x": {Colour.RED: 1, "red": 2}}, "$.x", "twice"),
        ({"when": [dt.datetime(2026, 1, 1)]}, "$.when[0]", "no time zone"),  # noqa: DTZ001
        ({"thing": Thing()}, "$.thing", "Thing is not a type JSON can hold"),
        ({"thing": Thing}, "$.thing", "builtins.type"),
        ({"thing": print}, "$.thing", "builtin_function_or_method"),
        ({"thing": 1j}, "$.thing", "complex"),
        ({"things": {Thing()}}, "$.things[0]", "Thing"),
        ({"order": Order(KNOWN, Decimal(1), [Point(1, math.nan)])}, "$.order.lines[0][1]", "JSON number"),  # type: ignore[arg-type]
        ({"shape": Shape(math.nan)}, "$.shape.sideLength", "JSON number"),  # type: ignore[arg-type]
        ({"n": 10**5000}, "$.n", "too long"),
        ({"n": Count(-(10**5000))}, "$.n", "too long"),
        (itself(), "$[1][1][1][1][1][1][1][1]", "contains itself"),
        (circle(), "$.next.next.next.next.next.next.next.next", "contains itself"),
        (nested(MAX_DEPTH + 2), "$[0][0][0][0][0][0][0][0]", f"more than {MAX_DEPTH} levels"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_path(value: object, path: str, why: str) -> None:
    with pytest.raises(NotSerializable) as refusal:
        encode(value)

    assert refusal.value.path == path
    assert path in str(refusal.value)
    assert why in str(refusal.value)


def test_the_deepest_value_allowed_goes_through_the_database(fairchild: Fairchild) -> None:
    value = nested(MAX_DEPTH - 1)

    assert stored(fairchild, value) == value


def test_the_size_limit_counts_bytes_of_json() -> None:
    assert encode("ü" * 49, limit=100).json == ('"' + "ü" * 49 + '"').encode()

    with pytest.raises(PayloadTooLarge, match=r"102 bytes as JSON; the limit is 100.*max_payload_bytes") as refusal:
        encode("ü" * 50, limit=100)
    assert refusal.value.path == "$"


def test_a_client_with_a_larger_limit_takes_larger_arguments(fairchild_db: str, fairchild: Fairchild) -> None:
    large = "x" * 1024 * 1024
    with pytest.raises(PayloadTooLarge, match="Nothing was stored"):
        fairchild.enqueue("keeps.anything", {"value": large})
    assert len(fairchild.jobs()) == 0

    other = Fairchild(fairchild_db, max_payload_bytes=2 * 1024 * 1024)
    try:
        assert stored(other, large) == large
    finally:
        other.disconnect()


@pytest.mark.parametrize(
    "value",
    [
        {"__future__": str(KNOWN)},
        [{"__future__": str(KNOWN)}, {"__fairchild__": {"future": str(KNOWN)}}],
        {"$ref": str(KNOWN)},
        [["value"], str(KNOWN)],
        str(KNOWN),
        KNOWN,
    ],
)
def test_data_that_looks_like_a_reference_is_data(fairchild: Fairchild, value: Any) -> None:
    job = fairchild.enqueue("keeps.anything", {"value": value})

    assert job.deps == []
    assert job.state == "available"
    assert encode({"value": value}).refs == []
    assert stored(fairchild, value) == (str(value) if value is KNOWN else value)


def test_futures_are_taken_out_and_their_places_kept() -> None:
    first, second = Future(uuid.uuid4(), "t"), Future(uuid.uuid4(), "t")

    encoded = encode({"a": first, "deep": [1, (second, {"k": first})], "o": Pair(1, second)})

    assert encoded == Encoded(
        b'{"a":null,"deep":[1,[null,{"k":null}]],"o":[1,null]}',
        [
            Ref(("a",), first.job_id),
            Ref(("deep", 1, 0), second.job_id),
            Ref(("deep", 1, 1, "k"), first.job_id),
            Ref(("o", 1), second.job_id),
        ],
    )


def test_a_set_of_futures_has_the_same_order_everywhere() -> None:
    futures = [Future(uuid.UUID(int=n), "t") for n in (3, 1, 2)]

    assert [ref[1].int for ref in encode(set(futures)).refs] == [1, 2, 3]


def test_a_value_is_put_where_its_path_leads() -> None:
    target = {"a": [1, {"b": None}]}

    assert place(target, ["a", 1, "b"], "new") == {"a": [1, {"b": "new"}]}
    assert place(target, [], "whole") == "whole"


@pytest.mark.parametrize(
    ("path", "text"),
    [((), "$"), (("a", 3, "b"), "$.a[3].b"), (("with blank", 0), "$['with blank'][0]"), (("0",), "$['0']")],
)
def test_a_path_reads_like_python(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text


class Hostile:
    """Its text and its truth raise, as those of some libraries' objects do."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


@pytest.mark.parametrize("make", [Hostile, lambda: [Hostile()]])
def test_an_object_that_cannot_even_be_shown_is_refused_like_any_other(make: Callable[[], object]) -> None:
    with pytest.raises(NotSerializable, match="Hostile"):
        encode(make())
