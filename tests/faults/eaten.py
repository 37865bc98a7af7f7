"""Replies that never come: the statement was done, or committed, and the connection is cut before anybody hears of it.

A proxy eats the reply to one message in two of a kind, whichever those are: also to some of those that are sent again.
Whoever sent it has to find out what came of it. In the end every job is there once, has ended once, and has left one
row in its own transaction; the ledger says so.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg

from fairchild import Fairchild
from fairchild.db import lease
from fairchild.db.claim import Lane, claim
from fairchild.errors import FairchildError
from fairchild.ids import uuid7
from fairchild.tasks import Task
from fairchild.upkeep.observer import Observer
from fairchild.worker import Worker
from tests.faults import jobs, ledger
from tests.faults.cluster import Cluster, cluster
from tests.faults.report import Report
from tests.support.eventually import eventually
from tests.support.proxy import Proxy, proxy_to
from tests.support.store import store_of

REPLIES = 5_000
PATIENCE = 120.0
ROUND = 20
"""Jobs that are made at a time for a worker to run."""


class Table:
    """A database whose ledger is open, a proxy to it, and what was acknowledged so far."""

    def __init__(self, server: Cluster, proxy: Proxy, far: Fairchild, near: Fairchild, rng: random.Random) -> None:
        self.server = server
        self.proxy = proxy
        self.far = far
        """A client on the other side of the proxy."""
        self.near = near
        self.rng = rng
        self.acknowledged: list[UUID] = []
        self.made = 0

    def eat(self, number: int, marker: bytes, *, role: str = "", share: float = 1.0) -> None:
        self.proxy.eat_replies(number, marker, role=role, chosen=lambda: self.rng.random() < share)

    def acknowledge(self, ids: list[UUID]) -> None:
        self.acknowledged += ids
        self.made += len(ids)


Kind = Callable[[Table, int], None]


def _enqueue_one(table: Table, number: int) -> None:
    """Each call's one statement."""
    table.eat(number, b"faults.bare", share=0.5)
    while table.proxy.eaten < number:
        table.acknowledge([table.far.enqueue(jobs.bare, {"n": table.made}).id])


def _enqueue_many(table: Table, number: int) -> None:
    """The commit of a bulk insert."""
    table.eat(number, b"COMMIT", share=0.5)
    while table.proxy.eaten < number:
        table.acknowledge(table.far.enqueue_many(jobs.bare, ({"n": n} for n in range(3))))


def _enqueue_after(table: Table, number: int) -> None:
    """The commit of a job that waits for another."""
    first = table.near.enqueue(jobs.bare, {"n": 0})
    table.acknowledge([first.id])
    table.eat(number, b"COMMIT", share=0.5)
    while table.proxy.eaten < number:
        table.acknowledge([table.far.enqueue(jobs.bare, {"n": 1}, depends_on=[first]).id])


def _enqueue_in_transaction(table: Table, number: int) -> None:
    """The caller's own commit; the caller does all of it again, with the id that it chose."""
    while table.proxy.eaten < number:
        chosen = uuid7()
        table.eat(1, b"COMMIT")
        for _ in range(2):
            with suppress(psycopg.OperationalError), psycopg.connect(table.proxy.url) as connection:
                table.near.using(connection).enqueue(jobs.bare, {"n": 2}, id=chosen)
        table.acknowledge([chosen])


def _through_worker(marker: bytes, role: str, task: Task[Any, Any], share: float = 0.5, **arguments: object) -> Kind:
    """Replies to a worker that runs jobs of ``task``."""

    def kind(table: Table, number: int) -> None:
        with _working(table):
            table.eat(number, marker, role=role, share=share)
            while table.proxy.eaten < number:
                ids = table.near.enqueue_many(task, ({"n": n, **arguments} for n in range(ROUND)))
                table.acknowledge(ids)
                table.near.wait(ids, PATIENCE)

    return kind


@contextmanager
def _working(table: Table) -> Iterator[Worker]:
    with Worker(table.far, concurrency=4, poll_interval=0.1, lease=60.0, heartbeat_interval=0.5) as worker:
        yield worker


def _rescue(table: Table, number: int) -> None:
    """The commit of what an observer gives back of a dead worker."""
    lanes = [Lane("default", 5, 0)]
    with store_of(table.near) as store:
        observer = Observer(uuid4(), 5.0)
        table.eat(number, b"COMMIT")
        while table.proxy.eaten < number:
            table.acknowledge(table.near.enqueue_many(jobs.bare, ({"n": n} for n in range(3))))
            session = store.open_session()
            claim(store.link, lanes=lanes, tasks=["faults.bare"], room=3, claim_id=uuid4(), session=session)
            (seen,) = [each for each in lease.watch(store.link) if each.id == session]
            assert lease.declare_dead(store.link, seen)
            while lease.left_behind(store.link)[0]:
                with suppress(FairchildError), table.far.database.link() as link:
                    observer.look(link)


KINDS: dict[str, Kind] = {
    "enqueue of one": _enqueue_one,
    "bulk enqueue": _enqueue_many,
    "enqueue of a dependent": _enqueue_after,
    "enqueue in the caller's transaction": _enqueue_in_transaction,
    "claim": _through_worker(b'"floor"', "claimer", jobs.bare),
    "finish": _through_worker(b'"completed"', "finisher", jobs.bare),
    "retry": _through_worker(b'"due"', "finisher", jobs.flaky),
    "spawn": _through_worker(b"COMMIT", "finisher", jobs.fan, width=3),
    "job.transaction()": _through_worker(b"COMMIT", "client", jobs.plain),
    "rescue": _rescue,
    "any statement of a worker": _through_worker(b"", "", jobs.plain, share=0.1),
}


def run(size: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    each = -(-int(size) // len(KINDS))
    eaten = 0
    found: dict[str, int] = {}
    with cluster() as server:
        os.environ[jobs.WITNESS] = server.url
        server.rows(ledger.SETUP)
        acknowledged: list[UUID] = []
        made = 0
        for name, kind in KINDS.items():
            with proxy_to(server.url) as proxy, Fairchild(proxy.url) as far, Fairchild(server.url) as near:
                table = Table(server, proxy, far, near, rng)
                kind(table, each)
                _run_the_rest(server, near)
            acknowledged += table.acknowledged
            made += table.made
            eaten += proxy.eaten
            report.figure(name, f"{proxy.eaten:,} replies eaten, {table.made:,} jobs")
        verdict = ledger.judge(server.url, acknowledged)
        roots = server.value("SELECT count(*) FROM fairchild_jobs_base WHERE parent_id IS NULL")
    found = {name: len(each) for name, each in verdict.violations.items()}
    for name, count in found.items():
        report.figure(name, count)
    report.promise(f"{int(size):,} replies eaten", eaten >= size)
    report.promise("0 duplicates", roots == made == len(set(acknowledged)) and not verdict.found("I2", "I3", "I8"))
    report.promise("0 lost", not verdict.found("I1"))
    report.promise("all invariants hold", not verdict.violations)
    report.details = verdict.histories
    return report


def _run_the_rest(server: Cluster, near: Fairchild) -> None:
    """Whatever is left is run by a worker that hears every reply."""
    with Worker(near, concurrency=4, poll_interval=0.1):
        eventually(lambda: server.value(ledger.PENDING) == 0, PATIENCE, what=lambda: server.value(ledger.PENDING))
