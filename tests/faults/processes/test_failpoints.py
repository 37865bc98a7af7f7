"""A process killed at every step of its work: what it left is done by the next, once."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from fairchild.failpoints import SITES
from tests.faults.processes.witness import all_is_well, dies_at, enqueue_some, note_ends, worker
from tests.support.app import App
from tests.support.command import python
from tests.support.eventually import eventually

OF_WORKERS = [site for site in SITES if site.split(".")[0] not in ("rescue", "enqueue", "cancel")]


@pytest.mark.slow
@pytest.mark.parametrize("site", OF_WORKERS)
def test_f01_f05_f06_f07_f95_a_worker_killed_at_any_step_leaves_work_that_is_done_once(
    app: App, tmp_path: Path, site: str
) -> None:
    note_ends(app)
    jobs = enqueue_some(app)
    dies_at(app, tmp_path, site)

    with worker(app, tmp_path):
        all_is_well(app, jobs)


@pytest.mark.slow
@pytest.mark.parametrize("site", [site for site in SITES if site.startswith("rescue")])
def test_f58_f60_a_worker_killed_while_it_rescues_another_leaves_that_to_the_next(
    app: App, tmp_path: Path, site: str
) -> None:
    note_ends(app)
    jobs = enqueue_some(app)
    dies_at(app, tmp_path, "claim.after")
    dies_at(app, tmp_path, site)

    with worker(app, tmp_path):
        all_is_well(app, jobs)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["claim.after", "finish.before", "finish.before_commit", "finish.after"])
def test_f27_f28_a_worker_whose_steps_fail_half_of_the_time_goes_on(app: App, tmp_path: Path, site: str) -> None:
    note_ends(app)
    jobs = enqueue_some(app)

    with worker(app, tmp_path, f"{site}=raise:0.5"):
        all_is_well(app, jobs)


@pytest.mark.parametrize(
    ("site", "many"),
    [("enqueue.before", False), ("enqueue.before_commit", True), ("enqueue.after", False), ("enqueue.after", True)],
)
def test_f01_a_program_killed_while_it_enqueues_has_made_its_jobs_or_not(
    app: App, tmp_path: Path, site: str, many: bool
) -> None:
    call = "tasks.plain.enqueue_many({'n': n} for n in range(3))" if many else "tasks.plain.enqueue(1)"
    code = f"""
        from fairchild import Fairchild
        from tests.faults.processes import tasks
        with Fairchild() as fairchild:
            {call}
        """

    ended = python("-c", textwrap.dedent(code), folder=tmp_path, url=app.url, FAIRCHILD_FAILPOINTS=f"{site}=kill")

    assert ended.returncode == -9, ended.stderr
    made = (3 if many else 1) if site == "enqueue.after" else 0
    assert sum(app.client.stats()["jobs"].values()) == made


def test_a_program_killed_while_it_cancels_a_family_leaves_the_rest_to_the_workers(app: App, tmp_path: Path) -> None:
    parent, children = app.store.family(20)
    code = f"""
        from fairchild import Fairchild
        with Fairchild() as fairchild:
            fairchild.cancel("{parent}", "no more")
        """

    ended = python("-c", textwrap.dedent(code), folder=tmp_path, url=app.url, FAIRCHILD_FAILPOINTS="cancel.begun=kill")

    assert ended.returncode == -9, ended.stderr
    assert app.store.states(parent, *children) == ["cancelled", *["available"] * 20]
    app.task(name="another")(lambda: None)
    app.work(queues=["others"], heartbeat_interval=0.5)
    eventually(lambda: set(app.store.states(*children)) == {"cancelled"})
    assert {app.get(each).reason for each in children} == {"no more"}
    eventually(lambda: app.store.sql("SELECT count(*) FROM {cancellations}") == [(0,)])
