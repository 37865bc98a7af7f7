"""Find jobs, judge them, act on many."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from fairchild import clock
from fairchild.client.client import Page
from fairchild.errors import StoreError, TookTooLong, UsageError
from fairchild.job import Job
from fairchild.rules.query import KEYS, Query, Term, parse
from fairchild.web import bulk, words
from fairchild.web.bulk import ACTION_SECONDS, bulk_change, in_batches
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem
from fairchild.web.redact import SECRET

SIZES = (25, 50, 100)
CAP = 10_000
TYPE_ABOVE = 1000
"""From how many jobs on their number has to be typed."""
MOST_IDS = 1000
VIEWS = (
    ("failing now", "state:failed after:1h"),
    ("slow now", "state:running ran:>1m"),
    ("stuck", "state:available waited:>5m"),
    ("scheduled today", "state:scheduled due:<1d"),
)
MOST_IN_VIEW = 200
RIGHTS = {"retry": "jobs:retry", "cancel": "jobs:cancel", "delete": "jobs:delete"}
_DONE = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}
_VERBS = {"retry": "Retry", "cancel": "Cancel", "delete": "Delete"}


class Seen(NamedTuple):
    """What has come about since the reader's rows were made."""

    new: int = 0
    more: bool = False
    """Of the new ones there are more than a page holds."""
    cut: bool = False
    """There are rows between the reader's first and last that were too many to look at."""


def add_to(site: Site) -> None:
    """Add the list, and what acts on many of its jobs."""

    @site.page("/jobs")
    def page_jobs() -> Shown | AnyResponse:
        text, add = request.args.get("q", "").strip(), request.args.get("add", "").strip()
        query, wrong = _read(site, text)
        if add and not wrong:
            joined, wrong = _read(site, f"{text} {add}")
            if not wrong:
                # The condition becomes part of the address, which says all there is to say.
                return redirect(site.url("jobs", q=str(joined) or None, limit=request.args.get("limit")), 302)
        return Shown("jobs.html", {"add": add if wrong else "", "wrong": wrong, **_list(site, query)})

    for action in RIGHTS:
        _add_bulk(site, action)


def _add_bulk(site: Site, action: str) -> None:
    """What acts on many jobs at once, a route for each right."""

    def view() -> Shown | AnyResponse:
        query, wrong = _read(site, request.form.get("q", ""))
        if wrong:
            raise Problem(422, wrong)
        if request.form.get("all") == "1":
            return _all_matching(site, action, query)
        return _chosen(site, action, _ids(request.form.getlist("id")), query)

    view.__name__ = f"page_bulk_{action}"
    site.page(f"/jobs/bulk/{action}", RIGHTS[action], methods=("POST",))(view)


def _read(site: Site, text: str) -> tuple[Query, str]:
    """The query, or an empty one and what is wrong with the text. What may not be read may not be asked for either."""
    try:
        query = parse(text)
    except UsageError as error:
        return Query(), str(error)
    for term in query.terms:
        hidden = any(SECRET.search(part) for part in term.path) or not site.gate.allows("payload:read")
        if term.key in ("args", "meta", "error") and hidden:
            return Query(), f"you have no right to ask for {term.name}"
    return query, ""


