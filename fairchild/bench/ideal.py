"""Not a product: the least that a threaded psycopg worker must do, as the limit that a real one is compared with.

One table, one connection that claims, one that completes in batches, one that listens, a few threads between them. No
results, retries, leases, fences or workflows. Its threads are its own, since the pool of a real worker is what it is
measured against.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

import psycopg

from fairchild.db.statement import quote

CHANNEL = "fairchild_bench_ideal"
TABLE = "fairchild_bench_ideal"
THREADS = 10
BATCH = 100
"""Claimed at once. 500 is half as fast again, and more than a worker should hold that may have long jobs."""
LONGEST_DONE = 1000

CREATE = """
CREATE TABLE {table} (
  id uuid PRIMARY KEY, queue text NOT NULL, task text NOT NULL, args jsonb NOT NULL,
  priority smallint NOT NULL DEFAULT 5, state text NOT NULL DEFAULT 'available', attempt smallint NOT NULL DEFAULT 0,
  scheduled_at timestamptz NOT NULL DEFAULT now(), attempted_at timestamptz, ended_at timestamptz);
CREATE INDEX ON {table} (queue, priority, scheduled_at) WHERE state = 'available'"""
FILL = """
INSERT INTO {table} (id, queue, task, args)
SELECT (lpad(to_hex(1600000000000 + g), 12, '0') || '7' || substr(md5(g::text), 1, 3) || '8'
        || substr(md5(g::text), 4, 15))::uuid, 'default', 'noop', jsonb_build_object('i', g)
  FROM generate_series(1, %(jobs)s) g"""
INSERT_AND_NOTIFY = """
WITH made AS (
  INSERT INTO {table} (id, queue, task, args) VALUES (%(id)s, 'default', 'noop', %(args)s) RETURNING queue)
SELECT pg_notify('fairchild_bench_ideal', queue) FROM made"""
CLAIM = """
UPDATE {table} SET state = 'running', attempt = attempt + 1, attempted_at = now()
 WHERE id = ANY(ARRAY(
   SELECT id FROM {table} WHERE state = 'available' AND queue = 'default' AND scheduled_at <= now()
    ORDER BY priority, scheduled_at LIMIT %(room)s FOR UPDATE SKIP LOCKED))
RETURNING id, task, args, queue, priority, state, attempt, scheduled_at, attempted_at, ended_at"""
COMPLETE = "UPDATE {table} SET state = 'completed', ended_at = now() WHERE id = ANY(%(ids)s)"
PENDING = "SELECT EXISTS (SELECT FROM {table} WHERE state IN ('available', 'running'))"


def text(statement: str, schema: str) -> bytes:
    """A statement with the table's name in it. ``schema`` is a throwaway one, so that there is no % in its name."""
    return statement.replace("{table}", f"{quote(schema)}.{quote(TABLE)}").encode()


def drain(url: str, schema: str, hit: Callable[[float], None], *, threads: int = THREADS, batch: int = BATCH) -> None:
    """Start working; everything runs in daemon threads of this process."""
    tasks: dict[str, Callable[..., None]] = {"noop": lambda i: hit(0.0)}  # noqa: ARG005 - a job has arguments
    todo: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    done: SimpleQueue[UUID] = SimpleQueue()
    room = [2 * batch]
    lock = threading.Lock()
    freed = threading.Event()
    woken = threading.Event()

    def run() -> None:
        while True:
            job_id, task, args, *_ = todo.get()
            tasks[task](**args)
            done.put(job_id)

    def complete() -> None:
        connection = psycopg.connect(url, autocommit=True)
        statement = text(COMPLETE, schema)
        while True:
            ids = [done.get()]
            try:
                while len(ids) < LONGEST_DONE:
                    ids.append(done.get_nowait())
            except Empty:
                pass
            connection.execute(statement, {"ids": ids}, prepare=True)
            with lock:
                room[0] += len(ids)
            freed.set()

    def listen() -> None:
        connection = psycopg.connect(url, autocommit=True)
        connection.execute(f"LISTEN {CHANNEL}".encode())
        for _ in connection.notifies():
            woken.set()

    def claim() -> None:
        connection = psycopg.connect(url, autocommit=True)
        statement = text(CLAIM, schema)
        while True:
            freed.clear()
            with lock:
                free = min(batch, room[0])
            if free < min(batch, 10):
                freed.wait(1.0)
                continue
            woken.clear()
            rows = connection.execute(statement, {"room": free}, prepare=True).fetchall()
            with lock:
                room[0] -= len(rows)
            for row in rows:
                todo.put(row)
            if not rows:
                woken.wait(1.0)

    for target in [run] * threads + [complete, listen, claim]:
        threading.Thread(target=target, daemon=True).start()


def start_each(url: str, schema: str, hit: Callable[[float], None], ready: Callable[[], None]) -> None:
    """The shortest way from a committed row to a running job: wake, claim, start. Never returns."""
    listener = psycopg.connect(url, autocommit=True)
    connection = psycopg.connect(url, autocommit=True)
    claim, complete = text(CLAIM, schema), text(COMPLETE, schema)
    listener.execute(f"LISTEN {CHANNEL}".encode())
    for statement, values in ((claim, {"room": 10}), (complete, {"ids": [UUID(int=0)]})):
        connection.execute(statement, values, prepare=True)
    ready()
    for _ in listener.notifies():
        rows = connection.execute(claim, {"room": 10}, prepare=True).fetchall()
        for row in rows:
            hit(row[2]["sent"])
        if rows:
            connection.execute(complete, {"ids": [row[0] for row in rows]}, prepare=True)


def hear_each(url: str, hit: Callable[[float], None], ready: Callable[[], None]) -> None:
    """Hear notifications whose payload is the time they were sent at. Never returns."""
    listener = psycopg.connect(url, autocommit=True)
    listener.execute(f"LISTEN {CHANNEL}".encode())
    ready()
    for notification in listener.notifies():
        hit(float(notification.payload))
