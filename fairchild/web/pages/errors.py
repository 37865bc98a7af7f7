"""Failures by task and kind of exception."""

from __future__ import annotations

from flask import redirect
from werkzeug.wrappers import Response as AnyResponse

from fairchild.web.pages.overview import link_of
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem


def add_to(site: Site) -> None:
    """Add the list, and the way from a fingerprint to its jobs."""

    @site.page("/errors")
    def page_errors() -> Shown:
        groups = site.fc.insight.errors()
        if not site.gate.allows("payload:read"):
            groups = [each._replace(message=None) for each in groups]
        return Shown("errors.html", {"groups": [(each, link_of(site, each)) for each in groups]})

    @site.page("/errors/<fingerprint>")
    def page_error(fingerprint: str) -> AnyResponse:
        for each in site.fc.insight.errors():
            if each.fingerprint == fingerprint:
                return redirect(link_of(site, each), 302)
        raise Problem(404, "no job among the newest failures ended with this error")
