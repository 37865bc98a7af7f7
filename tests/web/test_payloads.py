"""Texts that become code where one is not escaped, in every field that a page shows, as a parser reads the pages."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from tests.support import payloads
from tests.support.app import App
from tests.web.pages_support import Page

TEXTS = payloads.payloads(300)[::6]
NEVER = {"iframe", "object", "embed", "img", "video", "source", "base", "style", "math", "marquee", "animate"}
LINKS = ("href", "src", "action", "formaction", "data", "xlink:href")


def wrong_with(html: str, texts: list[str]) -> list[Any]:
    """What came of texts that should be text only."""
    page = Page(html)
    found: list[Any] = [each for each in page.elements if each.tag in NEVER]
    for each in page.elements:
        found += [(each.tag, name) for name in each.attrs if name.startswith("on") or name == "style"]
        links = [each.attrs[name] for name in LINKS if name in each.attrs]
        found += [link for link in links if not link.startswith(("/ops", "?", "#")) and link != ""]
        if each.tag == "script" and not each.attrs.get("src", "").startswith("/ops/static/"):
            found.append(each)
    return found + [each for each in texts if "<" in each and each in html]


def test_no_text_of_a_user_is_markup_on_any_page(app: App, site: FlaskClient) -> None:
    payloads.register(app.client, TEXTS)
    app.work(concurrency=4)
    wrong: list[Any] = []
    shown: set[str] = set()
    for path in payloads.fill(app.client, TEXTS):
        answer = site.get(f"/ops/{path}")
        assert answer.status_code == 200, path
        wrong += [(path, each) for each in wrong_with(answer.text, TEXTS)]
        said = Page(answer.text).said
        shown.update(each for each in TEXTS if " ".join(each.split()) in said)
    assert wrong == []
    assert shown == set(TEXTS)


def test_no_text_in_an_address_is_markup(site: FlaskClient) -> None:
    wrong: list[Any] = []
    for text in TEXTS:
        for path in payloads.asked(text):
            answer = site.get(f"/ops/{path}", follow_redirects=True)
            assert answer.status_code < 500, path
            if answer.text.startswith("<!doctype html>\n<html lang=en>"):
                continue  # no path of ours, so the application's own answer
            wrong += [(path, each) for each in wrong_with(answer.text, [text])]
    assert wrong == []


def test_there_are_three_hundred_of_them_and_each_is_another() -> None:
    found = payloads.payloads(300)
    assert len(set(found)) == 300
    assert sum("window.hit=1" in each or "parent.hit=1" in each for each in found) > 260
