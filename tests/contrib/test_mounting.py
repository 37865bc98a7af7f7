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
    assert client.post("/two/api/queues/q/pause").status_code == 405


def test_it_is_mounted_under_a_dispatcher(app: App) -> None:
    host = DispatcherMiddleware(Flask("host"), {"/ops": make_wsgi(app.client)})
    client = Client(host)

    def get(path: str) -> Any:
        return client.get(path, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})

    assert get("/ops/api/stats").status_code == 200
    assert get("/ops/api/openapi.json").json["servers"] == [{"url": "/ops"}]
    assert get("/api/stats").status_code == 404


DJANGO = """
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
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

call_command("migrate", verbosity=0)
User.objects.create_superuser("ada", password="x")
User.objects.create_user("bob", password="x", is_staff=True)

client = Client(enforce_csrf_checks=True)
assert client.get("/ops/fairchild/api/stats").status_code == 401
assert client.get("/ops/fairchild/readyz").status_code == 403
assert client.get("/ops/fairchild/readyz", headers={"Host": "localhost"}).status_code == 200
assert client.get("/ops/fairchild/jobs").headers["Location"].startswith("/accounts/login/?next=/ops/fairchild/jobs")

client.force_login(User.objects.get(username="bob"))
assert client.get("/ops/fairchild/api/stats").status_code == 403

client.force_login(User.objects.get(username="ada"))
answer = client.get("/ops/fairchild/api/stats")
assert answer.status_code == 200, answer.content
assert answer.headers["Cache-Control"] == "no-store"
assert client.get("/ops/fairchild/api/openapi.json").json()["servers"] == [{"url": "/ops/fairchild"}]
pause = "/ops/fairchild/api/queues/mail/pause"
assert client.post(pause, headers={"Sec-Fetch-Site": "cross-site"}).status_code in (403, 415)
made = client.post(pause, data="{}", content_type="application/json", headers={"Sec-Fetch-Site": "same-origin"})
assert made.status_code == 200, made.content
assert made.json()["paused"]
entry = client.get("/ops/fairchild/api/audit").json()["entries"][0]
assert (entry["who"], entry["target"]) == ("ada", "mail"), entry
print("served")
"""


def test_it_is_mounted_in_django_and_guarded_by_its_users(app: App, tmp_path: Path) -> None:
    (tmp_path / "site_urls.py").write_text(
        "from django.urls import include, path\n"
        'urlpatterns = [path("ops/fairchild/", include("fairchild.contrib.django.urls"))]\n'
    )
    (tmp_path / "site_test.py").write_text(DJANGO)
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
