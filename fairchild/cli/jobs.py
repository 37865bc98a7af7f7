"""``fairchild jobs list | show | logs | why | cancel | retry | run | move``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import ask, moment, print_fields, print_json, print_table, say

if TYPE_CHECKING:
    from fairchild.client import Fairchild
    from fairchild.job import Job, Progress

State = Annotated[str | None, option("--state", env="JOBS_STATE", help="Only jobs in this state.")]
Queue = Annotated[str | None, option("--queue", env="JOBS_QUEUE", help="Only jobs of this queue.")]
TaskName = Annotated[str | None, option("--task", env="JOBS_TASK", help="Only jobs of this task.")]
Tag = Annotated[str | None, option("--tag", env="JOBS_TAG", help="Only jobs with this tag.")]
Tenant = Annotated[str | None, option("--tenant", env="JOBS_TENANT", help="Only jobs of this tenant.")]
Workflow = Annotated[
    str | None,
    option("--workflow", env="JOBS_WORKFLOW", metavar="ID", help="Only the job of this id and its descendants."),
]
Yes = Annotated[bool, option("--yes", "-y", env="JOBS_YES", help="Do not ask before changing what the filters match.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Look at jobs, cancel them, run them again.", rich_markup_mode=None)
    group.command(name="list")(list_jobs)
    group.command()(show)
    group.command()(logs)
    group.command()(why)
    group.command()(cancel)
    group.command()(retry)
    group.command(name="run")(run_now)
    group.command()(move)
    app.add_typer(group, name="jobs")


def list_jobs(
    state: State = None,
    queue: Queue = None,
    task: TaskName = None,
    tag: Tag = None,
    tenant: Tenant = None,
    workflow: Workflow = None,
    limit: Annotated[int, option("--limit", "-n", env="JOBS_LIMIT", help="How many at most, up to 1000.")] = 50,
    cursor: Annotated[
        str | None, option("--cursor", env="JOBS_CURSOR", metavar="ID", help="Those older than this job.")
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """The newest jobs that pass all filters."""
    filters = _filters(state, queue, task, tag, tenant, workflow)
    with connected(database_url, schema) as client:
        page = client.jobs(**filters, limit=limit, cursor=cursor)
    if json:
        print_json({"jobs": [job.to_dict() for job in page.jobs], "cursor": page.cursor})
        return
    columns = ["id", "state", "task", "queue", "priority", "attempt", "scheduled at"]
    print_table(
        columns,
        [
            [
                job.id,
                job.state,
                job.task,
                job.queue,
                job.priority,
                f"{job.attempt}/{job.max_attempts}",
                job.scheduled_at,
            ]
            for job in page.jobs
        ],
    )
    if page.cursor is not None:
        say(f"there are more: --cursor {page.cursor}")


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """All that is known of one job."""
    from fairchild.errors import UnknownJob  # noqa: PLC0415 - help comes first

    with connected(database_url, schema) as client:
        job = client.get_job(id)
    if job is None:
        raise UnknownJob(f"no job has the id {id}")
    if json:
        print_json(job.to_dict())
    else:
        print_job(job)


def logs(
    id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    level: Annotated[
        str, option("--level", env="JOBS_LEVEL", help="Only lines from this level up: debug, info, warning, error.")
    ] = "debug",
    attempt: Annotated[int | None, option("--attempt", env="JOBS_ATTEMPT", help="Only lines of this attempt.")] = None,
    after: Annotated[int, option("--after", env="JOBS_AFTER", help="Only lines behind the one of this number.")] = 0,
    limit: Annotated[int, option("--limit", "-n", env="JOBS_LIMIT", help="How many at most, up to 1000.")] = 1000,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """What a job has logged, oldest first, of one attempt or of all."""
    from fairchild.errors import UnknownJob  # noqa: PLC0415 - help comes first

    with connected(database_url, schema) as client:
        lines = client.logs(id, attempt=attempt, after=after, level=level, limit=limit)
        if not lines and client.get_job(id) is None:
            raise UnknownJob(f"no job has the id {id}")
    if json:
        print_json({"lines": [line.to_dict() for line in lines]})
        return
    for line in lines:
        fields = f" {_json(line.fields)}" if line.fields else ""
        print(f"{moment(line.at)} {line.attempt} {line.level.upper()} {line.logger}: {line.message}{fields}")
    if len(lines) == limit:
        say(f"there may be more: --after {lines[-1].id}")


def why(
    id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Why a job does not run. Exit code 1 if something keeps it from running."""
    with connected(database_url, schema) as client:
        found = client.why(id)
    if json:
        print_json(found.to_dict())
    else:
        for reason in found.reasons:
            print(f"{'blocked' if reason.blocks else 'fine':8}{reason.text}")
            for job_id in reason.jobs:
                print(f"{'':8}  {job_id}")
    if found.blockers:
        raise typer.Exit(1)


