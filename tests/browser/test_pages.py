"""Every page in a real browser: silent, within its width, accessible, and usable by keyboard or without scripts."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import Site
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

PAGES = [
    "", "?window=7d", "jobs", "jobs?q=state:failed+tag:money", "jobs?q=task:none", "jobs?q=nonsense:", "jobs/{failed}",
    "jobs/{retrying}", "jobs/{running}", "jobs/{waiting}", "jobs/{done}", "jobs/{evil}", "workflows",
    "workflows/{flow}", "workflows/{flow}?path=1&dir=down", "workflows/{flow}?view=timeline",
    "workflows/{flow}?view=list&group=root", "workflows/{flow}?view=tasks", "workers?show=idle",
    "workflows/{broken}?group=root", "queues", "queues/money", "queues/exports", "workers", "tasks",
    "tasks/shop.mail.send_email", "new", "new?task=shop.billing.charge", "new?from={failed}", "errors",
    "errors/{error}", "workers/{worker}", "system", "audit", "api/docs", "schedules", "limits", "tenants",
]  # fmt: skip
WIDTHS = [320, 390, 768, 1440]
THEMES = ["light", "dark"]


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page of its own, and what its console and errors say."""
    options.setdefault("viewport", {"width": 1440, "height": 900})
    context = browser.new_context(**options)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        yield page, said
    finally:
        context.close()


def until(page: Page, fact: Callable[[], object], seconds: float) -> None:
    """Wait for a fact, and let the page go on meanwhile: it only does while it is asked something."""

    def looked() -> object:
        page.wait_for_timeout(100)
        return fact()

    eventually(looked, seconds)


def tab_to(page: Page, name: str) -> None:
    """Go on with the Tab key to what says this, or is called so."""
    for _ in range(100):
        page.keyboard.press("Tab")
        at = page.evaluate("[document.activeElement.innerText.trim(), document.activeElement.id]")
        if name in at:
            return
    raise AssertionError(f"the Tab key does not come to {name!r}")


