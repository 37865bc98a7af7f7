"""``make bench``: fairchild, the limits of the server, and other PostgreSQL queues for Python, in one run.

Each peer is installed by pip, by its name, into an environment of its own under .cache/bench, runs on a database of its
own on the same server, and is started at the settings its own documentation gives for speed, besides its defaults. Its
jobs count themselves by the same code as ours, and a drain ends when the database says that nothing is left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from fairchild.bench import catalogue, report, run, tally
from fairchild.bench.arena import Arena
from fairchild.bench.catalogue import Probe, Samples
from fairchild.bench.draining import Drained, rest, wait_for_delays, watch
from fairchild.bench.figures import Measure, percentile
from fairchild.bench.plan import FULL, QUICK, Plan, of_jobs
from fairchild.bench.processes import BenchError, Process, Unavailable, until
from fairchild.cli.output import print_json, print_table, say
from fairchild.cli.signals import stopped_by_sigterm
from fairchild.embedded import TemporaryServer
from fairchild.testing.databases import database_url

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
PREFIX = "fairchild_bench_peer_"


@dataclass(frozen=True)
class Peer:
    """Another queue: what to install, whether work is left, and the settings to run it with."""

    name: str
    packages: tuple[str, ...]
    pending: str
    settings: Mapping[str, Mapping[str, Any]]
    """By label; the first are those of ``delays``, each is drained."""
    most: int = 1_000_000
    """Drains have no more jobs than that, if it is too slow for more."""

    @property
    def distribution(self) -> str:
        return self.packages[0]


PEERS = [
    Peer(
        "pgqueuer",
        ("pgqueuer", "asyncpg", "uvloop"),
        "SELECT EXISTS (SELECT FROM pgqueuer)",
        {"default": {}, "batch500": {"batch": 500}},
    ),
    Peer(
        "chancy",
        ("chancy", "psycopg[binary]"),
        "SELECT EXISTS (SELECT FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed'))",
        {"tuned": {"concurrency": 500, "eager": True, "outgoing": 0.05}},
        most=20_000,
    ),
    Peer(
        "oban",
        ("oban", "uvloop"),
        "SELECT EXISTS (SELECT FROM oban_jobs WHERE state NOT IN ('completed', 'cancelled', 'discarded'))",
        {"limit100": {"limit": 100}},
        most=20_000,
    ),
    Peer(
        "procrastinate",
        ("procrastinate", "psycopg[binary]"),
        "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        {"concurrency10": {"concurrency": 10}, "concurrency30": {"concurrency": 30}},
        most=5_000,
    ),
    Peer(
        "dbos",
        ("dbos",),
        "SELECT EXISTS (SELECT FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED'))",
        {"tuned": {"poll": 0.02, "concurrency": 500}},
        most=5_000,
    ),
    Peer(
        "absurd",
        ("absurd-sdk", "absurdctl"),
        "SELECT EXISTS (SELECT FROM absurd.t_default WHERE state NOT IN ('completed', 'failed', 'cancelled'))",
        {"concurrency10": {"concurrency": 10}},
        most=5_000,
    ),
]


@dataclass
class Installed:
    """A peer's environment, or why there is none."""

    peer: Peer
    python: Path
    version: str = ""
    missing: str | None = None

    @staticmethod
    def of(peer: Peer, interpreter: str) -> Installed:
        """The environment, made by pip unless it is there."""
        folder = CACHE / peer.name
        python = folder / "bin" / "python"
        found = Installed(peer, python)
        stamp = folder / "installed"
        wanted = " ".join([interpreter, *peer.packages])
        if not stamp.exists() or stamp.read_text() != wanted:
            say(f"installing {peer.name}")
            CACHE.mkdir(parents=True, exist_ok=True)
            for command in (
                [interpreter, "-m", "venv", "--clear", str(folder)],
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
                    found.missing = f"it cannot be installed: {lines[-1]}"
                    return found
            stamp.write_text(wanted)
        code = f"import importlib.metadata as m; print(m.version({peer.distribution!r}))"
        found.version = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        return found

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", f"tests.bench.adapters.with_{self.peer.name}", *arguments]

    def variables(self, url: str, folder: Path, options: Mapping[str, Any]) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "BENCH_URL": url,
            "BENCH_FOLDER": str(folder),
            "BENCH_OPTIONS": json.dumps(dict(options)),
            "DBOS__DISABLE_TELEMETRY": "1",
        }

    def do(self, url: str, folder: Path, options: Mapping[str, Any], *arguments: str) -> float:
        """Run an adapter's command to its end; its seconds."""
        done = subprocess.run(
            self.command(*arguments),
            env={**os.environ, **self.variables(url, folder, options)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FULL.limit,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"{self.peer.name} {arguments[0]} failed: {done.stderr.strip()[-500:]}")
        return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])


