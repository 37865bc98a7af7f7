"""The server, the tables, the settings, and who did what."""

from __future__ import annotations

from flask import request

from fairchild.client.health import SKEWED_SECONDS, clock_ahead
from fairchild.client.insight import Server, TableFacts
from fairchild.web.audit import changes
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_workers import at_work
from fairchild.web.problems import Problem

ENTRIES = 50


def add_to(site: Site) -> None:
    """Add both pages."""

    @site.page("/system")
    def page_system() -> Shown:
        look, parts = site.fc.insight, Parts(site.fc)
        nothing: tuple[Server | None, list[TableFacts]] = (None, [])
        server, tables = parts.read("server", look.server, nothing)
        trouble = parts.read("trouble", look.trouble, None)
        sessions = parts.rows("workers", site.fc.worker_sessions)
        workers = at_work(sessions)
        ahead = [(each, clock_ahead(each)) for each in workers]
        return Shown(
            "system.html",
            {
                "server": server,
                "tables": tables,
                "trouble": trouble,
                "revision": parts.read("revision", look.revision, None),
                "pending": parts.rows("pending", site.fc.pending_migrations),
                "pruned": parts.by_key("marks", look.marks).get("prune"),
                "skewed": [(each, by) for each, by in ahead if by is not None and abs(by) >= SKEWED_SECONDS],
                "clocks": sum(by is not None for _, by in ahead),
                "pool": look.pool_use(),
                "pool_size": site.fc.config.pool_size,
                "settings": look.settings() if site.gate.allows("tokens:edit") else None,
                "late": parts.late,
            },
        )

    @site.page("/audit", "tokens:edit")
    def page_audit() -> Shown:
        text = request.args.get("before", "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Problem(422, "before must be the number of an entry")
        entries = site.fc.audit_entries(ENTRIES, int(text) if text else None)
        older = site.here(before=entries[-1].id) if len(entries) == ENTRIES else None
        return Shown("audit.html", {"entries": entries, "changes": changes, "older": older})
