"""``@task``: what it goes on, what it takes, and what a direct call does."""

from __future__ import annotations

import asyncio
import inspect
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from fairchild import CurrentJob, Job, Record, Registry, Task, UnknownTask, current_job, get_task, task
from fairchild import get_task_schemas as all_schemas
from fairchild.context import entered, is_inside_task
from fairchild.errors import DuplicateTask, FutureUsedAsValue, InvalidArguments, NotConnected, UsageError
from fairchild.job import JobState
from fairchild.rules.retry import Backoff
from fairchild.tasks import TaskDecorator


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def make(registry: Registry) -> TaskDecorator:
    """``@task`` of a registry of the test's own."""
    return TaskDecorator(registry)


@task
def bare(a: int, b: int = 2) -> int:
    """Adds.

    And says so.
    """
    return a + b


@task(queue="mail", max_attempts=7, priority=1, tags=["email", "urgent"], name="mail.send", aliases=["old.send"])
def with_options(to: str) -> Record[str]:
    return Record(to)


@task()
def with_brackets() -> None: ...


# What the decorator keeps


def test_a_bare_task_is_named_by_module_and_function_and_keeps_its_face() -> None:
    assert isinstance(bare, Task)
    assert bare.name == f"{__name__}.bare"
    assert bare.__name__ == "bare"
    assert bare.__doc__ is not None
    assert bare.__doc__.startswith("Adds.")
    assert bare.__wrapped__ is bare.fn
    assert list(inspect.signature(bare).parameters) == ["a", "b"]
    assert repr(bare) == f"<task {__name__}.bare>"


def test_defaults_are_those_of_the_contract() -> None:
    settings = with_brackets.settings

    assert (settings.queue, settings.max_attempts, settings.priority, settings.tags) == ("default", 3, 5, ())
    assert (settings.timeout, settings.expires, settings.tenant, settings.record) == (None, None, "", True)
    assert (settings.retry_on, settings.discard_on, settings.on_child_failure) == ((Exception,), (), "fail")
    assert settings.backoff == Backoff.exponential()


def test_a_task_is_found_by_name_and_by_alias() -> None:
    assert get_task("mail.send") is with_options
    assert get_task("old.send") is with_options
    assert get_task(bare.name) is bare


def test_an_unknown_name_is_a_value_error_with_near_names() -> None:
    with pytest.raises(UnknownTask, match=r"did you mean .*mail\.send"):
        get_task("mail.sent")
    with pytest.raises(ValueError, match="Import the module that defines it"):
        get_task("§§§")


