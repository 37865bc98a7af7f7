"""Arguments: bound and checked at the caller, in their annotated types at the worker."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild import CurrentJob, Job
from fairchild.codec import decode, encode
from fairchild.errors import InvalidArguments
from fairchild.job import JobState
from fairchild.signature import Signature

if TYPE_CHECKING:
    from nowhere_at_all import Absent  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.timezone.utc)
ID = uuid.UUID("00000000-0000-7000-8000-000000000001")


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function gives when its arguments have been stored and fetched."""
    signature = Signature(fn, "t")
    stored = decode(encode(signature.bind(args, kwargs)).json)
    signature.check(stored, set())
    positional, keywords = signature.call_arguments(stored, JOB)
    return fn(*positional, **keywords)


JOB = CurrentJob(id=ID, task="t", state=JobState.RUNNING)


def everything(a: Any, /, b: Any, c: Any = 3, *rest: Any, d: Any, e: Any = 5, **more: Any) -> Any:
    return a, b, c, rest, d, e, more


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ((1, 2), {"d": 4}, (1, 2, 3, (), 4, 5, {})),
        ((1,), {"b": 2, "d": 4, "x": 9}, (1, 2, 3, (), 4, 5, {"x": 9})),
        ((1, 2, 0, 7, 8), {"d": 4, "e": None}, (1, 2, 0, (7, 8), 4, None, {})),
        ((1, 2, 0, [7], (8,)), {"d": 4, "y": {}}, (1, 2, 0, ([7], [8]), 4, 5, {"y": {}})),
    ],
)
def test_any_way_of_passing_arguments_arrives_as_it_would_in_a_plain_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    assert call(everything, *args, **kwargs) == result


@given(st.lists(st.integers(), max_size=6), st.dictionaries(st.sampled_from("bcdexyz"), st.integers()))
def test_what_python_would_refuse_is_refused_and_the_rest_is_the_same(args: list[int], kwargs: dict[str, int]) -> None:
    try:
        expected = everything(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidArguments):
            call(everything, *args, **kwargs)
    else:
        assert call(everything, *args, **kwargs) == expected


def test_stored_arguments_have_readable_names() -> None:
    signature = Signature(everything, "t")

    assert signature.bind((1, 2, 3, 4), {"d": 5, "x": 6}) == {"a": 1, "b": 2, "c": 3, "*rest": (4,), "d": 5, "x": 6}


def test_stored_names_can_be_given_instead_of_positions() -> None:
    signature = Signature(everything, "t")

    assert signature.by_position({"a": 1, "b": 2, "c": 3, "*rest": [4], "d": 5}) == ([1, 2, 3, 4], {"d": 5})
    assert signature.by_position({"a": 1, "b": 2, "d": 5}) == ([1], {"b": 2, "d": 5})
    with pytest.raises(InvalidArguments, match="'c' is missing"):
        signature.by_position({"a": 1, "b": 2, "*rest": [4], "d": 5})
    with pytest.raises(InvalidArguments, match="must be a list"):
        signature.by_position({"a": 1, "b": 2, "*rest": 4, "d": 5})


def test_a_further_keyword_may_not_take_the_place_of_a_stored_name() -> None:
    def receiver(a: int, /, *rest: int, job: Any, **more: int) -> None: ...

    signature = Signature(receiver, "t")
    for name in ("a", "*rest", "job"):
        with pytest.raises(InvalidArguments, match="use that name already"):
            signature.bind((1,), {name: 2})


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 2}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
    ],
)
def test_a_wrong_call_is_a_type_error_that_shows_the_signature(
    args: tuple[Any, ...], kwargs: dict[str, Any], complaint: str
) -> None:
    def send(a: int, b: int = 0) -> None: ...

    with pytest.raises(TypeError) as refusal:
        Signature(send, "mail.send").bind(args, kwargs)

    assert complaint in str(refusal.value)
    assert "mail.send(a: 'int', b: 'int' = 0)" in str(refusal.value)
    assert "nothing was enqueued" in str(refusal.value)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass(frozen=True)
class Order:
    id: uuid.UUID
    total: Decimal
    lines: tuple[int, ...] = ()
    colour: Optional[Colour] = None  # noqa: UP045


class Point(NamedTuple):
    x: int
    y: float


class Person(TypedDict):
    name: str
    born: dt.date


class Circle(msgspec.Struct, tag=True, frozen=True):
    radius: float


class Square(msgspec.Struct, tag=True, frozen=True):
    side: float


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 2**70),
        (float, 1.5),
        (str, "text"),
        (bool, True),
        (bytes, b"\x00\xff"),
        (dt.datetime, NOON),
        (dt.date, NOON.date()),
        (dt.time, dt.time(1, 2, 3)),
        (dt.timedelta, dt.timedelta(days=-1, microseconds=5)),
        (uuid.UUID, ID),
        (Decimal, Decimal("1.10")),
        (Colour, Colour.RED),
        (Level, Level.HIGH),
        (Literal["a", "b"], "b"),
        (Optional[uuid.UUID], None),  # noqa: UP045
        (uuid.UUID | None, ID),
        (tuple, (1, "a")),
        (tuple[int, ...], (1, 2)),
        (tuple[int, dt.date], (1, NOON.date())),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (list[Decimal], [Decimal(1)]),
        (dict[str, dt.datetime], {"a": NOON}),
        (Mapping[str, uuid.UUID], {"a": ID}),
        (Order, Order(ID, Decimal("9.99"), (1, 2), Colour.RED)),
        (list[Order], [Order(ID, Decimal(1))]),
        (Point, Point(1, 2.5)),
        (Person, {"name": "Ada", "born": dt.date(1815, 12, 10)}),
        (Circle | Square, Square(2.0)),
        (Annotated[int, msgspec.Meta(gt=0)], 5),
        (Any, {"a": [1]}),
    ],
)
def test_a_value_arrives_in_the_annotated_type(kind: Any, value: Any) -> None:
    def receive(value: Any) -> Any:
        return value

    receive.__annotations__["value"] = kind
    arrived = call(receive, value)

    assert arrived == value
    assert type(arrived) is type(value)


