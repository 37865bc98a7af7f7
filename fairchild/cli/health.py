"""``fairchild health``."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, option
from fairchild.cli.output import print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(health)


def health(
    worker: Annotated[
        bool,
        option("--worker", env="HEALTH_WORKER", help="Count only workers of this host: a probe for its container."),
    ] = False,
    name: Annotated[str | None, option("--name", env="HEALTH_NAME", help="Count only the worker of this name.")] = None,
    max_age: Annotated[
        float | None,
        option("--max-age", env="HEALTH_MAX_AGE", help="Seconds for which an available job may wait for a worker."),
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Check the database, its tables, the workers, the oldest job and more; exit 1 if one fails. Warnings do not."""
    from fairchild.client import Fairchild  # noqa: PLC0415 - help comes first

    client = Fairchild(database_url, schema=schema)
    try:
        checks = client.health(max_age=max_age, hostname=socket.gethostname() if worker else None, name=name)
    finally:
        client.disconnect()
    well = all(each["ok"] for each in checks.values())
    if json:
        print_json({"ok": well, "checks": checks})
    else:
        print_table(
            ["check", "level", "detail", "what to do"],
            [[what, each["level"], each["detail"], each["do"]] for what, each in checks.items()],
        )
    if not well:
        raise typer.Exit(1)
