"""What acts on many jobs at once: those that were ticked, or all that match, after saying how many that would be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild import clock
from fairchild.errors import TookTooLong
from fairchild.rules.query import Query, Term, parse
from fairchild.web import bulk, words
from fairchild.web.bulk import ACTION_SECONDS, RIGHTS, Change, bulk_change, fits, in_batches
from fairchild.web.filters import read_filter
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

CAP = 10_000
TYPE_ABOVE = 1000
"""From how many jobs on their number has to be typed."""
MOST_IDS = 1000
INPUTS = [
    ("queue", "To the queue", "as it is", "text"),
    ("priority", "With the priority", "as it is; 0 runs first, 9 last", "numeric"),
]
"""What moving asks for: (name, label, what nothing means, kind of keyboard)."""
_DONE = {"retry": "retried", "run": "made-available", "move": "moved", "cancel": "cancelled", "delete": "deleted"}
_TOLD = {**_DONE, "run": "made available"}
_VERBS = {"retry": "Retry", "run": "Run now:", "move": "Move", "cancel": "Cancel", "delete": "Delete"}


def add_to(site: Site) -> None:
    """Add all of it."""
    for action in RIGHTS:
        _add(site, action)


def _add(site: Site, action: str) -> None:
    """A route for each right."""

    def view() -> Shown | AnyResponse:
        query, wrong = read_filter(site.gate, request.form.get("q", ""))
        if query is None:
            raise Problem(422, wrong)
        if action == "move" and request.form.get("sure") == "1" and not any(where_to().values()):
            raise Problem(422, "say where to move the jobs: a queue, a priority or both; nothing was changed")
        if request.form.get("all") == "1":
            return _all_matching(site, action, query)
        return _chosen(site, action, _ids(request.form.getlist("id")), query)

    view.__name__ = f"page_bulk_{action}"
    site.page(f"/jobs/bulk/{action}", RIGHTS[action], methods=("POST",))(view)


def where_to() -> dict[str, Any]:
    """Where a form says that jobs are to be moved. Raises Problem 422."""
    queue, priority = (request.form.get(name, "").strip() for name in ("queue", "priority"))
    if priority and priority not in tuple("0123456789"):
        raise Problem(422, f"priority: {priority[:20]!r} is not a number from 0 to 9; nothing was changed")
    return {"queue": queue or None, "priority": priority or None}


def move_as_told(site: Site) -> Change:
    """What moves jobs to where the form says."""
    to = where_to()
    return bulk_change(site.fc, "move", "", to["queue"], None if to["priority"] is None else int(to["priority"]))


def told_where() -> str:
    """The same for the audit log."""
    return "".join(f" to {name} {value}" for name, value in where_to().items() if value)


def _change(site: Site, action: str) -> Change:
    return move_as_told(site) if action == "move" else bulk_change(site.fc, action, "cancelled by hand")


def _told_where(action: str) -> str:
    return told_where() if action == "move" else ""


def _after(action: str) -> dict[str, Any] | None:
    """What all jobs that were changed have become, for the audit log."""
    return {name: value for name, value in where_to().items() if value} if action == "move" else bulk.AFTER[action]


def _ids(given: list[str]) -> list[UUID]:
    if len(given) > MOST_IDS:
        raise Problem(422, f"at most {MOST_IDS:,} jobs can be ticked; use all matching instead")
    try:
        return list(dict.fromkeys(map(UUID, given)))
    except ValueError:
        raise Problem(422, "what was ticked is no job id") from None


def _chosen(site: Site, action: str, ids: list[UUID], query: Query) -> Shown | AnyResponse:
    if not ids:
        raise Problem(422, "no job was ticked; nothing was changed. Go back and tick some")
    if action in ("retry", "run") or request.form.get("sure") == "1":
        changed, _, left = in_batches(ids, _change(site, action))
        site.audit(f"jobs:{action}", f"{len(ids)} ticked jobs{_told_where(action)}", changed, after=_after(action))
        if left:
            raise Problem(
                503, f"{words.number(changed)} were {_TOLD[action]} in the time there was; try again for the rest"
            )
        return site.done(_DONE[action], changed, "jobs", q=str(query) or None)
    found = site.fc.search(Query((Term("id", tuple(ids)),)), limit=MOST_IDS, short=True)
    fit = [job for job in found.jobs if fits(action, job.state)]
    return _confirm(site, action, query, len(ids), len(fit), more=False, fields=[("id", str(job.id)) for job in fit])


def _all_matching(site: Site, action: str, query: Query) -> Shown | AnyResponse:
    """First how many there are and what would come of it; done only when that was seen."""
    possible_ones = Query((*query.terms, *parse(_FITTING[action]).terms))
    fields = [("all", "1")]
    before = _number("before")
    if request.form.get("sure") == "1" and before is not None:
        return _go_on(site, action, query, possible_ones, before)
    matching, possible = site.fc.count(query, CAP), site.fc.count(possible_ones, CAP)
    wrong = ""
    if request.form.get("sure") == "1":
        if possible <= TYPE_ABOVE or _number("number") == min(possible, CAP):
            return _go_on(site, action, query, possible_ones, 0)
        wrong = f"The number has changed to {words.number(min(possible, CAP))}, or was not typed."
    return _confirm(site, action, query, matching, possible, more=possible > CAP, fields=fields, wrong=wrong)


def _go_on(site: Site, action: str, query: Query, fits: Query, before: int) -> Shown | AnyResponse:
    """Change as many as one request may; ``before``: how many others were before it."""
    changed, cursor = _act_on_all(site, action, fits, _form_cursor())
    site.audit(f"jobs:{action}", f"{str(query) or 'all jobs'}{_told_where(action)}", changed, after=_after(action))
    done = before + changed
    if cursor is None:
        return site.done(_DONE[action], done, "jobs", q=str(query) or None)
    left = _left(site, fits)
    fields = [("all", "1"), ("before", str(done)), ("cursor", str(cursor))]
    if action == "move":  # what was moved still matches
        left = left if left > CAP else max(left - done, 1)
        fields += [(name, request.form.get(name, "")) for name in ("queue", "priority")]
    shown = _confirm(site, action, query, left, left, more=left > CAP, fields=fields)
    shown.data.update(
        type_number=0,
        inputs=[],
        going=f"{words.plural(done, 'job')} so far. The rest follows, by itself or with the button.",
    )
    return shown


def _left(site: Site, fits: Query) -> int:
    """How many there still are, as far as can be told in a moment: what was done took the time of the request."""
    try:
        with site.fc.reading_within(ACTION_SECONDS):
            return site.fc.count(fits, CAP)
    except TookTooLong:
        return CAP + 1


def _number(name: str) -> int | None:
    text = request.form.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _form_cursor() -> UUID | None:
    try:
        return UUID(request.form["cursor"]) if "cursor" in request.form else None
    except ValueError:
        raise Problem(422, "cursor must be the id of a job") from None


_FITTING = {
    "run": "state:scheduled",
    "move": "state:scheduled,available",
    "retry": "state:failed,cancelled,completed",
    "cancel": "state:available,running,scheduled,waiting",
    "delete": "state:failed,cancelled,completed",
}


def _confirm(
    site: Site,
    action: str,
    query: Query,
    matching: int,
    possible: int,
    *,
    more: bool,
    fields: list[tuple[str, str]],
    wrong: str = "",
) -> Shown:
    shown = f"{words.number(CAP)}+" if matching > CAP else words.number(matching)
    possible = min(possible, CAP)
    return Shown(
        "confirm.html",
        {
            "verb": _VERBS[action],
            "what": f"{shown} {'job' if matching == 1 else 'jobs'}",
            "facts": [
                ("Filter", str(query) or "all jobs"),
                ("Match now", shown),
                (f"Can be {_TOLD[action]}", f"{words.number(possible)}{'+' if more else ''}"),
            ],
            "possible": possible,
            "more": more,
            "type_number": possible if possible > TYPE_ABOVE else 0,
            "dangerous": action in ("cancel", "delete"),
            "target": site.url(f"bulk_{action}"),
            "fields": [("q", str(query)), *fields],
            "back": site.url("jobs", q=str(query) or None),
            "back_name": "Jobs",
            "inputs": INPUTS if action == "move" else [],
            "wrong": wrong,
            "going": "",
        },
    )


def _act_on_all(site: Site, action: str, query: Query, cursor: UUID | None) -> tuple[int, UUID | None]:
    """In batches, from the newest back, each of its own, for about a second: how many, and where to go on.

    What was done stays done if it is broken off. None: all have been.
    """
    change = _change(site, action)
    changed, end = 0, clock.now() + bulk.ACTION_SECONDS
    while True:
        try:
            page = site.fc.search(query, limit=bulk.BATCH, cursor=cursor, short=True)
        except TookTooLong:
            if not changed:
                raise
            return changed, cursor
        changed += in_batches([job.id for job in page.jobs], change)[0]
        cursor = None if page.cursor is None else UUID(page.cursor)
        if cursor is None or clock.now() >= end:
            return changed, cursor
