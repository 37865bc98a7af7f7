"""One view that hands a request to the WSGI application of the pages and the API.

Django's session and permissions guard it: of anonymous people, pages send them to the login page and all else answers
401. Staff with ``fairchild.view_job`` may look, with ``fairchild.change_job`` operate, and superusers may do
everything. A request with an API token needs no login, and has the token's rights.

Settings, all of them optional, are in ``FAIRCHILD``. Without ``URL`` and ``SCHEMA`` the environment says where the
database is. ``AUTHORIZE``, ``WHO`` and ``REDACT`` are functions or their dotted paths: ``authorize(django_request,
right)`` answers as one of ``create_blueprint`` does, ``who(django_request)`` names the person for the audit log, and
``redact(job)`` gives the dict of a job as it may be shown. ``READ_ONLY``, ``STREAMS``, ``HOSTS`` and ``PROBES`` are as
those of ``create_blueprint``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from flask import Flask, Request

from fairchild.client import Fairchild
from fairchild.contrib.wsgi import make_wsgi
from fairchild.errors import ConfigError
from fairchild.web.auth import has_token
from fairchild.web.problems import Problem

_OPTIONS = ("URL", "SCHEMA", "AUTHORIZE", "WHO", "REDACT", "READ_ONLY", "STREAMS", "HOSTS", "PROBES")
_NOT_PAGES = ("api/", "static/", "health", "metrics", "livez", "readyz")
_REQUEST = "fairchild.django_request"


def authorize(request: Any, right: str) -> str | bool | None:  # noqa: ARG001 - as one of create_blueprint is called
    """Who may do what unless a setting says otherwise: a role by Django's own permissions."""
    user = request.user
    if user.is_superuser:
        return "admin"
    if user.is_staff and user.has_perm("fairchild.change_job"):
        return "operate"
    return "view" if user.is_staff and user.has_perm("fairchild.view_job") else None


def _serve(request: HttpRequest, rest: str) -> HttpResponseBase:
    """Answer a request under the mount; ``rest`` is its path there."""
    user = getattr(request, "user", None)
    if user is None:
        raise ConfigError("fairchild's pages need django.contrib.auth and its middleware, which set request.user")
    if not user.is_authenticated and not rest.startswith(_NOT_PAGES) and not has_token(request.headers):
        return redirect_to_login(request.get_full_path())
    script, path = request.META.get("SCRIPT_NAME", ""), request.path_info
    mount = path[: len(path) - len(rest)].rstrip("/")
    environ = {
        **request.META, "SCRIPT_NAME": _as_wsgi(script + mount), "PATH_INFO": _as_wsgi("/" + rest), _REQUEST: request,
    }  # fmt: skip
    return _answer(_app(), environ)


# Other sites' writes are refused by Sec-Fetch-Site and Origin (fairchild/web/auth.py), for API and forms alike.
mounted: Any = csrf_exempt(_serve)


def _as_wsgi(path: str) -> str:
    """Text of Django's as WSGI has it: its bytes, each as a character."""
    return path.encode("utf-8", "surrogateescape").decode("latin-1")


def _answer(app: Flask, environ: dict[str, Any]) -> HttpResponseBase:
    given: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        given[:] = [int(status.split(" ", 1)[0]), headers]

    parts: Iterable[bytes] = app.wsgi_app(environ, start)
    code, headers = given
    streaming = any(name.lower() == "content-type" and "event-stream" in value for name, value in headers)
    answer: HttpResponseBase = StreamingHttpResponse(parts) if streaming else HttpResponse(b"".join(parts))
    close = getattr(parts, "close", None)
    if close is not None and not streaming:
        close()
    answer.status_code = code
    for name, value in headers:
        answer.headers[name] = value
    return answer


@lru_cache(maxsize=1)
def _app() -> Flask:
    options: dict[str, Any] = dict(getattr(settings, "FAIRCHILD", {}))
    if unknown := set(options) - set(_OPTIONS):
        raise ConfigError(f"settings.FAIRCHILD has no option {min(unknown)!r}; it takes {', '.join(_OPTIONS)}")
    decide, name = _function(options.get("AUTHORIZE")) or authorize, _function(options.get("WHO"))

    def asked(request: Request, right: str) -> Any:
        inner = request.environ[_REQUEST]
        if not inner.user.is_authenticated:
            raise Problem(401, "log in first, or send an API token as `Authorization: Bearer TOKEN`")
        return decide(inner, right)

    def who(request: Request) -> str:
        inner = request.environ[_REQUEST]
        return str(inner.user if name is None else name(inner))

    return make_wsgi(
        Fairchild(options.get("URL"), schema=options.get("SCHEMA")), authorize=asked, who=who,
        redact=_function(options.get("REDACT")), hosts=options.get("HOSTS"), streams=options.get("STREAMS", False),
        read_only=bool(options.get("READ_ONLY", False)), probes=bool(options.get("PROBES", False)),
    )  # fmt: skip


def _function(given: Any) -> Callable[..., Any] | None:
    found: Callable[..., Any] | None = import_string(given) if isinstance(given, str) else given
    return found
