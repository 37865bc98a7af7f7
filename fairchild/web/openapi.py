"""The OpenAPI document, made of the operations as they are served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fairchild import __version__
from fairchild.web.operations import Operation
from fairchild.web.shapes import ID, NAME, NAMED, named

PROBLEM = "application/problem+json"
_WORDS = {
    400: "the request is malformed",
    401: "no credential, or not a valid one",
    403: "no right to do this",
    404: "not there",
    409: "not possible in its state",
    413: "the body is too large",
    415: "the body is not stated to be JSON",
    422: "a field does not fit",
    429: "too many requests; Retry-After says when to come again",
    426: "this is not a WebSocket handshake",
    500: "it failed",
    501: "the server, or what is installed, cannot do this",
    503: "not available now",
    504: "a worker did not answer in time",
}


def document(operations: Sequence[Operation], mount: str) -> dict[str, Any]:
    """The document of an API that is served under ``mount``."""
    paths: dict[str, Any] = {}
    for each in operations:
        for method in each.methods:
            paths.setdefault(each.path, {})[method.lower()] = _operation(each, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fairchild", "version": __version__},
        "servers": [{"url": mount or "/"}],
        "paths": paths,
        "components": {
            "schemas": NAMED,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(each: Operation, method: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": ID if name == "id" else NAME}
        for name in re.findall(r"\{(\w+)\}", each.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in each.query.items()]
    rights = [each.right] if isinstance(each.right, str) else list(each.right)
    described: dict[str, Any] = {
        "operationId": each.name if method == each.methods[0] else f"{each.name}_{method.lower()}",
        "summary": each.summary,
        "description": f"Needs the right {' or '.join(rights)}.",
        "parameters": parameters,
        "responses": _responses(each, method),
    }
    if each.body is not None:
        described["requestBody"] = {
            "required": not each.body_optional,
            "content": {"application/json": {"schema": each.body}},
        }
    return described


def _responses(each: Operation, method: str) -> dict[str, Any]:
    codes = {401, 403, 429, 500, 503, *each.refusals}
    if method != "GET":
        codes |= {413, 415}
    if each.body is not None:
        codes |= {400, 422}
    if each.query:
        codes.add(422)
    problem = {PROBLEM: {"schema": named("Problem")}}
    answers: dict[str, Any] = {}
    for code in sorted(codes):
        answers[str(code)] = {"description": _WORDS[code], "content": problem}
    for code, schema in {each.status: each.answer, **each.also}.items():
        content = {} if code == 101 else {each.media: {"schema": schema}}
        known = answers.get(str(code), {"description": each.summary, "content": {}})
        answers[str(code)] = {**known, "content": {**known["content"], **content}}
    return dict(sorted(answers.items()))
