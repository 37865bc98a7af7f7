"""Who gets in: rights, credentials, and what a browser is refused.

Every route names the right it needs when it is added through ``Gate.route``; a route without one is refused, so what is
new is closed until somebody has thought about it. A request's rights come from the first of these that speaks:

1. a credential: the blueprint's own ``token``, or an API token made by ``fc.tokens.create``, as ``Authorization:
   Bearer SECRET`` or as the password of basic authentication;
2. ``authorize(request, right)``. It may answer about the right it was asked for with True or False, or with what the
   person has in all: a role ("view", "operate", "admin") or a set of rights; None means nothing;
3. with neither, the loopback rule: a request from this machine, under a name of this machine, that no proxy has
   passed on, has all rights. Everybody else gets 403 and a line that says how to open it.

Writes from a browser must come from the same origin: ``Sec-Fetch-Site`` says so, or ``Origin`` equals ``Host``. A
request with neither header is not a browser's; pages, whose forms only browsers send, refuse it all the same. So is
the handshake of a WebSocket looked at, though it is a GET: whoever sends it reads on.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Request, Response, request
from werkzeug.routing import BaseConverter

from fairchild.client import Fairchild
from fairchild.client.tokens import PREFIX, Token
from fairchild.errors import ConfigError
from fairchild.job import Job, LogLine
from fairchild.rules.rights import OPERATING, PROBE, PUBLIC, READING, RIGHTS, ROLES, VIEW, granted
from fairchild.web.problems import Problem
from fairchild.web.rates import Rates
from fairchild.web.redact import hide, mask

__all__ = ["OPERATING", "PROBE", "PUBLIC", "READING", "RIGHTS", "ROLES", "VIEW", "Gate", "is_loopback"]

Answer = bool | str | Iterable[str] | None
Authorize = Callable[[Request, str], Answer]
Redact = Callable[[dict[str, Any]], dict[str, Any]]
Who = Callable[[Request], str]
View = TypeVar("View", bound=Callable[..., Any])

PAYLOAD = ("args", "result", "meta")
TOLD = ("message", "traceback")
"""Of an error: what a task may have put its arguments into."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY = 1024 * 1024
PASSED_ON = re.compile(
    r"forwarded|via|x-forwarded.*|x-real-ip|x-original-.*|x-client-ip|x-cluster-client-ip|x-envoy-.*|cf-connecting-ip"
    r"|true-client-ip|fastly-client-ip|x-appengine-.*|x-azure-.*|x-proxyuser-ip",
    re.IGNORECASE,
)
"""Headers by which a proxy says for whom it asks."""
MIN_TOKEN = 8
KNOWN = "fairchild.known"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:=+/@-]{1,64}", re.ASCII)
RATES = {"enqueue": 50.0, "change": 10.0, "wrong": 1.0}
"""A second, of each who asks: jobs enqueued, other writes, and credentials that were none."""
HOW_TO_OPEN = (
    "only requests from this machine are served here: pass authorize=lambda request, right: ... to create_blueprint()"
)
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Anything(BaseConverter):
    """What varies in a path, whatever it is: ``<fairchild_any:name>``. A ``path`` has no line breaks, so one with them
    would be answered by the host."""

    regex = r"[\s\S]+?"
    part_isolating = False
    weight = 250


