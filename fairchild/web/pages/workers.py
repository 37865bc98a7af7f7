"""Workers: what each does and where; pause, resume, stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from werkzeug.wrappers import Response as AnyResponse

from fairchild.errors import UnknownWorker
from fairchild.web.pages import stacks
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem

MOST_JOBS = 50
AT_WORK = ("running", "paused", "draining")


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
        found = [_row(each) for each in site.fc.worker_sessions()]
        live = [each for each in found if each["state"] in (*AT_WORK, "lost")]
        versions = {each["metadata"].get("version") for each in live if each["metadata"].get("version")}
        return Shown(
            "workers.html",
            {"workers": live, "over": [each for each in found if each not in live][:50], "versions": sorted(versions)},
        )  # fmt: skip

    @site.page("/workers/<id>")
    def page_worker(id: str) -> Shown:
        worker = _find(site, id)
        jobs = site.fc.search(f"worker:{worker['id']} state:running", limit=MOST_JOBS).jobs
        known = {each["catalog"]: each for each in [worker]}
        return Shown(
            "worker.html",
            {"worker": worker, "jobs": jobs, "known": known, "live": worker["state"] in AT_WORK,
             "seen": stacks.of_worker(site, worker["id"])},
        )  # fmt: skip

    doors = site.fc.workers
    for name, did, door in (
        ("pause", "paused", doors.pause), ("resume", "resumed", doors.resume), ("stop", "stopped", doors.stop),
    ):  # fmt: skip
        _add_control(site, name, did, door)


def _add_control(site: Site, name: str, did: str, door: Callable[[UUID], object]) -> None:
    def view(id: str) -> AnyResponse:
        worker = _find(site, id)
        try:
            door(worker["id"])
        except UnknownWorker:
            raise Problem(409, f"this worker is {worker['shade'].word}; nothing was asked of it") from None
        site.audit(f"workers:{name}", f"{worker['name']} {worker['id']}", 1)
        return site.done(f"worker-{did}", 1, "worker", among="workers", id=worker["id"])

    view.__name__ = f"page_worker_{name}"
    site.page(f"/workers/<id>/{name}", "workers:control", methods=("POST",))(view)


def _find(site: Site, id: str) -> dict[str, Any]:
    try:
        wanted = UUID(id)
    except ValueError:
        raise Problem(404, f"{id[:60]!r} is not the id of a worker") from None
    for each in site.fc.worker_sessions():
        if each["id"] == wanted:
            return _row(each)
    raise Problem(404, f"there is no worker {id}: it ended a while ago")


def _row(worker: Mapping[str, Any]) -> dict[str, Any]:
    return {**worker, "shade": _SHADES.get(worker["state"], Shade(worker["state"], "waiting"))}
