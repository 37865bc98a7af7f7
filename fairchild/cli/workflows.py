"""``fairchild workflows list | show | cancel | retry``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import print_fields, print_json, print_table, say

Id = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id, or that of one of its jobs.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Look at workflows, cancel them, run again what failed.", rich_markup_mode=None)
    group.command(name="list")(list_workflows)
    group.command()(show)
    group.command()(cancel)
    group.command()(retry)
    app.add_typer(group, name="workflows")


def list_workflows(
    limit: Annotated[int, option("--limit", "-n", env="WORKFLOWS_LIMIT", help="How many at most, up to 1000.")] = 50,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """The newest workflows of more than one job."""
    with connected(database_url, schema) as client:
        found = [each.to_dict() for each in client.workflows.list(limit=limit)]
    if json:
        print_json({"workflows": found})
        return
    print_table(
        ["id", "state", "name", "jobs", "ended"],
        [
            [each["id"], each["state"], each["name"], each["progress"]["total"], each["progress"]["ended"]]
            for each in found
        ],
    )


def show(id: Id, json: Json = False, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """How far a workflow is, and its graph: a line for each group of jobs that are called alike."""
    with connected(database_url, schema) as client:
        workflow = client.workflows.get(id)
        facts, graph = workflow.to_dict(), workflow.graph()
    if json:
        print_json({**facts, "graph": graph})
        return
    counted = {state: number for state, number in facts["progress"]["states"].items() if number}
    print_fields(
        [
            ("id", facts["id"]),
            ("name", facts["name"]),
            ("state", facts["state"] if facts["reason"] is None else f"{facts['state']} ({facts['reason']})"),
            ("jobs", facts["progress"]["total"]),
            ("", _counts(counted)),
            ("inserted at", facts["inserted_at"]),
            ("ended at", facts["ended_at"]),
        ]
    )
    print()
    print_table(["task", "jobs", "states", "after"], _lines(graph))


def _lines(graph: dict[str, list[dict[str, Any]]]) -> list[list[object]]:
    """The groups of a graph, each under its parent, with the tasks that it depends on."""
    tasks = {node["key"]: node["task"] for node in graph["nodes"]}
    below: dict[str, list[dict[str, Any]]] = {}
    for node in graph["nodes"]:
        below.setdefault(node["parent"], []).append(node)
    lines: list[list[object]] = []
    stack = list(reversed(below.get("root", [])))
    while stack:
        node = stack.pop()
        upstream = sorted({tasks.get(e["upstream"], "root") for e in graph["edges"] if e["downstream"] == node["key"]})
        name = "  " * (node["depth"] - 1) + node["task"]
        lines.append([name, node["count"], _counts(node["states"]), ", ".join(upstream)])
        stack.extend(reversed(below.get(node["key"], [])))
    return lines


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def cancel(
    id: Id,
    reason: Annotated[
        str, option("--reason", env="WORKFLOWS_REASON", help="Why; kept with the jobs.")
    ] = "cancelled by hand",
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Cancel what has not ended, from the root down; running jobs are asked to stop."""
    with connected(database_url, schema) as client:
        reached = client.workflows.get(id).cancel(reason)
    if json:
        print_json({"jobs": reached})
    say(f"{reached} jobs cancelled (or asked to stop, if running)")


def retry(id: Id, json: Json = False, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """Run again what failed and what was cancelled because of it; what completed is kept."""
    with connected(database_url, schema) as client:
        reopened = client.workflows.get(id).retry()
    if json:
        print_json({"jobs": reopened})
    else:
        for each in reopened:
            print(each)
    say(f"{len(reopened)} jobs reopened, and what waited for them")
    if not reopened:
        raise typer.Exit(1)
