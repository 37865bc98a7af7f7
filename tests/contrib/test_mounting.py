"""The same blueprint in Flask, under a dispatcher and in Django."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from fairchild.contrib.wsgi import make_wsgi
from fairchild.web import create_blueprint
from tests.support.app import App, app
from tests.support.command import environment

__all__ = ["app"]


@pytest.mark.parametrize("prefix", ["", "/fairchild", "/a/b/fairchild"])
def test_it_is_mounted_in_flask_under_any_prefix(app: App, prefix: str) -> None:
    flask = Flask("host")
    flask.register_blueprint(create_blueprint(app.client), url_prefix=prefix or None)
    client = flask.test_client()
    assert client.get(f"{prefix}/api/stats").status_code == 200
    document: Any = client.get(f"{prefix}/api/openapi.json").json
    assert document["servers"] == [{"url": prefix or "/"}]


def test_two_of_them_in_one_application(app: App) -> None:
    flask = Flask("host")
    flask.register_blueprint(create_blueprint(app.client, name="one"), url_prefix="/one")
    flask.register_blueprint(create_blueprint(app.client, name="two", read_only=True), url_prefix="/two")
    client = flask.test_client()
    assert client.post("/one/api/queues/q/pause").status_code == 200
    assert client.post("/two/api/queues/q/pause").status_code == 404


def test_it_is_mounted_under_a_dispatcher(app: App) -> None:
    host = DispatcherMiddleware(Flask("host"), {"/ops": make_wsgi(app.client)})
    client = Client(host)

    def get(path: str) -> Any:
        return client.get(path, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})

    assert get("/ops/api/stats").status_code == 200
    assert get("/ops/api/openapi.json").json["servers"] == [{"url": "/ops"}]
    assert get("/api/stats").status_code == 404


DJANGO = """
import sys
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["testserver", "localhost"], ROOT_URLCONF="site_urls", USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    FAIRCHILD=OPTIONS,
)
django.setup()

from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import Client

call_command("migrate", verbosity=0)
job = ContentType.objects.create(app_label="fairchild", model="job")
may = {
    name: Permission.objects.create(codename=f"{name}_job", content_type=job, name=name) for name in ("view", "change")
}


def user(name, *permissions, **kinds):
    made = User.objects.create_user(name, password="x", **kinds)
    made.user_permissions.set([may[each] for each in permissions])
    return made


def login(name):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username=name))
    return client


user("ada", is_superuser=True)
user("bob", is_staff=True)
user("cid", "view", is_staff=True)
user("dan", "view", "change", is_staff=True)
user("eve", "view", "change")
BASE = "/ops/fairchild"
SAME = {"Sec-Fetch-Site": "same-origin"}


def post(client, path, **options):
    return client.post(BASE + path, data="{}", content_type="application/json", headers=SAME, **options)
"""

USERS = """
nobody = Client(enforce_csrf_checks=True)
for path in ("/api/stats", "/metrics", "/health"):
    answer = nobody.get(BASE + path)
    assert answer.status_code == 401, (path, answer.status_code)
    assert "WWW-Authenticate" in answer.headers
assert nobody.get(BASE + "/api/stats").headers["Content-Type"] == "application/problem+json"
assert post(nobody, "/api/queues/mail/pause").status_code == 401
assert nobody.get(BASE + "/readyz").status_code == 403
assert nobody.get(BASE + "/readyz", headers={"Host": "localhost"}).status_code == 200
for path in ("", "/jobs"):
    assert nobody.get(f"{BASE}{path or '/'}").headers["Location"].startswith(f"/accounts/login/?next={BASE}{path}")

for name, looks, operates, administers in (
    ("ada", 200, 200, 200), ("bob", 403, 403, 403), ("cid", 200, 403, 403), ("dan", 200, 200, 403),
    ("eve", 403, 403, 403),
):
    client = login(name)
    for path in ("/api/stats", "/jobs", "/metrics"):
        assert client.get(BASE + path).status_code == looks, (name, path)
    assert post(client, "/api/queues/mail/pause").status_code == operates, name
    assert client.get(BASE + "/api/audit").status_code == administers, name

client = login("ada")
answer = client.get(BASE + "/api/stats")
assert answer.headers["Cache-Control"] == "no-store"
assert client.get(BASE + "/api/openapi.json").json()["servers"] == [{"url": BASE}]
pause = BASE + "/api/queues/mail/pause"
assert client.post(pause, headers={"Sec-Fetch-Site": "cross-site"}).status_code in (403, 415)
entry = client.get(BASE + "/api/audit").json()["entries"][0]
assert (entry["who"], entry["target"]) == ("dan", "mail"), entry
assert client.get(BASE + "/api/stream").status_code == 404
"""

NAMES = """
from urllib.parse import quote