def test_options_are_checked_when_the_task_is_made(make: TaskDecorator) -> None:
    made = make(
        queue="q", timeout=timedelta(minutes=1), expires=5, retry_on=[ValueError, KeyError], discard_on=OSError,
        backoff=[1, 2], tenant=lambda x: f"t{x}", record=False, on_child_failure="ignore", name="checked",
    )(lambda x: x)  # fmt: skip

    assert (made.settings.timeout, made.settings.expires) == (60.0, 5.0)
    assert (made.settings.retry_on, made.settings.discard_on) == ((ValueError, KeyError), (OSError,))
    assert made.settings.backoff == (1.0, 2.0)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("queue", "", "must not be empty"),
        ("queue", 5, "must be text"),
        ("queue", "q" * 256, "255 characters"),
        ("queue", "a\nb", "control characters"),
        ("name", "a\x00b", "control characters"),
        ("name", "", "must not be empty"),
        ("aliases", "old", "list of names"),
        ("aliases", [""], "must not be empty"),
        ("max_attempts", 0, "at least 1"),
        ("max_attempts", True, "at least 1"),
        ("max_attempts", 2.0, "at least 1"),
        ("priority", 10, "from 0"),
        ("priority", -1, "from 0"),
        ("priority", "1", "from 0"),
        ("tags", "email", "list of texts"),
        ("tags", [5], "must be text"),
        ("timeout", 0, "positive"),
        ("timeout", -1, "positive"),
        ("timeout", float("nan"), "positive"),
        ("timeout", "5", "positive"),
        ("expires", timedelta(0), "positive"),
        ("backoff", "sometimes", "choose one of"),
        ("retry_on", ValueError(), "exception classes"),
        ("retry_on", (ValueError, "KeyError"), "exception classes"),
        ("discard_on", int, "exception classes"),
        ("on_child_failure", "retry", '"fail" or "ignore"'),
        ("tenant", 5, "must be text"),
        ("proirity", 1, "no option 'proirity'; it takes .*priority"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_written(
    make: TaskDecorator, option: str, value: Any, complaint: str
) -> None:
    with pytest.raises((UsageError, ValueError), match=complaint):
        make(**{option: value})(lambda: None)


def test_a_name_given_without_its_keyword_is_explained(make: TaskDecorator) -> None:
    with pytest.raises(UsageError, match=r'@task\(name="mail.send"\)'):
        make("mail.send")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


# Names that come twice


def test_another_function_under_a_name_is_refused(make: TaskDecorator, registry: Registry) -> None:
    def one() -> None: ...
    def other() -> None: ...

    first = make(name="same")(one)
    with pytest.raises(DuplicateTask, match="'same' belongs to .*one and cannot also mean .*other"):
        make(name="same")(other)
    with pytest.raises(DuplicateTask):
        make(name="third", aliases=["same"])(other)

    assert registry.names() == ["same"]
    assert registry.get_task("same") is first


def test_a_module_that_is_loaded_again_replaces_its_tasks(make: TaskDecorator, registry: Registry) -> None:
    def load(aliases: list[str]) -> Any:
        def job() -> None: ...

        return make(aliases=aliases)(job)

    old, new = load(["gone", "kept"]), load(["kept"])

    assert registry.get_task(old.name) is new
    assert registry.get_task("kept") is new
    assert "gone" not in registry
    assert len(registry) == 1


def test_a_registry_takes_plain_functions(registry: Registry) -> None:
    added = registry.add(json.dumps, "dumps", queue="io")

    assert registry.get_task("dumps") is added
    assert added({"a": 1}) == '{"a": 1}'
    assert [each.name for each in registry.tasks()] == ["dumps"]
    with pytest.raises(UnknownTask):
        get_task("dumps")


# What cannot be a task


def test_generators_are_refused(make: TaskDecorator) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for fn in (numbers, later):
        with pytest.raises(UsageError, match="a task returns one value"):
            make(fn)


def test_a_method_is_refused_and_a_static_one_is_a_task(make: TaskDecorator) -> None:
    with pytest.raises(UsageError, match=r"method .*Shop\.sell.*@staticmethod above @task"):

        class Shop:
            @make
            def sell(self, item: str) -> str:
                return item

    with pytest.raises(UsageError, match="on classmethod.*under @staticmethod"):

        class Other:
            @make
            @classmethod
            def sell(cls, item: str) -> str:
                return item

    class Good:
        @staticmethod
        @make
        def sell(item: str) -> str:
            return item

    assert Good.sell("bread") == "bread"
    assert Good().sell("bread") == "bread"


def test_classes_tasks_and_values_are_refused(make: TaskDecorator) -> None:
    things: list[Any] = [Job, bare, 5]
    for thing in things:
        with pytest.raises(UsageError, match="@task goes on a function, not on"):
            make(thing)


# Direct calls


def test_a_direct_call_runs_the_function_and_unwraps_its_record() -> None:
    assert bare(1) == 3
    assert bare(1, b=5) == 6
    assert with_options("you@example.org") == "you@example.org"  # type: ignore[comparison-overlap,unused-ignore]


def test_a_direct_call_is_an_ordinary_call_with_its_ordinary_errors() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        bare()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="can only concatenate"):
        bare("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_direct_call_ignores_options_of_enqueuing(make: TaskDecorator) -> None:
    @make
    def job(_private: int = 0) -> int:
        return _private

    assert job.options(priority=1)() == 0
    assert job(_private=4) == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t(5),
        lambda t: t(x=5),
        lambda t: t(CurrentJob(id=uuid.uuid4(), task="mine", state=JobState.RUNNING, attempt=1), 5),
        lambda t: t(job=CurrentJob(id=uuid.uuid4(), task="mine", state=JobState.RUNNING, attempt=1), x=5),
    ],
)
def test_a_direct_call_gives_a_job_to_who_wants_one(make: TaskDecorator, call: Any) -> None:
    def takes_job(job: CurrentJob, x: int) -> tuple[int, int, str]:
        return x, job.attempt, job.task

    x, attempt, name = call(make(name="mine")(takes_job))

    assert (x, attempt, name) == (5, 1, "mine")