class PeerWorker(Process):
    """A peer's worker, with whatever processes it starts."""

    def stop(self) -> None:
        """There is nothing it need save: its database goes as well."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended already
        super().stop()


@dataclass
class Ground:
    """One peer on a database of its own."""

    arena: Arena
    installed: Installed
    options: Mapping[str, Any]
    url: str
    folder: Path
    connection: psycopg.Connection[Any]

    def do(self, *arguments: str) -> float:
        return self.installed.do(self.url, self.folder, self.options, *arguments)

    def settle(self) -> None:
        self.connection.execute("ANALYZE")
        self.arena.checkpoint()

    def pending(self) -> bool:
        row = self.connection.execute(self.installed.peer.pending.encode()).fetchone()
        return bool(row and row[0])

    def worker(self) -> PeerWorker:
        variables = self.installed.variables(self.url, self.folder, self.options)
        return PeerWorker(self.installed.command("work"), environment=variables, folder=ROOT)


@contextmanager
def ground(arena: Arena, installed: Installed, options: Mapping[str, Any]) -> Iterator[Ground]:
    """A fresh database with the peer's tables, dropped afterwards."""
    if installed.missing is not None:
        raise Unavailable(installed.missing)
    name = PREFIX + uuid4().hex[:12]
    arena.execute(f"CREATE DATABASE {name}".encode())
    try:
        url = database_url(arena.url, name)
        with arena.folder() as folder, psycopg.connect(url, autocommit=True) as connection:
            here = Ground(arena, installed, {**options, "pace": arena.plan.pace}, url, folder, connection)
            here.do("setup")
            yield here
    finally:
        # Peers' processes have been killed, but their backends may not have noticed yet.
        arena.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s", {"name": name}
        )
        arena.execute(f"DROP DATABASE {name}".encode())


def probes(installed: Installed, plan: Plan) -> list[Probe]:
    """What is measured of a peer: the same as of fairchild, as far as it has it."""
    peer = installed.peer
    shown = f"{peer.name} {installed.version}".strip()
    first = next(iter(peer.settings.values()))

    def enqueueing(arena: Arena) -> Samples:
        with ground(arena, installed, first) as here:
            one = plan.single / here.do("one", str(plan.single))
            arena.checkpoint()
            return {
                f"{peer.name}.enqueue.one": one,
                f"{peer.name}.enqueue.bulk": plan.bulk / here.do("bulk", str(plan.bulk)),
            }

    def delays(arena: Arena) -> Samples:
        with ground(arena, installed, first) as here, here.worker() as worker:
            rest(arena)
            worker.check()
            here.do("one", "1")
            wait_until_started(arena, here, 2)
            rest(arena)
            here.do("delays", str(plan.delays))
            found = wait_for_delays(arena, here.folder, plan.delays)
        return {f"{peer.name}.latency.p{each}": percentile(found, each / 100) * 1000 for each in catalogue.PERCENTILES}

    made = [
        Probe(
            (
                Measure(f"{peer.name}.enqueue.one", f"{shown}: one at a time", catalogue.RATE, "more", "enqueue.one"),
                Measure(
                    f"{peer.name}.enqueue.bulk",
                    f"{shown}: {plan.bulk:,} at once",
                    catalogue.RATE,
                    "more",
                    "enqueue.bulk",
                ),
            ),
            enqueueing,
        )
    ]
    made.extend(_drain_probe(installed, shown, label, options, plan) for label, options in peer.settings.items())
    made.append(
        Probe(
            tuple(
                Measure(
                    f"{peer.name}.latency.p{each}",
                    f"{shown}, {next(iter(peer.settings))}: enqueue to start, p{each}",
                    "ms",
                    "less",
                    f"latency.p{each}",
                )
                for each in catalogue.PERCENTILES
            ),
            delays,
        )
    )
    return made