def _list(site: Site, query: Query) -> dict[str, Any]:
    asked = request.args.get("limit", "")
    limit = int(asked) if asked in map(str, SIZES) else SIZES[0]
    looked_at = query.bounded()
    before, after = _cursor("before"), _cursor("after")
    live = "_live" in request.args
    jobs: list[Job] = []
    more, slow, seen = None, False, Seen()
    try:
        page = site.fc.search(looked_at, limit=limit, cursor=after or before, newer=after is not None)
        jobs, more = page.jobs, page.cursor
        top, last = _cursor("top"), _cursor("last")
        if live and top and last:
            jobs, seen = _in_view(site, looked_at, page, top, last)
    except TookTooLong:
        if live:
            raise  # the reader keeps what there is
        slow = True
    older = jobs[-1].id if jobs and (more or after) else None
    newer = jobs[0].id if jobs and (before or (after and more)) else None
    state = query.value("state")
    shell = site.shell()
    only_state = all(term.key == "state" for term in query.terms)
    matching = _matching(site, looked_at, shell.counts) if jobs and not live else "0"
    return {
        "jobs": jobs,
        "seen": seen,
        "slow": slow,
        "shown": {job.id: arguments_of(site, job) for job in jobs},
        "tenants": any(job.tenant for job in jobs),
        "can_act": not site.gate.read_only and any(site.gate.allows(right) for right in RIGHTS.values()),
        "q": str(query),
        "looked_at": str(looked_at),
        "chips": [{"text": str(term), "href": _link(site, query.without(term))} for term in query.terms],
        "windowed": looked_at.windowed,
        "ever": _link(site, Query((*query.terms, *parse("after:all").terms))),
        "state": state,
        "tab_all": _link(site, query.with_key("state", None)),
        "tabs": [
            {
                "state": each,
                "href": _link(site, query.with_key("state", each)),
                "count": shell.counts.get(each) if only_state else None,
            }
            for each in words.STATES
        ],
        "matching": matching,
        "limit": limit,
        "live": not (before or after or slow),
        "older": site.here(before=older, after=None) if older else None,
        "newer": site.here(after=newer, before=None) if newer else None,
        "views": [] if live else _views(site),
        "suggestions": [] if live else _suggestions(site, shell.stats["queues"] if shell.stats else {}, jobs),
    }


def _in_view(site: Site, query: Query, newest: Page, top: UUID, last: UUID) -> tuple[list[Job], Seen]:
    """The rows from the reader's first to their last, though newer ones have come: those wait until they are wanted."""
    new = sum(job.id > top for job in newest.jobs)
    if not new and newest.jobs and newest.jobs[-1].id <= last:
        return [job for job in newest.jobs if job.id >= last], Seen()
    page = site.fc.search(query, limit=MOST_IN_VIEW, cursor=UUID(int=min(top.int + 1, 2**128 - 1)))
    jobs = [job for job in page.jobs if job.id >= last]
    return jobs, Seen(
        new,
        new == len(newest.jobs) and newest.cursor is not None,
        page.cursor is not None and len(jobs) == len(page.jobs),
    )


def _views(site: Site) -> list[tuple[str, str]]:
    """Filters to begin with."""
    try:
        deployed = site.known.deployed_at()
    except StoreError:
        deployed = None  # the time for this page may be spent
    since = [] if deployed is None else [("since the last deploy", str(parse(f'after:"{deployed.isoformat()}"')))]
    return [*VIEWS, *since]


def _suggestions(site: Site, queues: dict[str, Any], jobs: list[Job]) -> list[str]:
    """Conditions to choose from: those on what is there, then all keys."""
    there = [f"state:{state}" for state in words.STATES]
    there += [str(Term("queue", (name,))) for name in list(queues)[:20]]
    there += dict.fromkeys(str(Term("task", (job.task,))) for job in jobs)
    there += dict.fromkeys(str(Term("tag", (tag,))) for job in jobs for tag in job.tags)
    there += dict.fromkeys(str(Term("tenant", (job.tenant,))) for job in jobs if job.tenant)
    if site.gate.allows("payload:read"):
        there += dict.fromkeys(f"args.{name}:" for job in jobs for name in job.args if name.isidentifier())
    return [*there[:80], *(f"{key}:" for key in KEYS if key not in ("args", "meta"))]


def _matching(site: Site, query: Query, counts: dict[str, int]) -> str:
    if not query.terms and counts:
        return words.number(sum(counts.values()))
    try:
        found = site.fc.count(query, CAP)
    except StoreError:
        return "those"
    return words.number(found) if found <= CAP else f"{words.number(CAP)}+"


def arguments_of(site: Site, job: Job) -> str:
    """The arguments on one line, as whoever asks may see them."""
    shown = site.gate.show(job)
    return "hidden" if shown.get("payload_hidden") else words.compact(shown.get("args"))


