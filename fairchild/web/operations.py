"""Operations of the API: what each takes is said once, and is checked, documented and limited from that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request

from fairchild.client import Fairchild
from fairchild.rules.schema import problems
from fairchild.web import audit
from fairchild.web.auth import MAX_BODY, Gate, too_large
from fairchild.web.problems import Problem
from fairchild.web.shapes import MAPPING

_WHOLE = re.compile(r"-?[0-9]{1,18}")

READ_SECONDS = WRITE_SECONDS = 1.5
"""With deadline.GRACE_SECONDS two seconds, the most that a request holds one of its host's threads."""
MAX_LIMIT = 200
Schema = dict[str, Any]
View = Callable[..., Any]


@dataclass(frozen=True)
class Operation:
    """One method of one path. Schemas are JSON Schema, as far as rules/schema.py knows it."""

    methods: tuple[str, ...]
    path: str
    """With ``{name}`` for what varies."""
    right: str | tuple[str, ...]
    name: str
    summary: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    body_optional: bool = False
    status: int = 200
    answer: Schema = field(default_factory=lambda: MAPPING)
    also: Mapping[int, Schema] = field(default_factory=dict)
    """Other answers that are no problems, by status code."""
    media: str = "application/json"
    refusals: tuple[int, ...] = ()
    """Status codes besides those that every operation may answer with."""


class Api:
    """Adds operations to a blueprint and remembers them for the OpenAPI document."""

    def __init__(self, blueprint: Blueprint, fc: Fairchild, gate: Gate) -> None:
        self._blueprint = blueprint
        self.fc = fc
        self.gate = gate
        self.operations: list[Operation] = []

    def add(
        self,
        method: str | tuple[str, ...],
        path: str,
        right: str | tuple[str, ...],
        *,
        query: Mapping[str, Schema] | None = None,
        body: Schema | None = None,
        body_optional: bool = False,
        status: int = 200,
        answer: Schema = MAPPING,
        also: Mapping[int, Schema] | None = None,
        media: str = "application/json",
        refusals: Sequence[int] = (),
        websocket: bool = False,
    ) -> Callable[[View], View]:
        """Decorates a view. It is called with what varies in the path, ``query`` and ``body``, if it has them.

        Its docstring's first line is the summary. It gives a JSON value, or a value and a status.
        """
        methods = (method,) if isinstance(method, str) else method

        def decorate(view: View) -> View:
            operation = Operation(
                methods=methods,
                path=path,
                right=right,
                name=view.__name__,
                summary=(view.__doc__ or "").strip().partition("\n")[0],
                query=query or {},
                body=body,
                body_optional=body_optional,
                status=status,
                answer=answer,
                also=also or {},
                media=media,
                refusals=tuple(refusals),
            )

            def run(**parts: str) -> Response:
                if operation.query:
                    parts["query"] = read_query(operation.query)  # type: ignore[assignment]
                if operation.body is not None:
                    parts["body"] = read_body(operation.body, operation.body_optional)  # type: ignore[assignment]
                if methods == ("GET",):
                    with self.fc.reading_within(READ_SECONDS):
                        value = view(**parts)
                else:
                    with self.fc.writing_within(WRITE_SECONDS):
                        value = view(**parts)
                return as_json(value, operation.status)

            run.__name__ = view.__name__
            rule = path.replace("{name}", "<fairchild_any:name>").replace("{", "<").replace("}", ">")
            self.gate.route(self._blueprint, rule, right, methods=methods, websocket=websocket)(run)
            if self.gate.offers(methods):
                self.operations.append(operation)
            return view

        return decorate

    def note(
        self, action: str, target: object, number: int = 1, *, before: audit.Facts = None, after: audit.Facts = None
    ) -> None:
        """Keep in the audit log what this request has done. What was done stays done if that cannot be written."""
        audit.note(self.fc, self.gate, action, target, number, before=before, after=after)


def as_json(value: Any, status: int = 200) -> Response:
    """A JSON answer. ``value`` may be a Response, or a value and its own status."""
    if isinstance(value, Response):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        value, status = value
    return Response(as_text(value) + "\n", status, mimetype="application/json")


def as_text(value: Any) -> str:
    """A value as JSON on one line; times and ids as text."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def read_query(known: Mapping[str, Schema]) -> dict[str, Any]:
    """The query string by name, with the defaults of what was not given. Raises Problem 422."""
    found: dict[str, Any] = {name: schema["default"] for name, schema in known.items() if "default" in schema}
    wrong: list[tuple[str, str]] = []
    for name, text in request.args.items():
        schema = known.get(name)
        if schema is None:
            wrong.append((f"?{name}", "is not known here; there are " + ", ".join(sorted(known))))
            continue
        value: Any = text
        if schema["type"] == "integer":
            value = int(text) if _WHOLE.fullmatch(text) else text
        elif "\x00" in text:
            wrong.append((f"?{name}", "must not contain NUL"))
            continue
        wrong.extend(problems(value, schema, f"?{name}"))
        found[name] = value
    _refuse(wrong)
    if "limit" in found:
        found["limit"] = min(found["limit"], MAX_LIMIT)
    return found


def read_body(schema: Schema, optional: bool) -> dict[str, Any]:
    """The body, a JSON object. Raises Problem 400 for what is none, and 422 for what does not fit."""
    data = request.get_data()
    if len(data) > MAX_BODY:
        raise too_large()
    if not data and optional:
        return {}
    try:
        value = json.loads(data, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body must be a JSON object")
    _refuse(problems(value, schema, "$"))
    return value


def _refuse(wrong: list[tuple[str, str]]) -> None:
    if wrong:
        raise invalid(wrong)


def invalid(wrong: Sequence[tuple[str, str]]) -> Problem:
    """The Problem 422 of fields that do not fit."""
    first = " ".join(wrong[0])
    return Problem(422, first, errors=[{"path": path, "message": sentence} for path, sentence in wrong[:50]])


def read_id(text: str) -> UUID:
    """What varies in a path, as an id. Raises Problem 404 for what can be none."""
    if len(text) in (32, 36):
        try:
            return UUID(text)
        except ValueError:
            pass
    raise Problem(404, "there is no such id")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
