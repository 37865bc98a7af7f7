"""What all pages share: routes, templates, rights, the shell around them, and errors that are pages too.

A view gives ``Shown`` (a template and its data) or a redirect. Asked with ``?_live=1`` the same view answers with the
page's ``live`` block alone, for ``live.js``; that answer is shared by all who may see the same, for a second.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import wraps
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from flask import Blueprint, Response, g, redirect, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from fairchild import __version__, clock
from fairchild.client import Fairchild
from fairchild.errors import DatabaseUnavailable, StoreError
from fairchild.job import Job
from fairchild.rules.query import RETRYING
from fairchild.web import audit, charts, problems, words
from fairchild.web.api import METHODS, nothing_here
from fairchild.web.assets import Assets
from fairchild.web.auth import PUBLIC, SAFE_METHODS, Gate, of_this_request
from fairchild.web.fragments import Shared, digest
from fairchild.web.operations import READ_SECONDS, WRITE_SECONDS, Api
from fairchild.web.pages.json_text import json_text
from fairchild.web.pages.known import Known
from fairchild.web.problems import Problem

log = logging.getLogger("fairchild.web")

RIGHTS_SHOWN = (
    "jobs:retry", "jobs:cancel", "jobs:edit", "jobs:delete", "jobs:insert", "queues:pause", "workers:control",
    "payload:read",
)  # fmt: skip
_PASSING = ("_live", "top", "last", "did", "n", "at")
"""Parameters that no link takes along."""
LIVE_SECONDS = 1.0
SHELL_SECONDS = 2.0
MENU_SECONDS = 15.0
"""For which the counts hold that have to be looked up."""
MOST_COUNTED = 99
SHELL_PATIENCE = 0.3
"""Seconds that a page about an error waits for what stands around it."""
IN_PLACE = (409, 422, 503)
"""Failures of actions that are said on the page they came from."""
SAID = "fairchild_said"
"""The cookie that takes the sentence there."""
MOST_SAID = 500
KEPT_SECONDS = 10.0

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
NOT_IN_USE = frozenset({"schedules", "limits", "tenants"})
"""Entries that are dimmed: their pages teach what is not in use."""

_SECTIONS = {
    "job": "jobs", "error": "errors", "workflow": "workflows", "queue": "queues", "worker": "workers",
    "task": "tasks", "new": "tasks", "audit": "system", "reference": "system",
}  # fmt: skip
"""The entry of the menu that a page belongs to, where it is not its own."""

DONE = {
    "retried": ("job retried", "jobs retried"),
    "made-available": ("job made available", "jobs made available"),
    "moved": ("job moved", "jobs moved"),
    "cancelled": ("job cancelled, or asked to stop", "jobs cancelled, or asked to stop"),
    "cancelling": ("job cancelled so far: workers cancel the rest", "jobs cancelled so far: workers cancel the rest"),
    "deleted": ("job deleted", "jobs deleted"),
    "enqueued": ("job enqueued", "jobs enqueued"),
    "paused": ("queue paused", "queues paused"),
    "resumed": ("queue resumed", "queues resumed"),
    "asked": ("worker asked where its threads are", "workers asked where their threads are"),
    "muted": ("error muted", "errors muted"),
    "unmuted": ("error shown again", "errors shown again"),
    "worker-paused": ("worker asked to take no more jobs", "workers asked to take no more jobs"),
    "worker-resumed": ("worker asked to take jobs again", "workers asked to take jobs again"),
    "worker-stopped": ("worker asked to finish its jobs and stop", "workers asked to finish their jobs and stop"),
}
"""What an action says of itself after its redirect; nothing of the address is shown but the number."""
_CHANGED = {"job": "id", "workflow": "id", "queue": "name", "worker": "id", "error": "fingerprint"}
"""What a notice may link to, and what its page calls the thing."""
TOLD = {
    "changed-since": "Done already: this had changed since the page was shown, and nothing more was done",
    "made-before": "This form was sent before, and made this job then",
}
"""The same of what has no number."""


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
    menu: dict[str, str] = field(default_factory=dict)
    """By page, the number beside its name."""
    server: str = ""
    """PostgreSQL's version."""
    away: bool = False
    """The database does not answer at all."""
    refusal: str | None = None
    """Why nothing can be written now."""


NOTHING = Shell(None, {}, timedelta())
AWAY = replace(NOTHING, away=True)


T = TypeVar("T")
View = Callable[..., "Shown | AnyResponse"]