def _link(site: Site, query: Query) -> str:
    limit = request.args.get("limit")
    return site.url("jobs", **({"q": str(query)} if query.terms else {}), **({"limit": limit} if limit else {}))


def _cursor(name: str) -> UUID | None:
    text = request.args.get(name, "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(422, f"{name} must be the id of a job") from None


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
    if action == "retry" or request.form.get("sure") == "1":
        changed, _, left = in_batches(ids, bulk_change(site.fc, action, "cancelled by hand"))
        site.audit(f"jobs:{action}", f"{len(ids)} ticked jobs", changed)
        if left:
            raise Problem(
                503, f"{words.number(changed)} were {_DONE[action]} in the time there was; try again for the rest"
            )
        return site.done(_DONE[action], changed, "jobs", q=str(query) or None)
    found = site.fc.search(Query((Term("id", tuple(ids)),)), limit=MOST_IDS)
    fit = [job for job in found.jobs if job.ended == (action != "cancel")]
    return _confirm(site, action, query, len(ids), len(fit), more=False, fields=[("id", str(job.id)) for job in fit])


def _all_matching(site: Site, action: str, query: Query) -> Shown | AnyResponse:
    """First how many there are and what would come of it; done only when that was seen."""
    fits = Query((*query.terms, *parse(_FITTING[action]).terms))
    fields = [("all", "1")]
    before = _number("before")
    if request.form.get("sure") == "1" and before is not None:
        return _go_on(site, action, query, fits, before)
    matching, possible = site.fc.count(query, CAP), site.fc.count(fits, CAP)
    wrong = ""
    if request.form.get("sure") == "1":
        if possible <= TYPE_ABOVE or _number("number") == min(possible, CAP):
            return _go_on(site, action, query, fits, 0)
        wrong = f"The number has changed to {words.number(min(possible, CAP))}, or was not typed."
    return _confirm(site, action, query, matching, possible, more=possible > CAP, fields=fields, wrong=wrong)


def _go_on(site: Site, action: str, query: Query, fits: Query, before: int) -> Shown | AnyResponse:
    """Change as many as one request may; ``before``: how many others were before it."""
    changed, cursor = _act_on_all(site, action, fits, _form_cursor())
    site.audit(f"jobs:{action}", str(query) or "all jobs", changed)
    done = before + changed
    if cursor is None:
        return site.done(_DONE[action], done, "jobs", q=str(query) or None)
    left = _left(site, fits)
    fields = [("all", "1"), ("before", str(done)), ("cursor", str(cursor))]
    shown = _confirm(site, action, query, left, left, more=left > CAP, fields=fields)
    shown.data.update(
        type_number=0, going=f"{words.plural(done, 'job')} so far. The rest follows, by itself or with the button."
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
                (f"Can be {_DONE[action]}", f"{words.number(possible)}{'+' if more else ''}"),
            ],
            "possible": possible,
            "more": more,
            "type_number": possible if possible > TYPE_ABOVE else 0,
            "dangerous": action != "retry",
            "target": site.url(f"bulk_{action}"),
            "fields": [("q", str(query)), *fields],
            "back": _link(site, query),
            "back_name": "Jobs",
            "wrong": wrong,
            "going": "",
        },
    )


def _act_on_all(site: Site, action: str, query: Query, cursor: UUID | None) -> tuple[int, UUID | None]:
    """In batches, from the newest back, each of its own, for about a second: how many, and where to go on.

    What was done stays done if it is broken off. None: all have been.
    """
    change = bulk_change(site.fc, action, "cancelled by hand")
    changed, end = 0, clock.now() + bulk.ACTION_SECONDS
    while True:
        try:
            page = site.fc.search(query, limit=bulk.BATCH, cursor=cursor)
        except TookTooLong:
            if not changed:
                raise
            return changed, cursor
        changed += in_batches([job.id for job in page.jobs], change)[0]
        cursor = None if page.cursor is None else UUID(page.cursor)
        if cursor is None or clock.now() >= end:
            return changed, cursor
