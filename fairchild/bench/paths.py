"""What is measured of fairchild itself, through what its users call."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from fairchild.bench import limits, machine, tally
from fairchild.bench.arena import Arena, Tables
from fairchild.bench.draining import Drained, drain, rest, run_workers, wait_for_delays
from fairchild.bench.processes import BenchError, Unavailable, until
from fairchild.db.enqueue import insert_jobs
from fairchild.db.statement import Sql
from fairchild.job import NewJob

LOOK_SECONDS = 0.01
ONE_JOB = Sql("bench_one_job", "SELECT 1 FROM {jobs} LIMIT 1")


def enqueue_one(arena: Arena) -> float:
    """Jobs per second, enqueued one at a time."""
    tables, jobs = arena.plain, arena.plan.single
    tables.empty()
    arena.checkpoint()
    with tables.client.active():
        tables.tasks.noop.enqueue(i=0)  # the pool has a connection now
        started = time.monotonic()
        for i in range(jobs):
            tables.tasks.noop.enqueue(i=i)
        return jobs / (time.monotonic() - started)


def enqueue_bulk(arena: Arena) -> float:
    """Jobs per second of one enqueue_many."""
    tables, jobs = arena.plain, arena.plan.bulk
    tables.empty()
    arena.checkpoint()
    with tables.client.active():
        started = time.monotonic()
        tables.tasks.noop.enqueue_many({"i": i} for i in range(jobs))
        return jobs / (time.monotonic() - started)


def enqueue_in_transaction(arena: Arena) -> float:
    """Jobs per second of one enqueue_many in a transaction of the caller's."""
    tables, jobs = arena.plain, arena.plan.bulk
    tables.empty()
    arena.checkpoint()
    with arena.connect() as connection:
        started = time.monotonic()
        with connection.transaction():
            tables.client.using(connection).enqueue_many(tables.tasks.noop, ({"i": i} for i in range(jobs)))
        return jobs / (time.monotonic() - started)


def drain_default(arena: Arena) -> Drained:
    """A worker as it is."""
    arena.plain.empty()
    return drain(arena, arena.plain, arena.plan.drain)


def drain_tuned(arena: Arena) -> Drained:
    """A worker with as many threads as suit jobs that do nothing."""
    arena.plain.empty()
    return drain(arena, arena.plain, arena.plan.drain, concurrency=arena.plan.tuned_concurrency)


def drain_two(arena: Arena) -> Drained:
    """Two worker processes."""
    arena.plain.empty()
    return drain(arena, arena.plain, arena.plan.drain, workers=2)


@dataclass(frozen=True)
class SlowCommit:
    """The same drain with and without a commit that takes 2 ms longer."""

    normal: Drained
    slow: Drained


def drain_with_slow_commit(arena: Arena) -> SlowCommit:
    """As on a disk or a network that is further away. Needs a superuser, who alone may slow commits down."""
    if not arena.is_superuser():
        raise Unavailable("only a superuser may make commits slower (commit_delay)")
    url = arena.url_with(commit_delay="2000", commit_siblings="0")
    jobs = arena.plan.slow_drain
    arena.plain.empty()
    normal = drain(arena, arena.plain, jobs)
    arena.plain.empty()
    return SlowCommit(normal, drain(arena, arena.plain, jobs, url=url))


def drain_among_ended(arena: Arena) -> Drained:
    """A worker where many ended jobs are in the same tables."""
    arena.ended.settle(vacuum=True)
    return drain(arena, arena.ended, arena.plan.drain)


@dataclass(frozen=True)
class Held:
    """A long drain, and the same while another session holds an old snapshot."""

    free: Drained
    held: Drained


def drain_under_snapshot(arena: Arena) -> Held:
    """What another session's open REPEATABLE READ transaction does: no dead row can be cleaned up."""
    tables, jobs = arena.plain, arena.plan.long
    tables.empty()
    free = drain(arena, tables, jobs)
    tables.empty()
    tables.enqueue(jobs)
    tables.settle()
    with arena.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute(ONE_JOB.for_schema(tables.schema).encode())
        held = run_workers(arena, tables, jobs)
        other.execute("ROLLBACK")
    return Held(free, held)


@dataclass(frozen=True)
class Delays:
    """Seconds from enqueue to the start of the task's body, woken by a notification and found by polling."""

    raw: list[float]
    """Of raw jobs, which an idle process starts by the shortest way there is."""
    notified: list[float]
    polled: list[float]


TURNS = 10


def start_delays(arena: Arena) -> Delays:
    """One job at a time for an idle worker in another process; first with notifications, then without any.

    Raw jobs take turns with those that are notified, since a machine's mood changes from one second to the next.
    """
    tables, plan = arena.plain, arena.plan
    tables.empty()
    tables.settle()
    with (
        arena.folder() as folder,
        arena.folder() as raw_folder,
        tables.worker(folder),
        limits.raw_starts(arena, raw_folder) as send_raw,
        tables.client.active(),
    ):
        rest(arena)
        tables.tasks.noop.enqueue(i=0)  # a first job, so that its statements are prepared
        for turn in range(TURNS):
            jobs = plan.delays * (turn + 1) // TURNS - plan.delays * turn // TURNS
            for send in (send_raw, lambda: tables.tasks.noop.enqueue(i=0, sent=time.monotonic())):
                time.sleep(plan.turn)
                for _ in range(jobs):
                    send()
                    time.sleep(plan.pace)
        raw = wait_for_delays(arena, raw_folder, plan.delays)
        notified = wait_for_delays(arena, folder, plan.delays)
        rest(arena)
        for i in range(plan.poll_delays):
            time.sleep(random.uniform(0, 1))
            new = tables.tasks.noop.options().build(
                {"i": i, "sent": time.monotonic()}, {}, tables.client.max_payload_bytes
            )
            _insert_silently(tables, new)
            wait_for_delays(arena, folder, plan.delays + i + 1)
        polled = wait_for_delays(arena, folder, plan.delays + plan.poll_delays)[plan.delays :]
    return Delays(raw, notified, polled)


