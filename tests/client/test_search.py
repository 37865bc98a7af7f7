"""Jobs by the filter language: what each condition finds, on real rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from fairchild import Job
from fairchild.errors import UsageError
from fairchild.rules.query import KEYS
from tests.support.app import App


@pytest.fixture
def jobs(app: App) -> dict[str, Job]:
    """One job of each kind; ``bad`` has failed for good, ``again`` waits for its next attempt."""

    @app.task(name="shop.pay", max_attempts=1)
    def pay(amount: int, user: dict[str, Any]) -> None:
        raise ValueError("card 100% declined")

    @app.task(name="shop.mail", backoff=[3600])
    def mail(to: str) -> None:
        if to == "nobody":
            raise OSError("unreachable")

    bad = app.client.enqueue("shop.pay", {"amount": 7, "user": {"id": 42}}, tags=["money", "eu"], tenant="acme")
    again = app.client.enqueue("shop.mail", {"to": "nobody"}, priority=2)
    good = app.client.enqueue("shop.mail", {"to": "b"}, meta={"from": "web"})
    worker = app.work()
    app.wait(bad, good)
    app.reaches(again, "scheduled")
    worker.stop()
    later = app.client.enqueue("shop.mail", {"to": "c"}, delay=3600)
    ready = app.client.enqueue("shop.ready", {"n": 12}, queue="other")
    waiting = app.client.enqueue("shop.after", {}, depends_on=[later])
    return {"bad": bad, "again": again, "good": good, "later": later, "ready": ready, "waiting": waiting}


def test_each_condition_finds_what_it_says(app: App, jobs: dict[str, Job]) -> None:
    names = {job.id: name for name, job in jobs.items()}
    bad = jobs["bad"].id
    expected = {
        "": set(jobs),
        f"{bad}": {"bad"},
        f"id:{bad},{jobs['good'].id}": {"bad", "good"},
        "state:failed": {"bad"},
        "state:retrying": {"again"},
        "state:scheduled": {"again", "later"},
        "state:available": {"ready"},
        "state:waiting,completed": {"waiting", "good"},
        "state:running": set(),
        "-state:failed,scheduled": {"good", "ready", "waiting"},
        "queue:other": {"ready"},
        "-queue:other": set(jobs) - {"ready"},
        "task:shop.mail": {"again", "good", "later"},
        "SHOP.MA": {"again", "good", "later"},
        "op.%": set(),
        "tag:eu": {"bad"},
        "-tag:eu,x": set(jobs) - {"bad"},
        "tenant:acme": {"bad"},
        "priority<5": {"again"},
        "attempt:1": {"bad", "again", "good"},
        "attempt>0": {"bad", "again", "good"},
        "error:ValueError": {"bad"},
        'error:"100% DECL"': {"bad"},
        "args.user.id:42": {"bad"},
        "args.amount>6": {"bad"},
        "args.n>6": {"ready"},
        "args.to>6": set(),
        "meta.from:web": {"good"},
        f"workflow:{bad}": {"bad"},
        f"parent:{bad}": set(),
        f"workflow:{bad} group:-7": set(),
        "ran<1h": {"bad", "good"},
        "waited:>1h": set(),
        "due<2h": {"again", "later"},
        "-state:retrying due:>30m": {"later"},
        "after:1h": set(jobs),
        "before:1h": set(),
        "after:2001-01-01 before:2001-01-02": set(),
        "after:all task:shop.pay": {"bad"},
        "unique:x": set(),
        "reason:error": {"bad"},
        f"fp:{app.get(bad).errors[-1]['fingerprint']}": {"bad"},
        "fp:0123456789ab": set(),
    }
    reason = app.get(bad).reason
    expected[f"reason:{reason}"] = expected.pop("reason:error")
    worker = app.get(jobs["good"].id).worker
    expected[f"worker:{worker}"] = {"bad", "good", "again"}
    found = {text: {names[job.id] for job in app.client.search(text)} for text in expected}
    assert found == expected
    assert {text: app.client.count(text) for text in expected} == {text: len(all_) for text, all_ in expected.items()}
    used = " ".join(expected)
    assert [key for key in KEYS if key not in used] == []


def test_pages_go_on_in_both_directions(app: App) -> None:
    ids = list(reversed(app.client.enqueue_many("t", [{}] * 5)))

    def page(**options: Any) -> tuple[list[UUID], str | None]:
        found = app.client.search("task:t", limit=2, **options)
        return [job.id for job in found], found.cursor

    assert page() == (ids[:2], str(ids[1]))
    assert page(cursor=ids[1]) == (ids[2:4], str(ids[3]))
    assert page(cursor=ids[3]) == (ids[4:], None)
    assert page(cursor=ids[4], newer=True) == (ids[2:4], str(ids[2]))
    assert page(cursor=ids[2], newer=True) == (ids[:2], None)


def test_counts_stop_at_their_cap(app: App) -> None:
    app.client.enqueue_many("t", [{}] * 5)
    assert app.client.count("task:t", cap=3) == 4
    assert app.client.count("task:t", cap=5) == 5


def test_many_available_jobs_are_found_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.client.enqueue_many("t", [{}] * 3)
    monkeypatch.setattr("fairchild.db.search.FEW_READY", 2)
    assert len(app.client.search("state:available").jobs) == 3


def test_what_cannot_be_read_is_refused(app: App) -> None:
    with pytest.raises(UsageError, match="unknown key"):
        app.client.search("stat:x")
