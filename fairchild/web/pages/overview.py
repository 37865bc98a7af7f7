"""Is it healthy, and if not, where to click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from flask import request

from fairchild.client.health import OPEN_TOO_LONG, upkeep_behind
from fairchild.client.insight import Coming, Trouble, Wanted
from fairchild.web import charts, words
from fairchild.web.pages.errors import listed
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_queues import Queue, lost_queues, queue_rows
from fairchild.web.pages.state_of_workers import at_work, mixed_versions

WINDOWS = {"1h": (60, 1), "6h": (360, 6), "24h": (1440, 24), "7d": (10080, 168)}
"""By name: minutes looked back, and minutes a column stands for."""
_UNITS = {1: "minute", 6: "6 minutes", 24: "24 minutes", 168: "168 minutes"}
WAITS_SHOWN = 360
"""The longest window, in minutes, with a line of waits: its histograms are added up one by one."""
MOST_QUEUES = 8
MOST_ERRORS = 6
MOST_BANNERS = 3
_NOTHING_COMES = Coming(0, 0, None, None)
_NO_TROUBLE = Trouble(None, None, 0.0)


@dataclass(frozen=True)
class Banner:
    """Something that is wrong, as a sentence around a name and a time since when, and where to look."""

    kind: str
    before: str
    name: str = ""
    after: str = ""
    since: datetime | None = None
    end: str = ""
    href: str = ""
    link: str = ""


class Tile(NamedTuple):
    """The count of one state and what to know beside it: a moment to come, or one ``since`` which it is so."""

    state: str
    jobs: int
    note: str
    moment: datetime | None = None
    since: datetime | None = None
    more: str = ""


def add_to(site: Site) -> None:
    """Add the page."""

    @site.page("/")
    def page_overview() -> Shown:
        fc, parts = site.fc, Parts(site.fc)
        window = request.args.get("window", "1h")
        window = window if window in WINDOWS else "1h"
        minutes, step = WINDOWS[window]
        stats = parts.read("tiles", site.stats, {"jobs": dict.fromkeys(fc.stats_states(), 0)})
        timings = parts.rows("timings", lambda: site.kept("timings", fc.timings))
        workers = parts.rows("workers", fc.worker_sessions)
        queues = parts.rows(
            "queues", lambda: queue_rows(fc, workers, timings, counts=site.stats()["queues"]), needs="workers"
        )
        points = parts.rows("throughput", lambda: fc.points(minutes, step=step))
        waits = parts.rows("waits", lambda: _waits(site, minutes, step)) if minutes <= WAITS_SHOWN else []
        coming = parts.read("coming", fc.insight.coming, _NOTHING_COMES)
        return Shown(
            "overview.html",
            {
                "window": window,
                "windows": [(name, each[0]) for name, each in WINDOWS.items()],
                "banners": parts.rows("banners", lambda: _banners(site, queues, workers), needs="queues"),
                "tiles": _tiles(stats["jobs"], coming, queues, at_work(workers), sums_of(points), window),
                **_first_steps(stats["jobs"], workers, timings, late=bool(parts.late)),
                **throughput(points, step, window, waits),
                "unit": _UNITS[step],
                "errors": [
                    each
                    for each in parts.rows("attention", lambda: listed(site, workers))
                    if each.group.muted_at is None
                ][:MOST_ERRORS],
                "queues": sorted(queues, key=lambda each: (each.status.word == "active", -each.available))[
                    :MOST_QUEUES
                ],
                "longest": parts.rows("longest", fc.insight.longest_running),
                "usual": {each["task"]: each["run"]["p95"] for each in timings},
                "workflows": parts.rows("recent", lambda: fc.insight.workflows(Wanted(), 5).found),
                "late": parts.late,
            },
        )


def _waits(site: Site, minutes: int, step: int) -> list[float | None]:
    found: list[float | None] = site.kept(("waits", minutes), lambda: site.fc.waits(minutes, step=step))
    return found


def _first_steps(
    counts: Mapping[str, int], workers: Sequence[Any], timings: Sequence[Any], *, late: bool
) -> dict[str, Any]:
    """Whether to say how to begin, and what of that has been done: until a worker was seen and a job was made."""
    total = sum(counts.values())
    used = timings or counts["completed"] or counts["failed"] or (workers and total)
    return {"fresh": not late and not used, "worker_seen": bool(workers), "total": total}


def throughput(
    points: Sequence[Mapping[str, Any]], step: int, window: str, waits: Sequence[float | None]
) -> dict[str, Any]:
    """What a chart of throughput shows: what ended in stacks, what was made and how long it waited as lines."""
    columns, sums, inserted = columns_of(points), sums_of(points), [each["inserted"] for each in points]
    chart = charts.stacked(columns, words.STACKED, least=max((each or 0 for each in inserted), default=0))
    longest = max((each for each in waits if each is not None), default=None)
    made = sum(each or 0 for each in inserted)
    ended = f"{words.number(sums['completed'])} completed, {words.number(sums['failed'])} failed"
    return {
        "chart": chart,
        "lines": [charts.line("inserted", inserted, chart.top)],
        "waits": None if longest is None else charts.line("wait", waits, charts.nice_seconds(longest)),
        "made": made,
        "sums": sums,
        "days": step > 100,
        "sums_said": f"{ended}, {words.number(made)} inserted in the last {window}",
    }


def columns_of(points: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, dict[str, float]]]:
    """What ended from each moment on."""
    return [(each["minute"], {state: each[state] for state in words.STACKED}) for each in points]


def sums_of(points: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What ended in all."""
    return {state: sum(each[state] for each in points) for state in words.STACKED}


