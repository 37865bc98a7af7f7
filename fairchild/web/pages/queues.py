"""Queues: how full, how late, who takes from them; pause and resume."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.rules.query import Query, Term, parse
from fairchild.web import charts, words
from fairchild.web.pages.overview import columns_of
from fairchild.web.pages.site import Shown, Site
from fairchild.web.pages.state_of_queues import Queue, queue_rows
from fairchild.web.problems import Problem

MOST_JOBS = 10


def add_to(site: Site) -> None:
    """Add the list, the page of a queue, pause and resume."""

    @site.page("/queues")
    def page_queues() -> Shown:
        return Shown("queues.html", {"queues": _queues(site)})

    @site.page("/queues/<path:name>")
    def page_queue(name: str) -> Shown:
        queue = next((each for each in _queues(site) if each.name == name), None)
        if queue is None:
            raise Problem(404, f"there is no queue {name[:100]!r}: nothing is or was in it, and it was never paused")
        return Shown("queue.html", _shown(site, queue))

    @site.page("/queues/<path:name>", "queues:pause", methods=("POST",))
    def page_queue_act(name: str) -> AnyResponse:
        action = request.form.get("action")
        if action == "pause":
            site.fc.queues.pause(name)
        elif action == "resume":
            site.fc.queues.resume(name)
        else:
            raise Problem(422, "say what to do: pause or resume")
        site.audit(f"queues:{action}", name, 1)
        return site.done(f"{action}d", 1, "queue", among="queues", name=name)


def _queues(site: Site) -> list[Queue]:
    workers = [each for each in site.fc.worker_sessions() if each["state"] in ("running", "paused", "draining")]
    return queue_rows(site.fc, workers, site.fc.timings())


def _shown(site: Site, queue: Queue) -> dict[str, Any]:
    columns, sums = columns_of(site.fc.points(queue=queue.name), 1)
    here = Query((Term("queue", (queue.name,)),))
    waiting = Query((*here.terms, *parse("state:available").terms))
    return {
        "queue": queue,
        "chart": charts.stacked(columns, words.STACKED),
        "moments": [label for label, _ in columns],
        "sums": sums,
        "sums_said": f"{words.number(sums['completed'])} completed, {words.number(sums['failed'])} failed in an hour",
        "tasks": site.fc.timings(queue=queue.name),
        "takers": [each for each in site.fc.worker_sessions()
                   if each["state"] in ("running", "paused", "draining")
                   and (each["queues"] is None or queue.name in each["queues"])],
        "next": site.fc.search(waiting, limit=MOST_JOBS).jobs if queue.available else [],
        "here_q": str(here),
    }  # fmt: skip
