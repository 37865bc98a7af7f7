"""What is offered while something is typed, to whom, and the rows of a list that the reader has before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from fairchild import Job
from fairchild.rules.query import KEYS, parse
from fairchild.web.pages.conditions import NOTES, Condition, complete
from fairchild.web.pages.jobs import VIEWS
from tests.support.app import App
from tests.web.pages_support import Page

Mount = Callable[..., FlaskClient]
VALUES = {
    "state": [Condition("failed"), Condition("available")],
    "queue": [Condition("mail"), Condition("slow mail"), Condition("money")],
    "task": [Condition("shop.mail.send")],
    "worker": [Condition("01900000-0000-7000-8000-000000000001", "web-1")],
    "args.plan": [Condition("pro"), Condition("free")],
    "args.user.id": [Condition("7")],
}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sta", ["state:"]),
        ("-sta", ["-state:"]),
        ("mai", ["queue:mail", 'queue:"slow mail"', "task:shop.mail.send"]),
        ("queue:m", ["queue:mail", "queue:money", 'queue:"slow mail"']),
        ("queue:mail,mo", ["queue:mail,money"]),
        ('queue:"slow', ['queue:"slow mail"']),
        ("-state:f", ["-state:failed"]),
        ("arg", ["args.", "args.plan:", "args.user.id:"]),
        ("args.u", ["args.user.id:"]),
        ("args.plan:", ["args.plan:pro", "args.plan:free"]),
        ("worker:web", ["worker:01900000-0000-7000-8000-000000000001"]),
        ("ran:", ["ran:>1s", "ran:>10s", "ran:>1m", "ran:>10m"]),
        ("due:<", ["due:<1h", "due:<24h"]),
        ("nothing:", []),
        ("xyz", []),
    ],
)
def test_a_condition_goes_on_in_ways_that_can_be_read(typed: str, offered: list[str]) -> None:
    found = [each.text for each in complete(typed, VALUES)]

    assert found == offered
    for each in found:
        if not each.endswith((":", ".")):
            parse(each)


def test_every_key_is_explained() -> None:
    assert set(NOTES) == set(KEYS)
    assert [each.text.strip(":.") for each in complete("", VALUES)] == list(KEYS[:12])


def test_views_are_written_as_the_filter_writes_them() -> None:
    for _, query in VIEWS:
        assert str(parse(query)) == query


@pytest.fixture
def jobs(app: App) -> dict[str, Job]:
    @app.task(name="shop.pay", max_attempts=1)
    def pay(plan: str, card: dict[str, Any], note: str) -> None:
        raise ConnectionError("gateway refused")

    worker = app.work(name="till-1")
    args = {"plan": "pro", "card": {"brand": "visa", "card_number": "4242", "we:ird": 1}, "note": "n" * 100}
    failed = app.client.enqueue("shop.pay", args, tags=["eu"], tenant="acme")
    app.wait(failed)
    big = app.client.enqueue("t", {"blob": [str(n) * 9 for n in range(3000)], "large": 1}, queue="post")
    assert worker.name
    return {"failed": failed, "big": big}


def names(client: FlaskClient, path: str, text: str) -> list[str]:
    answer = client.get(f"/ops/{path}", query_string={"for": text})
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"
    return [each["text"] for each in answer.get_json()]


def test_conditions_come_from_what_is_there(site: FlaskClient, jobs: dict[str, Job]) -> None:
    assert names(site, "conditions", "queue:") == ["queue:default", "queue:post"]
    assert names(site, "conditions", "tag:") == ["tag:eu"]
    assert names(site, "conditions", "tenant:a") == ["tenant:acme"]
    assert names(site, "conditions", "error:conn") == ["error:ConnectionError"]
    assert names(site, "conditions", "args.") == ["args.card.brand:", "args.note:", "args.plan:"]
    assert names(site, "conditions", "args.card.brand:") == ["args.card.brand:visa"]
    assert names(site, "conditions", "args.note:") == []
    assert names(site, "conditions", "worker:till") == [f"worker:{site_worker(site)}"]


def site_worker(site: FlaskClient) -> str:
    (found,) = site.get("/ops/api/workers").get_json()["workers"]
    return str(found["id"])


def test_what_may_not_be_read_is_not_offered(mount: Mount, jobs: dict[str, Job]) -> None:
    viewer = mount(authorize=lambda request, right: {"view"})
    assert names(viewer, "conditions", "args.") == []
    assert names(viewer, "conditions", "args.plan:") == []
    assert names(viewer, "conditions", "error:") == []
    assert names(viewer, "conditions", "tag:") == ["tag:eu"]
    redacted = mount(redact=lambda job: {**job, "args": {}, "tags": []})
    assert names(redacted, "conditions", "args.plan:") == []
    assert names(redacted, "conditions", "tag:") == []
    assert names(redacted, "conditions", "task:") == ["task:shop.pay", "task:t"]
    nobody = mount(authorize=lambda request, right: None)
    for path in ("conditions", "places"):
        assert nobody.get(f"/ops/{path}?for=t").status_code == 403


def test_places_are_found_by_a_part_of_their_names(site: FlaskClient, jobs: dict[str, Job]) -> None:
    assert names(site, "places", "")[:2] == ["Overview", "Jobs"]
    assert names(site, "places", "pos") == ["post", "Jobs: pos"]
    assert names(site, "places", "PAY") == ["shop.pay", "ConnectionError in pay", "Jobs: PAY"]
    assert names(site, "places", "till") == ["till-1", "Jobs: till"]
    assert names(site, "places", str(UUID(int=5)))[0] == f"Job {UUID(int=5)}"
    (queue, _) = site.get("/ops/places?for=pos").get_json()
    assert queue == {"text": "post", "note": "queue", "href": "/ops/queues/post"}


def test_a_list_is_asked_for_the_rows_that_are_before_the_reader(app: App, site: FlaskClient) -> None:
    ids = app.client.enqueue_many("t", [{}] * 30, queue="view")
    path = "/ops/jobs?q=queue:view+state:available&_live=1"

    def seen(top: UUID, last: UUID) -> tuple[list[str], dict[str, str]]:
        page = Page(f"<body>{site.get(f'{path}&top={top}&last={last}').text}</body>")
        rows = [each.attrs["id"][4:] for each in page.all("tr") if "id" in each.attrs]
        (body,) = page.all("tbody") or page.all("div", class_="empty")
        return rows, {name: value for name, value in body.attrs.items() if name.startswith("data-")}

    newest = [str(each) for each in reversed(ids)]
    assert seen(ids[-1], ids[-10]) == (newest[:10], {})
    assert seen(ids[-3], ids[-10]) == (newest[2:10], {"data-new": "2"})
    assert seen(ids[1], ids[0]) == (newest[-2:], {"data-new": "25", "data-more": "1"})
    app.client.cancel(ids[:2])
    assert seen(ids[1], ids[0])[1] == {"data-new": "25", "data-more": "1"}
    assert seen(ids[1], ids[0])[0] == newest[-2:]  # shared for a second
    assert site.get(f"{path}&top=x&last=y").status_code == 422
