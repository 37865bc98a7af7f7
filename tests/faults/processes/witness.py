"""What a database noted of every job's end, held against what must be: nothing lost, nothing accepted twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fairchild import Job
from tests.faults.processes import tasks
from tests.support.app import App
from tests.support.command import Running, started
from tests.support.eventually import eventually

PATIENCE = 90.0
LEASE = 2.0

NOTE_ENDS = """
CREATE TABLE effects (job uuid NOT NULL);
CREATE TABLE noted (job uuid NOT NULL, state text NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO noted VALUES (NEW.id, NEW.state); RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON fairchild_jobs_base FOR EACH ROW
  WHEN (OLD.state = 'pending' AND NEW.state <> 'pending') EXECUTE FUNCTION note()
"""
WRONG = """
SELECT 'not completed', id, state FROM {jobs} WHERE state <> 'completed'
UNION ALL
SELECT 'not ended once', j.id, count(n.job)::text FROM {jobs} j LEFT JOIN noted n ON n.job = j.id
 GROUP BY j.id HAVING count(n.job) <> 1
UNION ALL
SELECT 'not one effect', j.id, count(e.job)::text FROM {jobs} j LEFT JOIN effects e ON e.job = j.id
 WHERE j.task = 'steps.writer' GROUP BY j.id HAVING count(e.job) <> 1
UNION ALL
SELECT 'attempts', id, attempt::text FROM {jobs} WHERE attempt <> CASE task WHEN 'steps.flaky' THEN 2 ELSE 1 END
UNION ALL
SELECT 'children', p.id, count(c.id)::text FROM {jobs} p LEFT JOIN {jobs} c ON c.parent_id = p.id
 WHERE p.task = 'steps.family' GROUP BY p.id HAVING count(c.id) <> 3
UNION ALL
SELECT 'claimed', job_id, session::text FROM {claims}
"""


def note_ends(app: App) -> None:
    """Have the database note each accepted end of a job from here on."""
    app.store.link.script(NOTE_ENDS)


def enqueue_some(app: App) -> list[Job]:
    """Jobs of every kind, of which each has an end that is known beforehand: the value of its ``n``, or twice that."""
    with app.client.active():
        return [task.enqueue(n) for n in (1, 2) for task in (tasks.plain, tasks.writer, tasks.flaky, tasks.family)]


def all_is_well(app: App, jobs: Sequence[Job]) -> None:
    """Wait until all jobs have ended, and assert what must hold."""
    left = "SELECT id, task, errors FROM {jobs} WHERE state = 'pending'"
    eventually(lambda: not app.store.sql(left), PATIENCE, what=lambda: app.store.sql(left))
    assert app.store.sql(WRONG) == []
    for job in jobs:
        factor = 2 if job.task == "steps.family" else 1
        assert app.get(job).result == factor * job.args["n"]


@contextmanager
def worker(app: App, folder: Path, failpoints: str = "", *options: str) -> Iterator[Running]:
    """``fairchild worker`` with the tasks of this folder, and with faults on purpose."""
    arguments = [
        "worker", "--import", "tests.faults.processes.tasks", "--lease", str(LEASE), "--concurrency", "2",
        "--poll-interval", "0.1", "--shutdown-timeout", "1", *options,
    ]  # fmt: skip
    with started(arguments, folder=folder, url=app.url, FAIRCHILD_FAILPOINTS=failpoints) as running:
        yield running


def dies_at(app: App, folder: Path, site: str) -> None:
    """Run a worker that is killed when it first comes to this place."""
    with worker(app, folder, f"{site}=kill") as running:
        assert running.process.wait(PATIENCE) == -9, running.said()
