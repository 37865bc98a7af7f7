"""What one may be allowed to do through the API and the pages."""

from __future__ import annotations

from collections.abc import Iterable

PUBLIC = "public"
"""Of routes that anybody may ask for: static files."""
PROBE = "probe"
"""Of the probes. Nobody is given it: it depends on where a request comes from, not on who sends it."""
VIEW = "view"
READING = frozenset({PUBLIC, PROBE, VIEW, "payload:read"})
OPERATING = frozenset({"jobs:retry", "jobs:cancel", "jobs:edit", "jobs:insert", "queues:pause", "workers:control"})
ADMINISTERING = frozenset({"jobs:delete", "limits:edit", "schedules:edit", "tenants:edit", "tokens:edit"})
RIGHTS = READING | OPERATING | ADMINISTERING
ROLES = {"view": READING, "operate": READING | OPERATING, "admin": RIGHTS}


def granted(names: Iterable[str]) -> frozenset[str]:
    """All rights that roles and rights of these names give; any of them lets one look. Raises ValueError."""
    rights: set[str] = set()
    for name in names:
        if name in ROLES:
            rights |= ROLES[name]
        elif name in RIGHTS:
            rights |= {name, VIEW}
        else:
            raise ValueError(
                f"{name!r} is neither a role ({', '.join(ROLES)}) nor a right: {', '.join(sorted(RIGHTS))}"
            )
    return frozenset(rights)
