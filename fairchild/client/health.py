"""``fairchild.health()``: whether the database, the tables, the workers and the queues are as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairchild.db.health import oldest_available
from fairchild.db.workers import WorkerState
from fairchild.errors import StoreError

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild

Checks = dict[str, dict[str, Any]]


def check_database(client: Fairchild) -> Checks:
    """Whether it can be reached, and has the tables of this release."""
    try:
        client.database.check()
    except StoreError as error:
        return {"database": _check(False, str(error))}
    reached = {"database": _check(True, "it answers")}
    try:
        pending = client.pending_migrations()
    except StoreError as error:
        return {**reached, "schema": _check(False, str(error))}
    detail = f"{len(pending)} migrations are pending: run `fairchild migrate`" if pending else "up to date"
    return {**reached, "schema": _check(not pending, detail)}


def check_all(client: Fairchild, max_age: float | None, hostname: str | None, name: str | None) -> Checks:
    """All checks; without the database or the tables, only those that fail for that."""
    checks = check_database(client)
    if not all(each["ok"] for each in checks.values()):
        return checks
    try:
        checks["workers"] = _check_workers(client, hostname, name)
        checks["jobs"] = _check_jobs(client, max_age)
    except StoreError as error:
        checks["database"] = _check(False, str(error))
    return checks


def _check_workers(client: Fairchild, hostname: str | None, name: str | None) -> dict[str, Any]:
    found = [
        each
        for each in client.workers.list()
        if each.metadata.get("kind") != "consumer" and hostname in (None, each.hostname) and name in (None, each.name)
    ]
    dead = [each.name for each in found if each.state is WorkerState.DEAD]
    living = len(found) - len(dead)
    detail = f"{living} at work" + (f", and without a beat {', '.join(dead)}" if dead else "")
    return _check(living > 0, detail)


def _check_jobs(client: Fairchild, max_age: float | None) -> dict[str, Any]:
    oldest = client.ask(oldest_available)
    if oldest is None:
        return _check(True, "none is waiting for a worker")
    queue, seconds = oldest
    return _check(
        max_age is None or seconds <= max_age, f"the oldest available one (queue {queue}) waits for {seconds:.1f} s"
    )


def _check(ok: bool, detail: str) -> dict[str, Any]:
    return {"ok": ok, "detail": detail}
