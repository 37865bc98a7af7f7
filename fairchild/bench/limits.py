"""The physical limits: what PostgreSQL and one synchronous psycopg process allow, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from psycopg.types.json import Jsonb

from fairchild.bench import ideal
from fairchild.bench.arena import Arena
from fairchild.bench.draining import Drained, rest, wait_for_delays, watch
from fairchild.bench.processes import Child
from fairchild.db.claim import Lane, claim
from fairchild.db.finish import Ended, finish
from fairchild.db.statement import Sql
from fairchild.ids import uuid7

STORE_BATCH = 200

# The columns that a job without options fills, and no place to run it from: the one row that any design must write.
INSERT_ROW = Sql(
    "bench_insert_row",
    """
INSERT INTO {jobs} (id, task, queue, tenant, priority, max_attempts, depth, workflow_id, on_child_failure, args)
VALUES (%(id)s, %(task)s, %(queue)s, %(tenant)s, %(priority)s, %(attempts)s, %(depth)s, %(id)s, %(policy)s,
        %(args)s)""",
)
COPY_ROWS = Sql(
    "bench_copy_rows",
    "COPY {jobs} (id, task, queue, tenant, priority, max_attempts, depth, workflow_id, on_child_failure, args) "
    "FROM STDIN (FORMAT binary)",
)
ROW_TYPES = ["uuid", "text", "text", "text", "int2", "int4", "int2", "uuid", "text", "jsonb"]
COPY_PLACES = Sql(
    "bench_copy_places", "COPY {ready} (queue, priority, job_id, tenant, task) FROM STDIN (FORMAT binary)"
)
PLACE_TYPES = ["text", "int2", "uuid", "text", "text"]


def copy_rows(arena: Arena) -> float:
    """Rows per second of COPY into the same two tables and their indexes, with ids and rows made in Python."""
    tables, jobs = arena.plain, arena.plan.bulk
    tables.empty()
    arena.checkpoint()
    with arena.connect() as connection:
        started = time.monotonic()
        ids = [uuid7() for _ in range(jobs)]
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(COPY_ROWS.for_schema(tables.schema).encode()) as copy:
                copy.set_types(ROW_TYPES)
                for i, job_id in enumerate(ids):
                    copy.write_row(
                        (job_id, "bench.noop", "default", "", 5, 3, 0, job_id, "fail", Jsonb({"i": i, "sent": 0.0}))
                    )
            with cursor.copy(COPY_PLACES.for_schema(tables.schema).encode()) as copy:
                copy.set_types(PLACE_TYPES)
                for job_id in ids:
                    copy.write_row(("default", 5, job_id, "", "bench.noop"))
        return jobs / (time.monotonic() - started)


def insert_rows(arena: Arena) -> float:
    """Rows per second, each inserted by one prepared statement and committed."""
    tables, jobs = arena.plain, arena.plan.single
    tables.empty()
    arena.checkpoint()
    statement = INSERT_ROW.for_schema(tables.schema).encode()
    with arena.connect() as connection, connection.cursor() as cursor:
        started = time.monotonic()
        for row in _rows(jobs):
            cursor.execute(statement, row, prepare=True)
        return jobs / (time.monotonic() - started)


def execute_many(arena: Arena) -> float:
    """Rows per second of executemany in one transaction."""
    tables, jobs = arena.plain, arena.plan.bulk
    tables.empty()
    arena.checkpoint()
    statement = INSERT_ROW.for_schema(tables.schema).encode()
    with arena.connect() as connection:
        started = time.monotonic()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement, _rows(jobs))
        return jobs / (time.monotonic() - started)


def _rows(jobs: int) -> Iterator[dict[str, object]]:
    for i in range(jobs):
        yield {
            "id": uuid7(),
            "task": "bench.noop",
            "queue": "default",
            "tenant": "",
            "priority": 5,
            "attempts": 3,
            "depth": 0,
            "policy": "fail",
            "args": Jsonb({"i": i, "sent": 0.0}),
        }


def store_loop(arena: Arena) -> float:
    """Jobs per second of the store's own claim and finish in a loop on one connection, with nothing between them."""
    tables, jobs = arena.plain, arena.plan.drain
    tables.empty()
    tables.enqueue(jobs)
    tables.settle()
    link = tables.client.database.open("bench", tuned=True)
    try:
        session, floor = uuid4(), 0
        started = time.monotonic()
        while rows := claim(
            link,
            lanes=[Lane("default", 5, floor)],
            tasks=["bench.noop"],
            room=STORE_BATCH,
            claim_id=uuid4(),
            session=session,
        ):
            floor = max(row.fence for row in rows)
            finish(link, [Ended(row.job_id, row.claim_id, "completed") for row in rows])
        return jobs / (time.monotonic() - started)
    finally:
        link.connection.close()


def ideal_drain(arena: Arena) -> Drained:
    """A drain by the least that a threaded worker must do; see ideal.py."""
    tables, jobs = arena.plain, arena.plan.drain
    tables.empty()
    arena.execute(ideal.text(ideal.FILL, tables.schema), {"jobs": jobs})
    arena.execute(ideal.text("ANALYZE {table}", tables.schema))
    arena.checkpoint()
    pending = ideal.text(ideal.PENDING, tables.schema)
    with (
        arena.folder() as folder,
        Child(role="ideal", url=arena.url, schema=tables.schema, folder=str(folder)) as child,
    ):
        return watch(arena, [child], folder, jobs, lambda: bool(arena.execute(pending)[0][0]))


def notifications(arena: Arena) -> list[float]:
    """Seconds from each NOTIFY to the waking of a process that listens, one at a time and on an idle machine."""
    with arena.folder() as folder, arena.connect() as connection, Child(role="hear", url=arena.url, folder=str(folder)):
        rest(arena)
        for _ in range(arena.plan.delays):
            connection.execute("SELECT pg_notify(%s, %s)", (ideal.CHANNEL, repr(time.monotonic())), prepare=True)
            time.sleep(arena.plan.pace)
        return wait_for_delays(arena, folder, arena.plan.delays)


@contextmanager
def raw_starts(arena: Arena, folder: Path) -> Iterator[Callable[[], None]]:
    """A process that starts raw jobs, and what sends it one: INSERT with NOTIFY, wake, claim, start, nothing else.

    Their delays are left in ``folder``.
    """
    schema = arena.plain.schema
    statement = ideal.text(ideal.INSERT_AND_NOTIFY, schema)
    with arena.connect() as connection, Child(role="start", url=arena.url, schema=schema, folder=str(folder)):

        def send() -> None:
            args = Jsonb({"i": 0, "sent": time.monotonic()})
            connection.execute(statement, {"id": uuid7(), "args": args}, prepare=True)

        yield send
