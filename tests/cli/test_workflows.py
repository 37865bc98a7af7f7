from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairchild import Discard, Fairchild, Registry
from fairchild.worker import Worker
from tests.support.command import fairchild as command


def test_a_workflow_is_shown_retried_and_cancelled(fairchild_db: str, tmp_path: Path) -> None:
    client = Fairchild(fairchild_db, registry=Registry())
    broken = [True]

    @client.task(name="shop.pay", queue="pay")
    def pay(n: int) -> int:
        if broken:
            raise Discard("no money")
        return n

    @client.task(name="shop.total", queue="total")
    def total(values: list[int]) -> int:
        return sum(values)

    def run(*arguments: str) -> Any:
        return command("workflows", *arguments, folder=tmp_path, url=fairchild_db)

    with client:
        with client.workflow("orders") as w:
            last = total(pay.map([1, 2, 3]))
        with Worker(client, queues=["pay"]):
            w.wait(30)
        id = str(w.id)
        shown = run("show", id)
        assert [line.split()[:2] for line in shown.stdout.splitlines()[-3:]] == [
            ["task", "jobs"], ["shop.pay", "3"], ["shop.total", "1"],
        ]  # fmt: skip
        assert "failed (child_failed)" in shown.stdout
        (listed,) = json.loads(run("list", "--json").stdout)["workflows"]
        assert (listed["id"], listed["name"], listed["progress"]["ended"]) == (id, "orders", 4)
        assert id in run("list").stdout
        broken.clear()
        assert len(run("retry", id).stdout.splitlines()) == 3
        with Worker(client, queues=["pay"]):
            client.wait([each for each in w.jobs() if each.task == "shop.pay"], 30)
        found = json.loads(run("show", "--json", str(last.job_id)).stdout)  # type: ignore[attr-defined]
        assert (found["state"], found["progress"]["states"]["completed"]) == ("waiting", 3)
        assert [node["states"] for node in found["graph"]["nodes"]] == [{"completed": 3}, {"available": 1}]
        done = run("cancel", id, "--reason", "too late", "--json")
        assert (json.loads(done.stdout), "2 jobs cancelled" in done.stderr) == ({"jobs": 2}, True)
        assert w.root.reason == "too late"
        assert run("cancel", "nothing").returncode == 2
        assert run("show", "01900000-0000-7000-8000-000000000001").returncode == 2
