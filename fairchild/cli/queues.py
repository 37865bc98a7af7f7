"""``fairchild queues``."""

from __future__ import annotations

from typing import Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected
from fairchild.cli.output import print_json, print_table, say

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Look at queues, pause and resume them.", rich_markup_mode=None)
    group.command("list")(list_queues)
    group.command("pause")(pause)
    group.command("resume")(resume)
    app.add_typer(group, name="queues")


def list_queues(json: Json = False, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """Each queue with its counts, its workers, and how long its oldest available job has waited."""
    with connected(database_url, schema) as client:
        queues = client.queues.list()
        states = client.stats_states()
    if json:
        print_json(queues)
        return
    print_table(
        ["queue", "state", "workers", "waited", *states],
        [
            [
                each["name"],
                "paused" if each["paused"] else "active",
                each["workers"],
                None if each["oldest_seconds"] is None else f"{each['oldest_seconds']:.1f} s",
                *(each["counts"][state] for state in states),
            ]
            for each in queues
        ],
    )


def pause(name: Name, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """Let nobody take jobs from a queue; what runs goes on."""
    with connected(database_url, schema) as client:
        client.queues.pause(name, "the command line")
    say(f"{name} is paused")


def resume(name: Name, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """Undo a pause."""
    with connected(database_url, schema) as client:
        client.queues.resume(name)
    say(f"{name} is active")
