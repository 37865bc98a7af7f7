"""A large workflow is drawn as few nodes, which open in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from fairchild import Fairchild
from fairchild.tasks import Registry
from fairchild.testing import databases
from tests.browser.conftest import Site, serve
from tests.browser.test_pages import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

JOBS = 10_000
MOST_NODES = 150
MOST_BYTES = 60 * 1024


@pytest.fixture(scope="module")
def empty(wanted: None, fairchild_server: str, fairchild_template: str) -> Iterator[Site]:
    """A site of its own, so that so many jobs are not among those of the others."""
    with databases.copy_of(fairchild_server, fairchild_template) as url:
        client = Fairchild(url, registry=Registry())
        client.connect()
        client.stats()  # its pool is open
        site, server, thread = serve(client, {})
        yield site
        server.close()
        thread.join(5)
        client.disconnect()


def test_ten_thousand_jobs_of_many_tasks_are_at_most_150_nodes(browser: Browser, empty: Site) -> None:
    site = empty
    with site.client.workflow("yearly") as flow:
        first = flow.call("load", queue="nobody")
        for n in range(JOBS // 2):
            part = flow.call(f"part{n % 40}", {"n": n, "of": first}, queue="nobody")
            _ = flow.call(f"check{n % 40 // 10}", {"n": n, "of": part}, queue="nobody")
    with opened(browser) as (page, said):
        page.goto(site.to(f"workflows/{flow.id}"))
        assert 20 < page.locator(".dag svg a").count() <= MOST_NODES
        assert page.evaluate("document.querySelector('.dag svg').outerHTML.length") <= MOST_BYTES
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
        assert f"{JOBS + 2:,} jobs" in page.inner_text("main")
        page.locator(".dag svg a").nth(1).focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#drawer-h")
        assert page.locator(".dag svg a").count() <= MOST_NODES
        assert said == []


def test_the_jobs_of_a_group_are_drawn_one_by_one_and_lead_to_their_pages(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("workflows/{flow}"))
        before = page.locator(".dag svg a").count()
        page.locator(".dag svg a", has_text="×12").click()
        page.get_by_role("link", name="Draw one by one").click()
        page.wait_for_selector(".dag a[id^=node-job]")
        assert page.locator(".dag svg a").count() == before + 11
        page.locator(".dag a[id^=node-job]").first.focus()
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.id").startswith("node-job-")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/*")
        page.get_by_role("link", name="Show the graph").click()
        page.wait_for_selector(".dag a[aria-current]")
        assert "fetch_price" in (page.locator(".dag a[aria-current] title").text_content() or "")
        assert said == []