def test_further_arguments_are_converted_too() -> None:
    def receive(*days: dt.date, **ids: uuid.UUID) -> Any:
        return days, ids

    assert call(receive, NOON.date(), a=ID) == ((NOON.date(),), {"a": ID})
    with pytest.raises(InvalidArguments, match=r"'\*days' does not fit list\[datetime.date\]"):
        call(receive, "not a day")
    with pytest.raises(InvalidArguments, match="'b' does not fit UUID"):
        call(receive, b=5)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "12"),
        (int, 1.5),
        (int, True),
        (str, 5),
        (bool, 1),
        (float, "1.5"),
        (uuid.UUID, "not an id"),
        (dt.datetime, "yesterday"),
        (dt.datetime, "2026-01-01T00:00:00"),
        (Colour, "blue"),
        (Literal["a"], "b"),
        (list[int], [1, "2"]),
        (list[int], {"a": 1}),
        (Order, {"id": str(ID)}),
        (Person, {"name": "Ada"}),
        (Annotated[int, msgspec.Meta(gt=0)], 0),
        (int, None),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(kind: Any, value: Any) -> None:
    def receive(value: Any) -> Any:
        return value

    receive.__annotations__["value"] = kind
    with pytest.raises(InvalidArguments, match="the argument 'value' .*nothing was enqueued"):
        call(receive, value)


def test_a_default_of_none_lets_none_in() -> None:
    def receive(when: dt.datetime = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return when

    assert call(receive, None) is None
    assert call(receive, NOON) == NOON
    assert call(receive) is None


class Handmade:
    """A type that nothing is known about."""


def test_a_type_that_is_not_known_takes_plain_json() -> None:
    def receive(thing: Handmade, things: list[Handmade]) -> Any:
        return thing, things

    assert call(receive, {"a": 1}, [2]) == ({"a": 1}, [2])


def test_an_annotation_that_cannot_be_evaluated_does_not_spoil_the_others() -> None:
    def receive(when: dt.datetime, thing: Absent = None) -> Absent:
        return when, thing

    assert call(receive, NOON, "x") == (NOON, "x")


def test_what_holds_a_future_is_checked_later() -> None:
    def receive(numbers: list[int]) -> Any: ...

    signature = Signature(receive, "t")
    signature.check({"numbers": [None]}, {"numbers"})
    with pytest.raises(InvalidArguments, match="the task was not called"):
        signature.call_arguments({"numbers": ["late"]}, None)


@pytest.mark.parametrize("stored", [[1], "text", None])
def test_stored_arguments_that_are_no_object_are_refused(stored: Any) -> None:
    with pytest.raises(InvalidArguments, match="not an object"):
        Signature(everything, "t").call_arguments(stored, None)


def first(job: Any, x: int) -> Any:
    return job, x


def last(x: int, job: Any = None) -> Any:
    return job, x


def by_keyword(x: int, *, job: Any) -> Any:
    return job, x


def by_position(job: Any, x: int, /) -> Any:
    return job, x


def before_the_rest(job: Any, *x: int) -> Any:
    return job, x[0]


def in_the_middle(x: int, job: Any, *rest: int) -> Any:
    return job, x


def annotated(me: CurrentJob, x: int) -> Any:
    return me, x


def annotated_with_the_base(x: int, me: Job) -> Any:
    return me, x


def perhaps(x: int, me: CurrentJob | None = None) -> Any:
    return me, x


@pytest.mark.parametrize(
    "fn",
    [
        first, last, by_keyword, by_position, before_the_rest, in_the_middle, annotated, annotated_with_the_base,
        perhaps,
    ],
)  # fmt: skip
def test_the_current_job_is_given_wherever_the_function_wants_it(fn: Callable[..., Any]) -> None:
    signature = Signature(fn, "t")

    assert call(fn, 5) == (JOB, 5)
    assert signature.job_parameter not in {entry["name"] for entry in signature.parameters()}


def test_a_parameter_that_only_sounds_like_a_job_is_an_argument() -> None:
    def receive(jobs: int, *job: int) -> Any:
        return jobs, job

    assert call(receive, 1, 2) == (1, (2,))


def test_parameters_are_described_for_people_and_forms() -> None:
    def report(
        day: dt.date, /, kind: Literal["a"], *more: int, colour: Colour = Colour.RED, hook: Any = print
    ) -> None: ...

    assert Signature(report, "t").parameters() == [
        {"name": "day", "type": "date", "required": True, "schema": {"type": "string", "format": "date"}},
        {"name": "kind", "type": "Literal['a']", "required": True, "schema": {"enum": ["a"]}},
        {"name": "more", "type": "int", "required": False, "variadic": True},
        {
            "name": "colour",
            "type": "Colour",
            "required": False,
            "default": "red",
            "schema": {"$ref": "#/$defs/Colour", "$defs": {"Colour": {"title": "Colour", "enum": ["red"]}}},
        },
        {"name": "hook", "type": "Any", "required": False, "default": "<built-in function print>"},
    ]
