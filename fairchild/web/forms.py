"""From a task's published parameters to the fields of a form, and from what was typed to arguments. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fairchild.web.redact import hides_default

Kind = Literal["text", "number", "choice", "json"]

_NOTHING = object()


@dataclass
class Field:
    """One argument as a form asks for it. ``value`` is the text in it; ``error`` what is wrong with that."""

    name: str
    kind: Kind
    required: bool
    hint: str
    value: str = ""
    choices: Sequence[str] = ()
    whole: bool = False
    """Whether a number has to be a whole one."""
    nullable: bool = False
    error: str = ""

    def read(self, text: str) -> Any:
        """The argument that was typed, or ``_NOTHING``; sets ``error`` if it cannot be read."""
        self.value = text
        if self.kind == "text":
            return text if text or (self.required and not self.nullable) else _NOTHING
        if not text.strip():
            if self.required:
                self.error = "is missing"
            return _NOTHING
        if self.kind == "choice" and text not in self.choices:
            self.error = f"must be one of {', '.join(self.choices)}"
            return _NOTHING
        try:
            value = json.loads(text)
        except ValueError as error:
            if self.kind == "choice":
                return text
            self.error = f"is no {'number' if self.kind == 'number' else 'JSON'}: {error}"
            return _NOTHING
        if self.kind == "choice" and not isinstance(value, bool):
            return text
        if self.kind == "number" and (isinstance(value, bool) or not isinstance(value, (int, float))):
            self.error = "is no number"
            return _NOTHING
        return value


@dataclass
class Form:
    """The fields of a task's arguments."""

    fields: list[Field] = field(default_factory=list)

    def read(self, typed: Mapping[str, str]) -> dict[str, Any]:
        """Arguments from ``arg-NAME`` texts; what is left empty and has a default is left out."""
        args = {}
        for each in self.fields:
            value = each.read(typed.get(f"arg-{each.name}", ""))
            if value is not _NOTHING:
                args[each.name] = value
        return args

    @property
    def fine(self) -> bool:
        """Whether everything could be read."""
        return not any(each.error for each in self.fields)

    def say(self, problems: Sequence[tuple[str, str]]) -> list[str]:
        """Put problems, (path, sentence), to their fields; those of none are given back as sentences."""
        others = []
        for path, sentence in problems:
            name = path.removeprefix("$.args.")
            own = next((each for each in self.fields if each.name == name.partition(".")[0].partition("[")[0]), None)
            if own is None:
                others.append(f"{path} {sentence}")
            else:
                own.error = sentence if name == own.name else f"{name} {sentence}"
        return others


def form_of(task: Mapping[str, Any], args: Mapping[str, Any] | None = None) -> Form:
    """The form of a task as ``Task.schema()`` describes it, filled with ``args``."""
    fields = [_field(task, each) for each in task["params"] if not each.get("variadic")]
    for each in fields:
        if args is not None and each.name in args:
            each.value = _typed(args[each.name], each.kind)
    return Form(fields)


def _typed(value: Any, kind: Kind) -> str:
    if isinstance(value, str) and kind != "json":
        return value
    return json.dumps(value, ensure_ascii=False)


def _field(task: Mapping[str, Any], param: Mapping[str, Any]) -> Field:
    schema, nullable = _without_null(param.get("schema") or {})
    required = bool(param.get("required"))
    hint = str(param.get("type", "any"))
    if "default" in param and hides_default(task, str(param["name"])):
        hint += ", a default that is not shown if left empty"
    elif "default" in param:
        hint += f", {json.dumps(param['default'], ensure_ascii=False)} if left empty"
    made = Field(str(param["name"]), "json", required, hint, nullable=nullable)
    kind = schema.get("type")
    if "enum" in schema and all(isinstance(each, str) for each in schema["enum"]):
        made.kind, made.choices = "choice", tuple(schema["enum"])
    elif kind == "boolean":
        made.kind, made.choices = "choice", ("true", "false")
    elif kind in ("integer", "number"):
        made.kind, made.whole = "number", kind == "integer"
    elif kind == "string":
        made.kind = "text"
    else:
        made.hint += "; as JSON"
    return made


def _without_null(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The one alternative besides null, if there is just one, and whether null was one."""
    options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(options) == 1 and len(options) < len(schema["anyOf"]):
        return options[0], True
    if "$ref" in schema:
        found = schema.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2])
        return (found, False) if isinstance(found, Mapping) else (schema, False)
    return schema, False
