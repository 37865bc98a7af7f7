"""Workers: what each does and where; pause, resume, stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.health import SKEWED_SECONDS, clock_ahead
from fairchild.client.workers import WorkerInfo
from fairchild.errors import UnknownWorker
from fairchild.web import words
from fairchild.web.pages import stacks
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_workers import AT_WORK, mixed_versions
from fairchild.web.problems import Problem

MOST_JOBS = 50
MOST_OVER = 50
MOST_TASKS = 200
TABS = ("all", "running", "idle", "paused", "stale")
"""What the list can be narrowed to; stale are those of which nothing is heard."""


class Shade(NamedTuple):
    """A worker's state in words, and the job state in whose colour it is said."""

    word: str
    state: str


_SHADES = {
    "running": Shade("running", "completed"),
    "paused": Shade("paused", "waiting"),
    "draining": Shade("stopping", "retrying"),
    "stopped": Shade("stopped", "waiting"),
    "lost": Shade("not heard of", "failed"),
    "dead": Shade("lost", "failed"),
}


def add_to(site: Site) -> None:
    """Add the list, the page of a worker, and what can be asked of one."""

    @site.page("/workers")
    def page_workers() -> Shown:
        parts = Parts(site.fc)
        found = [_row(site, each) for each in parts.rows("rows", site.fc.worker_sessions)]
        live = [each for each in found if each["state"] in (*AT_WORK, "lost")]
        over = [each for each in found if each not in live]
        shown = request.args.get("show", "")
        shown = shown if shown in TABS else "all"
        if shown != "all":
            live, over = [[each for each in some if each["tab"] == shown] for some in (live, over)]
        return Shown(
            "workers.html",
            {
                "workers": live,
                "over": over[:MOST_OVER],
                "shown": shown,
                "tabs": _tabs(site, found, shown),
                "mixed": mixed_versions(found, site.now()),
                "late": parts.late,
            },
        )

    @site.page("/workers/<id>")
    def page_worker(id: str) -> Shown:
        worker, parts = _find(site, id), Parts(site.fc)
        query = f"worker:{worker['id']} state:running"
        timings = parts.rows("usual", site.fc.timings)
        tasks = parts.rows("tasks", lambda: site.fc.catalog(worker["catalog"]))
        return Shown(
            "worker.html",
            {
                "worker": worker,
                "jobs": parts.rows("jobs", lambda: site.fc.search(query, limit=MOST_JOBS, short=True).jobs),
                "usual": {each["task"]: each["run"]["p95"] for each in timings},
                "tasks": tasks[:MOST_TASKS],
                "more_tasks": max(len(tasks) - MOST_TASKS, 0),
                "live": worker["state"] in AT_WORK,
                "seen": stacks.of_worker(site, worker["id"]),
                "late": parts.late,
            },
        )

    doors = site.fc.workers
    for name, did, door in (
        ("pause", "paused", doors.pause), ("resume", "resumed", doors.resume), ("stop", "stopped", doors.stop),
    ):  # fmt: skip
        _add_control(site, name, did, door)


def _add_control(site: Site, name: str, did: str, door: Callable[[UUID], list[WorkerInfo]]) -> None:
    def view(id: str) -> Shown | AnyResponse:
        worker = _find(site, id)
        if name == "stop" and request.form.get("sure") != "1":
            return _ask_to_stop(site, worker)
        try:
            found = door(worker["id"])
        except UnknownWorker:
            raise Problem(409, f"this worker is {worker['shade'].word}; nothing was asked of it") from None
        was, now = {"state": worker["state"]}, {"state": found[0].state.value}
        site.audit(f"workers:{name}", f"{worker['name']} {worker['id']}", 1, before=was, after=now)
        return site.done(f"worker-{did}", 1, "worker", among="workers", id=worker["id"])

    view.__name__ = f"page_worker_{name}"
    site.page(f"/workers/<id>/{name}", "workers:control", methods=("POST",))(view)


def _tab(worker: Mapping[str, Any]) -> str:
    """The tab that a worker is under besides all; none if it has stopped."""
    state = worker["state"]
    if state in ("lost", "dead"):
        return "stale"
    if state in ("running", "draining"):
        return "running" if worker["running"] else "idle"
    return "paused" if state == "paused" else ""


def _tabs(site: Site, found: Iterable[Mapping[str, Any]], shown: str) -> list[dict[str, Any]]:
    """The tabs: how many are under each, and where it is."""
    counts = Counter(each["tab"] for each in found)
    counts["all"] = sum(each["state"] not in ("stopped", "dead") for each in found)
    return [
        {
            "name": name,
            "count": counts[name],
            "href": site.here(show=None if name == "all" else name),
            "here": name == shown,
        }
        for name in TABS
    ]


def _find(site: Site, id: str) -> dict[str, Any]:
    try:
        wanted = UUID(id)
    except ValueError:
        raise Problem(404, f"{id[:60]!r} is not the id of a worker") from None
    for each in site.fc.worker_sessions():
        if each["id"] == wanted:
            return _row(site, each)
    raise Problem(404, f"there is no worker {id}: it ended a while ago")


def _row(site: Site, worker: Mapping[str, Any]) -> dict[str, Any]:
    vitals = worker["vitals"]
    error, ahead = vitals.get("error"), clock_ahead(worker)
    if error is not None:
        moment = datetime.fromtimestamp(error["at"], timezone.utc)
        error = {**error, "at": moment, "text": error["text"] if site.gate.allows("payload:read") else "hidden"}
    return {
        **worker,
        "shade": _SHADES.get(worker["state"], Shade(worker["state"], "waiting")),
        "tab": _tab(worker),
        "rss": vitals.get("rss"),
        "cpu": vitals.get("cpu"),
        "trouble": error,
        "ahead": ahead if ahead is not None and abs(ahead) >= SKEWED_SECONDS else None,
        "held": worker["metadata"].get("held", 0) if worker["state"] == "dead" else 0,
    }


def _ask_to_stop(site: Site, worker: Mapping[str, Any]) -> Shown:
    here = site.url("worker", id=worker["id"])
    stops = worker["state"] in ("running", "paused")
    return Shown(
        "confirm.html",
        {
            "verb": "Stop",
            "what": f"worker {worker['name']}",
            "facts": [
                ("Worker", f"{worker['name']}, process {worker['pid']} on {worker['hostname']}"),
                ("Runs now", f"{words.plural(worker['running'], 'job')}, which it finishes first"),
                ("Then", "its process ends; nothing here starts it again"),
            ],
            "possible": 1 if stops else 0,
            "more": False,
            "type_number": 0,
            "dangerous": True,
            "target": site.url("worker_stop", id=worker["id"]),
            "fields": [],
            "back": here,
            "back_name": "Worker",
            "wrong": "",
            "going": "",
        },
    )
