"""A page that is live: what it asks for, what it swaps, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fairchild.worker import Worker
from tests.browser.conftest import Site
from tests.browser.shop import HELD
from tests.browser.test_pages import opened, until
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOWN = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); \
document.dispatchEvent(new Event('visibilitychange'))"


class Clock:
    """The page's timers, turned by hand, and what it has asked for meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[int] = []
        page.clock.install()
        page.on("response", lambda answer: self.asked.append(answer.status) if "_live" in answer.url else None)

    def poll(self) -> None:
        """Two seconds later, with the answer."""
        with self.page.expect_response(lambda answer: "_live" in answer.url):
            self.page.clock.run_for(2000)
        self.page.wait_for_timeout(20)

    def until(self, fact: Callable[[], object], seconds: float = 20) -> None:
        """Poll until it is so."""

        def looked() -> object:
            self.page.clock.run_for(2000)
            self.page.wait_for_timeout(60)
            return fact()

        eventually(looked, seconds)


@contextmanager
def ticking(browser: Browser, address: str, **options: Any) -> Iterator[tuple[Page, Clock]]:
    """A page whose clock stands still; its console is silent to the end."""
    with opened(browser, **options) as (page, said):
        clock = Clock(page)
        page.goto(address)
        yield page, clock
        assert said == []


def ids(page: Page, selector: str) -> list[str]:
    found: list[str] = page.locator(selector).evaluate_all("all => all.map((each) => each.id)")
    return found


def end_of(page: Page, clock: Clock) -> None:
    """What has ended says so and is asked for no more."""
    clock.until(lambda: page.inner_text("#live") == "Not live")
    assert page.locator("main [data-live]").count() == 0
    assert not page.locator("#pause").is_visible()
    asked = len(clock.asked)
    page.clock.run_for(60_000)
    page.wait_for_timeout(100)
    assert len(clock.asked) == asked


def test_a_running_job_is_seen_to_end(browser: Browser, site: Site) -> None:
    HELD.clear()
    job = site.client.enqueue("shop.media.hold", {"name": "a"})
    eventually(lambda: site.client.count(f"id:{job.id} state:running"), 30)
    with ticking(browser, site.to(f"jobs/{job.id}")) as (page, clock):
        clock.poll()
        assert page.inner_text("#head .pill") == "running"
        assert page.inner_text("#live") == "Live · 2 s"
        HELD.set()
        end_of(page, clock)
        assert page.inner_text("#head .pill") == "completed"
        assert "held a" in page.inner_text("#payload")


def test_a_workflow_and_a_worker_are_seen_to_end(browser: Browser, site: Site) -> None:
    first = site.client.enqueue("shop.mail.send_email", {"to": "a@b.example", "subject": "s"}, delay=3600)
    with ticking(browser, site.to(f"workflows/{first.id}")) as (page, clock):
        clock.poll()
        assert page.inner_text("#head .pill") == "scheduled"
        site.client.cancel(first.id)
        end_of(page, clock)
        assert page.inner_text("#head .pill") == "cancelled"
    with Worker(site.client, ["none"], 1, name="web-2", poll_interval=0.1) as worker:
        (found,) = [each for each in site.client.workers.list() if each.name == "web-2"]
        with ticking(browser, site.to(f"workers/{found.id}")) as (page, clock):
            clock.poll()
            assert page.inner_text("#head .pill") == "running"
            worker.stop(timeout=5)
            end_of(page, clock)
            assert page.inner_text("#head .pill") == "stopped"


def test_what_is_deleted_meanwhile_is_said_to_be_gone(browser: Browser, site: Site) -> None:
    job = site.client.enqueue("t", {}, queue="gone")
    with opened(browser) as (page, _):
        clock = Clock(page)
        page.goto(site.to(f"jobs/{job.id}"))
        clock.poll()
        site.client.cancel(job.id)
        site.client.delete(job.id)
        clock.until(lambda: page.inner_text("#live") == "No longer there")
        assert "available" in page.inner_text("#head")
        asked = len(clock.asked)
        page.clock.run_for(60_000)
        page.wait_for_timeout(100)
        assert len(clock.asked) == asked


def test_rows_that_new_ones_push_down_stay_as_they_are_and_those_that_leave_the_filter_are_dimmed(
    browser: Browser, site: Site
) -> None:
    old = site.client.enqueue_many("t", [{}] * 25, queue="push")
    with ticking(browser, site.to("jobs?q=state:available+queue:push")) as (page, clock):
        before = ids(page, "tbody tr")
        assert len(before) == 25
        site.client.enqueue_many("t", [{}] * 3, queue="push")
        clock.until(lambda: page.inner_text("#news") == "3 new jobs")
        assert page.locator("[role=status]", has_text="3 new jobs").count() == 1
        site.client.enqueue_many("t", [{}] * 30, queue="push")
        clock.until(lambda: page.inner_text("#news") == "25+ new jobs")
        assert ids(page, "tbody tr") == before
        assert ids(page, "tbody tr.gone") == []
        site.client.cancel(old[3])
        clock.until(lambda: ids(page, "tbody tr.gone") == [f"job-{old[3]}"])
        assert page.get_attribute(f"#job-{old[3]}", "title") == "No longer matches the filter"
        site.client.retry(old[3])
        clock.until(lambda: ids(page, "tbody tr.gone") == [])
        page.click("#news")
        clock.until(lambda: ids(page, "tbody tr")[0] != before[0])
        assert page.locator("tbody tr").count() == 25
        assert not page.locator("#news").is_visible()