def print_job(job: Job) -> None:
    """One job for a person."""
    print_fields(
        [
            ("id", job.id),
            ("task", job.task),
            ("state", job.state if job.reason is None else f"{job.state} ({job.reason})"),
            ("queue", job.queue),
            ("priority", job.priority),
            ("attempt", f"{job.attempt} of {job.max_attempts}"),
            ("progress", None if job.progress is None else _progress(job.progress)),
            ("tenant", job.tenant),
            ("tags", ", ".join(job.tags)),
            ("args", _json(job.args)),
            ("meta", _json(job.meta) if job.meta else None),
            ("result", _json(job.result) if job.has_result else None),
            ("workflow", job.workflow_id if job.workflow_id != job.id else None),
            ("parent", job.parent_id),
            ("waits for", "\n".join(map(str, job.deps))),
            ("timeout", None if job.timeout is None else f"{job.timeout:g} s"),
            ("worker", job.worker),
            ("inserted", job.inserted_at),
            ("scheduled", job.scheduled_at),
            ("started", job.attempted_at),
            ("ended", job.ended_at),
        ]
    )
    for error in job.errors:
        print()
        print(error_line(error))
        print("\n".join("  " + line for line in str(error.get("traceback") or "").splitlines()))


def _progress(progress: Progress) -> str:
    of = "" if progress.total is None else f" of {progress.total:g}"
    message = "" if progress.message is None else f": {progress.message}"
    return f"{progress.value:g}{of}{message}"


def error_line(error: dict[str, Any]) -> str:
    """One attempt's end in a line."""
    attempt = f"attempt {error['attempt']}" if error.get("attempt") is not None else "no attempt spent"
    what = ": ".join(str(error[key]) for key in ("kind", "type", "message") if error.get(key))
    return f"{attempt}, {what}" + (f" (at {error['at']})" if error.get("at") else "")


def _json(value: object) -> str:
    import json  # noqa: PLC0415 - the commands have a parameter of this name

    return json.dumps(value, ensure_ascii=False)