def _banners(site: Site, queues: Sequence[Queue], workers: Sequence[Mapping[str, Any]]) -> list[Banner]:
    """The most important first; those of one kind are one."""
    now, trouble = site.now(), site.fc.insight.trouble()
    found = [
        _pending(site),
        _unserved(site, lost_queues(queues)),
        _upkeep(site, workers, trouble, now),
        _transaction(site, trouble, now),
        _versions(site, workers, now),
    ]
    return [each for each in found if each is not None][:MOST_BANNERS]


def _pending(site: Site) -> Banner | None:
    pending = len(site.fc.pending_migrations())
    return (
        Banner("retrying", f"{words.plural(pending, 'migration')} pending: run", "fairchild migrate")
        if pending
        else None
    )


def _unserved(site: Site, lost: Sequence[Queue]) -> Banner | None:
    if not lost:
        return None
    queue, others = lost[0], len(lost) - 1
    more = f" {words.plural(others, 'other queue is', 'other queues are')} left alone, too." if others else ""
    href = site.url("queues") if others else site.url("queue", name=queue.name)
    return Banner(
        "failed",
        "Queue",
        queue.name,
        f"has {words.plural(queue.available, 'job')} waiting and no live worker takes from it"
        + (", the oldest for" if queue.oldest_at else ""),
        queue.oldest_at,
        f".{more}",
        href,
        "Show queues" if others else "Show queue",
    )


def _upkeep(site: Site, workers: Sequence[Mapping[str, Any]], trouble: Trouble, now: datetime) -> Banner | None:
    since = upkeep_behind(workers, trouble, now)
    if since is None:
        return None
    return Banner(
        "failed",
        "Workers are at work, but none keeps the store in order: the history is behind, for",
        since=since,
        end=". Their logs say why.",
        href=site.url("workers"),
        link="Show workers",
    )


def _transaction(site: Site, trouble: Trouble, now: datetime) -> Banner | None:
    since = trouble.oldest_transaction_at
    if since is None or now - since < OPEN_TOO_LONG:
        return None
    return Banner(
        "retrying", "A transaction has been open for", since=since,
        end=" and holds back vacuum: tables grow and claims slow down until it ends.", href=site.url("system"),
        link="Show system",
    )  # fmt: skip


def _versions(site: Site, workers: Sequence[Mapping[str, Any]], now: datetime) -> Banner | None:
    mixed = mixed_versions(workers, now)
    if mixed is None:
        return None
    return Banner(
        "retrying", f"Workers of {len(mixed.names)} versions are at work ({', '.join(mixed.names)}), for",
        since=mixed.since, end=".", href=site.url("workers"), link="Show workers",
    )  # fmt: skip


def _tiles(
    counts: Mapping[str, int],
    coming: Coming,
    queues: Sequence[Queue],
    workers: Sequence[Mapping[str, Any]],
    sums: Mapping[str, int],
    window: str,
) -> list[Tile]:
    oldest = min((each.oldest_at for each in queues if each.oldest_at is not None), default=None)
    slots = sum(each["concurrency"] for each in workers)
    notes: dict[str, Tile] = {
        "available": Tile("available", 0, "oldest" if oldest else "none waits", since=oldest),
        "running": Tile("running", 0, f"of {words.plural(slots, 'slot')}" if slots else "no worker"),
        "scheduled": Tile("scheduled", 0, "next", coming.next_at) if coming.next_at else Tile("scheduled", 0, "none"),
        "waiting": Tile("waiting", 0, "on other jobs"),
        "retrying": Tile(
            "retrying", 0, "next" if coming.next_retry_at else "none", coming.next_retry_at,
            more="+" if coming.read < counts.get("scheduled", 0) else "",
        ),
        **{state: Tile(state, 0, f"{words.short_number(sums[state])} in {window}") for state in words.STACKED},
    }  # fmt: skip
    shown = {**counts, "retrying": coming.retrying}
    shown["scheduled"] = max(counts.get("scheduled", 0) - coming.retrying, 0)
    return [notes[state]._replace(jobs=shown.get(state, 0)) for state in words.STATES]
