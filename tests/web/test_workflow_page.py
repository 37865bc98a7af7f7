"""A workflow as a graph, over time and as a list; what lies behind its nodes."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from fairchild import Job, Record
from fairchild.client import insight
from fairchild.client.workflows import Workflow
from fairchild.rules.shape import MOST_NODES
from fairchild.web.pages import flow_drawer, workflows
from tests.support.app import App
from tests.web.pages_support import SAME_ORIGIN, Page


@pytest.fixture
def run(app: App) -> Job:
    """Two runs of one program, of which the second has one part that failed; that second one."""

    @app.task(name="load")
    def load() -> int:
        return 2

    @app.task(name="part", max_attempts=1)
    def part(n: int, of: int) -> int:
        if n == 3 and of == 0:
            raise ValueError("no")
        return n

    @app.task(name="sector")
    def sector(size: int, of: int) -> Any:
        return Record([part(n, of) for n in range(size)])

    @app.task(name="add")
    def add(parts: list[Any]) -> int:
        return len(parts)

    @app.task(name="night")
    def night(of: int) -> Any:
        first = load()
        return add([sector(5, of).or_else([]), first])

    app.work()
    first = app.client.enqueue("night", {"of": 1})
    app.wait(first)
    second = app.client.enqueue("night", {"of": 0})
    app.wait(second)
    return app.get(second)


def read(site: FlaskClient, run: Job | Workflow, query: str = "") -> Page:
    answer = site.get(f"/ops/workflows/{run.id}{query}")
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def keys(page: Page) -> dict[str, str]:
    """Nodes by task."""
    return {each.said.partition(":")[0]: key for key, each in nodes_of(page).items()}


def nodes_of(page: Page) -> dict[str, Any]:
    """Nodes by key."""
    found = [each for each in page.all("a") if each.attrs.get("id", "").startswith("node-")]
    return {each.attrs["id"].removeprefix("node-"): each for each in found}


def rows(page: Page) -> list[str]:
    return [each.attrs["id"] for each in page.all("tr") if each.attrs.get("id", "").startswith("job-")]


def test_all_of_a_group_in_the_list_of_jobs_are_exactly_its_jobs(app: App, site: FlaskClient, run: Job) -> None:
    with app.client.workflow("twice") as flow:
        first = flow.call("load")
        _ = [flow.call("part", {"n": n, "of": first}) for n in range(3)]
        _ = [flow.call("part", {"n": 9, "of": 1}, queue="nobody") for _ in range(2)]
    page = read(site, flow)
    groups = [key for key in nodes_of(page) if key != "root"]
    assert len(groups) == 3
    seen: list[str] = []
    for group in groups:
        drawn = read(site, flow, f"?group={group}")
        (link,) = [each.attrs["href"] for each in drawn.all("a") if each.said == "All in the list of jobs"]
        listed = rows(Page(site.get(link).text))
        assert sorted(listed) == sorted(rows(drawn))
        seen += listed
    assert len(seen) == len(set(seen)) == 6


def test_the_critical_path_leads_from_the_root_to_what_ended_last(site: FlaskClient, run: Job) -> None:
    page = read(site, run, "?path=1")
    steps = [each.said.split()[1] for each in page.all("tr") if each.attrs.get("id", "").startswith("step-")]
    assert steps[:2] == ["night", "sector"]
    assert steps[-2:] == ["part", "add"]
    assert {name for name, key in keys(page).items() if nodes_of(page)[key].attrs.get("class") == "crit"} == {
        "night", "sector", "part", "add",
    }  # fmt: skip
    marked = [each for each in page.all("path") if "crit" in each.attrs.get("class", "")]
    assert len(marked) == 3
    assert "crit" not in "".join(each.attrs.get("class", "") for each in read(site, run).all("path"))


def test_the_timeline_has_an_axis_opens_a_group_and_compares_with_the_run_before(site: FlaskClient, run: Job) -> None:
    page = read(site, run, "?view=timeline")
    ticks = [each for each in page.all("span") if re.match(r"\d{4}-\d\d-\d\d .* UTC", each.attrs.get("title", ""))]
    assert (len(ticks), ticks[0].said) == (5, "0")
    assert "The run before took" in page.said
    part = keys(read(site, run))["part"]
    opened = read(site, run, f"?view=timeline&group={part}")
    names = [
        each.attrs["aria-label"] for each in opened.all("svg", class_="track") if "ran" in each.attrs["aria-label"]
    ]
    assert len(names) == 5
    assert len(opened.all("ol", class_="opened")) == 1
    jobs = [each.attrs["href"] for each in opened.all("a", class_="mono nowrap")]
    assert len(jobs) == 5
    failed = site.get(jobs[0].replace("/jobs/", "/api/jobs/")).json or {}
    assert failed["state"] == "failed"


def test_the_list_is_a_tree_by_who_called_whom_and_what_a_phone_shows_first(site: FlaskClient, run: Job) -> None:
    page = read(site, run, "?view=list")
    told = [each.said for each in page.all("th", scope="row")]
    assert told == [
        "level 1: night", "level 2: load", "level 2: sector", "level 3: part", "level 2: add",
    ]  # fmt: skip
    assert "load, sector" in page.said or "sector, load" in page.said
    both = read(site, run)
    assert [each.said for each in both.all("th", scope="row")] == told
    assert both.one("div", role="region", data_dir="across").attrs["class"] == "dag hide-s"
    assert read(site, run, "?view=graph").one("div", data_dir="across").attrs["class"] == "dag"
    assert read(site, run, "?dir=down").one("div", data_dir="down").attrs["class"] == "dag hide-s"


def test_a_drawer_has_states_pages_run_times_and_what_can_be_done(
    app: App, site: FlaskClient, run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_drawer, "ROWS", 2)
    part = keys(read(site, run))["part"]
    page = read(site, run, f"?group={part}")
    assert "p95" in page.one("figcaption").said
    assert len(rows(page)) == 2
    (more,) = [each.attrs["href"] for each in page.all("a") if each.said.startswith("more")]
    again = read(site, run, more)
    assert not set(rows(again)) & set(rows(page))
    failed = read(site, run, f"?group={part}&state=failed")
    assert len(rows(failed)) == 1
    (form,) = [each for each in page.all("form") if each.attrs.get("action", "").endswith("/bulk/retry")]
    fields = {
        each.attrs["name"]: each.attrs["value"] for each in page.all("input", type="hidden") if "name" in each.attrs
    }
    asked = site.post(form.attrs["action"], data=fields, headers=SAME_ORIGIN)
    assert "Retry 1 job?" in Page(asked.text).one("h1").said


def test_what_was_folded_opens_in_the_graph(app: App, site: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.client.workflow("wide") as flow:
        firsts = [flow.call(f"first{n}", queue="nobody") for n in range(4)]
        for first in firsts:
            last = flow.call("same", {"of": first})
            for n in range(4):
                last = flow.call(f"chain{n}", {"of": last})
    plain = insight.Insight.shape

    def small(self: insight.Insight, root: Job, most: int = 8, **how: Any) -> Any:
        return plain(self, root, most, **how)

    monkeypatch.setattr(insight.Insight, "shape", small)
    page = read(site, flow)
    nodes = keys(page)
    assert len(nodes) == 8
    same = nodes["same"]
    opened = read(site, flow, f"?group={same}")
    assert "4 groups of jobs drawn as one" in opened.said
    deeper = nodes["3 deeper groups"] if "3 deeper groups" in nodes else nodes[next(n for n in nodes if "deeper" in n)]
    drawer = read(site, flow, f"?group={deeper}")
    (link,) = [each.attrs["href"] for each in drawer.all("a") if each.said == "Open in the graph"]
    later = read(site, flow, link)
    assert any("earlier groups" in name for name in keys(later))
    assert "chain3" in keys(later)
    assert len(keys(later)) <= 8


def test_tasks_are_a_table_of_states_with_shares_and_times(app: App, site: FlaskClient, run: Job) -> None:
    page = read(site, run, "?view=tasks")
    heads = [each.said for each in page.all("th", scope="col")]
    assert heads == ["Task", "Jobs", "Progress", "completed", "failed", "Mean run", "p50", "p95"]
    table = {
        each.said.split()[0]: each.said.split()
        for each in page.all("tr")
        if each.attrs.get("id", "").startswith("task-")
    }
    assert list(table) == ["night", "load", "sector", "add", "part"]
    assert table["part"][:6] == ["part", "5", "4", "80", "%", "1"]
    assert table["part"][6:8] == ["20", "%"]
    assert table["load"][-1] in ("ms", "s")
    links = [each.attrs["href"] for each in page.all("a") if "task%3Apart" in each.attrs["href"].replace(":", "%3A")]
    assert [len(rows(Page(site.get(link).text))) for link in links] == [4, 1]


def test_the_jobs_of_a_group_are_drawn_one_by_one(
    app: App, site: FlaskClient, run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = keys(read(site, run))["part"]
    (link,) = [
        each.attrs["href"] for each in read(site, run, f"?group={part}").all("a") if each.said == "Draw one by one"
    ]
    page = read(site, run, link)
    order = list(nodes_of(page))
    nodes = [each for key, each in nodes_of(page).items() if key.startswith("job-")]
    assert len(nodes) == 5
    assert "9 nodes" in page.said
    states = {each.attrs["href"].rpartition("/")[2]: each.attrs["data-s"] for each in nodes}
    assert sorted(states.values()) == ["completed"] * 4 + ["failed"]
    assert {id: app.get(UUID(id)).state for id in states} == states
    targets = [order[int(each.attrs["data-t"])] for each in page.all("path") if "data-t" in each.attrs]
    assert len([target for target in targets if target.startswith("job-")]) == 5
    (back,) = [each.attrs["href"] for each in page.all("a") if each.said == "Draw as one"]
    assert keys(read(site, run, back)) == keys(read(site, run))
    marked = read(site, run, f"?open={part}&path=1").all("a", class_="crit")
    assert len([each for each in marked if each.attrs["id"].startswith("node-job-")]) == 1
    monkeypatch.setattr(workflows, "MOST_SINGLY", 3)
    assert "+2 more" in read(site, run, f"?open={part}").said


def test_what_was_opened_stays_open_when_another_is(site: FlaskClient, run: Job) -> None:
    nodes = keys(read(site, run))
    page = read(site, run, f"?open={nodes['part']}&open=none&group={nodes['part']}")
    (link,) = [each.attrs["href"] for each in page.all("a") if each.said == "Draw as one"]
    assert link == f"?open=none&group={nodes['part']}"
    assert all("open=none" in each.attrs["href"] for each in page.all("a") if each.said in ("Timeline", "List"))


def test_a_child_leads_to_its_place_in_the_graph(app: App, site: FlaskClient, run: Job) -> None:
    part = keys(read(site, run))["part"]
    (child, *_) = app.client.insight.group_jobs(run.id, part)
    answer = site.get(f"/ops/workflows/{child.id}")
    assert answer.location == f"/ops/workflows/{run.id}?group={part}"
    assert nodes_of(read(site, run, f"?group={part}"))[part].attrs["aria-current"] == "true"
    assert f"/ops/workflows/{child.id}" in Page(site.get(f"/ops/jobs/{child.id}").text).links()


@pytest.mark.parametrize("needed", [1, 3, 12])
def test_however_many_lines_there_are_the_drawing_is_small(app: App, site: FlaskClient, needed: int) -> None:
    """At most 60 KiB, whatever the names are and in whichever states the jobs: there are fewer nodes then."""
    chosen = random.Random(needed)
    with app.client.workflow("night <&> ly") as flow:
        made: list[list[Any]] = []
        for number in range(MOST_NODES - 1):
            of = [each[0] for each in chosen.sample(made, min(len(made), needed))]
            made.append([flow.call(f"shop.tasks.prüfen & mehr {number}", {"n": n, "of": of}) for n in range(4)])
    app.store.sql(  # for the page alone
        "UPDATE {jobs} SET state = (ARRAY['completed', 'failed', 'cancelled'])[1 + (args->>'n')::int], ended_at = now()"
        " WHERE (args->>'n')::int < 3"
    )
    for query in ("", "?dir=down&path=1&open=12345&open=67890&from=0.0"):
        page = site.get(f"/ops/workflows/{flow.id}{query}").text
        (drawing,) = re.findall(r'<svg width="\d+".*?</svg>', page, re.DOTALL)
        assert len(drawing.encode()) <= 60 * 1024
        assert 60 <= drawing.count("<a id=") <= MOST_NODES
        assert drawing.count("data-t=") >= 60
        assert "deeper groups" in drawing
    for table in ("jobs", "waiting", "ready", "edges"):  # whose states were made up
        app.store.sql(f"DELETE FROM {{{table}}}")


@pytest.mark.parametrize("query", ["", "?group=" + "&" * 2_000, "?open=" + "x" * 60_000])
def test_however_long_names_and_addresses_are_the_drawing_is_small(app: App, site: FlaskClient, query: str) -> None:
    """Some names short and some all of what HTML has to escape; an address that leaves no room for any node."""
    with app.client.workflow("names") as flow:
        for number in range(MOST_NODES - 1):
            _ = flow.call(f"{number}" + "<" * (200 if number % 3 == 0 else 0))
    page = site.get(f"/ops/workflows/{flow.id}{query}")
    assert page.status_code == 200
    (drawing,) = re.findall(r'<svg width="\d+".*?</svg>', page.text, re.DOTALL)
    if len(query) < 10_000:
        assert len(drawing.encode()) <= 60 * 1024
        assert drawing.count("<a id=") > (20 if query == "" else 2)
    else:
        assert drawing.count("<a id=") <= 3


def test_every_node_keeps_a_line_to_it_as_long_as_there_is_room(app: App, site: FlaskClient) -> None:
    with app.client.workflow("all with all") as flow:
        above = [flow.call(f"above_{number}") for number in range(70)]
        for number in range(70):
            _ = flow.call(f"below_{number}", {"of": above})
    page = read(site, flow)
    order = list(nodes_of(page))
    targets = {order[int(each.attrs["data-t"])] for each in page.all("path") if "data-t" in each.attrs}
    assert targets == set(order) - {"root"}
    assert "lines not drawn" in page.said


def test_what_is_used_several_times_is_styled_wherever_it_is_shown(site: FlaskClient, run: Job) -> None:
    """A ``<use>`` shows its own copy, whose ancestors no selector sees: it would be drawn in black."""
    page = site.get(f"/ops/workflows/{run.id}").text
    defined = page.partition("<defs><marker")[2].partition("</defs>")[0]
    css = (Path(workflows.__file__).parents[1] / "static" / "app.css").read_text()
    classes = set(re.findall(r'class="([^"]+)"', defined))
    assert classes == {"n-box", "n-sign", "n-under"}
    assert all(re.search(rf"^\.{each} {{", css, re.MULTILINE) for each in classes)
