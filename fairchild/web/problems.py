"""Errors as answers: problem details (RFC 9457) with one line that says what happened, and nothing of the inside."""

from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, Response, json, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from fairchild.errors import (
    ArgumentProblems,
    DatabaseUnavailable,
    OutcomeUnknown,
    SchemaError,
    StoreError,
    TookTooLong,
    UnknownJob,
    UnknownTask,
    UsageError,
    WritesRefused,
)

log = logging.getLogger("fairchild.web")


class Problem(HTTPException):
    """Ends a request with ``status`` and a sentence; ``more`` goes into the body beside it."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.code = status
        self.detail = detail
        self.more = more


def add_to(blueprint: Blueprint) -> None:
    """Errors under this blueprint are answered here. Pages may put a handler of their own before it."""
    blueprint.register_error_handler(Exception, answer)


def answer(error: Exception) -> Response:
    """An error as it is answered."""
    problem = describe(error)
    headers = {}
    if problem.code == 401:
        headers["WWW-Authenticate"] = 'Basic realm="fairchild", charset="UTF-8"'
    if problem.code == 503:
        headers["Retry-After"] = "5"
    if problem.code == 429:
        headers["Retry-After"] = str(problem.more["after"])
    if not is_api():
        return Response(f"{problem.detail}\n", problem.code, headers, mimetype="text/plain")
    status = problem.code or 500
    body = {"type": "about:blank", "title": HTTP_STATUS_CODES.get(status, "Error"), "status": status}
    return Response(
        json.dumps({**body, "detail": problem.detail, **problem.more}) + "\n",
        status,
        headers,
        mimetype="application/problem+json",
    )


def is_api() -> bool:
    """Whether this request is for the API, and not for a page."""
    rule = request.url_rule.rule if request.url_rule is not None else request.path
    return "/api/" in rule or rule.endswith(("/health", "/livez", "/readyz"))


def describe(error: Exception) -> Problem:
    """What may be said of an error. What nobody foresaw is logged, and said to have happened, and no more."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.code or 500, error.description or error.name)
    if isinstance(error, (UnknownJob, UnknownTask)):
        return Problem(404, str(error))
    if isinstance(error, ArgumentProblems):
        errors = [{"path": path, "message": sentence} for path, sentence in error.problems[:50]]
        return Problem(422, str(error), errors=errors)
    if isinstance(error, UsageError):
        return Problem(422, str(error))
    if isinstance(error, StoreError) and error.unknown:
        log.warning("%s %s: %s", request.method, request.path, error)
        return Problem(
            503, "the database did not answer, and whether this was done is not known; look before you retry"
        )
    if isinstance(error, OutcomeUnknown):
        log.warning("%s %s: %s", request.method, request.path, error)
        return Problem(503, str(error), job_id=str(error.job_id))
    if isinstance(error, TookTooLong) and request.method not in ("GET", "HEAD"):
        return Problem(503, f"{error}; try again")
    if isinstance(error, TookTooLong):
        return Problem(503, "this took too long and was broken off; narrow the filter, or try again")
    if isinstance(error, DatabaseUnavailable):
        log.warning("%s %s: %s", request.method, request.path, error)
        return Problem(503, "the database cannot be reached; nothing was changed. Try again in a moment")
    if isinstance(error, WritesRefused):
        log.warning("%s %s: %s", request.method, request.path, error)
        return Problem(503, "the database refuses this: it only reads, or its user may do no more; nothing was changed")
    if isinstance(error, SchemaError):
        log.error("%s %s: %s", request.method, request.path, error)
        return Problem(503, "the tables are missing or of another version; run `fairchild migrate`")
    if isinstance(error, StoreError):
        log.error("%s %s: %s", request.method, request.path, error)
        return Problem(500, "the database refused this; the log of the server says why")
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return Problem(500, "this failed; the log of the server says why")
