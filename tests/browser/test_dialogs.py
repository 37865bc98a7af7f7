"""Forms that open in a dialog: what is asked for there, and how it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.conftest import Site
from tests.browser.test_pages import opened, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def beside(page: Page) -> None:
    """Click on what lies around the dialog."""
    page.mouse.click(4, 400)


def test_a_job_is_enqueued_in_a_dialog_and_its_page_is_shown(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("jobs"))
        page.get_by_role("link", name="Enqueue job").click()
        box = page.get_by_role("dialog", name="Enqueue a job")
        box.wait_for()
        box.get_by_role("link", name="shop.billing.charge").click()
        box.locator("#arg-account").wait_for()
        assert page.evaluate("document.activeElement.id") == "arg-account"
        assert "Charge a card." in box.inner_text()
        assert "int" in box.locator("#hint-account").inner_text()
        box.get_by_role("link", name="Arguments as JSON").click()
        box.locator("#raw-args").wait_for()
        box.locator("#raw-args").fill("[")
        box.get_by_role("button", name="Enqueue").click()
        box.locator("[role=alert]").wait_for()
        assert "no JSON" in box.locator("[role=alert]").inner_text()
        box.locator("#raw-args").fill('{"account": 1, "amount": 2.5, "card": {}}')
        box.locator("#opt-priority").fill("2")
        box.get_by_role("button", name="Enqueue").click()
        page.wait_for_selector("text=1 job enqueued")
        until(page, lambda: "charged" in page.inner_text("main"), 30)
        assert "2 (lower runs first)" in page.inner_text("#facts")
        # What the server refuses is an answer that the console notes.
        assert [each for each in said if "422" not in each] == []


def test_a_task_is_typed_in_the_dialog(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to(""))
        page.get_by_role("link", name="Enqueue job").click()
        page.wait_for_selector("#ask #task:focus")
        page.keyboard.type("shop.mail.send_email")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask #arg-to")
        assert page.url == site.to("")
        assert said == []


def test_esc_and_a_click_beside_it_close_a_dialog(browser: Browser, site: Site) -> None:
    with opened(browser) as (page, said):
        page.goto(site.to("tasks/shop.mail.send_email"))
        for key in ("Escape", None):
            page.get_by_role("link", name="Enqueue", exact=True).click()
            page.wait_for_selector("#ask #arg-to")
            page.fill("#ask #arg-to", "x")
            page.mouse.click(*middle(page))
            assert page.locator("#ask").is_visible()
            if key is None:
                beside(page)
            else:
                page.keyboard.press(key)
            page.wait_for_selector("#ask", state="hidden")
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        beside(page)
        page.wait_for_selector("#keys", state="hidden")
        # Text that is selected by a drag that ends outside does not close it.
        page.get_by_role("link", name="Enqueue", exact=True).click()
        page.wait_for_selector("#ask #arg-to")
        page.mouse.move(*middle(page))
        page.mouse.down()
        page.mouse.move(4, 400)
        page.mouse.up()
        assert page.locator("#ask").is_visible()
        assert said == []


def middle(page: Page) -> tuple[float, float]:
    """Of the dialog's title."""
    frame = page.locator("#ask-h").bounding_box()
    assert frame is not None
    return frame["x"] + 20, frame["y"] + frame["height"] / 2


def test_without_scripts_it_is_a_page(browser: Browser, site: Site) -> None:
    with opened(browser, java_script_enabled=False) as (page, _):
        page.goto(site.to("jobs"))
        page.get_by_role("link", name="Enqueue job").click()
        page.get_by_role("link", name="shop.reports.load_users").click()
        page.get_by_role("button", name="Enqueue").click()
        assert "1 job enqueued" in page.inner_text("main")
