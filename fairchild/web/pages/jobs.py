"""Find jobs and judge them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from flask import redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.client import Page
from fairchild.errors import StoreError, TookTooLong
from fairchild.job import Job
from fairchild.rules.query import KEYS, Query, Term, parse
from fairchild.web import words
from fairchild.web.bulk import RIGHTS
from fairchild.web.filters import read_filter
from fairchild.web.pages.many import CAP
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

SIZES = (25, 50, 100)
TABS_SECONDS = 0.05
"""That counting for the tabs may add to a page. Where it is not enough they are shown without numbers."""
WITHOUT_SECONDS = 0.25
VIEWS = (
    ("failing now", "state:failed after:1h"),
    ("slow now", "state:running ran:>1m"),
    ("stuck", "state:available waited:>5m"),
    ("scheduled today", "state:scheduled due:<1d"),
)
MOST_IN_VIEW = 200


class Seen(NamedTuple):
    """What has come about since the reader's rows were made."""

    new: int = 0
    more: bool = False
    """Of the new ones there are more than a page holds."""
    cut: bool = False
    """There are rows between the reader's first and last that were too many to look at."""


def add_to(site: Site) -> None:
    """Add the list, and where "Jump to" leads."""

    @site.page("/jobs")
    def page_jobs() -> Shown | AnyResponse:
        text, add = request.args.get("q", "").strip(), request.args.get("add", "").strip()
        query, wrong = read_filter(site.gate, text)
        if query is None:
            # The text stays where it can be mended; nothing is shown that it does not name.
            return Shown("jobs.html", {**_list(site, None), "add": f"{text} {add}".strip(), "wrong": wrong})
        if add:
            joined, wrong = read_filter(site.gate, f"{text} {add}")
            if joined is not None:
                # The condition becomes part of the address, which says all there is to say.
                return redirect(site.url("jobs", q=str(joined) or None, limit=request.args.get("limit")), 302)
        return Shown("jobs.html", {**_list(site, query), "add": add, "wrong": wrong})


def _list(site: Site, query: Query | None) -> dict[str, Any]:
    """What the list shows of a query; None: it could not be read, and no job is shown."""
    asked = request.args.get("limit", "")
    limit = int(asked) if asked in map(str, SIZES) else SIZES[0]
    unread, query = query is None, query or Query()
    looked_at = query.bounded()
    before, after = _cursor("before"), _cursor("after")
    live = "_live" in request.args
    jobs: list[Job] = []
    more, slow, seen = None, False, Seen()
    if not unread:
        try:
            page = site.fc.search(looked_at, limit=limit, cursor=after or before, newer=after is not None, short=True)
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
    shell = site.shell()
    matching = _matching(site, looked_at, shell.counts) if jobs and not live else ""
    return {
        "jobs": jobs,
        "unread": unread,
        "seen": seen,
        "slow": slow,
        "shown": {job.id: arguments_of(site, job) for job in jobs},
        "tenants": any(job.tenant for job in jobs),
        "can_act": not site.gate.read_only and any(site.gate.allows(right) for right in RIGHTS.values()),
        "q": str(query),
        "looked_at": str(looked_at),
        "chips": [{"text": str(term), "href": _link(site, query.without(term))} for term in query.terms],
        "windowed": str(looked_at.terms[-1]) if looked_at.windowed else "",
        "ever": _link(site, Query((*query.terms, *parse("after:all").terms))),
        "without": [] if jobs or slow or live else _without(site, query),
        "state": query.value("state"),
        "tab_all": _link(site, query.with_key("state", None)),
        "tabs": [] if live else _tabs(site, query, shell.counts, matching, counted=not (unread or slow)),
        "matching": matching,
        "limit": limit,
        "live": not (before or after or slow or unread),
        "older": site.here(before=older, after=None) if older else None,
        "newer": site.here(after=newer, before=None) if newer else None,
        "views": [] if live else _views(site),
        "export": url_for(".export_jobs", q=str(looked_at)) if jobs else None,
        "suggestions": [] if live else _suggestions(site, shell.stats["queues"] if shell.stats else {}, jobs),
    }


