"""Durable tasks that are killed between any two of their calls, and a ledger of what they saw and did."""

from __future__ import annotations

import os
import random as chance
import signal
from functools import lru_cache
from typing import Any

import psycopg

from fairchild import (
    JobFailed,
    Record,
    as_completed,
    current_job,
    gather,
    get_fairchild,
    now,
    random,
    sleep,
    step,
    task,
    uuid,
    xcom_incr,
)

SETUP = """
CREATE TABLE kills (left_over int);
CREATE TABLE seen (job text, call text, value text);
CREATE TABLE effects (job text, effect text);
"""
DEADLY = 0.12
"""How likely a run is killed at any of the places between its calls."""


@lru_cache(maxsize=1)
def ledger(url: str) -> psycopg.Connection[Any]:
    """This process's connection to the ledger, which commits at once."""
    return psycopg.connect(url, autocommit=True)


def here() -> psycopg.Connection[Any]:
    client: Any = get_fairchild()
    return ledger(client.database.conninfo)


def between(call: str, value: Any) -> Any:
    """A place between two calls: what the last one gave is noted, and the process may die here."""
    job = current_job()
    here().execute("INSERT INTO seen VALUES (%s, %s, %s)", (str(job.id), call, repr(value)))
    if chance.random() < DEADLY:
        left = here().execute("UPDATE kills SET left_over = left_over - 1 WHERE left_over > 0 RETURNING 1").fetchone()
        if left is not None:
            # Whether an innocent is condemned in the end is another question than whether work is repeated.
            here().execute("UPDATE fairchild_jobs_base SET losses = 0 WHERE id = %s", (job.id,))
            os.kill(os.getpid(), signal.SIGKILL)
    return value


def effect(name: str) -> str:
    """What must be done once."""
    here().execute("INSERT INTO effects VALUES (%s, %s)", (str(current_job().id), name))
    return f"{name} done"


@task(queue="children")
def double(n: int) -> int:
    effect("double")
    return n * 2


@task(queue="children", max_attempts=1)
def broken(n: int) -> None:
    raise ValueError(f"number {n} is broken")


@task(durable=True, isolation="process", on_child_failure="ignore", queue="durable")
def travel(n: int) -> Any:
    """Calls of every kind, with a place to die between any two."""
    log: list[Any] = []

    def note(call: str, value: Any) -> Any:
        log.append(between(call, value))
        return value

    note("begin", n)
    note("uuid", str(uuid()))
    note("step", step(effect, "charge"))
    first: Any = double(n)
    note("call", first.job_id)
    value = note("result", first.result())
    note("random", random())
    pair: list[Any] = [double(value), double(value)]
    note("calls", [each.job_id for each in pair])
    note("gather", gather(*pair))
    note("now", now().isoformat())
    sleep(0.01)
    note("sleep", None)
    wrong: Any = broken(n)
    try:
        wrong.result()
    except JobFailed as error:
        note("failure", str(error))
    note("second step", step(effect, "mail"))
    many: list[Any] = [double(each) for each in range(3)]
    for number, future in enumerate(as_completed(*many)):
        note(f"completed {number}", future.result())
    xcom_incr("runs")
    note("end", None)
    return Record([log[4], sorted(entry for entry in log[-4:-1])])