def test_nested_direct_calls_run_here_too(make: TaskDecorator) -> None:
    inner = make(lambda x: x + 1)

    def outer(x: int) -> int:
        assert not is_inside_task()
        result: int = inner(x) * 10
        return result

    assert make(outer)(1) == 20


def test_there_is_no_current_job_outside_of_one() -> None:
    with pytest.raises(UsageError, match="does not run inside a task"):
        current_job()


setting: ContextVar[str] = ContextVar("setting", default="unset")


@task
async def asynchronous(x: int) -> Record[tuple[int, str]]:
    await asyncio.sleep(0)
    return Record((x, setting.get()))


def test_an_async_task_is_called_like_any_other() -> None:
    assert asynchronous(3) == (3, "unset")


def test_an_async_task_can_be_called_inside_a_running_loop_with_its_context() -> None:
    async def main() -> Any:
        setting.set("mine")
        return asynchronous(3)

    assert asyncio.run(main()) == (3, "mine")


def test_the_error_of_an_async_task_comes_out_where_it_was_called(make: TaskDecorator) -> None:
    @make
    async def broken() -> None:
        raise LookupError("inside")

    async def main() -> None:
        broken()

    with pytest.raises(LookupError, match="inside"):
        broken()
    with pytest.raises(LookupError, match="inside"):
        asyncio.run(main())


# Inside a job


def test_a_call_inside_a_job_is_a_child_and_a_future() -> None:
    parent = CurrentJob(id=uuid.uuid4(), task="parent", state=JobState.RUNNING)
    with entered(parent):
        first = bare(1)
        second = bare.options(priority=0, queue="fast")(first)  # type: ignore[arg-type,unused-ignore]
        with pytest.raises(FutureUsedAsValue):
            _ = first + 1
        with pytest.raises(InvalidArguments, match="missing a required argument"):
            bare()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
        with pytest.raises(InvalidArguments, match="does not fit int"):
            bare("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidArguments, match=r"use \.enqueue\(\) for a connection"):
            bare(1, _connection=object())  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    children = parent.close()
    assert [child.id for child in children] == [first.job_id, second.job_id]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    assert (children[1].priority, children[1].queue) == (0, "fast")
    assert children[1].upstreams() == [children[0].id]


def test_a_job_cannot_be_handed_to_its_own_child() -> None:
    parent = CurrentJob(id=uuid.uuid4(), task="parent", state=JobState.RUNNING)
    with entered(parent), pytest.raises(UsageError, match="would wait for itself"):
        bare(parent)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# The catalogue


def test_the_catalogue_describes_every_task_in_json(registry: Registry) -> None:
    def report(job: CurrentJob, day: str, copies: int = 1, hook: Any = print) -> None:
        """Prints it."""

    registry.add(report, "report", queue="r", priority=2, max_attempts=4, tags=["a"])

    assert registry.get_task_schemas() == [
        {
            "name": "report",
            "aliases": [],
            "queue": "r",
            "priority": 2,
            "max_attempts": 4,
            "tags": ["a"],
            "timeout": None,
            "expires": None,
            "on_child_failure": "fail",
            "redact": [],
            "params": [
                {"name": "day", "type": "str", "required": True, "schema": {"type": "string"}},
                {"name": "copies", "type": "int", "required": False, "default": 1, "schema": {"type": "integer"}},
                {"name": "hook", "type": "Any", "required": False, "default": "<built-in function print>"},
            ],
            "docstring": "Prints it.",
        }
    ]
    assert {"mail.send", bare.name} <= {entry["name"] for entry in all_schemas()}
    json.dumps(all_schemas())


# Without a client


def test_without_a_client_enqueuing_names_the_variable_to_set() -> None:
    for enqueue in (
        lambda: bare.enqueue(1),
        lambda: bare.enqueue_in(1, minutes=1),
        lambda: bare.enqueue_many([{"a": 1}]),
        lambda: bare.options(priority=1).enqueue(1),
    ):
        with pytest.raises(NotConnected, match=r"Fairchild\(url\)\.connect\(\).*FAIRCHILD_DATABASE_URL"):
            enqueue()
