"""``fairchild prune``."""

from __future__ import annotations

from typing import Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import print_json, say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(prune)


def prune(
    older_than: Annotated[
        str, option("--older-than", env="PRUNE_OLDER_THAN", metavar="DURATION", help="How long ago they ended.")
    ] = "7d",
    states: Annotated[
        str, option("--state", env="PRUNE_STATE", help="Of which states, with commas.")
    ] = "completed,failed,cancelled",
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Delete jobs that ended long ago. Those that others still need stay."""
    from fairchild.cli.parse import duration  # noqa: PLC0415 - help comes first

    age = duration("--older-than", older_than)
    with connected(database_url, schema) as client:
        deleted = client.prune(age, [each.strip() for each in states.split(",")])
    if json:
        print_json({"deleted": deleted})
    else:
        say(f"{deleted} jobs deleted")
