from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from fairchild.client import insight
from fairchild.web.pages import flow_list
from tests.support.app import App
from tests.web.pages_support import Page


@pytest.fixture
def flows(app: App) -> dict[str, str]:
    """Workflows by name, the oldest first."""
    made = {}
    for n, name in enumerate(["nightly", "import_%", "nightly_again", "hourly", "nightly.last"]):
        with app.client.workflow(name, tenant="acme" if n % 2 else "") as flow:
            first = flow.call("load")
            _ = [flow.call("leaf", {"of": first}) for _ in range(n + 1)]
        made[name] = str(flow.id)
    app.client.workflows.get(made["hourly"]).cancel()
    return made


def listed(site: FlaskClient, query: str = "") -> tuple[list[str], Page]:
    page = Page(site.get(f"/ops/workflows{query}").text)
    return [each.attrs["title"] for each in page.all("a") if "/workflows/" in each.attrs.get("href", "")], page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["nightly.last", "hourly", "nightly_again", "import_%", "nightly"]),
        ("?name=NIGHTLY", ["nightly.last", "nightly_again", "nightly"]),
        ("?name=%25", ["import_%"]),
        ("?name=y_a", ["nightly_again"]),
        ("?state=cancelled", ["hourly"]),
        ("?tenant=acme", ["hourly", "import_%"]),
        ("?task=nightly", ["nightly"]),
        ("?after=1h&name=hour", ["hourly"]),
        ("?after=2999-01-01", []),
        ("?name=none", []),
    ],
)
def test_workflows_are_found_by_what_their_roots_have(
    site: FlaskClient, flows: dict[str, str], query: str, found: list[str]
) -> None:
    names, page = listed(site, query)
    assert names == found
    assert bool(found) or "None passes this filter" in page.said


def test_pages_of_workflows_lead_back_and_forth(
    site: FlaskClient, flows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_list, "PAGE", 2)
    names, page = listed(site)
    assert names == ["nightly.last", "hourly"]
    assert not [each for each in page.all("a") if "newer" in each.said]
    (older,) = [each.attrs["href"] for each in page.all("a") if "older" in each.said]
    names, page = listed(site, older)
    assert names == ["nightly_again", "import_%"]
    (newer,) = [each.attrs["href"] for each in page.all("a") if "newer" in each.said]
    assert listed(site, newer)[0] == ["nightly.last", "hourly"]
    assert listed(site, f"?newer={flows['nightly']}")[0] == ["nightly_again", "import_%"]
    assert site.get("/ops/workflows?newer=x").status_code == 422


def test_of_many_that_do_not_pass_a_page_looks_at_some_and_leads_on(
    site: FlaskClient, flows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "LOOK", 1)
    monkeypatch.setattr(insight, "LOOK_MOST", 2)
    names, page = listed(site, "?task=import_%25")
    assert names == []
    (older,) = [each.attrs["href"] for each in page.all("a") if each.said == "Look at older ones"]
    names, page = listed(site, older)
    assert names == ["import_%"]


def test_a_workflow_says_how_far_and_how_deep_it_is_of_some_of_its_jobs(
    site: FlaskClient, flows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "SOME_JOBS", 4)
    _, page = listed(site, "?name=nightly")
    rows = {each.attrs["id"]: each.said for each in page.all("tr") if "id" in each.attrs}
    assert " 4+ 0+ 1 " in rows[f"workflow-{flows['nightly.last']}"]
    assert " 2 0 1 " in rows[f"workflow-{flows['nightly']}"]
    assert "not a state" in listed(site, "?state=lost")[1].said
    assert "is no time" in listed(site, "?after=soon")[1].said


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?name=NIGHTLY", ["nightly.last", "nightly_again", "nightly"]),
        ("?name=%25", ["import_%"]),
        ("?state=cancelled", ["hourly"]),
        ("?tenant=acme", ["hourly", "import_%"]),
        ("?tenant=", ["nightly.last", "nightly_again", "nightly"]),
        ("?task=nightly&after=1h", ["nightly"]),
        ("?after=2999-01-01T00:00:00Z", []),
        ("?tenant=acme&state=waiting", ["import_%"]),
    ],
)
def test_the_api_has_the_filters_of_the_list(
    site: FlaskClient, flows: dict[str, str], query: str, found: list[str]
) -> None:
    answer = site.get(f"/ops/api/workflows{query}").json or {}
    assert [each["root"]["task"] for each in answer["workflows"]] == found
    assert answer["cursor"] is None


def test_the_api_leads_on_where_few_of_those_looked_at_pass(
    site: FlaskClient, flows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "LOOK", 1)
    monkeypatch.setattr(insight, "LOOK_MOST", 2)
    query, found, asked = {"task": "nightly", "limit": "1"}, list[str](), 0
    while True:
        answer = site.get("/ops/api/workflows", query_string=query).json or {}
        found += [each["root"]["task"] for each in answer["workflows"]]
        asked += 1
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    assert found == ["nightly"]
    assert asked > 2
    pages = [site.get("/ops/api/workflows?limit=2").json or {}]
    while pages[-1]["cursor"]:
        pages.append(site.get(f"/ops/api/workflows?limit=2&cursor={pages[-1]['cursor']}").json or {})
    assert [len(each["workflows"]) for each in pages] == [2, 2, 1]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("state=lost", "?state"), ("after=soon", "?after"), ("after=99999-01-01", "?after"), ("after=", "?after"),
        ("name=", "?name"), ("task=" + "x" * 256, "?task"), ("tenant=a%00", "?tenant"), ("group=1", "?group"),
        ("cursor=x", "?cursor"), ("limit=0", "?limit"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_says_which(site: FlaskClient, query: str, path: str) -> None:
    answer = site.get(f"/ops/api/workflows?{query}")
    assert answer.status_code == 422
    assert [each["path"] for each in (answer.json or {})["errors"]] == [path]
