"""A Future can be handed on, and for nothing else."""

from __future__ import annotations

import asyncio
import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from fairchild import Future
from fairchild.errors import FutureUsedAsValue, UsageError
from fairchild.future import extract_futures, is_future

MISUSES: dict[str, Callable[[Any], object]] = {
    "index": lambda f: f[0],
    "key": lambda f: f["price"],
    "slice": lambda f: f[1:2],
    "set item": lambda f: operator.setitem(f, "a", 1),
    "delete item": lambda f: operator.delitem(f, "a"),
    "attribute": lambda f: f.price,
    "method": lambda f: f.upper(),
    "call": lambda f: f(1, a=2),
    "truth": lambda f: 1 if f else 2,
    "not": lambda f: not f,
    "iteration": lambda f: [each for each in f],  # noqa: C416
    "list": list,
    "dict": dict,
    "unpacking": lambda f: print(*f),
    "keyword unpacking": lambda f: dict(**f),
    "next": next,
    "reversed": reversed,
    "len": len,
    "in": lambda f: 1 in f,
    "in a list": lambda f: 1 in [2, f],
    "sum": lambda f: sum([f, 1]),
    "sorted": lambda f: sorted([1, f]),
    "max": lambda f: max(f, 2),
    "add": lambda f: f + 1,
    "add on the right": lambda f: 1 + f,
    "add in place": lambda f: add_one(f),
    "append to text": lambda f: "a" + f,
    "subtract": lambda f: f - 1,
    "multiply": lambda f: f * 2,
    "matrix": lambda f: f @ 2,
    "divide": lambda f: 1 / f,
    "floor divide": lambda f: f // 2,
    "remainder": lambda f: f % 2,
    "divmod": lambda f: divmod(f, 2),
    "divmod on the right": lambda f: divmod(2, f),
    "power": lambda f: f**2,
    "power on the right": lambda f: 2**f,
    "shift": lambda f: f << 1,
    "shift on the right": lambda f: 1 >> f,
    "and": lambda f: f & 1,
    "or": lambda f: f | {},
    "xor": lambda f: 1 ^ f,
    "negate": lambda f: -f,
    "plus": lambda f: +f,
    "invert": lambda f: ~f,
    "abs": abs,
    "round": round,
    "round to digits": lambda f: round(f, 2),
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "int": int,
    "float": float,
    "complex": complex,
    "range": range,
    "list index": lambda f: [1, 2][f],
    "hex": hex,
    "equal": lambda f: f == 1,
    "equal on the right": lambda f: f == 1,
    "not equal": lambda f: f != "text",
    "equal to None": lambda f: f == None,  # noqa: E711
    "equal to a list": lambda f: f == [],
    "less": lambda f: f < 1,
    "greater on the right": lambda f: 1 > f,  # noqa: SIM300
    "compare futures": lambda f: f <= a_future(),
    "format": lambda f: f"{f:.2f}",
    "with": lambda f: f.__enter__(),
    "await": lambda f: asyncio.run(wait_for(f)),
    "async for": lambda f: asyncio.run(walk(f)),
    "pickle": pickle.dumps,
    "result": lambda f: f.result(),
    "result with a timeout": lambda f: f.result(timeout=5),
}


def add_one(value: Any) -> object:
    value += 1
    return value


async def wait_for(future: Any) -> object:
    return await future


async def walk(future: Any) -> object:
    return [each async for each in future]


def a_future() -> Future:
    return Future(uuid4(), "shop.price")


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES.keys())
def test_using_it_as_the_value_says_which_job_and_what_to_do(misuse: Callable[[Any], object]) -> None:
    future = a_future()

    with pytest.raises(
        FutureUsedAsValue, match="Pass the Future to another task as an argument, or return it"
    ) as raised:
        misuse(future)

    assert str(future.job_id) in str(raised.value)
    assert "shop.price" in str(raised.value)


def test_the_error_is_a_wrong_use_and_a_type_error() -> None:
    with pytest.raises(TypeError):
        a_future() + 1  # type: ignore[operator]
    with pytest.raises(UsageError):
        a_future() + 1  # type: ignore[operator]


def test_it_can_be_shown_named_and_compared_with_its_like() -> None:
    future = a_future()

    assert repr(future) == str(future) == f"{future}" == f"<Future of shop.price {future.job_id}>"
    assert future.job_key == str(future.job_id)
    assert future == Future(future.job_id, "shop.price")
    assert future != a_future()
    assert future != object()
    assert {future: "a"}[Future(future.job_id, "shop.price")] == "a"
    assert future in [a_future(), future]


def test_a_copy_is_the_same_future_also_inside_of_others() -> None:
    future = a_future()

    assert copy.copy(future) is future
    assert copy.deepcopy({"deep": [future]})["deep"][0] is future


def test_a_reader_may_ask_whether_something_is_a_future() -> None:
    future = a_future()

    assert is_future(future)
    assert not is_future(future.job_id)
    assert not hasattr(future, "__array__")


def test_all_futures_are_found_in_order_each_once() -> None:
    first, second, third, fourth = (a_future() for _ in range(4))

    found = extract_futures({"a": [first, (second, {"b": first})], "c": {third}, "d": "text", "e": [[fourth]]})

    assert found == [first, second, third, fourth]
    assert extract_futures(first) == [first]
    assert extract_futures({first: "a key is no value"}) == []
    assert extract_futures(None) == []


def test_a_deep_structure_needs_no_deep_stack() -> None:
    future = a_future()
    deep: Any = future
    for _ in range(50_000):
        deep = [deep]

    assert extract_futures(deep) == [future]
