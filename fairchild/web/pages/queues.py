"""Queues: how full, how late, who takes from them; pause and resume."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.rules.query import Query, Term
from fairchild.web import charts
from fairchild.web.pages.overview import throughput
from fairchild.web.pages.parts import Parts
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_queues import Queue, queue_rows, takers
from fairchild.web.problems import Problem

MOST_JOBS = 10
MINUTES = 60
CAP = 1000
"""Up to which the jobs of each priority are counted."""


def add_to(site: Site) -> None:
    """Add the list, the page of a queue, pause and resume."""

    @site.page("/queues")
    def page_queues() -> Shown:
        parts = Parts(site.fc)
        queues, _, _ = _read(site, parts)
        return Shown("queues.html", {"queues": queues, "late": parts.late})

    @site.page("/queues/<path:name>")
    def page_queue(name: str) -> Shown:
        parts = Parts(site.fc)
        queues, workers, timings = _read(site, parts)
        queue = next((each for each in queues if each.name == name), None)
        if queue is None and "rows" in parts.late:
            raise Problem(503, "this took too long and was broken off; try again")
        if queue is None:
            raise Problem(404, f"there is no queue {name[:100]!r}: nothing is or was in it, and it was never paused")
        return Shown("queue.html", _shown(site, parts, queue, workers, timings))

    @site.page("/queues/<path:name>", "queues:pause", methods=("POST",))
    def page_queue_act(name: str) -> AnyResponse:
        action = request.form.get("action")
        if action == "pause":
            changed = site.fc.queues.pause(name, site.gate.who())
        elif action == "resume":
            changed = site.fc.queues.resume(name)
        else:
            raise Problem(422, "say what to do: pause or resume")
        pauses = action == "pause"
        was = {"paused": pauses != changed}
        site.audit(f"queues:{action}", name, 1, before=was, after={"paused": pauses})
        return site.done(f"{action}d", 1, "queue", among="queues", name=name)


def _read(site: Site, parts: Parts) -> tuple[list[Queue], list[dict[str, Any]], list[dict[str, Any]]]:
    workers = parts.rows("workers", site.fc.worker_sessions)
    timings = parts.rows("timings", lambda: site.kept("timings", site.fc.timings))
    retrying = parts.by_key("retrying", site.fc.insight.retrying)
    rows = parts.rows("rows", lambda: _rows(site, workers, timings, retrying), needs="workers")
    return rows, workers, timings


def _rows(site: Site, workers: list[Any], timings: list[Any], retrying: dict[str, int]) -> list[Queue]:
    return queue_rows(site.fc, workers, timings, retrying, site.stats()["queues"])


def _shown(
    site: Site, parts: Parts, queue: Queue, workers: list[dict[str, Any]], timings: list[dict[str, Any]]
) -> dict[str, Any]:
    fc, name = site.fc, queue.name
    points = parts.rows("throughput", lambda: fc.points(MINUTES, queue=name))
    waits = parts.rows("waits", lambda: fc.waits(MINUTES, queue=name))
    own = [each for each in timings if each["queue"] == name]
    return {
        "queue": queue,
        **throughput(points, 1, "1h", waits),
        "tasks": own,
        "waited": charts.histogram([each["wait"]["buckets"] for each in own]),
        "ran": charts.histogram([each["run"]["buckets"] for each in own]),
        "takers": takers(workers, name),
        "next": parts.rows("waiting", lambda: fc.queues.longest_waiting(name, MOST_JOBS)),
        "priorities": parts.by_key("priorities", lambda: fc.queues.priorities(name, CAP)),
        "cap": CAP,
        "here_q": str(Query((Term("queue", (name,)),))),
        "late": parts.late,
    }
