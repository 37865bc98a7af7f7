"""One view that hands a request to the WSGI application of the pages and the API.

Django's session and permissions guard it: anonymous people are sent to the login page (API requests get 401), staff
with ``fairchild.view_job`` may look, with ``fairchild.change_job`` operate, and superusers may do everything; so may
what ``FAIRCHILD = {"AUTHORIZE": "dotted.path"}`` names, a function ``authorize(django_request, right)`` that answers
as one of ``create_blueprint`` does. Other settings there: ``URL``, ``SCHEMA``, ``READ_ONLY``,
``PROBES``. Without ``URL`` the
environment says where the database is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from flask import Flask, Request

from fairchild.client import Fairchild
from fairchild.contrib.wsgi import make_wsgi
from fairchild.errors import ConfigError

_OPTIONS = ("URL", "SCHEMA", "READ_ONLY", "AUTHORIZE", "PROBES")
_PROBES = ("livez", "readyz")
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
    if not user.is_authenticated and rest not in _PROBES:
        if rest.startswith("api/") or rest == "health":
            return JsonResponse({"status": 401, "title": "Unauthorized", "detail": "log in first"}, status=401)
        return redirect_to_login(request.get_full_path())
    script, path = request.META.get("SCRIPT_NAME", ""), request.path_info
    mount = path[: len(path) - len(rest)].rstrip("/")
    environ = {**request.META, "SCRIPT_NAME": script + mount, "PATH_INFO": "/" + rest, _REQUEST: request}
    return _answer(_app(), environ)


# Other sites' writes are refused by Sec-Fetch-Site and Origin (fairchild/web/auth.py), for API and forms alike.
mounted: Any = csrf_exempt(_serve)


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
    decide = import_string(options["AUTHORIZE"]) if "AUTHORIZE" in options else authorize

    def asked(request: Request, right: str) -> Any:
        return decide(request.environ[_REQUEST], right)

    def who(request: Request) -> str:
        return str(request.environ[_REQUEST].user)

    fc = Fairchild(options.get("URL"), schema=options.get("SCHEMA"))
    return make_wsgi(
        fc, authorize=asked, who=who, read_only=bool(options.get("READ_ONLY", False)),
        probes=bool(options.get("PROBES", False)),
    )  # fmt: skip