def _insert_silently(tables: Tables, new: NewJob) -> None:
    with tables.client.database.link() as link:
        insert_jobs(link, [new], notify=False)


@dataclass(frozen=True)
class Fanned:
    """Seconds from the enqueue of the root to its end."""

    narrow: float
    wide: float


def fan_out(arena: Arena) -> Fanned:
    """A job that calls many and one more with all their results; the root's end is seen by reading it."""
    arena.plain.empty()
    arena.plain.settle()
    narrow, wide = _fan(arena, arena.plain, [arena.plan.fan, arena.plan.wide])
    return Fanned(narrow, wide)


def fan_out_among_ended(arena: Arena) -> float:
    """Seconds of the narrower one where many ended jobs are in the same tables."""
    arena.ended.settle(vacuum=True)
    return _fan(arena, arena.ended, [arena.plan.fan])[0]


def _fan(arena: Arena, tables: Tables, sizes: list[int]) -> list[float]:
    taken = []
    with arena.folder() as folder, tables.worker(folder), tables.client.active():
        rest(arena)
        for size in sizes:
            deadline = time.monotonic() + arena.plan.limit
            started = time.monotonic()
            job = tables.tasks.root.enqueue(n=size)
            while (found := tables.client.get_job(job.id)) is not None and not found.ended:
                until(deadline, f"fanning out to {size} jobs")
                time.sleep(LOOK_SECONDS)
            taken.append(time.monotonic() - started)
            if tables.client.get_result(job.id, timeout=0) != size * (size - 1) // 2:
                raise BenchError(f"the fan-out to {size} jobs came to a wrong result")
    return taken


@dataclass(frozen=True)
class Memory:
    """Resident MiB of a worker process."""

    idle: float
    drained: float
    """The most it had during and after the first tenth of the jobs."""
    early: float
    """After the first tenth."""
    late: float
    """After all."""


def worker_memory(arena: Arena) -> Memory:
    """A worker that has just started, and the same after many jobs."""
    tables, jobs = arena.plain, arena.plan.memory
    tables.empty()
    with arena.folder() as folder, tables.worker(folder) as child:
        rest(arena)
        idle = _known(machine.rss_mib(child.pid))
        _run_jobs(arena, tables, max(1, jobs // 10))
        early, most = _known(machine.rss_mib(child.pid)), _known(machine.peak_rss_mib(child.pid))
        _run_jobs(arena, tables, max(1, jobs - jobs // 10))
        return Memory(idle, most, early, _known(machine.rss_mib(child.pid)))


def _run_jobs(arena: Arena, tables: Tables, jobs: int) -> None:
    tables.enqueue(jobs)
    arena.wait_until_drained(tables, time.monotonic() + arena.plan.limit, pause=0.05)


def _known(value: float | None) -> float:
    if value is None:
        raise Unavailable("the memory of processes can only be read where there is /proc")
    return value


@dataclass(frozen=True)
class Written:
    """For each no-op job: bytes of write-ahead log, and statements of the worker."""

    enqueue: float
    run: float
    statements: float


def written(arena: Arena) -> Written:
    """From a checkpoint on, so that the log holds what the tables' pages cost too."""
    tables, jobs = arena.plain, arena.plan.drain
    tables.empty()
    tables.settle()
    with arena.folder() as folder:
        deadline = time.monotonic() + arena.plan.limit
        before = arena.wal()
        tables.enqueue(jobs)
        enqueued = arena.wal()
        with tables.worker(folder) as child:
            while tally.read(folder).jobs < jobs:
                child.check()
                until(deadline, f"running {jobs} jobs")
                time.sleep(LOOK_SECONDS)
            arena.wait_until_drained(tables, deadline)
            after = arena.wal()
            statements = child.report()["statements"]
    return Written((enqueued - before) / jobs, (after - enqueued) / jobs, statements / jobs)


@dataclass(frozen=True)
class Idle:
    """What a worker without anything to do costs: shares of one core, and transactions a second."""

    worker: float | None
    server: float | None
    statements: float


def idle_worker(arena: Arena) -> Idle:
    """A worker that has come to rest. All of the database's transactions are counted but those of this count."""
    tables = arena.plain
    tables.empty()
    tables.settle()
    with arena.folder() as folder, tables.worker(folder) as child:
        time.sleep(arena.plan.counted)
        transactions, started = arena.transactions(), time.monotonic()
        used, served = child.cpu_seconds(), arena.server_seconds()
        time.sleep(arena.plan.idle)
        used_then, served_then = child.cpu_seconds(), arena.server_seconds()
        seconds = time.monotonic() - started
        done = max(0, arena.transactions() - transactions - 1)
    return Idle(
        None if used is None or used_then is None else (used_then - used) / seconds,
        None if served is None or served_then is None else (served_then - served) / seconds,
        done / seconds,
    )