client = login("ada")
for name in ("caf\u00e9", "\u65e5\u672c", "a b", "a%b"):
    paused = post(client, f"/api/queues/{quote(name, safe='')}/pause")
    assert paused.status_code == 200, (name, paused.content)
    assert (paused.json()["name"], paused.json()["paused"]) == (name, True)
    page = client.get(f"{BASE}/queues/{quote(name)}")
    assert page.status_code == 200, name
names = {each["name"] for each in client.get(BASE + "/api/queues").json()["queues"]}
assert names == {"caf\u00e9", "\u65e5\u672c", "a b", "a%b"}, names
# The mount itself may have such a name.
other = "/" + quote("caf\u00e9") + "/fairchild"
assert client.get(other + "/api/openapi.json").json()["servers"] == [{"url": "/caf\u00e9/fairchild"}]
"""

TOKENS = """
from base64 import b64encode

from fairchild import Fairchild

token, secret = Fairchild().tokens.create("grafana", ["view"])
nobody = Client(enforce_csrf_checks=True)
basic = "Basic " + b64encode(f"any:{secret}".encode()).decode()
for given in (f"Bearer {secret}", basic):
    for path in ("/api/stats", "/metrics", "/jobs", "/health"):
        answer = nobody.get(BASE + path, headers={"Authorization": given})
        assert answer.status_code in (200, 503), (path, answer.content)
wrong = nobody.get(BASE + "/api/stats", headers={"Authorization": "Bearer fct_wrong"})
assert (wrong.status_code, wrong.headers["Content-Type"]) == (401, "application/problem+json")
assert nobody.get(BASE + "/metrics", headers={"Authorization": "Bearer fct_wrong"}).status_code == 401
assert nobody.get(BASE + "/metrics", headers={"Authorization": "Bearer other"}).status_code == 401
denied = nobody.post(
    BASE + "/api/queues/mail/pause", data="{}", content_type="application/json",
    headers={"Authorization": f"Bearer {secret}"},
)
assert denied.status_code == 403, denied.content
"""

SETTINGS = """
from fairchild import Fairchild

job = Fairchild().enqueue("shop.a", {"note": "private"})
client = login("ada")
assert client.get(f"{BASE}/api/jobs/{job.id}", headers={"Host": "testserver"}).status_code == 400
local = {"Host": "localhost"}
assert client.get(f"{BASE}/api/jobs/{job.id}", headers=local).json()["args"] == {"note": "hidden"}
assert post(client, "/api/queues/mail/pause", HTTP_HOST="localhost").status_code == 200
assert client.get(BASE + "/api/audit", headers=local).json()["entries"][0]["who"] == "person 1"
stream = client.get(BASE + "/api/stream", headers=local)
assert (stream.status_code, stream.headers["Content-Type"][:17]) == (200, "text/event-stream")
assert b"retry" in next(iter(stream.streaming_content))
assert client.get(BASE + "/api/stream", headers=local).status_code == 503
stream.close()
again = client.get(BASE + "/api/stream", headers=local)
assert again.status_code == 200
again.close()
"""
OPTIONS = """{
    "HOSTS": ["localhost"], "STREAMS": 1, "WHO": "site_urls.who", "REDACT": "site_urls.redact",
}"""


@pytest.mark.parametrize(
    ("test", "options"), [(USERS, "{}"), (NAMES, "{}"), (TOKENS, "{}"), (SETTINGS, OPTIONS)],
    ids=["users", "names", "tokens", "settings"],
)  # fmt: skip
def test_it_is_mounted_in_django_and_guarded_by_its_users(app: App, tmp_path: Path, test: str, options: str) -> None:
    (tmp_path / "site_urls.py").write_text(
        "from django.urls import include, path\n"
        "def who(request): return f'person {request.user.pk}'\n"
        "def redact(job): return {**job, 'args': {'note': 'hidden'}}\n"
        'mounted = include("fairchild.contrib.django.urls")\n'
        'urlpatterns = [path("ops/fairchild/", mounted), path("caf\u00e9/fairchild/", mounted)]\n',
        encoding="utf-8",
    )
    (tmp_path / "site_test.py").write_text(DJANGO.replace("OPTIONS", options) + test + "\nprint('served')\n")
    done = subprocess.run(
        [sys.executable, "site_test.py"],
        cwd=tmp_path,
        env=environment(app.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "served\n", done.stderr
