"""The command line: parse, one call of the client, print.

Data goes to stdout, words go to stderr. Exit codes: 0 done; 1 the job, the check or the database's answer was bad;
2 wrong use or configuration, with one line on stderr that says what to do; 130 interrupted.

Help must come fast, so modules of this package import nothing heavy at their top: no driver, no client, no tasks.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

with warnings.catch_warnings():
    # Releases of typer that go with fairchild use names that the newest click deprecates; nothing a user can act on.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

from fairchild.cli import (
    bench,
    database,
    demo,
    health,
    jobs,
    prune,
    queues,
    stats,
    tasks,
    tokens,
    ui,
    worker,
    workers,
    workflows,
)

# A click.UsageError, of the click that typer brings with it or depends on.
_WrongUse: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="fairchild",
    help="Jobs and workflows in PostgreSQL. Each command takes --help; each option has an environment variable.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
database.add_to(app)
worker.add_to(app)
tasks.add_to(app)
jobs.add_to(app)
workers.add_to(app)
workflows.add_to(app)
queues.add_to(app)
stats.add_to(app)
health.add_to(app)
prune.add_to(app)
ui.add_to(app)
tokens.add_to(app)
demo.add_to(app)
bench.add_to(app)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from fairchild import __version__  # noqa: PLC0415 - help comes first

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def command() -> Any:
    """The whole command line, of the kind that click has."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. ``arguments``: those of the process if not given."""
    from fairchild.cli.output import say  # noqa: PLC0415 - help comes first
    from fairchild.errors import FairchildError  # noqa: PLC0415

    try:
        code = command().main(args=arguments, prog_name="fairchild", standalone_mode=False)
        sys.stdout.flush()
    except _WrongUse as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "fairchild")
        say(f"{where}: {error.format_message()} See `{where} --help`.")  # type: ignore[attr-defined]
        return 2
    except FairchildError as error:
        say(f"fairchild: {error}")
        return _exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. What is still buffered must not fail again when the interpreter ends.
        sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the process
        return 1
    if code == 130:
        say("interrupted")
    return code if isinstance(code, int) else 0


def _exit_code(error: Exception) -> int:
    from fairchild.errors import DatabaseUnavailable, SchemaError, UsageError  # noqa: PLC0415 - help comes first

    return 2 if isinstance(error, (UsageError, SchemaError, DatabaseUnavailable)) else 1
