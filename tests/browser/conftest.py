"""A real Chromium against a real server. ``make browser`` installs what it needs and runs these."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import waitress
from flask import Flask

from fairchild import Fairchild
from fairchild.tasks import Registry
from fairchild.testing import databases
from fairchild.web import create_blueprint
from fairchild.web.pages import site as pages_site
from fairchild.worker import Worker
from tests.browser.shop import HELD, SLOW, fill, register

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
ASKED_FOR = "FAIRCHILD_BROWSER"


@pytest.fixture(scope="session", autouse=True)
def wanted() -> None:
    if not os.environ.get(ASKED_FOR):
        pytest.skip(f"run by `make browser` ({ASKED_FOR} is not set)")


@pytest.fixture(scope="session")
def browser(wanted: None) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "there is no chromium: on Debian, apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Site:
    """A server with the pages under ``url``, and the jobs in it by name."""

    url: str
    client: Fairchild
    jobs: dict[str, UUID | str]

    def to(self, path: str) -> str:
        """The address of a page; ``{name}`` stands for the id of a job."""
        return self.url + path.format(**self.jobs)


def serve(
    client: Fairchild, jobs: dict[str, UUID | str]
) -> tuple[Site, waitress.server.BaseWSGIServer, threading.Thread]:
    """The pages under ``/a/b/fairchild``, on a port of its own."""
    # Answers are shared for a moment only: tests look again and again at what they have just changed.
    pages_site.LIVE_SECONDS = pages_site.SHELL_SECONDS = 0.05
    flask = Flask("site")
    flask.register_blueprint(create_blueprint(client), url_prefix="/a/b/fairchild")
    server = waitress.create_server(flask, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    return Site(f"http://127.0.0.1:{server.effective_port}/a/b/fairchild/", client, jobs), server, thread


@pytest.fixture(scope="session")
def site(wanted: None, fairchild_server: str, fairchild_template: str) -> Iterator[Site]:
    """A shop with jobs in every state and a worker at work, the same for all tests that only look."""
    with databases.copy_of(fairchild_server, fairchild_template) as url:
        client = Fairchild(url, registry=Registry())
        client.connect()
        register(client)
        with Worker(client, ["default", "money", "media"], 4, name="web-1", poll_interval=0.1):
            found, server, thread = serve(client, fill(client))
            yield found
            SLOW.set()
            HELD.set()
            server.close()
            thread.join(5)
        client.disconnect()
