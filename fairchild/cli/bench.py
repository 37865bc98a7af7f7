"""``fairchild bench``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, option
from fairchild.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from fairchild.bench.plan import Plan


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(bench)


def bench(
    only: Annotated[
        list[str] | None,
        option(
            "--only",
            env="BENCH_ONLY",
            metavar="NAME",
            help="Measure this alone, and what it is compared with; may be repeated. `drain` is all of drain.*.",
        ),
    ] = None,
    list_names: Annotated[
        bool, option("--list", env="BENCH_LIST", help="Print what can be measured, and stop.")
    ] = False,
    quick: Annotated[bool, option("--quick", env="BENCH_QUICK", help="A smaller run of about a minute.")] = False,
    rounds: Annotated[
        int | None, option("--rounds", env="BENCH_ROUNDS", help="How often everything is measured: 3, or 1 if quick.")
    ] = None,
    jobs: Annotated[
        int | None, option("--jobs", env="BENCH_JOBS", help="At most so many jobs in any one measurement.")
    ] = None,
    ended: Annotated[
        int | None, option("--ended", env="BENCH_ENDED", help="Rows of ended jobs: 1000000, or 50000 if quick.")
    ] = None,
    concurrency: Annotated[
        int | None,
        option("--tuned-concurrency", env="BENCH_TUNED_CONCURRENCY", help="Threads of the worker of drain.tuned."),
    ] = None,
    markdown: Annotated[bool, option("--markdown", env="BENCH_MARKDOWN", help="Print a page.")] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Measure fairchild on your server, and what the server can do at all.

    Everything happens in schemas named fairchild_bench_..., which are dropped afterwards; the role must be allowed to
    make schemas. The server is kept busy meanwhile. Without a database URL a PostgreSQL server is started for it (extra
    "embedded") and deleted afterwards.
    """
    from fairchild.bench import catalogue, report, run  # noqa: PLC0415 - help comes first
    from fairchild.cli.signals import stopped_by_sigterm  # noqa: PLC0415
    from fairchild.errors import UsageError  # noqa: PLC0415

    plan = _plan(quick, rounds, jobs, ended, concurrency)
    if json and markdown:
        raise UsageError("--json and --markdown exclude each other")
    if list_names:
        measures = [measure for probe in catalogue.probes(plan) for measure in probe.measures]
        if json:
            print_json([{"name": each.name, "title": each.title, "against": each.against} for each in measures])
        else:
            print_table(
                ["measure", "what", "compared with"], [[each.name, each.title, each.against] for each in measures]
            )
        return
    names = [name.strip() for each in only or () for name in each.split(",") if name.strip()]
    catalogue.select(catalogue.probes(plan), names)  # a wrong name is told before a server is started
    with ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        done = run.run(_server(stack, database_url), plan, only=names, say=say)
    if json:
        print_json(report.as_json(done))
    elif markdown:
        print(report.markdown(done), end="")
    else:
        print_table(list(report.COLUMNS), report.rows(done))
        for line in report.summary(done):
            say(line)
    if done.failed:
        raise typer.Exit(1)


def _plan(quick: bool, rounds: int | None, jobs: int | None, ended: int | None, concurrency: int | None) -> Plan:
    from fairchild.bench.plan import FULL, QUICK, of_jobs  # noqa: PLC0415 - help comes first
    from fairchild.errors import UsageError  # noqa: PLC0415

    plan = QUICK if quick else FULL
    for name, value in (
        ("--rounds", rounds),
        ("--jobs", jobs),
        ("--ended", ended),
        ("--tuned-concurrency", concurrency),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name} is at least 1, got {value}")
    if jobs is not None:
        plan = of_jobs(plan, jobs)
    return replace(
        plan,
        rounds=plan.rounds if rounds is None else rounds,
        ended=plan.ended if ended is None else ended,
        tuned_concurrency=plan.tuned_concurrency if concurrency is None else concurrency,
    )


def _server(stack: ExitStack, given: str | None) -> str:
    """The libpq URL of the server to measure."""
    from fairchild import embedded  # noqa: PLC0415 - help comes first
    from fairchild.config import normalize_url  # noqa: PLC0415

    if given is None:
        say("starting a PostgreSQL server")
        return stack.enter_context(embedded.TemporaryServer(durable=True)).url
    url = normalize_url(given)
    return embedded.start(url) if embedded.is_embedded(url) else url