def _in_view(site: Site, query: Query, newest: Page, top: UUID, last: UUID) -> tuple[list[Job], Seen]:
    """The rows from the reader's first to their last, though newer ones have come: those wait until they are wanted."""
    new = sum(job.id > top for job in newest.jobs)
    if not new and newest.jobs and newest.jobs[-1].id <= last:
        return [job for job in newest.jobs if job.id >= last], Seen()
    page = site.fc.search(query, limit=MOST_IN_VIEW, cursor=UUID(int=min(top.int + 1, 2**128 - 1)), short=True)
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


def _tabs(
    site: Site, query: Query, all_counts: Mapping[str, int], matching: str, *, counted: bool
) -> list[dict[str, Any]]:
    """A tab for each state, with how many jobs it would show: as far as that is known, or soon counted.

    Where a window had to be added, the tabs have it too, and so divide what is shown.
    """
    base = query.with_key("state", None).bounded()
    state = query.value("state")
    counts: dict[str, str] = {}
    if not base.terms:
        counts = {each: words.short_number(count) for each, count in all_counts.items()}
    elif counted:
        counts = _by_state(site, base)
        if isinstance(state, str) and matching:
            counts[state] = matching
    return [
        {"state": each, "href": _link(site, base.with_key("state", each)), "count": counts.get(each)}
        for each in words.STATES
    ]


def _by_state(site: Site, query: Query) -> dict[str, str]:
    """How many jobs match by state; of more than CAP those are counted that are found first."""
    try:
        with site.fc.reading_within(TABS_SECONDS):
            found = site.fc.count_states(query, CAP)
    except TookTooLong:
        return {}
    if sum(found.values()) <= CAP:
        return {state: words.number(found.get(state, 0)) for state in words.STATES}
    return {state: f"{words.number(min(count, CAP))}+" for state, count in found.items()}


def _without(site: Site, query: Query) -> list[dict[str, Any]]:
    """Each condition that could be left out where no job matches, and how many would then."""
    left = [query.without(term) for term in query.terms]
    counts = _count_each(site, [each.bounded() for each in left], WITHOUT_SECONDS)
    return [
        {"text": str(term), "href": _link(site, each), "count": count}
        for term, each, count in zip(query.terms, left, counts, strict=True)
    ]


def _count_each(site: Site, queries: list[Query], seconds: float) -> list[str | None]:
    """How many jobs match each, up to CAP; None for those that the time was too short for."""
    counts: list[str | None] = []
    with site.fc.reading_within(seconds):
        for query in queries:
            try:
                counts.append(_capped(site.fc.count(query, CAP)))
            except TookTooLong:
                counts.append(None)
    return counts


def _capped(count: int) -> str:
    return words.number(count) if count <= CAP else f"{words.number(CAP)}+"


def _suggestions(site: Site, queues: dict[str, Any], jobs: list[Job]) -> list[str]:
    """Conditions to choose from: those on what is there, then all keys."""
    there = [f"state:{state}" for state in words.STATES]
    there += [str(Term("queue", (name,))) for name in list(queues)[:20]]
    there += dict.fromkeys(str(Term("task", (job.task,))) for job in jobs)
    there += dict.fromkeys(str(Term("tag", (tag,))) for job in jobs for tag in job.tags)
    there += dict.fromkeys(str(Term("tenant", (job.tenant,))) for job in jobs if job.tenant)
    if site.gate.tells_messages():
        there += dict.fromkeys(f"args.{name}:" for job in jobs for name in job.args if name.isidentifier())
    return [*there[:80], *(f"{key}:" for key in KEYS if key not in ("args", "meta"))]


def _matching(site: Site, query: Query, counts: dict[str, int]) -> str:
    if not query.terms and counts:
        return words.number(sum(counts.values()))
    try:
        return _capped(site.fc.count(query, CAP))
    except StoreError:
        return ""


def arguments_of(site: Site, job: Job) -> str:
    """The arguments on one line, as whoever asks may see them."""
    shown = site.gate.show(job)
    if shown.get("payload_hidden"):
        return "hidden"
    return "too large for a list" if "args" in job.left_out else words.compact(shown.get("args"))


def _link(site: Site, query: Query) -> str:
    limit = request.args.get("limit")
    return site.url("jobs", **({"q": str(query)} if query.terms else {}), **({"limit": limit} if limit else {}))


def _cursor(name: str) -> UUID | None:
    text = request.args.get(name, "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(422, f"{name} must be the id of a job") from None
