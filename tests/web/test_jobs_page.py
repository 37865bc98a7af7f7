"""The list of jobs: what its filter shows, counts and exports."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.web import api as web_api
from fairchild.web import downloads
from tests.support.app import App
from tests.web.pages_support import Page


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    """A page of the site under ``/ops``."""
    answer = client.get(f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def rows(page: Page) -> int:
    return len([row for row in page.all("tr") if "data-st" in row.attrs])


def tabs(page: Page) -> dict[str, str]:
    """What each tab says after its state."""
    said = [each.said.split() for each in page.all("a") if "?" in each.attrs["href"] and len(each.said.split()) == 2]
    return {state: n for state, n in said if state in ("available", "scheduled", "failed") and n[0].isdigit()}


@pytest.mark.parametrize("text", ["stat:x", 'task:"open', "ran:5s"])
def test_what_cannot_be_read_is_kept_and_nothing_is_done_to_what_it_might_mean(
    app: App, site: FlaskClient, text: str
) -> None:
    app.client.enqueue_many("t", [{}] * 3)
    page = read(site, f"jobs?q={text}")
    field = page.one("input", id="filter")
    assert field.attrs["value"] == text
    assert (field.attrs["aria-invalid"], field.attrs["aria-describedby"]) == ("true", "wrong")
    assert page.one("p", id="wrong").said
    assert rows(page) == 0
    assert page.all("div", class_="bulk") == []
    assert "This filter cannot be read" in page.said
    both = read(site, f"jobs?q={text}&add=state:failed")
    assert both.one("input", id="filter").attrs["value"] == f"{text} state:failed"
    kept = read(site, f"jobs?q=task:t&add={text}")
    assert (rows(kept), kept.one("input", id="filter").attrs["value"]) == (3, text)


def test_tabs_count_what_the_filter_leaves(app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairchild.web.pages.jobs.COUNT_SECONDS", 5.0)
    app.client.enqueue_many("many", [{}] * 6)
    app.client.enqueue_many("few", [{}] * 2, delay=3600)
    assert tabs(read(site, "jobs")) == {"available": "6", "scheduled": "2", "failed": "0"}
    assert tabs(read(site, "jobs?q=task:many")) == {"available": "6", "scheduled": "0", "failed": "0"}
    page = read(site, "jobs?q=task:few+state:failed")
    assert tabs(page) == {"available": "0", "scheduled": "2", "failed": "0"}
    link = next(each for each in page.all("a") if each.said == "scheduled 2").attrs["href"].removeprefix("/ops/")
    assert link == "jobs?q=task:few+after:1d+state:scheduled"
    assert rows(read(site, link)) == 2
    monkeypatch.setattr("fairchild.web.pages.jobs.CAP", 4)
    assert tabs(read(site, "jobs?q=task:many")) == {"available": "4+"}
    monkeypatch.setattr("fairchild.web.pages.jobs.COUNT_SECONDS", 0.0)
    assert tabs(read(site, "jobs?q=task:many")) == {}


def test_where_nothing_matches_each_condition_can_be_left_out(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchild.web.pages.jobs.WITHOUT_SECONDS", 5.0)
    app.client.enqueue_many("t", [{}] * 3, tags=["a"])
    app.client.enqueue("u", {}, tags=["b"])
    page = read(site, "jobs?q=task:t+tag:b")
    offers = [each.said for each in page.all("li") if each.said.startswith("Without")]
    assert offers == ["Without task:t 1 job", "Without tag:b 3 jobs"]


def test_the_window_that_was_added_is_a_chip_that_can_be_removed(app: App, site: FlaskClient) -> None:
    app.client.enqueue("t", {})
    page = read(site, "jobs?q=task:t")
    chips = [each.said for each in page.all("span") if each.attrs.get("class", "").startswith("chip")]
    assert chips == ["task:t ×", "after:1d ×"]
    away = page.one("a", title="Look at all time").attrs["href"].removeprefix("/ops/")
    chips = [each.said for each in read(site, away).all("span") if each.attrs.get("class", "").startswith("chip")]
    assert chips == ["task:t ×", "after:all ×"]


def exported(site: FlaskClient, address: str) -> list[dict[str, Any]]:
    answer = site.get(address)
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_what_matches_is_exported_as_lines_of_json(app: App, site: FlaskClient, mount: Any) -> None:
    ids = app.client.enqueue_many("t", ({"n": n, "token": "s"} for n in range(5)))
    app.client.enqueue("u", {})
    link = next(each for each in read(site, "jobs?q=task:t").all("a") if each.said == "Export NDJSON")
    lines = exported(site, link.attrs["href"])
    assert [each["id"] for each in lines] == [str(each) for each in reversed(ids)]
    assert lines[0]["args"] == {"n": 4, "token": "[hidden]"}
    looker = mount(authorize=lambda request, right: {"view"})
    assert exported(looker, "/ops/api/jobs/export?q=task:t")[0]["args"] is None
    assert looker.get("/ops/api/jobs/export?q=args.n:1").status_code == 422
    assert site.get("/ops/api/jobs/export?q=stat:x").status_code == 422


def test_an_export_that_takes_too_long_says_how_to_go_on(
    app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_api, "EXPORT_PAGE", 2)
    monkeypatch.setattr(downloads, "SECONDS", 0.25)
    ids = [str(each) for each in reversed(app.client.enqueue_many("t", [{}] * 5))]
    search = Fairchild.search

    def slowly(self: Fairchild, query: Any, **options: Any) -> Any:
        page = search(self, query, **options)
        threading.Event().wait(0.3)
        return page

    monkeypatch.setattr(Fairchild, "search", slowly)
    first, second, rest = exported(site, "/ops/api/jobs/export?q=task:t")
    assert [first["id"], second["id"]] == ids[:2]
    assert rest["cursor"] == ids[1]
    monkeypatch.setattr(Fairchild, "search", search)
    assert [each["id"] for each in exported(site, f"/ops/api/jobs/{rest['next']}")][:2] == ids[2:4]


def test_an_export_that_is_not_read_to_its_end_leaves_nothing_behind(app: App, site: FlaskClient) -> None:
    app.client.enqueue_many("t", [{}] * 450)
    answer = site.get("/ops/api/jobs/export?q=task:t", buffered=False)
    parts = iter(answer.response)
    next(parts)
    assert rows(read(site, "jobs?q=task:t")) == 25
    answer.close()
    assert len(exported(site, "/ops/api/jobs/export?q=task:t")) == 450
