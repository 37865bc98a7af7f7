"""``fairchild worker``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from io import TextIOWrapper
from typing import Annotated

import typer

from fairchild.cli.logs import LogFormat, LogLevel
from fairchild.cli.options import DatabaseUrl, Imports, Schema, connected, option

log = logging.getLogger("fairchild.worker")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(worker)


def worker(
    imports: Imports = None,
    queues: Annotated[
        str | None,
        option(
            "--queues",
            "-q",
            env="WORKER_QUEUES",
            metavar="NAMES",
            help="Queues to take jobs from, with how many at once: default,mail:2. All of them if not given.",
        ),
    ] = None,
    concurrency: Annotated[
        int, option("--concurrency", "-c", env="WORKER_CONCURRENCY", help="How many jobs run at once.")
    ] = 10,
    processes: Annotated[
        int, option("--processes", env="WORKER_PROCESSES", help="How many processes, each with its own jobs.")
    ] = 1,
    max_jobs_per_process: Annotated[
        int | None,
        option(
            "--max-jobs-per-process",
            env="WORKER_MAX_JOBS_PER_PROCESS",
            help="Replace a process once it has run so many jobs.",
        ),
    ] = None,
    max_memory_mb: Annotated[
        float | None,
        option("--max-memory-mb", env="WORKER_MAX_MEMORY_MB", help="Replace a process once it holds so much memory."),
    ] = None,
    name: Annotated[
        str | None,
        option("--name", env="WORKER_NAME", help="What it is called; host name and process id if not given."),
    ] = None,
    lease: Annotated[
        float,
        option("--lease", env="WORKER_LEASE", help="Seconds; one that was silent for half of it is taken for dead."),
    ] = 30.0,
    heartbeat_interval: Annotated[
        float | None,
        option(
            "--heartbeat-interval",
            env="WORKER_HEARTBEAT_INTERVAL",
            help="Seconds between signs of life: 5, or less if the lease is short, if not given.",
        ),
    ] = None,
    poll_interval: Annotated[
        float,
        option("--poll-interval", env="WORKER_POLL_INTERVAL", help="Seconds between looks for jobs without a wake-up."),
    ] = 1.0,
    shutdown_timeout: Annotated[
        float,
        option(
            "--shutdown-timeout",
            env="WORKER_SHUTDOWN_TIMEOUT",
            help="Seconds that running jobs get to end when stopped.",
        ),
    ] = 30.0,
    max_stuck: Annotated[
        int | None,
        option(
            "--max-stuck",
            env="WORKER_MAX_STUCK",
            help="How many threads may be stuck in jobs that do not stop before the process ends or is replaced: half "
            "of them if not given.",
        ),
    ] = None,
    exit_when_unhealthy: Annotated[
        float | None,
        option(
            "--exit-when-unhealthy",
            env="WORKER_EXIT_WHEN_UNHEALTHY",
            help="Exit when no look for jobs has succeeded for so many seconds. Without it, try for ever.",
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        option(
            "--health-port",
            env="WORKER_HEALTH_PORT",
            help="Answer HTTP probes at /livez and /readyz on this port; with --processes, on one port for each.",
        ),
    ] = None,
    health_host: Annotated[
        str, option("--health-host", env="WORKER_HEALTH_HOST", help="The address for these probes.")
    ] = "0.0.0.0",  # noqa: S104 - probes come from other hosts
    health_file: Annotated[
        str | None,
        option("--health-file", env="WORKER_HEALTH_FILE", metavar="PATH", help="Touch this file while all is well."),
    ] = None,
    log_level: Annotated[
        LogLevel,
        option("--log-level", env=["WORKER_LOG_LEVEL", "LOG_LEVEL"], help="What is logged.", case_sensitive=False),
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, option("--log-format", env=["WORKER_LOG_FORMAT", "LOG_FORMAT"], help="How.", case_sensitive=False)
    ] = LogFormat.TEXT,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Run jobs until stopped.

    SIGTERM and Ctrl-C let running jobs end; a second one gives them back at once, to be run by another worker.
    """
    from fairchild.cli import logs  # noqa: PLC0415 - help comes first
    from fairchild.cli.modules import import_all  # noqa: PLC0415
    from fairchild.errors import ConfigError, SchemaError  # noqa: PLC0415
    from fairchild.tasks import registry  # noqa: PLC0415
    from fairchild.worker import WorkerPool  # noqa: PLC0415

    logs.set_up(log_level, log_format)
    if isinstance(sys.stdout, TextIOWrapper):
        # What tasks print is seen at once where stdout is a file or a pipe, too.
        sys.stdout.reconfigure(line_buffering=True)
    modules = import_all(imports)
    if not len(registry):
        found = f"{', '.join(modules)} defines no task" if modules else "there is no task to run"
        raise ConfigError(f"{found}: name the modules with @task functions by --import or FAIRCHILD_IMPORT")
    with connected(database_url, schema) as client:
        if not client.is_installed():
            raise SchemaError("fairchild's tables are not in this database: run `fairchild install`")
        pool = WorkerPool(
            client,
            queues,
            concurrency,
            processes=processes,
            max_jobs_per_process=max_jobs_per_process,
            max_memory_mb=max_memory_mb,
            name=name,
            lease=lease,
            heartbeat_interval=heartbeat_interval,
            poll_interval=poll_interval,
            shutdown_timeout=shutdown_timeout,
            max_stuck=max_stuck,
            exit_when_unhealthy=exit_when_unhealthy,
            health_port=health_port,
            health_host=health_host,
            health_file=health_file,
        )
        before = set(threading.enumerate())
        pool.start()
    code = 0
    if not pool.ended_well or (pool.signals == 0 and not pool.asked_to_stop):
        code = 1  # it stopped by itself; its log says why
    elif pool.signals > 1:
        code = 130
    _leave_behind(set(threading.enumerate()) - before, code)
    if code:
        raise typer.Exit(code)


def _leave_behind(threads: set[threading.Thread], code: int) -> None:
    """End the process here if jobs have started threads that its end would wait for."""
    left = [each.name for each in threads if not each.daemon and each.is_alive()]
    if not left:
        return
    log.warning("threads that jobs have started still run (%s); the process ends without them", ", ".join(left))
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