class Site:
    """The pages of one blueprint."""

    def __init__(self, blueprint: Blueprint, fc: Fairchild, gate: Gate, api: Api) -> None:
        self.blueprint = blueprint
        self.fc = fc
        self.gate = gate
        self.api = api
        self.assets = Assets()
        self.known = Known(fc)
        self._live: Shared[tuple[str, str, int]] = Shared(LIVE_SECONDS, sign=itemgetter(1))
        self._shell: Shared[Shell] = Shared(SHELL_SECONDS, most=1)
        self._menu: Shared[tuple[dict[str, str], str]] = Shared(MENU_SECONDS, most=1)
        self._kept: Shared[Any] = Shared(KEPT_SECONDS)
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
            words=words,
            charts=charts,
            json_text=json_text,
            menu=MENU,
            not_in_use=NOT_IN_USE,
            user=gate.user,
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

        blueprint.record(self._add_nowhere)

        @gate.route(blueprint, "/static/<digest>/<name>", PUBLIC)
        def page_asset(digest: str, name: str) -> Response:
            return self.assets.answer(digest, name)

    def _add_nowhere(self, state: BlueprintSetupState) -> None:
        """Paths under the mount that no page has; at the root of an application they are the application's own."""
        if state.url_prefix:
            self.gate.rights["page_nowhere"] = ((PUBLIC,), True)
            state.add_url_rule("/<fairchild_any:rest>", "page_nowhere", lambda **_: nothing_here(), methods=METHODS)

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
        kept: dict[str, Any] = {name: values for name, values in request.args.lists() if name not in _PASSING}
        kept.update(changed)
        query = urlencode({name: value for name, value in kept.items() if value is not None}, doseq=True)
        return f"?{query}" if query else quote(request.script_root + request.path)

    def now(self) -> datetime:
        """The time by the database's clock, the same for all of a request."""
        if "fairchild_now" not in g:
            g.fairchild_now = datetime.now(timezone.utc) + self.shell().ahead
        moment: datetime = g.fairchild_now
        return moment

    def stats(self) -> dict[str, Any]:
        """``fc.stats()``, read once for all of a request."""
        found: dict[str, Any] = of_this_request("stats", self.fc.stats)
        return found

    def shell(self) -> Shell:
        """Counts for the menu and the clock, read at most every two seconds."""
        if "fairchild_shell" not in g:
            try:
                g.fairchild_shell = self._shell.get("shell", self._read_shell)
            except StoreError as error:
                log.warning("the menu is shown without counts: %s", error)
                g.fairchild_shell = AWAY if isinstance(error, DatabaseUnavailable) else NOTHING
        shell: Shell = g.fairchild_shell
        return shell

    def _read_shell(self) -> Shell:
        sent = clock.now()
        moment = self.fc.insight.now()
        ahead = moment - datetime.now(timezone.utc) + timedelta(seconds=(clock.now() - sent) / 2)
        stats, retrying = self.stats(), self.fc.insight.coming().retrying
        counts = {**stats["jobs"], RETRYING: retrying}
        counts["scheduled"] = max(counts["scheduled"] - retrying, 0)
        looked_up, server = self._menu.get("menu", self._look_up)
        menu = {"jobs": words.short_number(sum(counts.values())), "queues": words.short_number(len(stats["queues"]))}
        return Shell(stats, counts, ahead, {**menu, **looked_up}, server, refusal=self.fc.insight.refusal())

    def _look_up(self) -> tuple[dict[str, str], str]:
        """The counts that no counter keeps: each reads a bounded number of rows."""
        found = self.fc.insight.menu(MOST_COUNTED)
        shown = {"workflows": found.workflows, "workers": found.workers, "errors": found.errors, "tasks": found.tasks}
        return {
            page: f"{MOST_COUNTED}+" if number > MOST_COUNTED else words.number(number)
            for page, number in shown.items()
        }, found.server

    def kept(self, key: Hashable, read: Callable[[], T]) -> T:
        """What was read, by whoever asked in the last ten seconds: for what changes slowly and costs something."""
        found: T = self._kept.get(key, read)
        return found

    def done(self, did: str, count: int, page: str, *, among: str | None = None, **values: Any) -> AnyResponse:
        """After an action: to a page that says what was done, that of what was changed.

        ``among``: the page of the list that this stands in; whoever came from there goes back there, and is shown the
        way to it.
        """
        back = self.back()
        if among is None or back is None or urlsplit(back).path != self.url(among):
            return redirect(self.url(page, **values, did=did, n=count), 303)
        more = urlencode({"did": did, "n": count, "at": f"{page}/{values[_CHANGED[page]]}"})
        return redirect(f"{back}{'&' if '?' in back else '?'}{more}", 303)

    def back(self) -> str | None:
        """The address of the page that this request was sent from, if it is one of these."""
        came = urlsplit(request.headers.get("Referer", ""))
        mount = self.url("overview")
        if came.netloc != request.host or came.path.startswith("//") or not f"{came.path}/".startswith(mount):
            return None
        query = urlencode([pair for pair in parse_qsl(came.query) if pair[0] not in _PASSING])
        return f"{came.path}?{query}" if query else came.path

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

    def audit(
        self, action: str, target: str, count: int, *, before: audit.Facts = None, after: audit.Facts = None
    ) -> None:
        """Keep who did this. What was done stays done if that cannot be written."""
        audit.note(self.fc, self.gate, action, target, count, before=before, after=after)

    # Answering

    def _common(self) -> dict[str, Any]:
        did, count = request.args.get("did", ""), request.args.get("n", "")
        number = int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0
        toast = f"{words.number(number)} {DONE[did][number != 1]}" if did in DONE else TOLD.get(did)
        kind, _, name = request.args.get("at", "").partition("/")
        changed = (self.url(kind, **{_CHANGED[kind]: name}), f"Show {kind}") if kind in _CHANGED and name else None
        at = (request.endpoint or "").rpartition(".")[2].removeprefix("page_")
        return {
            "shell": self.shell(),
            "menu_at": _SECTIONS.get(at, at),
            "toast": toast,
            "changed": changed,
            "refused": _heard(),
        }

    def _whole(self, shown: Shown) -> Response:
        html = self.env.get_template(f"fairchild/{shown.template}").render({**self._common(), **shown.data})
        response = Response(html, shown.status, content_type="text/html; charset=utf-8")
        if SAID in request.cookies:
            response.delete_cookie(SAID, path=self.url("overview"))
        return response

    def _fragments(self, view: View, values: Mapping[str, Any]) -> AnyResponse:
        allowed = tuple(self.gate.allows(right) for right in RIGHTS_SHOWN)
        key = (request.script_root, request.path, request.query_string, allowed)

        def make() -> tuple[str, str, int]:
            shown = view(**values)
            if isinstance(shown, AnyResponse):
                raise Problem(409, "this page has moved; load it again")
            template, base = (self.env.get_template(f"fairchild/{name}") for name in (shown.template, "base.html"))
            data = {**self._common(), **shown.data}
            html = ""
            if "live" in template.blocks:
                html = "".join(template.blocks["live"](template.new_context(data)))
                html += "".join(base.blocks["rail"](base.new_context(data)))
            return html, digest(html), shown.status

        html, tag, status = self._live.get(key, make) if self.gate.shares else make()
        response = Response(html, status, content_type="text/html; charset=utf-8")
        response.set_etag(tag)
        return response.make_conditional(request)

    def _problem(self, error: Exception) -> Response:
        problem = problems.describe(error)
        answer = problems.answer(problem)
        if problems.is_api() or "_live" in request.args:
            return answer
        back = self.back() if request.method == "POST" and problem.code in IN_PLACE else None
        if back is not None:
            said = Response(status=303, headers={"Location": back})
            text = base64.urlsafe_b64encode((problem.detail or problem.name)[:MOST_SAID].encode()).decode()
            said.set_cookie(SAID, text, 30, path=self.url("overview"), httponly=True, samesite="Strict")
            return said
        away = isinstance(error, DatabaseUnavailable)
        retry = problem.code == 503 and request.method == "GET"
        data = {"problem": problem, "retry": retry, "away": away, "title": problem.name}
        template = self.env.get_template("fairchild/problem.html")
        answer.set_data(template.render({**self._around(problem, away), **data}))
        answer.content_type = "text/html; charset=utf-8"
        return answer

    def _around(self, problem: Problem, away: bool) -> dict[str, Any]:
        """What stands around an error; nothing does for those who may see no page."""
        writes = request.method not in SAFE_METHODS
        # 400: it came under a name that nobody is served under. 403: who may not write is not asked what they may read.
        if problem.code in (400, 401) or (problem.code == 403 and writes):
            return {"layout": "fairchild/bare.html"}
        with self.fc.reading_within(SHELL_PATIENCE):
            if away:
                g.fairchild_shell = AWAY
            try:
                if self.gate.allows("view"):
                    return {"layout": "fairchild/base.html", **self._common()}
            except (StoreError, Problem) as error:
                log.warning("the page about an error stands alone: %s", error)
        return {"layout": "fairchild/bare.html"}


def _heard() -> str | None:
    """What the action said that failed and led back here."""
    try:
        text = base64.b64decode(request.cookies.get(SAID, ""), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text[:MOST_SAID] or None


def cursor_of(name: str) -> UUID | None:
    """The id of a job in the address, from which a list goes on. Raises Problem 422."""
    text = request.args.get(name, "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Problem(422, f"{name} must be the id of a job") from None
