"""Failures, those of one cause together: what, where, since when, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

from fairchild.client.insight import ErrorGroup
from fairchild.rules.fingerprint import without_details
from fairchild.rules.query import parse
from fairchild.web import words
from fairchild.web.pages.jobs import arguments_of
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

MOST_JOBS = 20
_FINGERPRINT = re.compile(r"[0-9a-f]{12}")


def add_to(site: Site) -> None:
    """Add the list, and the page of one."""

    @site.page("/errors")
    def page_errors() -> Shown:
        groups = [(each, said(site, each), link_of(site, each)) for each in site.fc.insight.errors()]
        return Shown("errors.html", {"groups": groups})

    @site.page("/errors/<fingerprint>")
    def page_error(fingerprint: str) -> Shown:
        group = site.fc.insight.error(fingerprint) if _FINGERPRINT.fullmatch(fingerprint) else None
        if group is None:
            raise Problem(404, "none of the 5,000 newest failed jobs ended by this error; they may have been retried")
        return Shown("error.html", _shown(site, group))


def said(site: Site, group: ErrorGroup) -> str | None:
    """What all its messages say alike, for those who may read any."""
    if group.message is None or not site.gate.tells_messages():
        return None
    return without_details(group.message)


def link_of(site: Site, group: ErrorGroup) -> str:
    """The page of an error."""
    return site.url("error", fingerprint=group.fingerprint)


def jobs_of(fingerprint: str) -> str:
    """The filter that its failed jobs pass."""
    return f"state:failed fp:{fingerprint}"


def _shown(site: Site, group: ErrorGroup) -> dict[str, Any]:
    query = jobs_of(group.fingerprint)
    jobs = site.fc.search(parse(query), limit=MOST_JOBS, short=True).jobs
    entry = _entry(site, group)
    traced = words.traced(entry.get("traceback") or "")
    return {
        "group": group,
        "said": said(site, group),
        "newest": entry.get("message"),
        "place": traced.innermost,
        "parts": traced.parts,
        "hours": group.by_hour(),
        "jobs": jobs,
        "shown": {job.id: arguments_of(site, job) for job in jobs},
        "q": query,
        "task_q": f"task:{words.quoted(group.task)}",
    }


def _entry(site: Site, group: ErrorGroup) -> dict[str, Any]:
    """The error of its newest job, for those who may read messages."""
    sample = site.fc.get_job(group.sample) if site.gate.allows("payload:read") else None
    if sample is None:
        return {}
    errors = site.visible(sample)[0].errors
    return errors[-1] if errors else {}
