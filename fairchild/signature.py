"""A task's signature: binding arguments at the caller, giving them back their types at the worker."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from fairchild.errors import InvalidArguments
from fairchild.job import Job

_AS_THEY_ARE = frozenset({str, int, float, bool})
_AWARE = typing.Annotated[datetime, msgspec.Meta(tz=True)]
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """What a task's function takes, without the parameter that receives the current job."""

    def __init__(self, fn: Callable[..., Any], task: str) -> None:
        self.task = task
        whole = inspect.signature(fn)
        hints = _hints(fn)
        self.job_parameter = _job_parameter(whole, hints)
        self.job_position = _position(whole, self.job_parameter)
        """Where the job goes among positional arguments; None if it can only go by name, or not at all."""
        kept = [p for p in whole.parameters.values() if p.name != self.job_parameter]
        self.bound = whole.replace(parameters=kept)
        self.types = {p.name: hints[p.name] for p in kept if p.name in hints and p.kind not in _VARIADIC}
        self.convertible = {
            name: _with_default(kind, self.bound.parameters[name])
            for name, kind in self.types.items()
            if _is_convertible(kind)
        }
        self.var_positional = next((p.name for p in kept if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self.var_keyword = next((p.name for p in kept if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        self.positional_only = [p.name for p in kept if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        self._star = None if self.var_positional is None else "*" + self.var_positional
        if self._star is not None and _is_convertible(hints.get(self._star[1:])):
            self.convertible[self._star] = list[hints[self._star[1:]]]  # type: ignore[misc]
        self._other = hints.get(self.var_keyword) if self.var_keyword is not None else None
        if not _is_convertible(self._other):
            self._other = None
        by_name = all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in kept)
        self._names = frozenset(p.name for p in kept) if by_name else frozenset[str]()
        """The parameters, if arguments by name are all that the function takes: most calls need no more than these."""
        self._required = frozenset(p.name for p in kept if p.default is inspect.Parameter.empty)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, as they will be stored. ``*args`` go under ``"*name"``, ``**kwargs`` beside the others."""
        if not args and self._names >= kwargs.keys() >= self._required:
            return dict(kwargs)
        try:
            bound = self.bound.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArguments(f"{self.task}{self.bound}: {error}; nothing was enqueued") from None
        others = bound.pop(self.var_keyword, {}) if self.var_keyword is not None else {}
        if self._star is not None and self.var_positional in bound:
            bound[self._star] = bound.pop(self.var_positional)
        for name in others:
            if name in (self._star, self.job_parameter) or name in self.bound.parameters:
                raise InvalidArguments(
                    f"{self.task}{self.bound}: {name!r} cannot be a further keyword argument, since the stored "
                    "arguments use that name already; nothing was enqueued"
                )
        return {**bound, **others}

    def by_position(self, named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments that all have names, as stored ones do, as those that must go by position, and the others."""
        values = dict(named)
        if self._names >= values.keys():
            return [], values
        positional: list[Any] = []
        rest = values.pop(self._star, None) if self._star is not None else None
        if rest is not None and not isinstance(rest, (list, tuple)):
            raise InvalidArguments(f"{self.task}: {self._star!r} must be a list, got {type(rest).__name__}")
        for name, parameter in self.bound.parameters.items():
            by_position = parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
                rest and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            )
            if not by_position:
                break
            if name not in values:
                if not rest:
                    break
                raise InvalidArguments(f"{self.task}: {name!r} is missing, which stands before {self._star!r}")
            positional.append(values.pop(name))
        return [*positional, *(rest or ())], values

    def fits(self, bound: Mapping[str, Any]) -> bool:
        """Whether each argument is plainly of its annotated type, so that there is nothing to check."""
        if not self._names:
            return False
        for name, kind in self.convertible.items():
            if name in bound and (type(bound[name]) is not kind or kind not in _AS_THEY_ARE):
                return False
        return True

    def check(self, plain: Mapping[str, Any], open_names: set[str]) -> None:
        """Raise InvalidArguments if a stored argument does not fit its annotation.

        ``open_names`` are the arguments that hold Futures: what they will be is known only later.
        """
        for name, value in plain.items():
            if name not in open_names:
                self._convert(name, value, "nothing was enqueued")

    def call_arguments(self, stored: dict[str, Any], job: Job | None) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the function, each in its annotated type."""
        if not isinstance(stored, dict):
            raise InvalidArguments(f"{self.task}: the stored arguments are {type(stored).__name__}, not an object")
        try:
            positional, values = self.by_position(
                {name: self._convert(name, value, "the task was not called") for name, value in stored.items()}
            )
            if positional or not self._names >= values.keys() >= self._required:
                self.bound.bind(*positional, **values)
        except InvalidArguments:
            raise
        except TypeError as error:
            raise InvalidArguments(
                f"{self.task}{self.bound} cannot take the arguments stored with the job: {error}"
            ) from None
        self.add_job(positional, values, job)
        return positional, values

    def add_job(self, positional: list[Any], keywords: dict[str, Any], job: Job | None) -> None:
        """Put the current job where the function wants it, if it wants it."""
        if self.job_parameter is None:
            return
        if self.job_position is not None and self.job_position <= len(positional):
            positional.insert(self.job_position, job)
        else:
            keywords[self.job_parameter] = job

    def _kind(self, name: str) -> Any:
        kind = self.convertible.get(name)
        if kind is None and self._other is not None and name not in self.bound.parameters and name != self._star:
            return self._other
        return kind

    def _convert(self, name: str, value: Any, kept: str) -> Any:
        kind = self._kind(name)
        if kind is None or (kind is type(value) and kind in _AS_THEY_ARE):
            return value
        try:
            converted = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise InvalidArguments(
                f"{self.task}: the argument {name!r} does not fit {_type_name(kind)}: {error}; {kept}"
            ) from None
        if isinstance(converted, datetime) and converted.tzinfo is None:
            raise InvalidArguments(f"{self.task}: the argument {name!r} is a time without a zone; {kept}")
        return converted

    def parameters(self) -> list[dict[str, Any]]:
        """``[{name, type, required, default, schema}, ...]`` for people, forms and whoever enqueues by name.

        ``default`` only where there is one; ``schema`` (JSON Schema) only where arguments are checked.
        """
        described = []
        for parameter in self.bound.parameters.values():
            entry: dict[str, Any] = {
                "name": parameter.name,
                "type": _type_name(self.types.get(parameter.name, parameter.annotation)),
                "required": parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC,
            }
            if parameter.default is not inspect.Parameter.empty:
                entry["default"] = _default(parameter.default)
            if (schema := _json_schema(self.convertible.get(parameter.name))) is not None:
                entry["schema"] = schema
            if parameter.kind in _VARIADIC:
                entry["variadic"] = True
            described.append(entry)
        return described


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(fn), include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated leaves its argument unconverted
        return _hints_one_by_one(inspect.unwrap(fn))


def _hints_one_by_one(fn: Callable[..., Any]) -> dict[str, Any]:
    """Those of the annotations that can be evaluated, where some name what exists for type checkers alone."""
    hints = {}
    for name, kind in getattr(fn, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: kind})
        try:
            hints.update(typing.get_type_hints(alone, getattr(fn, "__globals__", {}), include_extras=True))
        except Exception:  # noqa: BLE001, S112 - as above
            continue
    return hints


def _position(signature: inspect.Signature, name: str | None) -> int | None:
    if name is None or signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
        return None
    return list(signature.parameters).index(name)


def _is_job(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_job(each) for each in typing.get_args(kind))
    return isinstance(kind, type) and issubclass(kind, Job)


def _job_parameter(signature: inspect.Signature, hints: Mapping[str, Any]) -> str | None:
    for name, parameter in signature.parameters.items():
        if name == "job" or _is_job(hints.get(name)):
            if parameter.kind in _VARIADIC:
                continue
            return name
    return None


def _is_convertible(kind: Any) -> bool:
    """Whether msgspec knows the type wholly; arguments of other types arrive as plain JSON values."""
    if kind is Any or kind is None or isinstance(kind, str):
        return False
    try:
        return not _has_custom(msgspec.inspect.type_info(kind))
    except Exception:  # noqa: BLE001 - msgspec raises several kinds for types that it cannot describe
        return False


def _has_custom(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.CustomType):
        return True
    parts: list[Any] = []
    for name in ("item_type", "key_type", "value_type"):
        part = getattr(info, name, None)
        if part is not None:
            parts.append(part)
    if isinstance(info, msgspec.inspect.UnionType):
        parts.extend(info.types)
    elif isinstance(info, msgspec.inspect.TupleType):
        parts.extend(info.item_types)
    return any(_has_custom(part) for part in parts)


def _with_default(kind: Any, parameter: inspect.Parameter) -> Any:
    """``x: int = None`` also takes None, as people write it."""
    if parameter.default is None:
        return typing.Optional[kind]  # noqa: UP045 - built at run time
    return kind


def _type_name(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return "any"
    if isinstance(kind, str):
        return kind
    if typing.get_origin(kind) is None and isinstance(kind, type):
        return kind.__name__
    return str(kind).replace("typing.", "")


def _json_schema(kind: Any) -> dict[str, Any] | None:
    if kind is None:
        return None
    # A time without a zone is refused, which msgspec's own description of the type leaves open.
    if kind is datetime:
        kind = _AWARE
    elif set(typing.get_args(kind)) == {datetime, type(None)}:
        kind = typing.Optional[_AWARE]  # noqa: UP045 - built at run time
    try:
        return msgspec.json.schema(kind)
    except TypeError:  # a type that converts but that JSON Schema has no words for
        return None


def _default(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return repr(value)
