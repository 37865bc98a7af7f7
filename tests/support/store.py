"""The store as tests drive it: a connection, jobs made and moved by db functions alone, and what must always hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from fairchild import Fairchild
from fairchild.db import lease
from fairchild.db.claim import Claimed, Lane, claim
from fairchild.db.connect import Database, Link
from fairchild.db.enqueue import insert_jobs
from fairchild.db.finish import Applied, Ended, finish
from fairchild.db.statement import Sql
from fairchild.ids import uuid7
from fairchild.job import NewJob


class Store:
    """A database through one connection of its own. Jobs are of task ``t`` in queue ``default`` unless told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.link = database.open("tests")
        self._session: UUID | None = None

    @property
    def session(self) -> UUID:
        """The session that claims here unless told."""
        if self._session is None:
            self._session = self.open_session()
        return self._session

    def close(self) -> None:
        self.link.connection.close()

    def again(self) -> Store:
        """The same on a new connection: the server, or another, is back."""
        self.close()
        return Store(self.database)

    def open_session(self, lease_seconds: float = 30.0) -> UUID:
        """A worker's session, as a worker opens it."""
        session = uuid4()
        lease.open_session(
            self.link, lease.Session(session, f"w-{session}", "host", 1, None, 1, lease_seconds, "none", [], {})
        )
        return session

    def sql(self, text: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement in which ``{jobs}`` and the like are tables."""
        return self.link.rows(Sql("test", text), params)

    def insert(self, *jobs: NewJob) -> list[UUID]:
        insert_jobs(self.link, list(jobs))
        return [job.id for job in jobs]

    def add(self, **options: Any) -> UUID:
        """One new job."""
        return self.insert(new_job(**options))[0]

    def claim(
        self, room: int = 100, *, queue: str = "default", tasks: tuple[str, ...] = ("t",), session: UUID | None = None
    ) -> list[Claimed]:
        """Claim from all priorities of a queue."""
        lanes = [Lane(queue, priority, 0) for priority in range(10)]
        return claim(
            self.link,
            lanes=lanes,
            tasks=list(tasks),
            room=room,
            claim_id=uuid4(),
            session=self.session if session is None else session,
        )

    def claim_one(self, job_id: UUID, session: UUID | None = None) -> Claimed:
        """Claim this job; the others that were claimed with it are given back."""
        mine = None
        back = []
        for each in self.claim(session=session):
            if each.job_id == job_id:
                mine = each
            else:
                back.append(Ended(each.job_id, each.claim_id, "ready", spent=False))
        if back:
            finish(self.link, back)
        assert mine is not None, f"job {job_id} is not available but {self.state(job_id)}"
        return mine

    def finish(self, *outcomes: Ended) -> Applied:
        return finish(self.link, list(outcomes))

    def family(self, children: int, above: UUID | None = None) -> tuple[UUID, list[UUID]]:
        """A job that waits for its children, and those. ``above``: it is an available job that is there."""
        parent = self.claim_one(above or self.add())
        made = [child_of(parent) for _ in range(children)]
        self.finish(outcome(parent, "waiting", children=made))
        return parent.job_id, [child.id for child in made]

    def end(self, job_id: UUID, state: str = "completed", **options: Any) -> Applied:
        """Claim a job and record this outcome."""
        return self.finish(outcome(self.claim_one(job_id), state, **options))

    def state(self, job_id: UUID) -> str | None:
        """The state a reader sees; None if there is no such job."""
        rows = self.sql("SELECT state FROM {view} WHERE id = %(id)s", id=job_id)
        return rows[0][0] if rows else None

    def states(self, *job_ids: UUID) -> list[str | None]:
        return [self.state(job_id) for job_id in job_ids]

    def row(self, job_id: UUID, columns: str) -> tuple[Any, ...]:
        """Columns of a job's own row."""
        return self.sql(f"SELECT {columns} FROM {{jobs}} WHERE id = %(id)s", id=job_id)[0]

    def wait_row(self, job_id: UUID) -> tuple[Any, ...] | None:
        """(deps, children, failed_dep, failed_child, ran, settle) of a waiting job."""
        rows = self.sql(
            "SELECT deps, children, failed_dep, failed_child, ran, settle FROM {waiting} WHERE job_id = %(id)s",
            id=job_id,
        )
        return rows[0] if rows else None

    def violations(self, *, late: bool = False) -> list[tuple[Any, ...]]:
        """What must never be, found in the tables; see VIOLATIONS."""
        return self.sql(VIOLATIONS + (LATE_VIOLATIONS if not late else ""))


# Each branch names an invariant that a row breaks.
VIOLATIONS = """
WITH places AS (
  SELECT job_id, 'ready' AS place FROM {ready} UNION ALL
  SELECT job_id, 'claims' FROM {claims} UNION ALL
  SELECT job_id, 'due' FROM {due} UNION ALL
  SELECT job_id, 'waiting' FROM {waiting})
SELECT 'a pending job is in ' || count(p.place) || ' places', j.id, string_agg(p.place, ' ')
  FROM {jobs} j LEFT JOIN places p ON p.job_id = j.id WHERE j.state = 'pending' GROUP BY j.id HAVING count(p.place) <> 1
UNION ALL
SELECT 'an ended job has a place', j.id, p.place FROM {jobs} j JOIN places p ON p.job_id = j.id
 WHERE j.state <> 'pending'
UNION ALL
SELECT 'a waiting job waits for nothing', w.job_id, w::text FROM {waiting} w
 WHERE NOT w.settle AND w.deps <= 0 AND w.children <= 0
UNION ALL
SELECT 'more attempts than allowed', id, attempt::text FROM {jobs} WHERE attempt > max_attempts
UNION ALL
SELECT 'a parent has ended before its child', p.id, c.id::text
  FROM {jobs} p JOIN {jobs} c ON c.parent_id = p.id
 WHERE c.state = 'pending' AND p.state IN ('completed', 'failed') AND p.reason IS DISTINCT FROM 'by hand'
"""
LATE_VIOLATIONS = """
UNION ALL
SELECT 'wrong count of upstreams', w.job_id, w.deps || ' for ' || count(u.id)
  FROM {waiting} w LEFT JOIN {edges} e ON e.downstream = w.job_id
  LEFT JOIN {jobs} u ON u.id = e.upstream AND u.state = 'pending'
 WHERE w.wake IS DISTINCT FROM 'first'
 GROUP BY w.job_id, w.deps HAVING w.deps <> count(u.id)
UNION ALL
SELECT 'wrong count of children', w.job_id, w.children || ' for ' || count(k.id)
  FROM {waiting} w LEFT JOIN {jobs} k ON k.parent_id = w.job_id AND k.state = 'pending'
 WHERE w.ran GROUP BY w.job_id, w.children HAVING w.children <> count(k.id)
"""


def new_job(task: str = "t", **options: Any) -> NewJob:
    """A job without arguments, not inserted."""
    return NewJob(id=options.pop("id", None) or uuid7(), task=task, args=options.pop("args", b"{}"), **options)


def outcome(claimed: Claimed, state: str = "completed", **options: Any) -> Ended:
    """What an attempt came to. Attempts that end in an error carry an error entry, as a worker's do."""
    if options.pop("error", False):
        options["error"] = {
            "attempt": claimed.attempt, "kind": "error", "type": "E", "message": "m", "traceback": None, "worker": "w",
        }  # fmt: skip
    return Ended(claimed.job_id, claimed.claim_id, state, **options)


def child_of(parent: Claimed, **options: Any) -> NewJob:
    """A job that an attempt has called."""
    return new_job(parent_id=parent.job_id, workflow_id=parent.workflow_id, depth=parent.depth + 1, **options)


@contextmanager
def store_of(client: Fairchild) -> Iterator[Store]:
    """A Store on a client's database."""
    store = Store(client.database)
    try:
        yield store
    finally:
        store.close()


def fresh_link(database: Database) -> Link:
    """A connection that nothing has been done on."""
    return database.open("tests")
