"""The list of jobs under the keyboard: rows, questions before what cannot be undone, completion, views, the palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import Site
from tests.browser.test_pages import PAGES, opened, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def options(page: Page, box: str) -> list[str]:
    found: list[str] = page.locator(f"{box} [role=option] span").all_inner_texts()
    return found


def test_a_key_acts_on_the_row_at_hand_and_on_nothing_without_one(browser: Browser, site: Site) -> None:
    site.client.enqueue_many("t", [{}] * 3, queue="keys")
    with opened(browser) as (page, said):
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        page.goto(site.to("jobs?q=queue:keys+after:1d"))
        for key in ("c", "r", "d"):
            page.keyboard.press(key)
        page.wait_for_timeout(200)
        assert sent == []
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        second = page.locator("tr.at").get_attribute("id")
        page.keyboard.press("c")
        page.wait_for_selector("#ask >> text=Cancel 1 job?")
        assert page.evaluate("document.activeElement.innerText") == "Keep everything as it is"
        page.keyboard.press("Enter")
        assert not page.locator("#ask").is_visible()
        assert site.client.count("queue:keys state:cancelled") == 0
        page.keyboard.press("c")
        page.get_by_role("button", name="Cancel 1").click()
        page.wait_for_selector("text=1 job cancelled")
        assert "did=" not in page.url
        assert site.client.count(f"id:{str(second)[4:]} state:cancelled") == 1
        assert site.client.count("queue:keys state:cancelled") == 1
        assert said == []


def test_a_star_ticks_the_page_and_a_second_all_that_match_whose_number_is_typed(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One batch a request: the dialog goes on by itself.
    monkeypatch.setattr("fairchild.web.bulk.ACTION_SECONDS", 0.0)
    site.client.enqueue_many("t", [{}] * 1001, queue="many")
    with opened(browser) as (page, said):
        page.goto(site.to("jobs?q=queue:many+after:1d"))
        page.keyboard.press("*")
        assert "25 selected" in page.inner_text("[data-bulk]")
        page.keyboard.press("*")
        assert page.is_checked("[name=all]")
        page.keyboard.press("c")
        page.wait_for_selector("#ask >> text=Cancel 1,001 jobs?")
        page.keyboard.type("1000")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask >> text=was not typed")
        page.keyboard.type("1001")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask >> text=500 jobs so far")
        page.wait_for_selector("text=1,001 jobs cancelled", timeout=30000)
        assert site.client.count("queue:many state:cancelled") == 1001
        assert said == []


def test_what_is_ticked_on_one_page_stays_so_on_another(browser: Browser, site: Site) -> None:
    site.client.enqueue_many("t", [{}] * 30, queue="across")
    with opened(browser) as (page, said):
        page.goto(site.to("jobs?q=queue:across+after:1d"))
        page.locator("input[data-row]").first.check()
        page.get_by_role("link", name="older").click()
        page.wait_for_selector("[data-bulk] >> text=1 selected")
        page.locator("input[data-row]").first.check()
        assert "2 selected" in page.inner_text("[data-bulk]")
        page.go_back()
        page.wait_for_selector("[data-bulk] >> text=2 selected")
        assert page.locator("input[data-row]:checked").count() == 1
        page.keyboard.press("d")
        page.wait_for_selector("#ask >> text=Delete 2 jobs?")
        assert "None of them can be" in page.inner_text("#ask")
        page.locator("#ask a").click()
        page.keyboard.press("c")
        page.get_by_role("button", name="Cancel 2").click()
        page.wait_for_selector("text=2 jobs cancelled")
        assert not page.locator("[data-bulk]").is_visible()
        assert said == []


def test_a_job_is_deleted_after_a_question(browser: Browser, site: Site) -> None:
    job = site.client.enqueue("shop.reports.load_users", {})
    site.client.wait([job], timeout=30)
    with opened(browser) as (page, said):
        page.goto(site.to(f"jobs/{job.id}"))
        page.keyboard.press("d")
        page.wait_for_selector("#ask >> text=Delete this job of load_users?")
        page.keyboard.press("Escape")
        assert site.client.get_job(job.id) is not None
        page.keyboard.press("d")
        page.get_by_role("button", name="Delete 1").click()
        page.wait_for_selector("text=1 job deleted")
        assert site.client.get_job(job.id) is None
        assert said == []


def test_what_is_refused_is_said_where_it_was_asked_for(browser: Browser, site: Site) -> None:
    job = site.client.enqueue("shop.reports.load_users", {}, delay=3600)
    with opened(browser) as (page, _):
        page.goto(site.to(f"jobs/{job.id}"))
        page.keyboard.press("p")
        site.client.cancel(job.id)
        page.keyboard.press("c")
        page.wait_for_selector("#ask [role=alert] >> text=cancelled already")
        page.keyboard.press("Escape")
        assert page.url.endswith(str(job.id))


def test_a_condition_is_completed(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("jobs"))
        page.keyboard.press("/")
        page.keyboard.type("que")
        until(page, lambda: options(page, "#filter-list")[:1] == ["queue:"], 20)
        box = page.get_by_role("combobox", name="Add a condition")
        assert box.get_attribute("aria-expanded") == "true"
        page.keyboard.press("ArrowDown")
        assert box.get_attribute("aria-activedescendant") == "filter-list-0"
        assert page.locator("#filter-list-0").get_attribute("aria-selected") == "true"
        page.keyboard.press("Enter")
        until(page, lambda: "queue:money" in options(page, "#filter-list"), 20)
        page.keyboard.type("mon")
        until(page, lambda: options(page, "#filter-list") == ["queue:money"], 20)
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.wait_for_selector(".chip >> text=queue:money")
        page.fill("#filter", "args.card.b")
        until(page, lambda: options(page, "#filter-list") == ["args.card.brand:"], 20)
        page.locator("#filter-list li").click()
        until(page, lambda: options(page, "#filter-list") == ["args.card.brand:visa"], 20)
        page.keyboard.press("Escape")
        assert not page.locator("#filter-list").is_visible()
        page.fill("#filter", "")
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        until(page, lambda: page.locator(".search .chip").count() == 0, 20)
        assert said == []


def test_views_and_the_height_of_rows_are_kept(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("jobs"))
        page.get_by_role("link", name="failing now").click()
        page.wait_for_selector(".chip >> text=state:failed")
        assert page.locator(".view[aria-current]").inner_text() == "failing now"
        page.goto(site.to("jobs?q=tag:money+after:1d&limit=50"))
        page.click("#save-open")
        page.keyboard.type("Money")
        page.keyboard.press("Enter")
        page.click("#compact")
        page.goto(site.to("jobs"))
        assert page.evaluate("getComputedStyle(document.querySelector('tbody td')).height") == "30px"
        page.get_by_role("link", name="Money", exact=True).click()
        page.wait_for_url("**/jobs?q=tag%3Amoney*limit=50")
        page.get_by_role("button", name="Forget the view Money").click()
        page.click("#compact")
        page.reload()
        assert page.get_by_role("link", name="Money", exact=True).count() == 0
        assert page.evaluate("getComputedStyle(document.querySelector('tbody td')).height") == "36px"
        page.get_by_role("button", name="mine, by tag").click()
        until(page, lambda: "tag:money" in options(page, "#filter-list"), 20)
        assert said == []


def test_the_palette_leads_to_places_and_does_what_the_page_can(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("queues/exports"))
        for typed, wanted, leads_to in (
            ("send_e", "shop.mail.send_email", "**/tasks/shop.mail.send_email"), ("web-1", "web-1", "**/workers/*"),
            ("TimeoutErr", "TimeoutError in charge", "**/errors/*"),
            ("nightly", "shop.reports.nightly", "**/workflows/*"),
            (str(site.jobs["done"]), f"Job {site.jobs['done']}", "**/jobs/*"), ("exp", "exports", "**/queues/exports"),
        ):  # fmt: skip
            page.keyboard.press("Control+k")
            page.keyboard.type(typed)
            until(page, lambda wanted=wanted: wanted in options(page, "#jump-list"), 20)  # type: ignore[misc]
            # A workflow is called as its task is, and comes after it.
            for _ in range(max(n for n, each in enumerate(options(page, "#jump-list")) if each == wanted) + 1):
                page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
            page.wait_for_url(leads_to)
        page.keyboard.press("Control+k")
        until(page, lambda: {"Its jobs", "Pause"} <= set(options(page, "#jump-list")[:4]), 20)
        page.keyboard.type("paus")
        until(page, lambda: "Its jobs" not in options(page, "#jump-list"), 20)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=1 queue paused")
        page.get_by_role("button", name="Resume").click()
        page.wait_for_selector("text=1 queue resumed")
        page.keyboard.press("Control+k")
        page.keyboard.type("shop.mail.send_email")
        page.keyboard.press("Enter")
        page.wait_for_url("**/tasks/shop.mail.send_email")
        assert said == []


def test_single_keys_can_be_switched_off(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("jobs"))
        page.keyboard.press("?")
        page.uncheck("#single-keys")
        page.keyboard.press("Escape")
        page.reload()
        page.keyboard.press("j")
        page.keyboard.press("g")
        page.keyboard.press("w")
        assert page.locator("tr.at").count() == 0
        assert page.url.endswith("/jobs")
        page.keyboard.press("ArrowDown")
        assert page.locator("tr.at").count() == 1
        assert said == []


def test_times_are_in_the_readers_words_and_turn_with_a_click(browser: Browser, site: Site) -> None:
    with opened(browser, locale="de-DE", timezone_id="Europe/Berlin") as (page, said):
        page.goto(site.to("jobs/{done}"))
        time = page.locator("#facts time").first
        until(page, lambda: time.inner_text().startswith("vor "), 20)
        assert page.evaluate("new Set([...document.querySelectorAll('#facts time')].map((t) => t.tabIndex)).has(0)")
        time.hover()
        until(page, lambda: "UTC" in (time.get_attribute("title") or ""), 20)
        time.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.inner_text(".moment") == time.get_attribute("title")
        assert page.evaluate("document.querySelector('.moment').getBoundingClientRect().right <= innerWidth")
        page.keyboard.press("Enter")
        until(page, lambda: "." in time.inner_text() and "vor" not in time.inner_text(), 20)
        page.keyboard.press("Enter")
        assert time.inner_text().endswith("UTC")
        time.click()
        assert time.inner_text().startswith("vor ")
        assert said == []


def test_json_is_copied_whole(browser: Browser, site: Site) -> None:
    with opened(browser, permissions=["clipboard-read", "clipboard-write"]) as (page, said):
        page.goto(site.to("jobs/{done}"))
        page.locator("[data-copy=args]").click()
        page.wait_for_selector("text=Copied")
        assert page.evaluate("navigator.clipboard.readText().then((text) => JSON.parse(text).account)") == 1
        assert said == []


def test_json_that_is_too_long_for_the_page_is_copied_whole(browser: Browser, site: Site) -> None:
    long = site.client.enqueue("t", {"words": [f"word {n}" for n in range(9000)]}, queue="exports")
    with opened(browser, permissions=["clipboard-read", "clipboard-write"]) as (page, said):
        page.goto(site.to(f"jobs/{long.id}"))
        assert page.locator("a[download]", has_text="Download all").count() == 1
        page.locator("[data-copy=args]").click()
        page.wait_for_selector("text=Copied")
        copied = page.evaluate("navigator.clipboard.readText().then((text) => JSON.parse(text).words.length)")
        assert copied == 9000
        assert said == []


def test_a_job_is_cancelled_after_a_question(browser: Browser, site: Site) -> None:
    job = site.client.enqueue("t", {}, queue="exports", delay=3600)
    with opened(browser) as (page, said):
        page.goto(site.to(f"jobs/{job.id}"))
        page.keyboard.press("c")
        page.wait_for_selector("#ask h2 >> text=Cancel")
        found = site.client.get_job(job.id)
        assert found is not None
        assert found.state == "scheduled"
        page.locator("#ask button.danger").click()
        page.wait_for_selector("text=1 job cancelled")
        assert said == []


def test_the_layout_holds_with_forced_colours_and_at_400_percent(browser: Browser, site: Site) -> None:
    wrong: list[Any] = []
    with opened(browser, forced_colors="active", viewport={"width": 320, "height": 256}) as (page, said):
        for path in PAGES:
            page.goto(site.to(path))
            if (wide := page.evaluate("document.documentElement.scrollWidth")) > 320:
                wrong.append((path, "wide", wide))
            kept = page.evaluate(
                "[...document.querySelectorAll('.top, .footbar')].reduce((sum, each) => sum + each.offsetHeight, 0)"
            )
            if kept > 128:
                wrong.append((path, "half of the height stays", kept))
            # What a colour says is lost; the frames and the words remain.
            bare = page.evaluate(
                "[...document.querySelectorAll('main .pill, main .btn, main .banner')].filter((each) =>"
                " each.offsetParent && !(getComputedStyle(each).borderTopWidth === '1px' && each.textContent.trim())"
                ").length"
            )
            if bare:
                wrong.append((path, "without a frame or a word", bare))
        assert said == []
    assert wrong == []
