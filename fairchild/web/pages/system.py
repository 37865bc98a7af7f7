"""The server, the tables, the settings, and who did what."""

from __future__ import annotations

from flask import request

from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

ENTRIES = 50


def add_to(site: Site) -> None:
    """Add both pages."""

    @site.page("/system")
    def page_system() -> Shown:
        server, tables = site.fc.insight.server()
        config = site.fc.config
        settings = [
            ("Schema", config.schema or "the connection's own"),
            ("Connections of this client at most", str(config.pool_size)),
            ("Largest arguments or result", f"{config.max_payload_bytes:,} bytes"),
        ]
        return Shown(
            "system.html",
            {"server": server, "tables": tables, "pending": site.fc.pending_migrations(), "settings": settings},
        )

    @site.page("/audit", "tokens:edit")
    def page_audit() -> Shown:
        text = request.args.get("before", "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Problem(422, "before must be the number of an entry")
        entries = site.fc.audit_entries(ENTRIES, int(text) if text else None)
        older = site.here(before=entries[-1].id) if len(entries) == ENTRIES else None
        return Shown("audit.html", {"entries": entries, "older": older})