def cancel(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs to cancel.")] = None,
    reason: Annotated[str, option("--reason", env="JOBS_REASON", help="Kept with the job.")] = "cancelled",
    state: State = None,
    queue: Queue = None,
    task: TaskName = None,
    tag: Tag = None,
    tenant: Tenant = None,
    workflow: Workflow = None,
    yes: Yes = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Cancel jobs by id or by filters, with their descendants. Those that run are asked to stop."""
    filters = _filters(state, queue, task, tag, tenant, workflow)
    with connected(database_url, schema) as client:
        _change(
            client,
            "cancel",
            ids or [],
            filters,
            ["scheduled", "available", "waiting", "running"],
            lambda chosen: client.cancel(chosen, reason),
            yes=yes,
            json=json,
        )


def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs to run again.")] = None,
    state: State = None,
    queue: Queue = None,
    task: TaskName = None,
    tag: Tag = None,
    tenant: Tenant = None,
    workflow: Workflow = None,
    yes: Yes = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Reopen ended jobs by id or by filters (those that failed or were cancelled, if no state is given)."""
    filters = _filters(state, queue, task, tag, tenant, workflow)
    with connected(database_url, schema) as client:
        _change(client, "retry", ids or [], filters, ["failed", "cancelled"], client.retry, yes=yes, json=json)


def run_now(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs not to wait for.")] = None,
    queue: Queue = None,
    task: TaskName = None,
    tag: Tag = None,
    tenant: Tenant = None,
    workflow: Workflow = None,
    yes: Yes = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Make scheduled jobs available before their time, by id or by filters; also those that are to be tried again."""
    filters = _filters(None, queue, task, tag, tenant, workflow)
    with connected(database_url, schema) as client:
        _change(client, "run", ids or [], filters, ["scheduled"], client.run_now, yes=yes, json=json)


def move(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs to move.")] = None,
    to_queue: Annotated[str | None, option("--to-queue", env="JOBS_TO_QUEUE", help="Their new queue.")] = None,
    priority: Annotated[
        int | None, option("--priority", env="JOBS_PRIORITY", help="Their new priority: 0 (first) to 9.")
    ] = None,
    state: State = None,
    queue: Queue = None,
    task: TaskName = None,
    tag: Tag = None,
    tenant: Tenant = None,
    workflow: Workflow = None,
    yes: Yes = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Put scheduled and available jobs into another queue, or give them another priority, by id or by filters."""
    filters = _filters(state, queue, task, tag, tenant, workflow)
    with connected(database_url, schema) as client:
        _change(
            client,
            "move",
            ids or [],
            filters,
            ["scheduled", "available"],
            lambda chosen: client.move(chosen, queue=to_queue, priority=priority),
            yes=yes,
            json=json,
        )


_DONE = {
    "move": "moved",
    "cancel": "cancelled (or asked to stop, if running)",
    "retry": "reopened",
    "run": "made available",
}


def _change(
    client: Fairchild,
    verb: str,
    ids: Sequence[str],
    filters: dict[str, str],
    states: list[str],
    change: Callable[[list[UUID]], list[UUID]],
    *,
    yes: bool,
    json: bool,
) -> None:
    """Choose jobs, ask where a filter chose them, change them, print which were."""
    from fairchild.errors import UsageError  # noqa: PLC0415 - help comes first

    if bool(ids) == bool(filters):
        raise UsageError(f"give the ids of the jobs to {verb}, or filters such as --queue mail (and not both)")
    if ids:
        chosen = [_uuid(each) for each in ids]
    else:
        wanted = [filters] if "state" in filters else [{**filters, "state": state} for state in states]
        chosen = [job.id for each in wanted for job in _matching(client, each)]
        if chosen and not yes:
            _confirm(verb, len(chosen))
    changed = change(chosen) if chosen else []
    left = [each for each in chosen if each not in set(changed)] if ids else []
    if json:
        print_json({"jobs": changed, "unchanged": left})
    else:
        for each in changed:
            print(each)
    say(f"{len(changed)} jobs {_DONE[verb]}")
    for each in left:
        job = client.get_job(each)
        say(f"{each}: {'no such job' if job is None else f'not changed, it is {job.state}'}")
    if left:
        raise typer.Exit(1)


def _matching(client: Fairchild, filters: dict[str, Any]) -> list[Job]:
    jobs: list[Job] = []
    cursor = None
    while True:
        page = client.jobs(**filters, limit=1000, cursor=cursor)
        jobs.extend(page.jobs)
        cursor = page.cursor
        if cursor is None:
            return jobs


def _confirm(verb: str, number: int) -> None:
    from fairchild.errors import UsageError  # noqa: PLC0415 - help comes first

    answer = ask(f"{verb} {number} jobs? [y/N]")
    if answer is None:
        raise UsageError(f"{number} jobs match and nobody was there to ask; use --yes to {verb} them")
    if answer.lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


def _uuid(text: str) -> UUID:
    from fairchild.errors import UsageError  # noqa: PLC0415 - help comes first

    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a job id (a UUID); nothing was changed") from None


def _filters(
    state: str | None, queue: str | None, task: str | None, tag: str | None, tenant: str | None, workflow: str | None
) -> dict[str, Any]:
    given = {"state": state, "queue": queue, "task": task, "tag": tag, "tenant": tenant, "workflow": workflow}
    return {name: value for name, value in given.items() if value is not None}
