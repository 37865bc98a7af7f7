from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from fairchild.rules.fingerprint import fingerprint, without_details


def raised(call: Callable[..., Any], *args: Any) -> BaseException:
    try:
        call(*args)
    except BaseException as error:  # noqa: BLE001 - that is what is wanted
        return error
    raise AssertionError("it raised nothing")


def loaded(text: str, file: str, name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(textwrap.dedent(text), file, "exec"), scope)
    return scope


PAY = "def pay(n):\n    raise ValueError(n)\ndef charge(n):\n    return pay(n)\n"


def test_a_fingerprint_is_the_same_whatever_line_message_and_folder() -> None:
    here = loaded(PAY, "/srv/one/shop.py", "shop")
    there = loaded("\n\n# moved\n" + PAY, "/srv/two/shop.py", "shop")
    prints = {fingerprint(raised(s["charge"], n), "t") for s in (here, there) for n in (1, 2)}
    assert len(prints) == 1
    (found,) = prints
    assert len(found) == 12
    assert int(found, 16) >= 0


def test_task_type_and_function_each_make_another() -> None:
    shop = loaded(
        PAY + "def other(n):\n    raise ValueError(n)\ndef kind(n):\n    raise KeyError(n)", "/srv/shop.py", "shop"
    )
    errors = [raised(shop[name], 1) for name in ("pay", "other")]
    prints = [fingerprint(each, task) for each in errors for task in ("a", "b")]
    prints.append(fingerprint(raised(shop["kind"], 1), "a"))
    prints.append(fingerprint(errors[0], "a", placed=False))
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    "file",
    ["/env/lib/python3.12/site-packages/a/b.py", r"C:\env\Lib\site-packages\a\b.py", "<frozen a>", json.__file__],
)
def test_frames_of_libraries_do_not_count(file: str) -> None:
    library = loaded("def one(n):\n    raise ValueError(n)\ndef two(n):\n    return one(n)", file, "lib")
    shop = loaded("def pay(call):\n    call(1)", "/srv/shop.py", "shop")
    first, second = (raised(shop["pay"], library[name]) for name in ("one", "two"))
    assert fingerprint(first, "t") == fingerprint(second, "t")
    assert fingerprint(first, "t") != fingerprint(first, "t", placed=False)


def test_a_task_of_an_installed_package_has_that_package_for_its_project() -> None:
    app = loaded(PAY + "def other(n):\n    raise ValueError(n)", "/env/site-packages/app/tasks.py", "app.tasks")
    first, second = (raised(app[name], 1) for name in ("pay", "other"))
    assert fingerprint(first, "t") == fingerprint(second, "t")
    assert fingerprint(first, "t", "app.main") != fingerprint(second, "t", "app.main")


def test_an_exception_that_was_never_raised_and_odd_names_have_one() -> None:
    assert fingerprint(ValueError(), "t") == fingerprint(ValueError(), "t", placed=False)
    assert len(fingerprint(ValueError(), "t\ud800")) == 12
    nameless = loaded("__name__ = 7\ndef f():\n    raise ValueError", "/srv/x.py", "x")
    assert len(fingerprint(raised(nameless["f"]), "t", "x")) == 12


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no route to host", "no route to host"),
        ("user 17 of 1,204.5 in 10:32", "user … of … in …"),
        ("user17 has 0x7f3a and can't", "user… has … and can't"),
        ('no file \'a b.txt\' in "c\\"d" or `e`', "no file … in … or …"),
        ("can't and won't", "can't and won't"),
        ("job 0190aa00-1111-7222-8333-444455556666 is deadbeef01", "job … is …"),
        ("a decade of cafebabes", "a decade of cafebabes"),
        ("x" * 400, "x" * 300),
        ("it's 'open", "it's 'open"),
    ],
)
def test_what_varies_in_a_message_is_left_out(message: str, said: str) -> None:
    assert without_details(message) == said
