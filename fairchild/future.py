"""A Future: the value of a job that has not run yet.

It is a handle, not the value. Pass it to a task, alone or inside lists, tuples and dicts at any depth, and the
receiver gets the value itself once it is there. Whatever would need the value here and now raises
``FutureUsedAsValue`` and says what to do instead.

If its job fails or is cancelled, the receiver is cancelled too, unless it was passed as ``f.or_else(default)`` or as
``f.outcome()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn
from uuid import UUID

from fairchild.errors import FutureUsedAsValue

_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset)


Path = tuple[str | int, ...]
Way = tuple[str, Any]
"""What arrives in place of a value that may be missing: ``("default", value)`` or ``("outcome", None)``."""


class Ref(NamedTuple):
    """A place in a JSON document that the value of another job will take. Plain pairs of path and id mean the same."""

    path: Path
    job_id: UUID
    way: Way | None = None
    """None: the value itself is needed."""


@dataclass(frozen=True)
class Outcome:
    """What a job came to. ``ok``: it completed and kept ``value``.

    Else ``error`` tells why not: ``{state, reason, type, message, ...}``, its last error and the state it ended in.
    """

    ok: bool
    value: Any = None
    error: dict[str, Any] | None = None


def _no_job(future: Future, timeout: float | None) -> NoReturn:  # noqa: ARG001 - as wait_in_task is called
    raise FutureUsedAsValue(
        f"cannot wait for {future!r} here: no job runs. Pass the Future to another task as an argument, or return it"
    )


class Future:
    """Stands for the result of job ``job_id``, a call of task ``task``."""

    __slots__ = ("job_id", "task", "way")

    wait_in_task: ClassVar[Callable[[Future, float | None], Any]] = staticmethod(_no_job)
    """How ``result`` gets at the running job; ``fairchild.context`` knows."""

    def __init__(self, job_id: UUID, task: str, way: Way | None = None) -> None:
        self.job_id = job_id
        self.task = task
        self.way = way

    def or_else(self, default: Any) -> Future:
        """The same value, or ``default`` if there is none: the job failed, was cancelled or kept no result.

        None is a value. ``default`` is plain data, without Futures. Whoever takes a value so has dealt with the
        failure: it does not fail the parent of the job.
        """
        return Future(self.job_id, self.task, ("default", default))

    def outcome(self) -> Future:
        """An ``Outcome`` in place of the value, whatever the job comes to; as in ``or_else``, that deals with it."""
        return Future(self.job_id, self.task, ("outcome", None))

    @property
    def job_key(self) -> str:
        """The job's id as text."""
        return str(self.job_id)

    def __repr__(self) -> str:
        return f"<Future of {self.task} {self.job_id}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Future):
            return self.job_id == other.job_id
        if other is None or isinstance(other, _PLAIN):  # False would be a wrong answer rather than none
            self._misused(f"compare {type(other).__name__} with")
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.job_id)

    def _misused(self, action: str) -> NoReturn:
        raise FutureUsedAsValue(
            f"cannot {action} a Future: the job {self.job_id} ({self.task}) has not run yet, so its value is not here. "
            "Pass the Future to another task as an argument, or return it; the task that receives it gets the value"
        )

    def result(self, timeout: float | None = None) -> Any:
        """The value, in a task with ``durable=True``; it is suspended until the value is there.

        Raises what the job came to: JobFailed, JobCancelled, NoResult; ResultTimeout after ``timeout`` seconds.
        FutureUsedAsValue in any other task.
        """
        return Future.wait_in_task(self, timeout)

    def __bool__(self) -> NoReturn:  # noqa: PLE0304
        self._misused("test the truth of")

    def __iter__(self) -> Iterator[Any]:
        self._misused("iterate over")

    def __len__(self) -> NoReturn:  # noqa: PLE0303
        self._misused("take the length of")

    def __getitem__(self, key: object) -> NoReturn:
        self._misused(f"read item {key!r} of")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        self._misused(f"set item {key!r} of")

    def __contains__(self, item: object) -> NoReturn:
        self._misused("look inside")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        self._misused("call")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):  # copy, pickle and inspect probe for these
            raise AttributeError(name)
        self._misused(f"read attribute {name!r} of")

    def __delitem__(self, key: object) -> NoReturn:
        self._misused(f"delete item {key!r} of")

    def __format__(self, spec: str) -> str:
        if spec:
            self._misused(f"format with {spec!r}")
        return repr(self)

    def __copy__(self) -> Future:
        return self

    def __deepcopy__(self, memo: object) -> Future:
        return self

    def __reduce__(self) -> NoReturn:
        self._misused("pickle")

    def __await__(self) -> NoReturn:
        self._misused("await")


def _refuse(action: str) -> Any:
    def operator(self: Future, *_: object) -> NoReturn:
        self._misused(action)

    return operator


for _name, _action in {
    "add": "add to",
    "sub": "subtract from",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "divide",
    "mod": "take the remainder of",
    "divmod": "divide",
    "pow": "raise",
    "matmul": "multiply",
    "and": "combine",
    "or": "combine",
    "xor": "combine",
    "lshift": "shift",
    "rshift": "shift",
}.items():
    setattr(Future, f"__{_name}__", _refuse(_action))
    setattr(Future, f"__r{_name}__", _refuse(_action))
for _name, _action in {
    "lt": "compare",
    "le": "compare",
    "gt": "compare",
    "ge": "compare",
    "neg": "negate",
    "pos": "use",
    "abs": "take the absolute value of",
    "invert": "invert",
    "int": "convert",
    "float": "convert",
    "complex": "convert",
    "index": "index with",
    "round": "round",
    "trunc": "round",
    "floor": "round",
    "ceil": "round",
    "enter": "enter",
    "exit": "leave",
    "aenter": "enter",
    "aexit": "leave",
    "next": "iterate over",
    "aiter": "iterate over",
    "anext": "iterate over",
    "reversed": "reverse",
}.items():
    setattr(Future, f"__{_name}__", _refuse(_action))


def is_future(value: object) -> bool:
    """Whether ``value`` is a Future."""
    return isinstance(value, Future)


def extract_futures(value: object) -> list[Future]:
    """Every Future in ``value``, at any depth of lists, tuples, sets and dicts, in order, each once."""
    found: dict[Future, None] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Future):
            found[item] = None
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack.extend(reversed(list(item)))
    return list(found)
