"""``fairchild demo``."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import print_json, print_table, say
from fairchild.cli.signals import stopped_by_sigterm

if TYPE_CHECKING:
    from fairchild.client import Fairchild
    from fairchild.demo.show import Shown


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)


def demo(
    keep: Annotated[
        bool,
        option("--keep", env="DEMO_KEEP", help="Leave the database running, to look into, instead of deleting it."),
    ] = False,
    symbols: Annotated[
        int, option("--symbols", env="DEMO_SYMBOLS", help="Positions in the portfolio: a job each.")
    ] = 200,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """See it work: a database, a worker and a workflow of some hundred jobs, in this process.

    Without a database URL a PostgreSQL server is started for it (extra "embedded") and deleted afterwards.
    """
    from fairchild.demo.portfolio import MAX_SYMBOLS  # noqa: PLC0415 - help comes first
    from fairchild.errors import UsageError  # noqa: PLC0415

    if not 1 <= symbols <= MAX_SYMBOLS:
        raise UsageError(f"--symbols is a number from 1 to {MAX_SYMBOLS:,}, got {symbols}")
    with ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        phases: dict[str, float] = {}
        started = time.monotonic()
        url, command_url = _server(stack, database_url, keep, phases)
        client = stack.enter_context(connected(url, schema))
        at = time.monotonic()
        client.install()
        phases["tables"] = time.monotonic() - at
        say(f"tables made in {phases['tables']:.2f} s")
        shown = _run(client, symbols)
        shown.phases = phases = {**phases, **shown.phases}
        phases["total"] = time.monotonic() - started
        say(f"workflow of {shown.jobs} jobs done in {shown.seconds:.2f} s: {shown.jobs_per_second:.0f} jobs/s")
    _print(shown, json)
    timed = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in phases.items())
    say(f"times: {timed}")
    if command_url is not None:
        _say_how_to_look(shown, command_url, own=database_url is None)


def _server(stack: ExitStack, given: str | None, keep: bool, phases: dict[str, float]) -> tuple[str, str | None]:
    """The URL to use, and the one to tell people of (None for a database that will be gone)."""
    from fairchild import embedded  # noqa: PLC0415 - help comes first

    if given is not None:
        return given, given
    say("starting a PostgreSQL server")
    at = time.monotonic()
    if keep:
        folder = embedded.folder_of("embedded:").with_name("demo")
        url = known_as = f"embedded:{folder}"
        embedded.start(url, keep=True)
    else:
        url = stack.enter_context(embedded.TemporaryServer(durable=False)).url
        known_as = None
    phases["server"] = time.monotonic() - at
    say(f"server started in {phases['server']:.2f} s")
    return url, known_as


def _run(client: Fairchild, symbols: int) -> Shown:
    from fairchild.demo import show  # noqa: PLC0415 - help comes first

    live = sys.stderr.isatty()
    last_said = time.monotonic()

    def progress(ended: int, known: int) -> None:
        nonlocal last_said
        if live:
            print(f"\r{ended} of {known} jobs done ", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last_said > 1:
            last_said = time.monotonic()
            say(f"{ended} of {known} jobs done")

    say(f"a worker with {show.CONCURRENCY} threads reviews a portfolio of {symbols} positions")
    try:
        return show.run(client, symbols, progress)
    finally:
        if live:
            print(file=sys.stderr)


def _print(shown: Shown, json: bool) -> None:
    if json:
        print_json(asdict(shown))
        return
    result = shown.result
    print_table(
        ["sector", "positions", "value", "change %", "best", "worst"],
        [
            [
                each["sector"],
                each["positions"],
                f"{float(each['value']):,.2f}",
                f"{each['change_percent']:+.2f}",
                f"{each['best']['symbol']} {each['best']['change_percent']:+.2f}",
                f"{each['worst']['symbol']} {each['worst']['change_percent']:+.2f}",
            ]
            for each in result["sectors"]
        ],
    )
    print(
        f"\n{result['positions']} positions, worth {float(result['value']):,.2f}, "
        f"{float(result['change']):+,.2f} ({result['change_percent']:+.2f} %) since the previous close\n"
    )
    print_table(
        ["task", "jobs", "states", "mean ms", "max ms"],
        [
            [
                each.task,
                each.jobs,
                ", ".join(f"{number} {state}" for state, number in each.states.items()),
                _milliseconds(each.mean_seconds),
                _milliseconds(each.max_seconds),
            ]
            for each in shown.tasks
        ],
    )
    print("\nmean and max: from claim to end, those of a parent with its children")
    print(f"{shown.jobs} jobs in {shown.seconds:.2f} s: {shown.jobs_per_second:.0f} jobs/s")


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.1f}"


def _say_how_to_look(shown: Shown, url: str, *, own: bool) -> None:
    from shlex import quote  # noqa: PLC0415 - help comes first

    from fairchild.config import hide_password  # noqa: PLC0415

    lines = [
        "",
        "The jobs are still there:",
        f"  export FAIRCHILD_DATABASE_URL={quote(hide_password(url))}",
        f"  fairchild jobs list --workflow {shown.workflow}",
        "  fairchild stats",
    ]
    if own:
        code = f'from fairchild import embedded; embedded.stop("{url}")'
        lines += ["Stop the server:", f"  python -c {quote(code)}"]
    print("\n".join(lines), file=sys.stderr)
