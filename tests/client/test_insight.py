from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fairchild import Record
from fairchild.db import shape
from tests.support.app import App
from tests.support.eventually import eventually


def test_the_shape_of_a_workflow_is_its_groups_and_what_they_wait_for(app: App) -> None:
    @app.task(name="load")
    def load(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return n

    @app.task(name="total")
    def total(parts: list[int]) -> int:
        return sum(parts)

    @app.task(name="review", on_child_failure="ignore")
    def review(many: int) -> Record[int]:
        return Record(total([load.options(max_attempts=1)(n) for n in range(many)]))

    job = app.client.enqueue("review", {"many": 5})
    app.work()
    root = app.wait(job)[0]
    shape = app.client.insight.shape(root)
    by_task = {group.task: group for group in shape.groups}
    assert [group.task for group in shape.groups] == ["review", "load", "total"]
    assert by_task["load"].counts == {"completed": 4, "failed": 1}
    assert by_task["total"].counts == {"cancelled": 1}
    assert by_task["load"].mean_seconds is not None
    edges = [(e.source, e.target, e.open) for e in shape.edges]
    assert edges == [("root", by_task["load"].key, False), (by_task["load"].key, by_task["total"].key, False)]
    made = app.client.insight.group_jobs(root.id, by_task["load"].key)
    assert [each.args["n"] for each in made] == [0, 1, 2, 3, 4]
    (failed,) = app.client.insight.group_jobs(root.id, by_task["load"].key, state="failed")
    assert failed.args["n"] == 3
    assert len(app.client.insight.group_jobs(root.id, by_task["load"].key, limit=3)) == 3
    assert app.client.insight.group_jobs(root.id, "root") == []
    assert app.client.insight.group_jobs(root.id, "9" * 30) == []


def test_jobs_that_have_not_ended_are_told_by_where_they_are_few_or_many(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(name="load", max_attempts=2, backoff=[3600])
    def load(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return n

    @app.task(name="total")
    def total(parts: list[int]) -> int:
        return sum(parts)

    @app.task(name="part")
    def part(n: int) -> Record[int]:
        return Record(total([load(n), load.options(queue="nobody")(n)]))

    @app.task(name="review")
    def review() -> Record[list[int]]:
        return Record([part(1), part(3), load.options(scheduled_at=datetime.now(timezone.utc) + timedelta(hours=1))(4)])

    job = app.client.enqueue("review", {})
    app.work(queues=["default"])
    eventually(lambda: app.client.count("state:retrying") == 1 and app.client.count("state:completed") == 1)
    root = app.get(job)

    def counts() -> list[tuple[str, dict[str, int]]]:
        return [(group.task, group.counts) for group in app.client.insight.shape(root).groups]

    few, live = counts(), app.client.stats()["queues"]
    assert few == [
        ("review", {"waiting": 1}),
        ("part", {"waiting": 2}),
        ("load", {"scheduled": 1}),
        ("load", {"completed": 1, "retrying": 1, "available": 2}),
        ("total", {"waiting": 2}),
    ]
    assert (live["default"]["waiting"], live["nobody"]["available"]) == (5, 2)
    monkeypatch.setattr(shape, "FEW", 0)
    assert counts() == few
    app.store.sql("UPDATE {waiting} SET queue = NULL, workflow_id = NULL, group_key = NULL")
    assert counts() == few
    assert app.client.stats()["queues"] == live


def test_failures_are_told_by_their_fingerprints(app: App) -> None:
    @app.task(name="pay", max_attempts=1)
    def pay(n: int) -> None:
        raise (ValueError if n else OSError)(f"number {n}")

    jobs = app.client.enqueue_many("pay", [{"n": 0}, {"n": 1}, {"n": 2}], tenant="acme")
    app.work()
    app.wait(*jobs)
    groups = {group.type: group for group in app.client.insight.errors()}
    assert {kind: group.jobs for kind, group in groups.items()} == {"ValueError": 2, "OSError": 1}
    assert groups["ValueError"].message == "number 2"
    assert groups["ValueError"].sample == jobs[2]
    assert groups["ValueError"].by_hour() == [0] * 23 + [2]
    assert groups["ValueError"].fingerprint != groups["OSError"].fingerprint
    entry = app.get(jobs[2]).errors[-1]
    assert entry["fingerprint"] == groups["ValueError"].fingerprint
    assert app.client.insight.error(entry["fingerprint"]) == groups["ValueError"]
    assert app.client.insight.error("0" * 12) is None
    found = app.client.search(f"state:failed fp:{entry['fingerprint']}").jobs
    assert [job.id for job in found] == [jobs[2], jobs[1]]
    assert app.client.count(f"-fp:{entry['fingerprint']}") == 1


def test_a_failure_without_a_fingerprint_is_told_by_task_and_kind(app: App) -> None:
    jobs = [app.store.add(task="old") for _ in range(2)]
    app.store.sql(
        "UPDATE {jobs} SET state = 'failed', ended_at = now(), reason = 'poison',"
        ' errors = \'[{{"kind": "lost", "type": null, "message": "m"}}]\''
    )
    app.store.sql("DELETE FROM {ready}")
    (group,) = app.client.insight.errors()
    assert (group.task, group.type, group.jobs) == ("old", "lost", 2)
    assert {job.id for job in app.client.search(f"fp:{group.fingerprint}").jobs} == set(jobs)


def test_what_is_due_next_and_what_retries(app: App) -> None:
    assert app.client.insight.coming()[:3] == (0, 0, None)

    @app.task(name="again", backoff=[600])
    def again() -> None:
        raise ValueError

    failing = app.client.enqueue("again", {})
    app.client.enqueue("later", {}, delay=timedelta(hours=1))
    app.work()
    app.reaches(failing, "scheduled")
    coming = app.client.insight.coming()
    assert (coming.retrying, coming.read) == (1, 2)
    assert coming.next_at == coming.next_retry_at
    assert coming.next_at is not None
    assert timedelta(minutes=4) < coming.next_at - app.client.insight.now() < timedelta(minutes=16)


def test_who_runs_longest_comes_first(app: App) -> None:
    first, second = app.store.add(), app.store.add()
    app.store.claim(1)
    app.store.claim(1)
    assert [job.id for job in app.client.insight.longest_running()] == [first, second]
    assert len(app.client.insight.longest_running(1)) == 1
    app.client.cancel([first, second])
    app.store.sql("DELETE FROM {claims}")
    app.store.sql("DELETE FROM {jobs}")


def test_the_server_tells_its_version_and_the_size_of_the_tables(app: App) -> None:
    server, tables = app.client.insight.server()
    assert int(server.version.split(".")[0]) >= 12
    assert server.database_bytes > 1_000_000
    assert "fairchild_jobs_base" in {table.name for table in tables}
