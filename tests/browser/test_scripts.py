"""300 texts that become code where one is not escaped, in every field that a page shows: none may run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fairchild import Fairchild
from fairchild.tasks import Registry
from fairchild.testing import databases
from fairchild.worker import Worker
from tests.browser.conftest import serve
from tests.browser.test_pages import opened, until
from tests.support import payloads

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

TEXTS = payloads.payloads(300)
HARMLESS = ("Failed to load resource",)
"""What the console says of an answer that is an error, as it should be."""
LOOK = """() => [
  window.hit,
  ...[...document.querySelectorAll("*")].flatMap((each) => [...each.attributes]
    .filter((a) => a.name.startsWith("on") || a.name === "style"
      || (/^(href|src|action|formaction|data|xlink:href)$/.test(a.name) && !/^(https?:|[/?#]|$)/.test(a.value)))
    .map((a) => `${each.tagName} ${a.name}=${a.value}`)),
  ...[...document.querySelectorAll("iframe, object, embed, img, video, base, style, math, marquee")]
    .map((each) => each.outerHTML),
].filter((each) => each !== undefined && each !== null)"""


@pytest.fixture(scope="module")
def evil(wanted: None, fairchild_server: str, fairchild_template: str) -> Iterator[tuple[Any, list[str]]]:
    """A site in which the texts are everywhere, and the paths of its pages."""
    with databases.copy_of(fairchild_server, fairchild_template) as url:
        client = Fairchild(url, registry=Registry())
        client.connect()
        payloads.register(client, TEXTS)
        with Worker(client, None, 8, name="web-1", poll_interval=0.1):
            paths = payloads.fill(client, TEXTS)
            site, server, thread = serve(client, {})
            yield site, paths
            server.close()
            thread.join(5)
        client.disconnect()


def refuse_dialogs(page: Page, wrong: list[Any]) -> None:
    """A dialog that opens is wrong."""

    def refuse(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)


def visit(page: Page, said: list[str], url: str, path: str) -> list[Any]:
    """What is wrong with a page."""
    page.goto(url + path)
    wrong = [*page.evaluate(LOOK), *(line for line in said if not line.startswith(HARMLESS))]
    said.clear()
    return [(path, each) for each in wrong]


def test_no_text_of_a_user_runs_on_any_page(browser: Browser, evil: tuple[Any, list[str]]) -> None:
    site, paths = evil
    wrong: list[Any] = []
    with opened(browser) as (page, said):
        refuse_dialogs(page, wrong)
        for path in paths:
            wrong += visit(page, said, site.url, path)
    assert wrong == []
    assert len(paths) > 1000


def test_no_text_in_an_address_runs(browser: Browser, evil: tuple[Any, list[str]]) -> None:
    site, _ = evil
    wrong: list[Any] = []
    with opened(browser) as (page, said):
        refuse_dialogs(page, wrong)
        for number, text in enumerate(TEXTS):
            paths = payloads.asked(text)
            for path in {paths[0], paths[number % len(paths)]}:
                wrong += visit(page, said, site.url, path)
    assert wrong == []


def test_what_is_swapped_in_later_does_not_run_either(browser: Browser, evil: tuple[Any, list[str]]) -> None:
    site, _ = evil
    with opened(browser) as (page, said):
        page.goto(site.url + "jobs?q=queue:later+after:1d")
        for text in TEXTS[::10]:
            site.client.enqueue(f"late{payloads.named(text)}", {text: text}, queue="later", tenant=payloads.named(text))
        until(page, lambda: page.locator("tbody tr[id]").count() > 20, 20)
        site.client.enqueue(f"late{payloads.named(TEXTS[1])}", {}, queue="later")
        until(page, lambda: page.locator("#news:visible").count(), 20)
        page.click("#news")
        page.locator("input[data-row]").first.check()
        assert page.evaluate(LOOK) == []
        assert said == []
