"""Find jobs and judge them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from flask import redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fairchild import clock
from fairchild.client.client import Page
from fairchild.errors import StoreError, TookTooLong
from fairchild.job import Job
from fairchild.rules.query import KEYS, Query, Term, parse
from fairchild.web import words
from fairchild.web.bulk import RIGHTS
from fairchild.web.filters import read_filter
from fairchild.web.pages.many import CAP
from fairchild.web.pages.site import Shown, Site, cursor_of

SIZES = (25, 50, 100)
COUNT_SECONDS = 0.05
"""That counting may add to a page. What it is not enough for is shown without numbers."""
WITHOUT_SECONDS = 0.25
T = TypeVar("T")
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
    before, after = cursor_of("before"), cursor_of("after")
    live = "_live" in request.args
    jobs: list[Job] = []
    more, slow, seen = None, False, Seen()
    if not unread:
        try:
            page = site.fc.search(looked_at, limit=limit, cursor=after or before, newer=after is not None, short=True)
            jobs, more = page.jobs, page.cursor
            top, last = cursor_of("top"), cursor_of("last")
            if live and top and last:
                jobs, seen = _in_view(site, looked_at, page, top, last)
        except TookTooLong:
            if live:
                raise  # the reader keeps what there is
            slow = True
    older = jobs[-1].id if jobs and (more or after) else None
    newer = jobs[0].id if jobs and (before or (after and more)) else None
    shell = site.shell()
    counted = Counted("", []) if live or unread or slow else _counted(site, query, looked_at, shell.counts)
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
        "tabs": counted.tabs
        or [
            {"state": each, "href": _link(site, query.with_key("state", each)), "count": None} for each in words.STATES
        ],
        "matching": counted.matching,
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


class Counted(NamedTuple):
    """How many jobs match, "" if that is not known, and by state those of the tabs that are."""

    matching: str
    tabs: list[dict[str, Any]]


def _counted(site: Site, query: Query, looked_at: Query, all_counts: Mapping[str, int]) -> Counted:
    """What a moment's counting tells. Where a window was added the tabs have it too: they divide what is shown."""
    base = query.with_key("state", None).bounded()
    state = query.value("state")
    matching, counts = "", dict[str, str]()
    end = clock.now() + COUNT_SECONDS
    if not base.terms:
        counts = {each: words.short_number(count) for each, count in all_counts.items()}
        matching = words.number(sum(all_counts.values())) if not query.terms and all_counts else ""
    else:
        found = _soon(site, lambda: site.fc.count_states(base, CAP), end)
        if found is not None and sum(found.values()) <= CAP:
            counts = {each: words.number(found.get(each, 0)) for each in words.STATES}
        elif found is not None:  # of more than that the newest were counted
            counts = {each: f"{words.number(min(count, CAP))}+" for each, count in found.items()}
        if found is not None and base == looked_at:
            matching = _capped(sum(found.values()))
    if not matching:
        number = _soon(site, lambda: site.fc.count(looked_at, CAP), end)
        matching = "" if number is None else _capped(number)
    if isinstance(state, str) and base.terms and matching:
        counts[state] = matching
    links = {each: _link(site, base.with_key("state", each)) for each in words.STATES}
    return Counted(matching, [{"state": each, "href": link, "count": counts.get(each)} for each, link in links.items()])


def _soon(site: Site, count: Callable[[], T], end: float) -> T | None:
    """What is counted until then; None if that was too short."""
    try:
        with site.fc.reading_within(end - clock.now()):
            return count()
    except TookTooLong:
        return None


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
    end = clock.now() + seconds
    found = [_soon(site, partial(site.fc.count, each, CAP), end) for each in queries]
    return [None if count is None else _capped(count) for count in found]


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


def arguments_of(site: Site, job: Job) -> str:
    """The arguments on one line, as whoever asks may see them."""
    shown = site.gate.show(job)
    if shown.get("payload_hidden"):
        return "hidden"
    return "too large for a list" if "args" in job.left_out else words.compact(shown.get("args"))


def _link(site: Site, query: Query) -> str:
    limit = request.args.get("limit")
    return site.url("jobs", **({"q": str(query)} if query.terms else {}), **({"limit": limit} if limit else {}))