@pytest.mark.parametrize("theme", THEMES)
def test_the_console_is_silent_and_nothing_scrolls_sideways(browser: Browser, site: Site, theme: Any) -> None:
    wrong: list[Any] = []
    with opened(browser, color_scheme=theme) as (page, said):
        for path in PAGES:
            page.goto(site.to(path))
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    wrong.append((path, width, wide))
            if page.evaluate("window.hit") is not None:
                wrong.append((path, "a script of a user's ran"))
            if said:
                wrong.append((path, list(said)))
                said.clear()
    assert wrong == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(browser: Browser, site: Site, theme: Any, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    wrong: list[Any] = []
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    # axe is injected, which the pages' own policy rightly refuses.
    with opened(browser, color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True) as (page, _):
        for path in PAGES:
            page.goto(site.to(path))
            found = axe.run(page, options={"runOnly": {"type": "tag", "values": tags}})
            wrong += [
                (path, each["id"], [node["html"][:160] for node in each["nodes"]][:3])
                for each in found.response["violations"]
            ]
    assert wrong == []


def test_a_page_asks_for_what_changed_and_not_while_it_must_not(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        answers: list[int] = []
        page.on("response", lambda answer: answers.append(answer.status) if "_live" in answer.url else None)
        page.goto(site.to("jobs?q=queue:exports+after:1d"))
        until(page, lambda: 304 in answers, 20)
        assert answers[0] == 200
        page.locator("input[data-row]").first.check()
        until(page, lambda: "ticked" in page.locator("#live").inner_text(), 20)
        asked = len(answers)
        page.wait_for_timeout(2500)
        assert len(answers) == asked
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        until(page, lambda: len(answers) > asked, 20)
        page.locator("#pause").click()
        until(page, lambda: "you paused" in page.locator("#live").inner_text(), 20)
        assert said == []


def test_new_jobs_wait_behind_a_button(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, _):
        page.goto(site.to("jobs?q=queue:pill+after:1d"))
        assert "No jobs match" in page.inner_text("main")
        first = site.client.enqueue("t", {}, queue="pill")
        page.wait_for_selector(f"#job-{first.id}", timeout=20000)
        page.locator(f"#job-{first.id} a").focus()
        second = site.client.enqueue("t", {}, queue="pill")
        page.wait_for_selector("#news:visible", timeout=20000)
        assert page.inner_text("#news") == "1 new job"
        assert page.locator(f"#job-{second.id}").count() == 0
        assert page.evaluate("document.activeElement.closest('tr').id") == f"job-{first.id}"
        page.click("#news")
        page.wait_for_selector(f"#job-{second.id}")


def test_the_operators_journey_by_keyboard(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to(""))
        page.keyboard.press("g")
        page.keyboard.press("j")
        page.wait_for_url("**/jobs")
        page.keyboard.press("/")
        page.keyboard.type("state:failed task:shop.billing.charge")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs?q=*")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Latest error")
        assert "the payment gateway did not answer" in page.inner_text("main")
        tab_to(page, "Edit & retry")
        page.keyboard.press("Enter")
        page.wait_for_selector("#arg-account")
        tab_to(page, "arg-account")
        page.keyboard.press("Control+a")
        page.keyboard.type("5")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=1 job enqueued")
        until(page, lambda: "charged" in page.inner_text("main"), 30)
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        assert said == []


def test_the_operators_journey_without_scripts(browser: Browser, site: Site) -> None:
    with opened(browser, java_script_enabled=False) as (page, _):
        page.goto(site.to("jobs"))
        page.fill("#filter", "state:failed")
        page.get_by_role("button", name="Filter").click()
        row = page.locator("tbody tr", has_text="shop.billing.charge").first
        row.locator("a:visible").click()
        assert "TimeoutError" in page.inner_text("main")
        page.get_by_role("link", name="Edit & retry").click()
        page.fill("#arg-account", "9")
        page.get_by_role("button", name="Enqueue").click()
        assert "1 job enqueued" in page.inner_text("main")
        job = page.url.rpartition("/")[2][:36]
        eventually(lambda: site.client.count(f"id:{job} state:completed"), 30)
        page.reload()
        assert "charged" in page.inner_text("main")
        page.goto(site.to("jobs?q=state:failed+task:shop.billing.charge"))
        page.locator("input[data-row]").first.check()
        page.get_by_role("button", name="Retry").click()
        assert "1 job retried" in page.inner_text("main")


def test_rows_are_ticked_in_a_range_and_cancelled(browser: Browser, site: Site) -> None:
    ids = site.client.enqueue_many("t", [{}] * 4, queue="ticks")
    with opened(browser) as (page, said):
        page.goto(site.to("jobs?q=queue:ticks+after:1d"))
        assert not page.locator("[data-bulk]").is_visible()
        for key in ("j", "x", "j", "j", "Shift+X"):
            page.keyboard.press(key)
        assert "3 selected" in page.inner_text("[data-bulk]")
        page.keyboard.press("c")
        page.get_by_role("button", name="Cancel 3").click()
        page.wait_for_selector("text=3 jobs cancelled")
        assert site.client.count("queue:ticks state:cancelled") == 3
        assert len(ids) == 4
        assert said == []


def test_the_graph_is_walked_with_arrows(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("workflows/{flow}"))
        column = "[document.activeElement.id, document.activeElement.transform.baseVal[0].matrix.e]"
        page.locator("#node-root").focus()
        page.keyboard.press("ArrowRight")
        second, place = page.evaluate(column)
        assert place > 200
        page.keyboard.press("ArrowDown")
        third, same = page.evaluate(column)
        assert third != second
        assert same == place
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(column)[0] == "node-root"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector("#drawer-h")
        width = page.evaluate("document.querySelector('.dag svg').width.baseVal.value")
        page.get_by_role("button", name="Zoom in").click()
        assert page.evaluate("document.querySelector('.dag svg').width.baseVal.value") > width
        page.get_by_role("button", name="Fit").click()
        assert said == []


def test_a_running_job_says_where_it_is_by_keyboard(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("jobs/{running}"))
        tab_to(page, "Ask its worker")
        page.keyboard.press("Enter")
        page.wait_for_selector("#where .own", timeout=20000)
        assert "SLOW.wait(600)" in page.inner_text("#where")
        assert "in transcode" in page.inner_text("#where")
        page.goto(site.to("workers/{worker}"))
        page.get_by_role("button", name="Show stacks").click()
        page.wait_for_selector("details.thread[open] .own", timeout=20000)
        assert said == []


def test_where_a_job_is_can_be_asked_without_scripts(browser: Browser, site: Site) -> None:
    with opened(browser, java_script_enabled=False) as (page, _):
        page.goto(site.to("jobs/{running}"))
        page.locator("#where button").click()
        until(page, lambda: page.reload() and page.locator("#where .own").count(), 20)
        assert "SLOW.wait(600)" in page.inner_text("#where")


def test_an_error_is_read_and_all_its_jobs_are_retried_by_keyboard(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("errors"))
        tab_to(page, "TimeoutError")
        page.keyboard.press("Enter")
        page.wait_for_url("**/errors/*")
        assert "the payment gateway did not answer within … seconds" in page.inner_text("main")
        page.keyboard.press("r")
        page.wait_for_selector("#ask >> text=Match now")
        jobs = int(page.inner_text("#ask dl.kv dd:nth-of-type(2)"))
        tab_to(page, f"Retry {jobs}")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"text={jobs} jobs retried")
        assert jobs > 1
        assert said == []


