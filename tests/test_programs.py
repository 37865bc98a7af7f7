"""Small programs as a user writes them: each must run as it stands, from a folder with nothing but these files."""

from __future__ import annotations

import ast
import json
import signal
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from fairchild import Fairchild, JobState
from tests.support.command import TIMEOUT, python, started
from tests.support.command import fairchild as command

MAIL = """\
# mail.py
from fairchild import Record, task

@task(queue="default", max_attempts=3, priority=5, tags=["mail"])
def notify(address: str, title: str):
    print("to", address, title)
    return Record({"delivered": address})
"""
SEND = """\
# send.py
from fairchild import Fairchild
import mail

fairchild = Fairchild()
fairchild.connect()
fairchild.install()
mail.notify.enqueue(address="ada@example.com", title="Hello")
mail.notify.enqueue_in(minutes=30, address="ada@example.com", title="Later")
mail.notify.enqueue(address="ada@example.com", title="First", _priority=0, _queue="urgent")
"""
SHAPES = """\
# shapes.py
from fairchild import Record, task

@task()
def load(part: int):
    return Record({"part": part, "rows": part * 10})

@task()
def merge(pieces: list):
    return Record(sum(p["rows"] for p in pieces))         # real values, never futures

@task()
def summary(header: dict, totals: list):
    return Record({"title": header["title"], "rows": sum(totals)})

@task()
def batch(first: int, count: int):
    return merge(pieces=[load(part=p) for p in range(first, first + count)])   # the parent takes this value

@task()
def report(batches: int):
    totals = [batch(first=b * 5, count=5) for b in range(batches)]             # nested fan-out
    return summary(header={"title": "nightly"}, totals=totals)                 # fan-in over sub-workflows
"""
EMBED = """\
# embed.py
from fairchild import Fairchild
from fairchild.worker import WorkerPool
import shapes

with Fairchild() as fairchild:
    fairchild.install()
    with WorkerPool(fairchild, queues=["default"], concurrency=2):
        job = shapes.report.enqueue(batches=2)
        print(job.wait(timeout=30).result)
    # WorkerPool(fairchild, queues=["default", "high"], concurrency=5).start() blocks until stopped
"""
ORDERS = """\
# orders.py
import os
import sqlalchemy as sa
from fairchild import Fairchild
import mail

fairchild = Fairchild()
engine = sa.create_engine(os.environ["FAIRCHILD_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))

def order(fail):
    with engine.begin() as conn:
        conn.execute(sa.text("INSERT INTO orders DEFAULT VALUES"))
        mail.notify.enqueue(address="ada@example.com", title="Thanks", _connection=conn)   # both or neither
        if fail:
            raise RuntimeError("no")

with engine.begin() as conn:
    conn.execute(sa.text("CREATE TABLE orders (id int generated always as identity)"))
fairchild.connect()
order(fail=False)
try:
    order(fail=True)
except RuntimeError as error:
    print(error)
fairchild.disconnect()
"""


