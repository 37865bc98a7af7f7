"""What a job waits for, what waits for it, and what failed as it did."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from uuid import UUID

from fairchild.job import Job
from fairchild.rules.query import Query, Term
from fairchild.web import words
from fairchild.web.pages.site import Site, cursor_of

MOST_RELATIVES = 20
CAP = 10_000
START = UUID(int=0)


class Relatives(NamedTuple):
    """Jobs that it waits for and that wait for it: some of them, and how many there are."""

    dependencies: list[Job]
    dependencies_said: str
    """``3 of 10,024 open``"""
    all_dependencies: str | None
    """Where the others are; None if these are all. ``more_dependencies`` is the next page."""
    more_dependencies: str | None
    dependents: list[Job]
    dependents_said: str
    more_dependents: str | None


class Others(NamedTuple):
    """Jobs that failed of the same."""

    said: str
    link: str


def relatives_of(site: Site, job: Job, still_open: list[UUID]) -> Relatives:
    """Both kinds, a page each. Those of ``still_open`` come first, unless a page was asked for."""
    total = len(job.deps)
    counts = site.fc.insight.relatives(job.id, CAP)
    cursor = cursor_of("dependencies")
    all_of_them, upstreams, more = None, list[Job](), None
    if total and cursor is None and still_open and total > MOST_RELATIVES:
        upstreams = site.fc.search(Query((Term("id", tuple(still_open[:MOST_RELATIVES])),)), short=True).jobs[::-1]
        all_of_them = site.here(dependencies=START)
    elif total:
        page = site.fc.dependencies(job.id, limit=MOST_RELATIVES, short=True, cursor=cursor)
        upstreams = page.jobs
        more = site.here(dependencies=page.cursor) if page.cursor else None
    downstreams, later = list[Job](), None
    if counts.dependents:
        page = site.fc.dependents(job.id, limit=MOST_RELATIVES, short=True, cursor=cursor_of("dependents"))
        downstreams = page.jobs
        later = site.here(dependents=page.cursor) if page.cursor else None
    open_ones = f"{words.number(min(counts.waits_for, total))} of {words.number(total)} open"
    number = f"{words.number(min(counts.dependents, CAP))}{'+' if counts.dependents > CAP else ''}"
    return Relatives(upstreams, open_ones if total else "", all_of_them, more, downstreams, number, later)


def others_like(site: Site, job: Job) -> Others:
    """How many others failed of the last error of this one, and where they are."""
    entry = job.errors[-1]
    kind = entry.get("type") or entry.get("kind") or ""
    print_of = entry.get("fingerprint") or _print(f"{job.task} {kind}")
    group = site.kept(("error", print_of), lambda: site.fc.insight.error(print_of))
    if group is None:
        return Others("others like it", site.url("jobs", q=f"state:failed fp:{print_of}"))
    others = max(group.jobs - (job.state == "failed"), 0)
    return Others(f"{words.plural(others, 'other')} like it", site.url("error", fingerprint=print_of))


def _print(text: str) -> str:
    """As the database makes one for an error that came without."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]
