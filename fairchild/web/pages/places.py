"""Where "Jump to" leads, and what it offers while something is typed: an id, or anything that has a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.errors import UsageError
from fairchild.rules.query import parse
from fairchild.web.operations import as_json
from fairchild.web.pages.site import MENU, Site
from fairchild.web.words import short_task

MOST = 12
MOST_TEXT = 200


class Place(NamedTuple):
    """A page that can be jumped to: what it is called, what it is, and its address."""

    text: str
    note: str
    page: str
    values: dict[str, Any]


def add_to(site: Site) -> None:
    """Add the jump, and what it may lead to."""

    @site.page("/go")
    def page_go() -> AnyResponse:
        return redirect(_place(site, request.args.get("to", "").strip()), 302)

    @site.page("/places")
    def page_places() -> AnyResponse:
        found = offered(site, request.args.get("for", "")[:MOST_TEXT])
        return as_json(
            [{"text": each.text, "note": each.note, "href": site.url(each.page, **each.values)} for each in found]
        )


def offered(site: Site, text: str) -> list[Place]:
    """Places whose names hold the text; those that begin with it, or with a part that does, come first."""
    text = text.strip()
    wanted = text.lower()
    if not wanted:
        return list(_pages())[:MOST]
    job = _as_id(text)
    first = [] if job is None else [Place(f"Job {job}", "job", "job", {"id": job})]
    holding = [each for each in _named(site) if wanted in each.text.lower()]
    holding.sort(key=lambda each: not _begins(each.text.lower(), wanted))
    found = [*first, *holding[: MOST - 1 - len(first)]]
    try:
        return [*found, Place(f"Jobs: {text}", "filter", "jobs", {"q": str(parse(text))})]
    except UsageError:
        return found


def _begins(name: str, wanted: str) -> bool:
    at = name.find(wanted)
    return at == 0 or not name[at - 1].isalnum()


def _pages() -> Iterator[Place]:
    for page, name, _ in MENU:
        yield Place(name, "page", page, {})


def _named(site: Site) -> Iterator[Place]:
    yield from _pages()
    stats = site.shell().stats
    for queue in stats["queues"] if stats else ():
        yield Place(queue, "queue", "queue", {"name": queue})
    for task in site.known.tasks():
        yield Place(task, "task", "task", {"name": task})
    for each in site.known.sessions():
        yield Place(each["name"], "worker", "worker", {"id": each["id"]})
    for job in site.known.roots():
        yield Place(job.task, f"workflow {str(job.id)[-6:]}", "workflow", {"id": job.id})
    for group in site.known.errors():
        yield Place(f"{group.type} in {short_task(group.task)}", "error", "error", {"fingerprint": group.fingerprint})


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) >= 32 else None
    except ValueError:
        return None


def _place(site: Site, text: str) -> str:
    """Where a line leads: to what is called just that, or to the jobs that it finds."""
    kind, _, name = text.partition(" ")
    if kind == "queue" and name:
        return site.url("queue", name=name)
    job = _as_id(text)
    if job is not None:
        return site.url("job", id=job)
    for each in _named(site) if text else ():
        if each.text == text or (each.note == "page" and each.text.lower() == text.lower()):
            return site.url(each.page, **each.values)
    return site.url("jobs", **({"q": text} if text else {}))