@pytest.fixture
def url(fairchild_db: str) -> str:
    """URL of a fresh database without tables."""
    Fairchild(fairchild_db).drop_tables()
    return fairchild_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    programs = {"mail": MAIL, "send": SEND, "shapes": SHAPES, "embed": EMBED, "orders": ORDERS}
    for name, text in programs.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def send(folder: Path, url: str) -> None:
    done = python("send.py", folder=folder, url=url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_send_leaves_three_jobs(folder: Path, url: str) -> None:
    send(folder, url)
    with Fairchild(url) as client:
        jobs = {job.args["title"]: job for job in client.jobs()}
    assert {title: (job.queue, job.priority, job.state) for title, job in jobs.items()} == {
        "Hello": ("default", 5, JobState.AVAILABLE),
        "Later": ("default", 5, JobState.SCHEDULED),
        "First": ("urgent", 0, JobState.AVAILABLE),
    }
    assert all((job.task, job.max_attempts, job.tags) == ("mail.notify", 3, ["mail"]) for job in jobs.values())


@pytest.mark.parametrize(
    "arguments", [["--import", "mail"], ["--import", "mail", "--queues", "urgent,default", "--concurrency", "4"]]
)
def test_a_worker_runs_what_was_sent(arguments: list[str], folder: Path, url: str) -> None:
    send(folder, url)
    with Fairchild(url) as client:
        due = client.jobs(state="available").jobs
        with started(["worker", *arguments], folder=folder, url=url) as running:
            ended = client.wait(due, timeout=TIMEOUT)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(TIMEOUT) == 0
        assert [job.result for job in ended] == [{"delivered": "ada@example.com"}] * 2
        assert client.stats()["jobs"]["scheduled"] == 1
    # Two threads print at once, so the words of one line may be among those of the other.
    assert sorted(running.printed()) == sorted("to ada@example.com First\nto ada@example.com Hello\n")


def test_run_needs_no_database(folder: Path) -> None:
    done = command("run", "-i", "mail", "mail.notify", "-a", "address=a@b.c", "-a", "title=Hi", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'to a@b.c Hi\n{"delivered": "a@b.c"}\n'


def test_enqueue_from_the_shell(folder: Path, url: str) -> None:
    assert command("install", folder=folder, url=url).returncode == 0
    done = command("enqueue", "mail.notify", "--args", '{"address": "a@b.c", "title": "Hi"}', folder=folder, url=url)
    assert (done.returncode, done.stderr) == (0, "")
    with Fairchild(url) as client:
        job = client.get_job(done.stdout.strip())
    assert job is not None
    assert job.args == {"address": "a@b.c", "title": "Hi"}


def test_a_task_called_in_a_script_runs_there(folder: Path) -> None:
    done = python("-c", "import shapes; print(shapes.load(part=2))", folder=folder)
    assert (done.returncode, done.stdout) == (0, "{'part': 2, 'rows': 20}\n")
    done = command("run", "shapes.report", "-a", "batches=3", folder=folder)
    assert json.loads(done.stdout) == {"title": "nightly", "rows": 1050}


def test_the_report_is_a_workflow_of_23_jobs(folder: Path, url: str) -> None:
    assert command("install", folder=folder, url=url).returncode == 0
    with started(["worker", "--import", "shapes"], folder=folder, url=url) as running:
        enqueued = python(
            "-c",
            "import shapes\nfrom fairchild import Fairchild\n"
            "with Fairchild():\n    print(shapes.report.enqueue(batches=3).id)",
            folder=folder,
            url=url,
        )
        assert enqueued.returncode == 0, enqueued.stderr
        with Fairchild(url) as client:
            job = client.wait(enqueued.stdout.strip(), timeout=TIMEOUT)[0]
            assert (job.state, job.result) == (JobState.COMPLETED, {"title": "nightly", "rows": 1050})
            jobs = client.jobs(limit=1000).jobs
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(TIMEOUT) == 0
    assert len(jobs) == 23
    assert {each.workflow_id for each in jobs} == {job.id}
    assert {each.state for each in jobs} == {JobState.COMPLETED}
    assert Counter(each.task for each in jobs) == {
        "shapes.report": 1, "shapes.batch": 3, "shapes.load": 15, "shapes.merge": 3, "shapes.summary": 1,
    }  # fmt: skip


def test_a_worker_inside_a_program(folder: Path, url: str) -> None:
    done = python("embed.py", folder=folder, url=url)
    assert (done.returncode, done.stderr) == (0, "")
    # PostgreSQL's jsonb keeps keys in an order of its own.
    assert ast.literal_eval(done.stdout) == {"title": "nightly", "rows": 450}


def test_an_order_and_its_job_are_both_there_or_neither(folder: Path, url: str) -> None:
    assert command("install", folder=folder, url=url).returncode == 0
    done = python("orders.py", folder=folder, url=url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no\n", "")
    with psycopg.connect(url) as connection:
        orders = connection.execute("SELECT count(*) FROM orders").fetchone()
        jobs = connection.execute("SELECT count(*) FROM fairchild_jobs").fetchone()
    assert (orders, jobs) == ((1,), (1,))
