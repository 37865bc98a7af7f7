"""What all pages share: routes, templates, rights, the shell around them, and errors that are pages too.

A view gives ``Shown`` (a template and its data) or a redirect. Asked with ``?_live=1`` the same view answers with the
page's ``live`` block alone, for ``live.js``; that answer is shared by all who may see the same, for a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, g, redirect, request, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from fairchild import __version__, clock
from fairchild.client import Fairchild
from fairchild.errors import StoreError
from fairchild.job import Job
from fairchild.rules.query import RETRYING
from fairchild.web import charts, problems, words
from fairchild.web.assets import Assets
from fairchild.web.auth import PUBLIC, SAFE_METHODS, Gate
from fairchild.web.fragments import Shared, digest
from fairchild.web.operations import READ_SECONDS, WRITE_SECONDS, Api
from fairchild.web.pages.json_text import tokens
from fairchild.web.problems import Problem

log = logging.getLogger("fairchild.web")

RIGHTS_SHOWN = (
    "jobs:retry", "jobs:cancel", "jobs:delete", "jobs:insert", "queues:pause", "workers:control", "payload:read",
)  # fmt: skip
_PASSING = ("_live", "did", "n")
"""Parameters that no link takes along."""
LIVE_SECONDS = 1.0
SHELL_SECONDS = 2.0

MENU = (
    ("overview", "Overview", "o"),
    ("jobs", "Jobs", "j"),
    ("workflows", "Workflows", "w"),
    ("queues", "Queues", "q"),
    ("schedules", "Schedules", "s"),
    ("workers", "Workers", "k"),
    ("limits", "Limits", "l"),
    ("tenants", "Tenants", "t"),
    ("errors", "Errors", "e"),
    ("tasks", "Tasks", "a"),
    ("system", "System", "y"),
)
"""(page, its name, the key after ``g`` that goes there)"""

DONE = {
    "retried": ("job retried", "jobs retried"),
    "cancelled": ("job cancelled, or asked to stop", "jobs cancelled, or asked to stop"),
    "deleted": ("job deleted", "jobs deleted"),
    "enqueued": ("job enqueued", "jobs enqueued"),
    "paused": ("queue paused", "queues paused"),
    "resumed": ("queue resumed", "queues resumed"),
    "asked": ("worker asked where its threads are", "workers asked where their threads are"),
    "worker-paused": ("worker asked to take no more jobs", "workers asked to take no more jobs"),
    "worker-resumed": ("worker asked to take jobs again", "workers asked to take jobs again"),
    "worker-stopped": ("worker asked to finish its jobs and stop", "workers asked to finish their jobs and stop"),
}
"""What an action says of itself after its redirect; nothing of the address is shown but the number."""


@dataclass
class Shown:
    """A page: a template and what it shows."""

    template: str
    data: dict[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Shell:
    """What stands around every page."""

    stats: dict[str, Any] | None
    """None while the database is away."""
    counts: dict[str, int]
    """Of all jobs by shown state: what retries is not also counted as scheduled."""
    ahead: timedelta
    """The database's clock less this machine's."""
    refusal: str | None = None
    """Why nothing can be written now."""


View = Callable[..., "Shown | AnyResponse"]


class Site:
    """The pages of one blueprint."""

    def __init__(self, blueprint: Blueprint, fc: Fairchild, gate: Gate, api: Api) -> None:
        self.blueprint = blueprint
        self.fc = fc
        self.gate = gate
        self.api = api
        self.assets = Assets()
        self._live: Shared[tuple[str, str, int]] = Shared(LIVE_SECONDS)
        self._shell: Shared[Shell] = Shared(SHELL_SECONDS, most=1)
        # An environment of our own: whatever the host's does, everything is escaped here.
        self.env = Environment(
            loader=PackageLoader("fairchild.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.env.globals.update(
            url=self.url,
            asset=self.asset,
            here=self.here,
            now=self.now,
            allows=gate.allows,
            refusal=lambda: self.shell().refusal,
            endpoint=lambda: (request.endpoint or "").rpartition(".")[2],
            words=words,
            charts=charts,
            json_tokens=tokens,
            menu=MENU,
            states=words.STATES,
            version=__version__,
            read_only=gate.read_only,
        )
        self.env.filters.update(
            number=words.number,
            short=words.short_number,
            duration=words.duration,
            digest=digest,
            short_task=words.short_task,
            compact=words.compact,
        )
        self.env.globals["ui"] = self.env.get_template("fairchild/ui.html").module
        blueprint.register_error_handler(Problem, self._problem)

        @gate.route(blueprint, "/static/<digest>/<name>", PUBLIC)
        def page_asset(digest: str, name: str) -> Response:
            return self.assets.answer(digest, name)

    # Adding pages

    def page(self, rule: str, right: str = "view", *, methods: tuple[str, ...] = ("GET",)) -> Callable[[View], View]:
        """Decorates a view: adds its route, shows what it gives, and its errors as pages."""

        def add(view: View) -> View:
            @wraps(view)
            def guarded(**values: Any) -> AnyResponse:
                try:
                    with self._in_time():
                        if "_live" in request.args and request.method == "GET":
                            return self._fragments(view, values)
                        shown = view(**values)
                        return shown if isinstance(shown, AnyResponse) else self._whole(shown)
                except HTTPException as error:
                    return self._problem(problems.describe(error))
                except Exception as error:  # noqa: BLE001 - said to the reader, and logged there
                    return self._problem(problems.describe(error))

            self.gate.route(self.blueprint, rule, right, methods=methods, page=True)(guarded)
            return view

        return add

    def _in_time(self) -> AbstractContextManager[None]:
        if request.method in SAFE_METHODS:
            return self.fc.reading_within(READ_SECONDS)
        return self.fc.writing_within(WRITE_SECONDS)

    # What templates and views ask for

    def url(self, page: str, **values: Any) -> str:
        """The address of a page under the mount: ``url("job", id=...)``. What a read-only site lacks is nowhere."""
        if f"page_{page}" not in self.gate.rights:
            return "#"
        return url_for(f".page_{page}", **values)

    def asset(self, name: str) -> str:
        """The address of a static file."""
        return self.url("asset", digest=self.assets.digest, name=name)

    def here(self, **changed: Any) -> str:
        """The address at hand with other parameters; None takes one away."""
        kept: dict[str, Any] = {name: value for name, value in request.args.items() if name not in _PASSING}
        kept.update(changed)
        query = urlencode({name: value for name, value in kept.items() if value is not None})
        return f"?{query}" if query else request.script_root + request.path

    def now(self) -> datetime:
        """The time by the database's clock, the same for all of a request."""
        if "fairchild_now" not in g:
            g.fairchild_now = datetime.now(timezone.utc) + self.shell().ahead
        moment: datetime = g.fairchild_now
        return moment

    def shell(self) -> Shell:
        """Counts for the menu and the clock, read at most every two seconds."""

        def read() -> Shell:
            sent = clock.now()
            moment = self.fc.insight.now()
            ahead = moment - datetime.now(timezone.utc) + timedelta(seconds=(clock.now() - sent) / 2)
            stats, retrying = self.fc.stats(), self.fc.insight.coming().retrying
            counts = {**stats["jobs"], RETRYING: retrying}
            counts["scheduled"] = max(counts["scheduled"] - retrying, 0)
            return Shell(stats, counts, ahead, self.fc.insight.refusal())

        try:
            return self._shell.get("shell", read)
        except StoreError as error:
            log.warning("the menu is shown without counts: %s", error)
            return Shell(None, {}, timedelta())

    def done(self, did: str, count: int, page: str, **values: Any) -> AnyResponse:
        """After an action: to a page that says what was done."""
        return redirect(self.url(page, **values, did=did, n=count), 303)

    def visible(self, job: Job) -> tuple[Job, dict[str, Any]]:
        """A job as whoever asks may see it, and the same as a dict."""
        shown = self.gate.show(job)
        return replace(
            job,
            args=shown.get("args") or {},
            result=shown.get("result"),
            meta=shown.get("meta") or {},
            errors=shown.get("errors") or [],
            tags=shown.get("tags") or [],
            tenant=shown.get("tenant") or "",
            reason=shown.get("reason"),
            _progress=job.progress if self.gate.allows("payload:read") or job.progress is None
            else job.progress._replace(message=None),
        ), shown  # fmt: skip

    def audit(self, action: str, target: str, count: int) -> None:
        """Keep who did this. What was done stays done if that cannot be written."""
        try:
            self.fc.add_audit_entry(self.gate.who(), action, target, count)
        except StoreError as error:
            log.error("%s %s by %s is missing in the audit log: %s", action, target, self.gate.who(), error)

    # Answering

    def _common(self) -> dict[str, Any]:
        did, count = request.args.get("did", ""), request.args.get("n", "")
        number = int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0
        toast = f"{words.number(number)} {DONE[did][number != 1]}" if did in DONE else None
        return {"shell": self.shell(), "toast": toast}

    def _whole(self, shown: Shown) -> Response:
        html = self.env.get_template(f"fairchild/{shown.template}").render({**self._common(), **shown.data})
        return Response(html, shown.status, content_type="text/html; charset=utf-8")

    def _fragments(self, view: View, values: Mapping[str, Any]) -> AnyResponse:
        allowed = tuple(self.gate.allows(right) for right in RIGHTS_SHOWN)
        key = (request.script_root, request.path, request.query_string, allowed)

        def make() -> tuple[str, str, int]:
            shown = view(**values)
            if isinstance(shown, AnyResponse):
                raise Problem(409, "this page has moved; load it again")
            template = self.env.get_template(f"fairchild/{shown.template}")
            block = template.blocks.get("live")
            context = template.new_context({**self._common(), **shown.data})
            html = "" if block is None else "".join(block(context))
            return html, digest(html), shown.status

        html, tag, status = self._live.get(key, make)
        response = Response(html, status, content_type="text/html; charset=utf-8")
        response.set_etag(tag)
        return response.make_conditional(request)

    def _problem(self, error: Exception) -> Response:
        problem = problems.describe(error)
        if problems.is_api() or "_live" in request.args:
            return problems.answer(problem)
        answer = problems.answer(problem)
        retry = problem.code == 503 and request.method == "GET"
        template = self.env.get_template("fairchild/problem.html")
        answer.set_data(template.render(problem=problem, retry=retry, title=problem.name))
        answer.content_type = "text/html; charset=utf-8"
        return answer
