"""Failures, those of one cause together: what, where, since when, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.insight import ERRORS_READ, ErrorGroup
from fairchild.rules.fingerprint import FINGERPRINT, without_details
from fairchild.rules.query import parse
from fairchild.web import words
from fairchild.web.pages.jobs import arguments_of
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_workers import deployed_at
from fairchild.web.problems import Problem

MOST_JOBS = 20


class Listed(NamedTuple):
    """A kind of error as the list shows it."""

    group: ErrorGroup
    said: str | None
    href: str
    new: bool
    q: str


def add_to(site: Site) -> None:
    """Add the list, the page of one, and muting it."""

    @site.page("/errors")
    def page_errors() -> Shown:
        parts = Parts(site.fc)
        workers = parts.rows("workers", site.fc.worker_sessions)
        groups = parts.rows("rows", lambda: listed(site, workers))
        muted = [each for each in groups if each.group.muted_at is not None]
        shows_muted = request.args.get("muted") == "1"
        return Shown(
            "errors.html",
            {
                "groups": muted if shows_muted else [each for each in groups if each not in muted],
                "muted": len(muted),
                "shows_muted": shows_muted,
                "late": parts.late,
            },
        )

    @site.page("/errors/<fingerprint>")
    def page_error(fingerprint: str) -> Shown:
        group = site.fc.insight.error(fingerprint) if FINGERPRINT.fullmatch(fingerprint) else None
        if group is None:
            raise Problem(404, "none of the 5,000 newest failed jobs ended by this error; they may have been retried")
        return Shown("error.html", _shown(site, group))

    @site.page("/errors/<fingerprint>", "jobs:edit", methods=("POST",))
    def page_error_act(fingerprint: str) -> AnyResponse:
        action = request.form.get("action")
        if not FINGERPRINT.fullmatch(fingerprint):
            raise Problem(404, "this is not the fingerprint of an error")
        if action == "mute":
            changed = site.fc.insight.mute(fingerprint, site.gate.who())
        elif action == "unmute":
            changed = site.fc.insight.unmute(fingerprint)
        else:
            raise Problem(422, "say what to do: mute or unmute")
        mutes = action == "mute"
        site.audit(f"errors:{action}", fingerprint, 1, before={"muted": mutes != changed}, after={"muted": mutes})
        return site.done(f"{action}d", 1, "error", among="errors", fingerprint=fingerprint)


def listed(site: Site, workers: Sequence[Mapping[str, Any]]) -> list[Listed]:
    """The kinds of errors, those that are new since the last deploy first, then the latest."""
    groups = site.fc.insight.errors()
    deployed = deployed_at(workers)
    # Of a window that does not reach back to the deploy nobody can tell what was there before.
    whole = sum(each.jobs for each in groups) < ERRORS_READ
    known = deployed is not None and (whole or any(each.first_at < deployed for each in groups))
    rows = [
        Listed(
            each,
            said(site, each),
            link_of(site, each),
            known and deployed is not None and each.first_at >= deployed,
            jobs_of(each.fingerprint),
        )
        for each in groups
    ]
    return sorted(rows, key=lambda each: not each.new)


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
