"""The list of workflows: by name, state, task, tenant and time, from the newest back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import request

from fairchild.client.insight import Wanted
from fairchild.errors import UsageError
from fairchild.ids import lowest
from fairchild.job import JobState
from fairchild.rules.query import moment_before
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

PAGE = 25
FIELDS = ("name", "state", "task", "tenant", "after")
MOST_TEXT = 255


def add_to(site: Site) -> None:
    """Add the list."""

    @site.page("/workflows")
    def page_workflows() -> Shown:
        asked = {name: request.args.get(name, "").strip()[:MOST_TEXT].replace("\0", "") for name in FIELDS}
        wanted, wrong = _wanted(site, asked)
        before, newer = _cursor("before"), _cursor("newer")
        listed = site.fc.insight.workflows(wanted, PAGE, newer or before, newer=newer is not None)
        return Shown(
            "workflows.html",
            {
                "workflows": listed.found,
                "asked": asked,
                "filtered": any(asked.values()),
                "wrong": wrong,
                "looked_at": listed.looked_at if len(listed.found) < PAGE and listed.older else 0,
                "states_of_jobs": [state.value for state in JobState],
                "older": site.here(before=listed.older, newer=None) if listed.older else None,
                "newer": site.here(newer=listed.newer, before=None) if listed.newer else None,
                "live": before is None and newer is None,
            },
        )


def _wanted(site: Site, asked: dict[str, str]) -> tuple[Wanted, str]:
    """The filter, and what of it cannot be read."""
    given: dict[str, Any] = {name: asked[name] or None for name in ("name", "task", "tenant")}
    wrong = ""
    if asked["state"] in {state.value for state in JobState}:
        given["state"] = asked["state"]
    elif asked["state"]:
        wrong = f"state: {asked['state']!r} is not a state"
    if asked["after"]:
        try:
            moment = moment_before(asked["after"], site.now())
        except UsageError as error:
            wrong = str(error)
        else:
            given["since"] = lowest(moment)
    return Wanted(**given), wrong


def _cursor(name: str) -> UUID | None:
    text = request.args.get(name, "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(422, f"{name} must be the id of a workflow") from None