class Gate:
    """Stands before every route of one blueprint.

    ``gate.allows(right)`` and ``gate.require(right)`` speak of the request at hand. ``gate.show(job)`` is a job as this
    request may see it.
    """

    def __init__(
        self,
        fc: Fairchild,
        *,
        authorize: Authorize | None = None,
        read_only: bool = False,
        redact: Redact | None = None,
        token: str | None = None,
        hosts: list[str] | None = None,
        who: Who | None = None,
        probes: bool = False,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        if token is not None:
            check_token(token)
        self._fc = fc
        self._authorize = authorize
        self._redact = redact
        self._token = token
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._who = who
        self._probes = probes
        self._rates = Rates({**RATES, **(rates or {})})
        self.read_only = read_only
        self.rights: dict[str, tuple[tuple[str, ...], bool]] = {}
        """By endpoint: the rights of which its route needs one, and whether it is a page."""

    def route(
        self,
        blueprint: Blueprint,
        rule: str,
        right: str | tuple[str, ...],
        *,
        methods: Iterable[str] = ("GET",),
        page: bool = False,
        websocket: bool = False,
        harmless: bool = False,
    ) -> Callable[[View], View]:
        """Decorates a view: adds its route with the right it needs. With ``read_only`` routes that write are left out.

        Of several rights one is needed, and the view asks for what it does. ``page``: its forms are sent by browsers
        alone, and its errors are pages. ``websocket``: the route takes handshakes too, but none of another site's.
        ``harmless``: it changes nothing, whatever the method.
        """
        rights = (right,) if isinstance(right, str) else right
        if unknown := set(rights) - RIGHTS:
            raise ValueError(f"{min(unknown)!r} is not a right; rights are {', '.join(sorted(RIGHTS))}")
        writes = not SAFE_METHODS.issuperset(methods)
        if not rights or (writes and not harmless and not READING.isdisjoint(rights)):
            raise ValueError(f"a route that writes needs a right to write, not {rights}: {rule}")

        def add(view: View) -> View:
            if harmless or self.offers(methods):
                self.rights[view.__name__] = (rights, page)
                # As they stand: a redirect would be sent before anybody has looked at who asks, and by which name.
                exact = {"strict_slashes": False, "merge_slashes": False}
                blueprint.add_url_rule(rule, view.__name__, view, methods=list(methods), **exact)
                if websocket:
                    blueprint.add_url_rule(rule, view.__name__, view, methods=["GET"], websocket=True)
            return view

        return add

    def offers(self, methods: Iterable[str]) -> bool:
        """Whether routes of these methods are there at all."""
        return not self.read_only or SAFE_METHODS.issuperset(methods)

    @property
    def redacts(self) -> bool:
        """Whether a rule of the host's own hides parts of jobs."""
        return self._redact is not None

    # Of the request at hand

    def check(self) -> None:
        """Before every request: raises Problem if it is not to be served."""
        rights, page = self._needed()
        self._check_host(rights)
        if request.url_rule is not None and request.url_rule.websocket:
            _refuse_foreign_socket()
        if request.method in SAFE_METHODS:
            _refuse_foreign_read()
        else:
            self._refuse_cross_site(page)
            _check_body(page)
        try:
            if not any(self.allows(right) for right in rights):
                self.require(rights[0])
        except Problem as problem:
            if problem.code == 401 and _secret() is not None:
                self._rates.take("wrong", request.remote_addr or "")
            raise
        if request.method not in SAFE_METHODS:
            self._rates.take("enqueue" if rights == ("jobs:insert",) else "change", self.who())

    def _check_host(self, rights: tuple[str, ...]) -> None:
        if self._hosts is None or _host_name(request.host) in self._hosts:
            return
        if rights == (PROBE,) and self._probes:
            return  # an orchestrator asks by address
        raise Problem(400, f"this server does not answer to the name {request.host!r}; allow it with hosts=")

    def _needed(self) -> tuple[tuple[str, ...], bool]:
        # The blueprint may be registered, or nested, under another name.
        needed = self.rights.get((request.endpoint or "").rpartition(".")[2])
        if needed is None:
            raise Problem(403, "this route names no right that it needs, so nobody has it")
        return needed

    def allows(self, right: str) -> bool:
        """Whether this request has the right."""
        if right == PUBLIC:
            return True
        if right == PROBE:
            return self._probes or _is_local()
        if self.read_only and right not in READING:
            return False
        known: dict[str, bool] = of_this_request("rights", dict)
        if right not in known:
            known[right] = right in self._granted(right)
        return known[right]

    def require(self, right: str) -> None:
        """Raises Problem 403 unless this request has the right."""
        if self.allows(right):
            return
        if right == PROBE:
            raise Problem(403, "this is answered to this machine alone; probes=True answers it to everybody")
        if self._authorize is None and self._token is None and not _is_local():
            raise Problem(403, HOW_TO_OPEN)
        raise Problem(403, "this is a read-only view" if self.read_only else f"you have no right to do this: {right}")

    def who(self) -> str:
        """Who asks, for the audit log."""
        token: Token | None = request.environ.get(KNOWN, {}).get("token")
        if token is not None:
            return f"token {token.name} ({token.id})"
        if self._who is not None:
            return self._who(request)
        return str(request.remote_user or request.remote_addr or "unknown")

    def user(self) -> str | None:
        """The name of the person who asks, if anybody knows it."""
        token: Token | None = request.environ.get(KNOWN, {}).get("token")
        if token is not None:
            return token.name
        return self._who(request) if self._who is not None else request.remote_user

    def show(self, job: Job) -> dict[str, Any]:
        """A job under its API names, without what this request may not read."""
        shown = self._masked(job)
        return shown if self._redact is None else self._redact(shown)

    def _masked(self, job: Job) -> dict[str, Any]:
        shown = job.to_dict()
        shown.pop("conflict", None)
        shown.update(dict.fromkeys(job.left_out))
        if self.allows("payload:read"):
            shown.update({name: mask(shown[name]) for name in PAYLOAD})
            redacted = job.redacted
            if redacted is None:
                redacted = tuple(self.redactions().get(job.task, ()))
            shown["args"] = hide(shown["args"], redacted)
        else:
            shown.update(dict.fromkeys(PAYLOAD), payload_hidden=True)
            shown["errors"] = [{**each, **dict.fromkeys(TOLD)} for each in shown["errors"]]
            if shown.get("progress"):
                shown["progress"] = {**shown["progress"], "message": None}
        return shown

    def show_lines(self, job: Job, lines: Iterable[LogLine]) -> list[LogLine]:
        """Lines of a job's log as this request may see them: ``redact`` is asked about the job with its ``logs``."""
        masked = [replace(each, fields=mask(each.fields)) for each in lines]
        if self._redact is None:
            return masked
        shown = self._redact({**self._masked(job), "logs": [each.to_dict() for each in masked]})
        left = {each["id"]: each for each in shown.get("logs") or ()}
        return [
            replace(each, message=left[each.id]["message"], fields=left[each.id]["fields"])
            for each in masked
            if each.id in left
        ]

    def redactions(self) -> dict[str, list[str]]:
        """By task, the arguments that it hides from everybody."""
        return self._fc.redactions()

    def tells_messages(self) -> bool:
        """Whether this request may see, and look for, what jobs hold, where no one job is asked for: in sums and
        filters, which would tell what ``redact`` hides of each."""
        return self._redact is None and self.allows("payload:read")

    @property
    def shares(self) -> bool:
        """Whether all who have the same rights see the same; ``redact`` may look at who asks."""
        return self._redact is None

    def _granted(self, right: str) -> frozenset[str]:
        secret = _secret()
        if secret is not None and secret.startswith(PREFIX):
            return self._token_rights(secret)
        if self._token is not None:
            if secret is not None and hmac.compare_digest(secret.encode(), self._token.encode()):
                return RIGHTS
            if self._authorize is None:
                raise Problem(401, "send the token as `Authorization: Bearer TOKEN` or as the password")
        if self._authorize is not None:
            return _rights(self._authorize(request, right), right)
        return RIGHTS if _is_local() else frozenset()

    def _token_rights(self, secret: str) -> frozenset[str]:
        token: Token | None = of_this_request("token", lambda: self._fc.tokens.find(secret))
        if token is None:
            raise Problem(401, "this token is not known, was revoked or has expired")
        return granted(token.rights)

    def _refuse_cross_site(self, page: bool) -> None:
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            if site in ("same-origin", "none"):
                return
        else:
            own = _is_own_origin()
            if own or (own is None and not page):
                return
        raise Problem(403, "a write from another site was refused")


def request_id() -> str:
    """What the request at hand is called in the audit log: as its ``X-Request-ID`` says, if that is plain and short."""
    given = request.headers.get("X-Request-ID", "")
    made: str = of_this_request("id", lambda: given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16))
    return made