def test_the_theme_is_chosen_and_kept(browser: Browser, site: Site) -> None:
    with opened(browser, color_scheme="light") as (page, _):
        page.goto(site.to(""))
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        page.click("#theme")
        after = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert before != after
        page.goto(site.to("jobs"))
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_the_first_paint_is_soon(browser: Browser, site: Site) -> None:
    """Not a limit on time, which the machine decides: on bytes and on what blocks the paint."""
    with opened(browser) as (page, _):
        sizes: list[int] = []

        def add(request: Request) -> None:
            # The page itself is compressed by whatever stands before the server, if anything does.
            whole = request.resource_type == "document"
            answer = request.response()
            assert answer is not None
            sizes.append(len(gzip.compress(answer.body())) if whole else request.sizes()["responseBodySize"])

        page.on("requestfinished", add)
        page.goto(site.to(""), wait_until="networkidle")
        assert len(sizes) > 5
        assert sum(sizes) <= 40_000
        blocking = page.evaluate(
            "document.querySelectorAll('head script:not([type=module]), head link[rel=stylesheet]').length"
        )
        assert blocking == 2


def test_a_chart_says_what_its_columns_stand_for(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to(""))
        tip = page.locator(".tip")
        page.locator("#throughput .cols g").last.hover()
        assert re.search(r"\d\d:\d\d.*: .* completed", tip.text_content() or "")
        page.locator("#throughput .cols").focus()
        first = tip.text_content()
        page.keyboard.press("ArrowLeft")
        assert tip.is_visible()
        assert tip.text_content() != first
        page.keyboard.press("Escape")
        assert tip.is_hidden()
        zone = page.evaluate(
            "new Date(document.querySelector('.xs time').dateTime)"
            ".toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'})"
        )
        until(page, lambda: page.locator(".xs time").first.text_content() == zone, 10)
        assert said == []


def test_an_action_that_fails_says_so_on_its_page(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, _):
        made = site.client.enqueue("shop.lost", {}, queue="nobody", delay=3600)
        page.goto(site.to(f"jobs/{made.id}"))
        site.client.cancel(made)
        page.evaluate("document.querySelector('form[action$=cancel]').requestSubmit()")
        page.wait_for_selector("p.toast[role=alert]")
        assert page.url == site.to(f"jobs/{made.id}")
        page.reload()
        assert page.locator("p.toast[role=alert]").count() == 0
