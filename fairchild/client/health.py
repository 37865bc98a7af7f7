"""``fairchild.health()``: whether the database, the tables, the workers and the queues are as they should be.

A check is ``{"ok", "level", "detail", "do"}``. ``level`` is "ok", "warn" (jobs run, but not for long, or not all of
them) or "fail", and ``ok`` is false only of the last. ``do`` says what to do about it, and is empty where all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fairchild.db.health import oldest_available
from fairchild.db.insight import Trouble
from fairchild.db.workers import WorkerState
from fairchild.errors import StoreError

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild

Checks = dict[str, dict[str, Any]]

OPEN_TOO_LONG = timedelta(minutes=5)
"""For which a transaction may hold back vacuum."""
UPKEEP_LATE = timedelta(minutes=10)
SKEWED_SECONDS = 2.0
"""By which a worker's clock may differ before it is worth a word: the time of a beat's way is in it."""
NOTIFY_FILLING = 0.5
"""Of the server's queue of notifications; when it is full, those who notify are refused."""


def check_database(client: Fairchild) -> Checks:
    """Whether it can be reached, and has the tables of this release."""
    try:
        client.database.check()
    except StoreError as error:
        return {"database": _check("fail", str(error), "see that the server runs and that the URL leads to it")}
    reached = {"database": _check("ok", "it answers")}
    migrating = "run `fairchild migrate`"
    try:
        pending = client.pending_migrations()
    except StoreError as error:
        return {**reached, "schema": _check("fail", str(error), migrating)}
    if pending:
        detail = f"{len(pending)} migrations are pending: {migrating}"
        return {**reached, "schema": _check("fail", detail, migrating)}
    return {**reached, "schema": _check("ok", "up to date")}


def check_all(client: Fairchild, max_age: float | None, hostname: str | None, name: str | None) -> Checks:
    """All checks; without the database or the tables, only those that fail for that."""
    checks = check_database(client)
    if not all(each["ok"] for each in checks.values()):
        return checks
    try:
        checks["workers"] = _check_workers(client, hostname, name)
        checks["jobs"] = check_age(client.ask(oldest_available), max_age)
        checks["queues"] = _check_queues(client)
        sessions, now, trouble = client.worker_sessions(), client.insight.now(), client.insight.trouble()
        checks["clocks"] = _check_clocks(sessions)
        checks["transactions"] = _check_transactions(trouble, now)
        checks["notifications"] = _check_notifications(trouble)
        checks["upkeep"] = _check_upkeep(sessions, trouble, now)
    except StoreError as error:
        checks["database"] = _check("fail", str(error), "see that the server runs and that the URL leads to it")
    return checks


def check_age(oldest: tuple[str, float] | None, max_age: float | None) -> dict[str, Any]:
    """Whether the oldest available job, (queue, seconds), has waited for longer than ``max_age`` seconds."""
    if oldest is None:
        return _check("ok", "none is waiting for a worker")
    queue, seconds = oldest
    detail = f"the oldest available one (queue {queue}) waits for {seconds:.1f} s"
    if max_age is None or seconds <= max_age:
        return _check("ok", detail)
    return _check("fail", detail, f"start more workers for queue {queue}, or see what its jobs wait for in theirs")


def clock_ahead(session: Mapping[str, Any]) -> float | None:
    """By how many seconds a worker's clock was ahead of the database's at its last beat; the way of it included."""
    clock = session["vitals"].get("clock")
    return None if clock is None else float(clock) - session["beat_at"].timestamp()


def upkeep_behind(sessions: Sequence[Mapping[str, Any]], trouble: Trouble, now: datetime) -> datetime | None:
    """Since when workers that are at work have not kept the store in order; None if they have."""
    started = [each["started_at"] for each in sessions if each["state"] in ("running", "paused", "draining")]
    if not started:
        return None
    since = max(min(started), trouble.upkeep_at or min(started))
    return since if now - since > UPKEEP_LATE else None


def _check_workers(client: Fairchild, hostname: str | None, name: str | None) -> dict[str, Any]:
    found = [
        each
        for each in client.workers.list()
        if each.metadata.get("kind") != "consumer" and hostname in (None, each.hostname) and name in (None, each.name)
    ]
    dead = [each.name for each in found if each.state is WorkerState.DEAD]
    living = len(found) - len(dead)
    detail = f"{living} at work" + (f", and without a beat {', '.join(dead)}" if dead else "")
    if not living:
        return _check("fail", detail, "start one: `fairchild worker --import myapp.tasks`")
    return _check("warn" if dead else "ok", detail, "see why it is silent; its jobs run elsewhere" if dead else "")


def _check_queues(client: Fairchild) -> dict[str, Any]:
    alone = [
        each["name"]
        for each in client.queues.list()
        if each["counts"].get("available") and not each["workers"] and not each["paused"]
    ]
    if not alone:
        return _check("ok", "a worker takes from each that has jobs")
    names = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
    return _check(
        "warn", f"jobs wait and no live worker takes from {names}", f"start one: `fairchild worker --queues {alone[0]}`"
    )


def _check_clocks(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    ahead = {each["name"]: clock_ahead(each) for each in sessions if each["state"] in ("running", "paused", "draining")}
    skewed = [f"{name} {by:+.1f} s" for name, by in ahead.items() if by is not None and abs(by) >= SKEWED_SECONDS]
    if not skewed:
        return _check("ok", "those of the workers agree with the database's")
    return _check(
        "warn", f"they differ from the database's: {', '.join(skewed[:5])}",
        "let NTP set them; times in logs and ids are off, leases and schedules are not",
    )  # fmt: skip


def _check_transactions(trouble: Trouble, now: datetime) -> dict[str, Any]:
    since = trouble.oldest_transaction_at
    if since is None or now - since < OPEN_TOO_LONG:
        return _check("ok", "none holds back vacuum for long")
    return _check(
        "warn", f"one has been open for {(now - since).total_seconds():.0f} s and holds back vacuum",
        "find it in pg_stat_activity or pg_prepared_xacts, by the age of its start, and end it",
    )  # fmt: skip


def _check_notifications(trouble: Trouble) -> dict[str, Any]:
    detail = f"the server's queue of them is {100 * trouble.notify_used:.0f} % full"
    if trouble.notify_used < NOTIFY_FILLING:
        return _check("ok", detail)
    return _check(
        "warn", detail, "a session that listens has not ended its transaction for long; find it in pg_stat_activity"
    )


def _check_upkeep(sessions: list[dict[str, Any]], trouble: Trouble, now: datetime) -> dict[str, Any]:
    since = upkeep_behind(sessions, trouble, now)
    if since is None:
        return _check("ok", "it is done, or nobody is there to do it")
    return _check(
        "warn", f"workers are at work, but none has done it for {(now - since).total_seconds():.0f} s",
        "see the logs of the workers",
    )  # fmt: skip


def _check(level: str, detail: str, do: str = "") -> dict[str, Any]:
    return {"ok": level != "fail", "level": level, "detail": detail, "do": do}
