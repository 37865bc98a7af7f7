"""The pages where other programs hold them: under a dispatcher and in Django, in a real browser."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import waitress
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from fairchild.contrib.wsgi import make_wsgi
from tests.browser.conftest import Site
from tests.browser.test_pages import opened, until
from tests.support.command import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DJANGO = """
import sys
import django
import waitress
from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF="site_urls", USE_TZ=True, FAIRCHILD={},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "people.sqlite3"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
)
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client

call_command("migrate", verbosity=0)
User.objects.create_superuser("ada")
client = Client()
client.force_login(User.objects.get(username="ada"))
server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=8)
print(server.effective_port, client.cookies["sessionid"].value, flush=True)
server.run()
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("a/b/fairchild/", include("fairchild.contrib.django.urls"))]
"""


@contextmanager
def in_django(url: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The pages in a Django site: their address, and the session of a superuser."""
    (folder / "site_urls.py").write_text(URLS)
    (folder / "serve.py").write_text(DJANGO)
    with subprocess.Popen(
        [sys.executable, "serve.py"], cwd=folder, env=environment(url), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port, session = process.stdout.readline().split()
            yield f"http://127.0.0.1:{port}/a/b/fairchild/", session
        finally:
            process.terminate()


def journey(page: Page, mount: str, site: Site) -> None:
    """From the menu to a job, to its workflow, and an action that asks first; all of it stays under the mount."""
    job = site.client.enqueue("t", {}, queue="mounted", delay=3600)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(mount)
    assert page.inner_text(".rail .brand") == "fairchild"
    assert page.evaluate("getComputedStyle(document.querySelector('.shell')).display") == "grid"
    page.click(".rail a[data-go=w]")
    page.locator("main tbody a").first.click()
    page.wait_for_selector(".dag svg")
    page.fill("#jump", str(job.id))
    page.keyboard.press("Enter")
    page.wait_for_url(f"{mount}jobs/{job.id}")
    until(page, lambda: page.inner_text("#live") == "Live · 2 s", 20)
    page.keyboard.press("c")
    page.locator("#ask button.danger").click()
    page.wait_for_selector("text=1 job cancelled")
    assert site.client.count("queue:mounted state:cancelled") > 0
    assert [url for url in asked if not url.startswith(mount)] == []


def test_under_a_dispatcher(browser: Browser, site: Site) -> None:
    host: Any = DispatcherMiddleware(Flask("host"), {"/a/b/fairchild": make_wsgi(site.client)})
    server = waitress.create_server(host, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with opened(browser) as (page, said):
        journey(page, f"http://127.0.0.1:{server.effective_port}/a/b/fairchild/", site)
        assert said == []
    server.close()
    thread.join(5)


def test_in_django(browser: Browser, site: Site, tmp_path: Path) -> None:
    with in_django(site.client.config.url, tmp_path) as (mount, session), opened(browser) as (page, said):
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": mount}])
        journey(page, mount, site)
        assert said == []
