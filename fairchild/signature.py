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

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """What a task's function takes, without the parameter that receives the current job."""

    def __init__(self, fn: Callable[..., Any], task: str) -> None:
        self.task = task
        whole = inspect.signature(fn)
        hints = _hints(fn)
        self.job_parameter = _job_parameter(whole, hints)
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

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, as they will be stored. ``*args`` go under ``"*name"``, ``**kwargs`` beside the others."""
        try:
            bound = self.bound.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArguments(f"{self.task}{self.bound}: {error}; nothing was enqueued") from None
        if self.var_positional is not None and self.var_positional in bound:
            bound["*" + self.var_positional] = bound.pop(self.var_positional)
        if self.var_keyword is not None:
            bound.update(bound.pop(self.var_keyword, {}))
        return dict(bound)

    def check(self, plain: Mapping[str, Any], open_names: set[str]) -> None:
        """Raise InvalidArguments if a stored argument does not fit its annotation.

        ``open_names`` are the arguments that hold Futures: what they will be is known only later.
        """
        for name, value in plain.items():
            if name in self.convertible and name not in open_names:
                self._convert(name, value, "nothing was enqueued")

    def call_arguments(self, stored: dict[str, Any], job: Job | None) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the function, each in its annotated type."""
        if not isinstance(stored, dict):
            raise InvalidArguments(f"{self.task}: the stored arguments are {type(stored).__name__}, not an object")
        try:
            values = {
                name: self._convert(name, value, "the task was not called") if name in self.convertible else value
                for name, value in stored.items()
            }
            positional = [values.pop(name) for name in self.positional_only if name in values]
            if self.var_positional is not None and "*" + self.var_positional in values:
                rest = values.pop("*" + self.var_positional)
                for name, parameter in self.bound.parameters.items():  # those before *args can only go by position
                    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and name in values:
                        positional.append(values.pop(name))
                positional.extend(rest)
            self.bound.bind(*positional, **values)
        except InvalidArguments:
            raise
        except TypeError as error:
            raise InvalidArguments(
                f"{self.task}{self.bound} cannot take the arguments stored with the job: {error}"
            ) from None
        if self.job_parameter is not None:
            values[self.job_parameter] = job
        return positional, values

    def _convert(self, name: str, value: Any, kept: str) -> Any:
        kind = self.convertible[name]
        try:
            converted = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise InvalidArguments(f"{self.task}: the argument {name!r} does not fit {kind!r}: {error}; {kept}") from None
        if isinstance(converted, datetime) and converted.tzinfo is None:
            raise InvalidArguments(f"{self.task}: the argument {name!r} is a time without a zone; {kept}")
        return converted

    def parameters(self) -> list[dict[str, Any]]:
        """``[{name, type, required, default}, ...]`` for people and forms; ``default`` only where there is one."""
        described = []
        for parameter in self.bound.parameters.values():
            entry: dict[str, Any] = {
                "name": parameter.name,
                "type": _type_name(self.types.get(parameter.name, parameter.annotation)),
                "required": parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC,
            }
            if parameter.default is not inspect.Parameter.empty:
                entry["default"] = _default(parameter.default)
            described.append(entry)
        return described


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(fn), include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated leaves its argument unconverted
        return {
            name: kind for name, kind in getattr(fn, "__annotations__", {}).items() if not isinstance(kind, str)
        }


def _job_parameter(signature: inspect.Signature, hints: Mapping[str, Any]) -> str | None:
    for name, parameter in signature.parameters.items():
        kind = hints.get(name)
        if name == "job" or (isinstance(kind, type) and issubclass(kind, Job)):
            if parameter.kind in _VARIADIC:
                continue
            return name
    return None


def _is_convertible(kind: Any) -> bool:
    """Whether msgspec knows the type wholly; arguments of other types arrive as plain JSON values."""
    if kind is Any or isinstance(kind, str):
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
        return typing.Optional[kind]  # noqa: UP007, UP045 - built at run time
    return kind


def _type_name(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return "any"
    if isinstance(kind, str):
        return kind
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias):
        return kind.__name__
    return str(kind).replace("typing.", "")


def _default(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return repr(value)
