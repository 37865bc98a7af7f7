"""Is it healthy, and if not, where to click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from flask import request

from fairchild.web import charts, words
from fairchild.web.pages.errors import link_of, said
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_queues import Queue, lost_queues, queue_rows

WINDOWS = {"1h": (60, 1), "6h": (360, 6), "24h": (1440, 24), "7d": (10080, 168)}
"""By name: minutes looked back, and minutes a column stands for."""
_UNITS = {1: "minute", 6: "6 minutes", 24: "24 minutes", 168: "168 minutes"}
MOST_QUEUES = 8
MOST_ERRORS = 6
MOST_BANNERS = 3


class Banner(NamedTuple):
    """Something that is wrong, as a sentence around a name, and where to look."""

    kind: str
    before: str
    name: str
    after: str
    href: str = ""
    link: str = ""


class Tile(NamedTuple):
    """The count of one state and what to know beside it."""

    state: str
    jobs: int
    note: str
    moment: datetime | None = None
    more: str = ""


class Seen(NamedTuple):
    """A kind of error as the list shows it."""

    type: str
    message: str | None
    task: str
    jobs: int
    last_at: datetime
    href: str


def add_to(site: Site) -> None:
    """Add the page."""

    @site.page("/")
    def page_overview() -> Shown:
        window = request.args.get("window", "1h")
        window = window if window in WINDOWS else "1h"
        minutes, step = WINDOWS[window]
        timings = site.fc.timings()
        stats = site.fc.stats()
        workers = [each for each in site.fc.worker_sessions() if each["state"] in ("running", "paused", "draining")]
        queues = queue_rows(site.fc, workers, timings)
        columns, sums = columns_of(site.fc.points(minutes, step=step), step)
        total = sum(stats["jobs"].values())
        workflows, _ = site.fc.roots(limit=5)
        said = f"{words.number(sums['completed'])} completed, {words.number(sums['failed'])} failed"
        timed = {each["task"]: each["run"]["p95"] for each in timings}
        return Shown(
            "overview.html",
            {
                "window": window,
                "windows": [(name, each[0]) for name, each in WINDOWS.items()],
                "banners": _banners(site, queues),
                "tiles": _tiles(site, stats["jobs"], queues, workers, sums, window),
                "fresh": total == 0 or (not workers and not any(stats["jobs"][s] for s in ("completed", "failed"))),
                "total": total,
                "workers": workers,
                "chart": charts.stacked(columns, words.STACKED),
                "moments": [label for label, _ in columns],
                "unit": _UNITS[step],
                "sums": sums,
                "sums_said": f"{said} in the last {window}",
                "wait_p95": max((each.wait_p95 for each in queues if each.wait_p95 is not None), default=None),
                "errors": _errors(site)[:MOST_ERRORS],
                "queues": sorted(queues, key=lambda each: (each.status.word == "active", -each.available))[
                    :MOST_QUEUES
                ],
                "longest": site.fc.insight.longest_running(),
                "usual": timed,
                "workflows": workflows,
            },
        )


def columns_of(
    points: Sequence[Mapping[str, Any]], step: int
) -> tuple[list[tuple[str, dict[str, float]]], dict[str, int]]:
    """Columns of ``step`` minutes each with a label, and the sums of all."""
    form = "%H:%M" if step < 100 else "%d %b %H:%M"
    columns = [(f"{each['minute']:{form}}", {state: each[state] for state in words.STACKED}) for each in points]
    return columns, {state: sum(each[state] for each in points) for state in words.STACKED}


def _banners(site: Site, queues: Sequence[Queue]) -> list[Banner]:
    found = []
    for queue in lost_queues(queues):
        waits = f", the oldest for {words.duration(queue.oldest_seconds)}" if queue.oldest_seconds else ""
        found.append(
            Banner(
                "failed",
                "Queue",
                queue.name,
                f"has {words.plural(queue.available, 'job')} waiting and no live worker takes from it{waits}.",
                site.url("queue", name=queue.name),
                "Show queue",
            )
        )
    pending = site.fc.pending_migrations()
    if pending:
        found.insert(
            0, Banner("retrying", f"{words.plural(len(pending), 'migration')} pending: run", "fairchild migrate", ".")
        )
    return found[:MOST_BANNERS]


def _tiles(
    site: Site,
    counts: Mapping[str, int],
    queues: Sequence[Queue],
    workers: Sequence[Mapping[str, Any]],
    sums: Mapping[str, int],
    window: str,
) -> list[Tile]:
    coming = site.fc.insight.coming()
    oldest = max((each.oldest_seconds for each in queues if each.oldest_seconds is not None), default=None)
    slots = sum(each["concurrency"] for each in workers)
    notes: dict[str, Tile] = {
        "available": Tile("available", 0, f"oldest {words.duration(oldest)}" if oldest is not None else "none waits"),
        "running": Tile("running", 0, f"of {words.plural(slots, 'slot')}" if slots else "no worker"),
        "scheduled": Tile("scheduled", 0, "next", coming.next_at) if coming.next_at else Tile("scheduled", 0, "none"),
        "waiting": Tile("waiting", 0, "on other jobs"),
        "retrying": Tile(
            "retrying", 0, "next" if coming.next_retry_at else "none", coming.next_retry_at,
            "+" if coming.read < counts.get("scheduled", 0) else "",
        ),
        **{state: Tile(state, 0, f"{words.short_number(sums[state])} in {window}") for state in words.STACKED},
    }  # fmt: skip
    shown = {**counts, "retrying": coming.retrying}
    shown["scheduled"] = max(counts.get("scheduled", 0) - coming.retrying, 0)
    return [notes[state]._replace(jobs=shown.get(state, 0)) for state in words.STATES]


def _errors(site: Site) -> list[Seen]:
    return [
        Seen(each.type, said(site, each), each.task, each.jobs, each.last_at, link_of(site, each))
        for each in site.fc.insight.errors()
    ]
