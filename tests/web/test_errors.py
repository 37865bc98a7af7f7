"""The pages and the API of errors: one row and one page for each cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from tests.support.app import App
from tests.web.pages_support import SAME_ORIGIN, Page

Mount = Callable[..., FlaskClient]


@pytest.fixture
def fingerprints(app: App) -> dict[str, str]:
    """By task, of 3 failed jobs of each of two tasks."""

    @app.task(name="shop.pay", max_attempts=1)
    def pay(n: int) -> None:
        raise ConnectionError(f"bank{n}.example.com refused 'order {n}'")

    @app.task(name="shop.send", max_attempts=1)
    def send(n: int) -> None:
        raise ConnectionError(f"no mail {n}")

    jobs = [*pay.enqueue_many([{"n": n} for n in range(3)]), *send.enqueue_many([{"n": n} for n in range(3)])]
    app.work()
    return {job.task: job.errors[-1]["fingerprint"] for job in app.wait(*jobs)}


def read(client: FlaskClient, path: str) -> Page:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def test_the_list_has_a_row_for_each_and_leads_to_its_page(site: FlaskClient, fingerprints: dict[str, str]) -> None:
    page = read(site, "/ops/errors")
    links = {each.attrs["href"] for each in page.all("a") if each.said == "ConnectionError"}
    assert links == {f"/ops/errors/{each}" for each in fingerprints.values()}
    assert "bank….example.com refused …" in page.said


def test_the_page_says_what_where_and_since_when(site: FlaskClient, fingerprints: dict[str, str]) -> None:
    page = read(site, f"/ops/errors/{fingerprints['shop.pay']}")
    assert page.one("h1").said == "ConnectionError"
    assert "bank….example.com refused …" in page.said
    assert "bank2.example.com refused 'order 2'" in page.said
    assert f"{__file__}:" in page.one("span", class_="where").said
    assert "in pay" in page.said
    assert "shop.pay" in page.said
    assert "shop.send" not in page.said
    assert len([each for each in page.all("tr") if each.attrs.get("id", "").startswith("job-")]) == 3
    assert page.all("svg", class_="spark")
    fragment = site.get(f"/ops/errors/{fingerprints['shop.pay']}?_live=1")
    assert fragment.status_code == 200
    assert "Newest jobs" in fragment.text


def test_retry_all_counts_first_and_then_retries_those_and_no_others(
    app: App, site: FlaskClient, fingerprints: dict[str, str]
) -> None:
    page = read(site, f"/ops/errors/{fingerprints['shop.pay']}")
    form = page.one("form", action="/ops/jobs/bulk/retry")
    assert form is not None
    fields = {each.attrs["name"]: each.attrs["value"] for each in page.all("input", type="hidden")}
    asked = Page(site.post("/ops/jobs/bulk/retry", data=fields, headers=SAME_ORIGIN).text)
    assert "Match now 3" in asked.said
    for worker in app.workers:
        worker.stop(timeout=5)
    done = site.post("/ops/jobs/bulk/retry", data={**fields, "sure": "1"}, headers=SAME_ORIGIN)
    assert done.status_code == 303
    assert app.client.count("state:available task:shop.pay") == 3
    assert app.client.count("state:failed task:shop.send") == 3
    assert site.get(f"/ops/errors/{fingerprints['shop.pay']}").status_code == 404


def test_who_may_not_read_payloads_sees_no_message_and_no_traceback(mount: Mount, fingerprints: dict[str, str]) -> None:
    client = mount(authorize=lambda request, _: {"view", "jobs:retry"})
    for path in ("/ops/errors", f"/ops/errors/{fingerprints['shop.pay']}"):
        page = read(client, path)
        assert "ConnectionError" in page.said
        assert "example.com" not in page.said
        assert "refused" not in page.said
        assert __file__ not in page.said
    answer = client.get("/ops/api/errors").json
    assert {(each["message"], each["pattern"]) for each in answer["errors"]} == {(None, None)}  # type: ignore[index]
    jobs = client.get(f"/ops/jobs?q=state:failed+fp:{fingerprints['shop.pay']}")
    assert jobs.text.count("data-row") == 3


def test_the_api_lists_them(site: FlaskClient, fingerprints: dict[str, str]) -> None:
    answer = site.get("/ops/api/errors").json
    found = {each["task"]: each for each in answer["errors"]}  # type: ignore[index]
    assert {name: each["fingerprint"] for name, each in found.items()} == fingerprints
    pay = found["shop.pay"]
    assert (pay["type"], pay["jobs"], sum(pay["hours"]), len(pay["hours"])) == ("ConnectionError", 3, 3, 24)
    assert pay["pattern"] == "bank….example.com refused …"
    assert pay["message"] == "bank2.example.com refused 'order 2'"


@pytest.mark.parametrize("fingerprint", ["0" * 12, "nonsense", "A" * 12, "%00", "'"])
def test_an_unknown_fingerprint_is_nowhere(site: FlaskClient, fingerprint: str) -> None:
    assert site.get(f"/ops/errors/{fingerprint}").status_code == 404


def test_the_filter_wants_a_fingerprint_and_shows_its_window(site: FlaskClient) -> None:
    assert "not an error's fingerprint" in read(site, "/ops/jobs?q=fp:xyz").said
    assert "only the last day is looked at" in read(site, f"/ops/jobs?q=fp:{'a' * 12}").said
