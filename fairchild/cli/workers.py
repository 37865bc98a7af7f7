"""``fairchild workers list | pause | resume | stop | stacks``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import print_json, print_table

if TYPE_CHECKING:
    from fairchild.client import Fairchild

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[WORKER]...", help="Ids or names of workers, as `list` shows them.")
]
All = Annotated[bool, option("--all", env="WORKERS_ALL", help="All workers.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        help="See who works and where, and pause, resume or stop workers from afar.", rich_markup_mode=None
    )
    group.command(name="list")(list_workers)
    group.command()(pause)
    group.command()(resume)
    group.command()(stop)
    group.command()(stacks)
    app.add_typer(group, name="workers")


def list_workers(
    ended: Annotated[
        bool, option("--ended", env="WORKERS_ENDED", help="Also those that have ended within the last hour.")
    ] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """The workers and what they do."""
    with connected(database_url, schema) as client:
        _print(client.workers.list(ended=ended), json)


def pause(
    workers: Names = None,
    everyone: All = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Let workers take no more jobs; those that run go on."""
    with connected(database_url, schema) as client:
        _change(client, client.workers.pause, workers, everyone, json)


def resume(
    workers: Names = None,
    everyone: All = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Let paused workers take jobs again."""
    with connected(database_url, schema) as client:
        _change(client, client.workers.resume, workers, everyone, json)


def stop(
    workers: Names = None,
    everyone: All = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Let workers end their jobs and stop, as SIGTERM does."""
    with connected(database_url, schema) as client:
        _change(client, client.workers.stop, workers, everyone, json)


def stacks(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its id or name, as `list` shows them.")],
    timeout: Annotated[
        float, option("--timeout", env="WORKERS_TIMEOUT", help="Seconds that it gets to answer.")
    ] = 10.0,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Where each thread of a worker is now, and the job that it runs."""
    from fairchild.errors import WorkerSilent  # noqa: PLC0415 - help comes first

    silent = None
    with connected(database_url, schema) as client:
        try:
            found = client.workers.stacks(worker, timeout)
        except WorkerSilent as error:
            silent, found = error, error.answered
    if json:
        print_json({"workers": [each.to_dict() for each in found]})
    else:
        for each in found:
            print(each)
    if silent is not None:
        raise silent


def _change(
    client: Fairchild, change: Callable[[Any], list[Any]], names: list[str] | None, everyone: bool, json: bool
) -> None:
    from fairchild.errors import UsageError  # noqa: PLC0415 - help comes first

    if bool(names) == everyone:
        raise UsageError("give ids or names of workers, or --all (and not both); nothing was changed")
    chosen = client.workers.list() if everyone else names
    _print(change(chosen) if chosen else [], json)


def _print(workers: list[Any], json: bool) -> None:
    if json:
        print_json({"workers": [each.to_dict() for each in workers]})
        return
    columns = ["name", "state", "busy", "of", "queues", "host", "pid", "started at", "last beat", "id"]
    print_table(
        columns,
        [
            [
                each.name,
                each.state,
                each.busy,
                each.concurrency,
                "all" if each.queues is None else ", ".join(each.queues),
                each.hostname,
                each.pid,
                each.started_at,
                each.beat_at,
                each.id,
            ]
            for each in workers
        ],
    )
