"""``fairchild stats``."""

from __future__ import annotations

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected
from fairchild.cli.output import print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(stats)


def stats(json: Json = False, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """How many jobs are in which state, by queue."""
    with connected(database_url, schema) as client:
        counts = client.stats()
    if json:
        print_json(counts)
        return
    states = list(counts["jobs"])
    rows = [[queue, *(each[state] for state in states)] for queue, each in counts["queues"].items()]
    rows.append(["(all)", *counts["jobs"].values()])
    print_table(["queue", *states], rows)
