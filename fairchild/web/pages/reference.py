"""The API as a page: its OpenAPI document in words."""

from __future__ import annotations

from typing import Any

from flask import request

from fairchild.web import openapi
from fairchild.web.openapi import PROBLEM
from fairchild.web.pages.site import Shown, Site

_FORMATS = {"uuid": "an id", "date-time": "a time, as 2030-01-31T12:00:00Z"}
_TYPES = {"boolean": "true or false", "number": "a number", "integer": "a whole number", "object": "an object"}


def add_to(site: Site) -> None:
    """Add the page."""

    @site.page("/api/docs")
    def page_reference() -> Shown:
        rule = request.url_rule.rule if request.url_rule is not None else ""
        mount = request.script_root + rule.removesuffix("/api/docs")
        document = openapi.document(site.api.operations, mount)
        operations = [
            _operation(path, method, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        shapes = {name: _fields(schema) for name, schema in document["components"]["schemas"].items()}
        return Shown("reference.html", {"mount": mount, "operations": operations, "shapes": shapes})


def _operation(path: str, method: str, described: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = described.get("requestBody") or {"required": True, "content": {}}
    schema = body["content"].get("application/json", {}).get("schema", {})
    return {
        "id": described["operationId"], "method": method.upper(), "path": path,
        "summary": described["summary"].replace("``", ""),
        "rights": described["description"],
        "parameters": [(each["in"], each["name"], in_words(each["schema"]), each.get("required", False))
                       for each in described["parameters"]],
        "body": _fields(schema),
        "body_optional": not body["required"],
        "answers": [(status, *_answer(answer)) for status, answer in described["responses"].items()],
    }  # fmt: skip


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, bool]]:
    required = schema.get("required", ())
    there = [(name, each) for name, each in schema.get("properties", {}).items() if "not" not in each]
    return [(name, in_words(each), name in required) for name, each in there]


def _answer(answer: dict[str, Any]) -> tuple[str, bool]:
    """What it is, and whether it is but a problem."""
    content = {media: in_words(each["schema"]) for media, each in answer["content"].items() if media != PROBLEM}
    own = [said if media == "application/json" else f"{said} ({media})" for media, said in content.items()]
    if PROBLEM in answer["content"]:
        return "; ".join([answer["description"], *own]), not own
    return "; ".join(own) or "a WebSocket", False


def in_words(schema: dict[str, Any]) -> str:
    """What a value has to be, as a reader would say it."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return in_words({**schema, "type": kind[0]}) + ", or null"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return ", or ".join(in_words(each) for each in schema["anyOf"])
    if "enum" in schema:
        said = "one of " + ", ".join(map(str, schema["enum"]))
    elif kind == "array":
        said = f"a list of {in_words(schema['items'])}{_between(schema, 'minItems', 'maxItems')}"
    elif kind == "object":
        said = "an object" + (" of " + ", ".join(schema["properties"]) if "properties" in schema else "")
    elif kind == "string":
        said = _FORMATS.get(schema.get("format", "")) or "text" + (
            f" that matches {schema['pattern']}"
            if "pattern" in schema
            else _between(schema, "minLength", "maxLength", " characters")
        )
    else:
        said = _TYPES.get(str(kind), "any value") + _between(schema, "minimum", "maximum")
    if "default" in schema:
        said += f"; {schema['default']} if not given"
    return said + (f". {schema['description']}" if "description" in schema else "")


def _between(schema: dict[str, Any], low: str, high: str, unit: str = "") -> str:
    if low in schema and high in schema:
        return f", {schema[low]} to {schema[high]}{unit}"
    if high in schema:
        return f", at most {schema[high]}{unit}"
    return f", at least {schema[low]}{unit}" if low in schema else ""