def test_a_list_is_not_taken_away_when_its_last_row_leaves_the_filter(browser: Browser, site: Site) -> None:
    (only,) = site.client.enqueue_many("t", [{}], queue="lonely")
    with ticking(browser, site.to("jobs?q=state:available+queue:lonely")) as (page, clock):
        clock.poll()
        site.client.cancel(only)
        clock.until(lambda: ids(page, "tbody tr.gone") == [f"job-{only}"])
        assert "No jobs match" not in page.inner_text("main")
        site.client.enqueue("t", {}, queue="lonely")
        clock.until(lambda: page.inner_text("#news") == "1 new job")
        assert ids(page, "tbody tr") == [f"job-{only}"]


def test_nothing_is_asked_while_hidden_and_at_once_when_seen_again(browser: Browser, site: Site) -> None:
    with ticking(browser, site.to("")) as (page, clock):
        clock.poll()
        page.evaluate(SHOWN % "true")
        asked = len(clock.asked)
        page.clock.run_for(60_000)
        page.wait_for_timeout(200)
        assert len(clock.asked) == asked
        assert page.inner_text("#live") == "Paused: hidden"
        with page.expect_response(lambda answer: "_live" in answer.url):
            page.evaluate(SHOWN % "false")
        until(page, lambda: page.inner_text("#live") == "Live · 2 s", 20)


def test_focus_scroll_and_what_is_open_survive_ten_polls(browser: Browser, site: Site) -> None:
    with ticking(browser, site.to(""), viewport={"width": 500, "height": 500}) as (page, clock):
        clock.poll()
        page.locator("details.data summary").first.click()
        page.locator("#tiles a[data-s=completed]").focus()
        page.evaluate("document.querySelector('#queues .scroll').scrollLeft = 30")
        page.evaluate("scrollTo(0, 700)")
        kept = "[scrollY, document.querySelector('#queues .scroll').scrollLeft, document.activeElement.dataset.s]"
        before = page.evaluate(kept)
        assert before[2] == "completed"
        for _ in range(10):
            page.evaluate("document.querySelectorAll('main [data-live]').forEach((each) => each.dataset.old = '1')")
            site.client.wait([site.client.enqueue("shop.reports.load_users", {})], timeout=30)
            site.client.enqueue("t", {}, queue="exports")
            clock.until(
                lambda: page.locator("#queues[data-old]").count() + page.locator("#throughput[data-old]").count() == 0
            )
        assert page.evaluate(kept) == before
        assert page.evaluate("document.querySelector('details.data').open")


def test_nothing_is_swapped_under_selected_text_or_an_open_dialog(browser: Browser, site: Site) -> None:
    with ticking(browser, site.to("queues")) as (page, clock):
        clock.poll()
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#rows td'))")
        page.clock.run_for(2000)
        assert page.inner_text("#live") == "Paused: text is selected"
        page.evaluate("getSelection().removeAllRanges()")
        page.keyboard.press("?")
        asked = len(clock.asked)
        page.clock.run_for(10_000)
        page.wait_for_timeout(100)
        assert page.inner_text("#live") == "Paused: something is open"
        assert len(clock.asked) == asked
        page.keyboard.press("Escape")
        clock.poll()
        assert page.inner_text("#live") == "Live · 2 s"


def test_a_server_that_is_away_is_asked_less_often_and_what_is_shown_says_its_age(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, _):
        tried: list[str] = []
        clock = Clock(page)
        page.goto(site.to("queues"))
        clock.poll()
        shown = ids(page, "#rows tr")
        page.on("requestfailed", lambda request: tried.append(request.url))
        page.route("**/*_live*", lambda route: route.abort())
        for waited, times in ((2000, 1), (2000, 2), (3000, 2), (1000, 3), (8000, 4), (29_000, 4), (1000, 5)):
            page.clock.run_for(waited)
            page.wait_for_timeout(100)
            assert len(tried) == times
        assert page.inner_text("#live").startswith("As of ")
        assert page.get_attribute("#live", "data-how") == "late"
        assert ids(page, "#rows tr") == shown
        page.unroute("**/*_live*")
        clock.until(lambda: page.inner_text("#live") == "Live · 2 s")


def test_the_row_at_hand_stays_so_on_every_list(browser: Browser, site: Site) -> None:
    with ticking(browser, site.to("queues")) as (page, clock):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("j")
        (at,) = ids(page, "tr.at")
        page.evaluate("document.querySelector('#rows').dataset.old = '1'")
        site.client.enqueue("t", {}, queue="a-new-one")
        clock.until(lambda: page.locator("#rows[data-old]").count() == 0)
        assert ids(page, "tr.at") == [at]
        assert page.evaluate("document.activeElement.closest('tr').id") == at
        page.keyboard.press("ArrowUp")
        assert ids(page, "tr.at") != [at]


def test_the_menu_counts_along(browser: Browser, site: Site) -> None:
    with ticking(browser, site.to("queues")) as (page, clock):
        clock.poll()
        count = page.locator(".rail a[data-go=q] .n")
        before = int(count.inner_text())
        site.client.enqueue("t", {}, queue="counted")
        clock.until(lambda: int(count.inner_text()) == before + 1)
        page.keyboard.press("g")
        page.keyboard.press("w")
        page.wait_for_url("**/workflows")


@pytest.mark.parametrize("path", ["jobs/{running}", "jobs", "workflows/{flow}"])
def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, site: Site, path: str) -> None:
    with opened(browser, reduced_motion="reduce") as (page, _):
        page.goto(site.to(path))
        assert page.evaluate("document.getAnimations().length") == 0
    with opened(browser, reduced_motion="no-preference") as (page, _):
        page.goto(site.to("jobs/{running}"))
        assert page.evaluate("document.getAnimations().length") > 0