def wait_until_started(arena: Arena, here: Ground, jobs: int) -> None:
    """Let the worker show that it works."""
    deadline = time.monotonic() + 60.0
    while tally.read(here.folder).jobs < jobs:
        until(deadline, f"the first job of {here.installed.peer.name}")
        time.sleep(0.02)


def _drain_probe(installed: Installed, shown: str, label: str, options: Mapping[str, Any], plan: Plan) -> Probe:
    peer = installed.peer
    name = f"{peer.name}.drain.{label}"
    jobs = min(plan.drain, peer.most)

    def drain(arena: Arena) -> Samples:
        with ground(arena, installed, options) as here:
            here.do("bulk", str(jobs))
            here.settle()
            with here.worker() as worker:
                drained: Drained = watch(arena, [worker], here.folder, jobs, here.pending)
        return {name: drained.rate, f"{name}.cpu.worker": drained.worker_us, f"{name}.cpu.server": drained.server_us}

    return Probe(
        (
            Measure(name, f"{shown}, {label}: drain of {jobs:,}", catalogue.RATE, "more", "drain.default"),
            Measure(f"{name}.cpu.worker", f"{shown}, {label}: CPU of the worker", "µs", "less", "cpu.worker"),
            Measure(f"{name}.cpu.server", f"{shown}, {label}: CPU of the server", "µs", "less", "cpu.server"),
        ),
        drain,
    )


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description="fairchild beside its limits and its peers")
    parser.add_argument("--quick", action="store_true", help="a smaller run")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--jobs", type=int, help="at most so many jobs in any one measurement")
    parser.add_argument("--ended", type=int, help="rows of ended jobs")
    parser.add_argument("--tuned-concurrency", type=int, help="threads of the worker of drain.tuned")
    parser.add_argument(
        "--only", action="append", default=[], help="measure these alone (name, or first part of names)"
    )
    parser.add_argument("--peers", default=",".join(each.name for each in PEERS), help="which; empty for none")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the peers")
    parser.add_argument("--database-url", help="a server of yours; its role must be allowed to make databases")
    parser.add_argument("--server-programs", type=Path, help="folder with initdb and postgres, for a temporary server")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--markdown", action="store_true", help="print docs/benchmarks.md")
    given = parser.parse_args()

    plan = QUICK if given.quick else FULL
    if given.jobs:
        plan = of_jobs(plan, given.jobs)
    changed = {"rounds": given.rounds, "ended": given.ended, "tuned_concurrency": given.tuned_concurrency}
    plan = replace(plan, **{name: value for name, value in changed.items() if value is not None})
    wanted = [name for name in given.peers.split(",") if name]
    unknown = set(wanted) - {each.name for each in PEERS}
    if unknown:
        parser.error(f"no peer is named {', '.join(sorted(unknown))}")
    more: list[Probe] = []
    for peer in PEERS:
        if peer.name in wanted:
            more.extend(probes(Installed.of(peer, given.python), plan))
    with ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        url = given.database_url
        if url is None:
            url = stack.enter_context(TemporaryServer(durable=True, bin_dir=given.server_programs)).url
        only = [name for each in given.only for name in each.split(",") if name]
        done = run.run(url, plan, only=only, more=more, say=say)
    if given.json:
        print_json(report.as_json(done))
    elif given.markdown:
        print(report.markdown(done), end="")
    else:
        print_table(list(report.COLUMNS), report.rows(done))
        for line in report.summary(done):
            say(line)
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main())