def add_headers(response: Response) -> Response:
    """After every request."""
    response.headers["X-Request-ID"] = request_id()
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def of_this_request(name: str, make: Callable[[], Any]) -> Any:
    """What was found out about the request at hand; ``g`` outlasts it where a host keeps an application context."""
    known: dict[str, Any] = request.environ.setdefault(KNOWN, {})
    if name not in known:
        known[name] = make()
    return known[name]


def check_token(token: str) -> None:
    """Raises ConfigError for a token that guards nothing, or that no header can carry."""
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigError(
            f"a token has at least {MIN_TOKEN} ASCII characters, none of them a space at an end; this one has "
            f"{len(token)}: make one with python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if token.startswith(PREFIX):
        raise ConfigError(f"a token of your own must not begin with {PREFIX}, as those of fc.tokens do")


def refuse_foreign() -> None:
    """Raises Problem 403 for a request that another site makes a browser send, whatever for."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "a request from another site was refused")


def _refuse_foreign_read() -> None:
    # A link to a page may be followed from anywhere; what is embedded or fetched by another site's page may not.
    if request.headers.get("Sec-Fetch-Mode") != "navigate":
        refuse_foreign()


def _refuse_foreign_socket() -> None:
    # Browsers let every site open a WebSocket to every other, with cookies, and then let it read.
    if _is_own_origin() is False:
        raise Problem(403, "a WebSocket from another site was refused")


def _is_own_origin() -> bool | None:
    """Whether ``Origin`` is this host; None if the request names none, as no browser does where it matters."""
    origin = request.headers.get("Origin")
    return None if origin is None else urlsplit(origin).netloc.lower() == request.host.lower()


def _rights(answer: Answer, right: str) -> frozenset[str]:
    """What ``authorize`` meant by its answer when asked about ``right``."""
    if answer is None or answer is False:
        return frozenset()
    if answer is True:
        return frozenset({right})
    if isinstance(answer, str) and answer in ROLES:
        return ROLES[answer]
    given = frozenset([answer] if isinstance(answer, str) else answer)
    if unknown := given - RIGHTS:
        raise ValueError(
            f"authorize() answered {min(unknown)!r}, which is neither a role ({', '.join(ROLES)}) nor a right"
        )
    return given | {VIEW} if given else given


def has_token(headers: Any) -> bool:
    """Whether a request with these headers names an API token, known or not."""
    secret = _secret(headers)
    return secret is not None and secret.startswith(PREFIX)


def _secret(headers: Any = None) -> str | None:
    """The secret that this request carries: a bearer token, or the password of basic authentication."""
    given = request.headers if headers is None else headers
    kind, _, rest = given.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _is_local() -> bool:
    """Whether the request comes from this machine, under one of its names, and was not passed on by a proxy."""
    local: bool = of_this_request("local", _comes_from_here)
    return local


def _comes_from_here() -> bool:
    if any(PASSED_ON.fullmatch(name) for name, _ in request.headers):
        return False
    return is_loopback(request.remote_addr or "") and is_loopback(_host_name(request.host))


def is_loopback(name: str) -> bool:
    """Whether an address or host name is one of this machine that no other machine reaches."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The host without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _check_body(page: bool) -> None:
    """Limits its size, and its kind: JSON for the API, a form for pages."""
    request.max_content_length = MAX_BODY + 1  # of one in chunks, so much is read
    if (request.content_length or 0) > MAX_BODY:
        raise too_large()
    wanted = ("application/x-www-form-urlencoded", "multipart/form-data") if page else ("application/json",)
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    if request.mimetype not in wanted and (request.mimetype or has_body):
        raise Problem(415, f"send {wanted[0]}, not {request.mimetype or 'a body of no stated type'}")


def too_large() -> Problem:
    """What a body over the limit is answered with."""
    return Problem(413, f"the body is larger than {MAX_BODY:,} bytes")
