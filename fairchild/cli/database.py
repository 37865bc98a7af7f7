"""``fairchild install`` and ``fairchild migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import ask, print_json, say

if TYPE_CHECKING:
    from fairchild.client import Fairchild


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(install)
    app.command()(migrate)


def install(
    force: Annotated[
        bool, option("--force", env="INSTALL_FORCE", help="Drop fairchild's tables first, with every job in them.")
    ] = False,
    yes: Annotated[
        bool,
        option(
            "--yes", "-y", env="INSTALL_YES", help="With --force: do not ask, even for a database in production or use."
        ),
    ] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Create the tables, or bring them up to date. Safe to repeat."""
    with connected(database_url, schema, check_schema=False) as client:
        if force:
            if not yes:
                _confirm_drop(client)
            client.drop_tables()
            say(f"dropped the tables in {client.database_name()}")
        _report(client.install(), json)


def _confirm_drop(client: Fairchild) -> None:
    from fairchild.errors import UsageError  # noqa: PLC0415 - help comes first

    name = client.database_name()
    if name.endswith("_production"):
        raise UsageError(f"{name} is in production by its name; nothing was dropped. Use --yes if you mean it")
    workers = client.live_workers()
    if workers:
        raise UsageError(
            f"{len(workers)} workers are at work in {name} ({', '.join(workers[:3])}); nothing was dropped. "
            "Stop them, or use --yes"
        )
    typed = ask(f"This deletes all jobs in {name}. Type the database's name to go on:")
    if typed is None:
        raise UsageError("nobody was there to ask; nothing was dropped. Use --yes to drop without asking")
    if typed != name:
        raise UsageError(f"{typed!r} is not {name!r}; nothing was dropped")


def migrate(
    check: Annotated[
        bool,
        option(
            "--check",
            env="MIGRATE_CHECK",
            help="Change nothing; exit 1 if migrations are pending or an index is invalid.",
        ),
    ] = False,
    sql: Annotated[
        bool,
        option("--sql", env="MIGRATE_SQL", help="Print the SQL for an empty database instead; needs no connection."),
    ] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Apply pending migrations."""
    if sql:
        from fairchild.client import Fairchild  # noqa: PLC0415 - help comes first
        from fairchild.errors import UsageError  # noqa: PLC0415

        if check:
            raise UsageError("--check and --sql exclude each other")
        text = Fairchild(database_url, schema=schema).migration_sql()
        if json:
            print_json({"sql": text})
        else:
            print(text)
        return
    with connected(database_url, schema, check_schema=False) as client:
        if not check:
            _report(client.migrate(), json)
            return
        pending = client.pending_migrations()
        damaged = client.damaged_indexes()
    if json:
        print_json({"pending": pending, "damaged_indexes": damaged})
    else:
        for name in pending:
            print(name)
    if damaged:
        say(f"invalid indexes: {', '.join(damaged)}; run `fairchild migrate`, which builds them anew")
    if pending:
        say(f"{len(pending)} migrations are pending: run `fairchild migrate`")
    if pending or damaged:
        raise typer.Exit(1)
    say("the tables are up to date")


def _report(applied: list[str], json: bool) -> None:
    if json:
        print_json({"applied": applied})
    say(f"applied {', '.join(applied)}" if applied else "the tables are up to date; nothing to do")
