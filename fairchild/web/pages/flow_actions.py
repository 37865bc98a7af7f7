"""Cancelling and retrying a whole workflow: first what it would be, then as much as a request may do, until the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.workflows import Retriable, Scope
from fairchild.errors import UsageError
from fairchild.job import Job
from fairchild.web import words
from fairchild.web.audit import after_of, state_of
from fairchild.web.bulk import ACTION_SECONDS
from fairchild.web.pages.job import find
from fairchild.web.pages.many import TYPE_ABOVE
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

SCOPES: tuple[Scope, ...] = ("failed", "all")


def add_to(site: Site) -> None:
    """Add what can be done to a workflow."""

    @site.page("/workflows/<id>/retry", "jobs:retry", methods=("POST",))
    def page_workflow_retry(id: str) -> Shown | AnyResponse:
        root = find(site, id)
        scope, before = _scope(), _moment()
        going = _going(site, root, "Retry")
        if going is not None and scope is not None and before is not None:
            return _retry(site, root, scope, before, going)
        found = site.fc.workflows.get(root.id).retriable()
        choices: list[Scope] = [each for each in SCOPES if each == "all" or 0 < found.failed < found.all]
        if not found.all and not found.also:
            raise Problem(409, "no job of this workflow has failed or was cancelled; nothing was changed")
        scope = scope or (choices[0] if len(choices) == 1 else None)
        if scope is None:
            return _ask_which(site, root, found)
        wrong = _wrong(_number_of(found, scope))
        if request.form.get("sure") == "1" and not wrong:
            page = _page(site, root, "Retry", _number_of(found, scope))
            return _retry(site, root, scope, found.at, page)
        page = _page(site, root, "Retry", _number_of(found, scope))
        page["facts"] += _retry_facts(found, scope)
        page["fields"] = [("scope", scope)]
        page["wrong"] = wrong
        return Shown("confirm.html", page)

    @site.page("/workflows/<id>/cancel", "jobs:cancel", methods=("POST",))
    def page_workflow_cancel(id: str) -> Shown | AnyResponse:
        root = find(site, id)
        going = _going(site, root, "Cancel")
        if going is not None:
            return _cancel(site, root, going)
        counts = site.fc.workflows.get(root.id).counts
        left = sum(n for state, n in counts.items() if state not in ("completed", "failed", "cancelled"))
        if not left:
            raise Problem(409, "all jobs of this workflow have ended already; nothing was changed")
        page = _page(site, root, "Cancel", left)
        page["facts"] += [(state, words.number(n)) for state, n in counts.items()]
        page["wrong"] = _wrong(left)
        if request.form.get("sure") == "1" and not page["wrong"]:
            return _cancel(site, root, page)
        return Shown("confirm.html", page)


def _retry(site: Site, root: Job, scope: Scope, before: datetime, page: dict[str, Any]) -> Shown | AnyResponse:
    workflow = site.fc.workflows.get(root.id)
    page["fields"] = [("scope", scope), ("at", before.isoformat())]
    return _act(site, root, "retry", page, lambda done: workflow.retry_within(ACTION_SECONDS, scope, before, done))


def _cancel(site: Site, root: Job, page: dict[str, Any]) -> Shown | AnyResponse:
    workflow = site.fc.workflows.get(root.id)
    return _act(
        site, root, "cancel", page, lambda done: workflow.cancel_within(ACTION_SECONDS, "cancelled by hand", done)
    )


def _act(
    site: Site, root: Job, action: str, page: dict[str, Any], run: Callable[[Callable[[int], None]], bool]
) -> Shown | AnyResponse:
    """As much as a request may do; then the page that goes on, or says what was done. What was done is audited."""
    done: list[int] = []
    was = state_of(root)
    try:
        over = run(done.append)
    except UsageError as error:
        if not sum(done):
            raise Problem(409, str(error)) from None
        over = False
    finally:
        if sum(done):
            site.audit(f"workflows:{action}", str(root.id), sum(done), before=was, after=after_of(site.fc, root.id))
    total = (_whole("done") or 0) + sum(done)
    if over:
        return site.done("retried" if action == "retry" else "cancelled", total, "workflow", id=root.id)
    left = max(page["possible"] - sum(done), 1)
    page.update(
        possible=left,
        more=left == 1,
        type_number=0,
        wrong="",
        going=f"{words.plural(total, 'job')} so far. The rest follows, by itself or with the button.",
        fields=[*page["fields"], ("done", str(total)), ("left", str(left))],
    )
    return Shown("confirm.html", page)


def _going(site: Site, root: Job, verb: str) -> dict[str, Any] | None:
    """The page of an action that has begun, or None."""
    left = _whole("left")
    return None if left is None or request.form.get("sure") != "1" else _page(site, root, verb, left)


def _page(site: Site, root: Job, verb: str, possible: int) -> dict[str, Any]:
    return {
        "verb": verb,
        "what": f"what is left of {words.short_task(root.task)}" if verb == "Cancel" else words.short_task(root.task),
        "facts": [("Workflow", str(root.id))],
        "possible": possible,
        "more": False,
        "type_number": possible if possible > TYPE_ABOVE else 0,
        "dangerous": verb == "Cancel",
        "target": site.url(f"workflow_{verb.lower()}", id=root.id),
        "fields": [],
        "back": site.url("workflow", id=root.id),
        "back_name": "Workflow",
        "wrong": "",
        "going": "",
    }


def _ask_which(site: Site, root: Job, found: Retriable) -> Shown:
    target = site.url("workflow_retry", id=root.id)
    choices = []
    for scope in SCOPES:
        number = _number_of(found, scope)
        sure = {} if number > TYPE_ABOVE else {"sure": "1"}
        choices.append({"number": number, "facts": _retry_facts(found, scope), "fields": {"scope": scope, **sure}})
    return Shown(
        "workflow_retry.html",
        {"root": root, "target": target, "choices": choices, "back": site.url("workflow", id=root.id)},
    )


def _retry_facts(found: Retriable, scope: Scope) -> list[tuple[str, str]]:
    facts = [("That failed", words.number(found.failed))]
    if scope == "all":
        facts.append(("That were cancelled", words.number(found.all - found.failed)))
    if found.also:
        some = scope == "failed" and found.failed < found.all
        facts.append(("Cancelled because of them", ("up to " if some else "") + words.number(found.also)))
    facts.append(("Finished results", "are kept: what has completed does not run again"))
    return facts


def _number_of(found: Retriable, scope: Scope) -> int:
    return (found.failed if scope == "failed" else found.all) + found.also


def _wrong(number: int) -> str:
    """What is wrong with the number that was typed, if one had to be."""
    if request.form.get("sure") != "1" or number <= TYPE_ABOVE or _whole("number") == number:
        return ""
    return f"The number has changed to {words.number(number)}, or was not typed."


def _scope() -> Scope | None:
    given = request.form.get("scope", "")
    return next((each for each in SCOPES if each == given), None)


def _moment() -> datetime | None:
    try:
        found = datetime.fromisoformat(request.form.get("at", ""))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _whole(name: str) -> int | None:
    text = request.form.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None
