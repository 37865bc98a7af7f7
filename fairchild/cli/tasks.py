"""``fairchild enqueue`` and ``fairchild run``."""

from __future__ import annotations

import sys
import traceback
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fairchild.cli.options import Arg, Args, DatabaseUrl, Imports, Json, Schema, connected, option
from fairchild.cli.output import print_json, say

if TYPE_CHECKING:
    from fairchild.client import Fairchild
    from fairchild.job import Job
    from fairchild.tasks import Task

_FOREVER = "forever"
TaskName = Annotated[str, typer.Argument(metavar="NAME", help="The task's name, such as myapp.tasks.send.")]


class _EnqueueCommand(TyperCommand):
    """Lets ``--wait`` stand alone: typer has no option with a value that may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from fairchild.cli.parse import is_duration  # noqa: PLC0415 - help comes first

        given = []
        for at, each in enumerate(args):
            following = args[at + 1] if at + 1 < len(args) else ""
            alone = each == "--wait" and "--" not in args[:at] and not (is_duration(following) or following == _FOREVER)
            given.append(f"--wait={_FOREVER}" if alone else each)
        return super().parse_args(ctx, given)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(cls=_EnqueueCommand)(enqueue)
    app.command()(run)


def enqueue(
    name: TaskName,
    args: Args = None,
    arg: Arg = None,
    imports: Imports = None,
    in_: Annotated[
        str | None,
        option("--in", env="ENQUEUE_IN", metavar="DURATION", help="Run after this long: 30s, 5m, 1h30m, 1d."),
    ] = None,
    at: Annotated[
        str | None, option("--at", env="ENQUEUE_AT", metavar="TIME", help="Run at this time: 2030-01-31T08:00:00Z.")
    ] = None,
    queue: Annotated[str | None, option("--queue", env="ENQUEUE_QUEUE", help="Another queue than the task's.")] = None,
    priority: Annotated[
        int | None, option("--priority", env="ENQUEUE_PRIORITY", help="0 (first) to 9; 5 if nothing else is said.")
    ] = None,
    tag: Annotated[list[str] | None, option("--tag", env="ENQUEUE_TAG", help="A tag; may be repeated.")] = None,
    tenant: Annotated[str | None, option("--tenant", env="ENQUEUE_TENANT", help="Whose job it is.")] = None,
    meta: Annotated[
        str | None, option("--meta", env="ENQUEUE_META", metavar="JSON", help="A JSON object kept with the job.")
    ] = None,
    max_attempts: Annotated[
        int | None, option("--max-attempts", env="ENQUEUE_MAX_ATTEMPTS", help="How many attempts it has.")
    ] = None,
    timeout: Annotated[
        str | None,
        option("--timeout", env="ENQUEUE_TIMEOUT", metavar="DURATION", help="How long an attempt may take: 90, 5m."),
    ] = None,
    wait: Annotated[
        str | None,
        option(
            "--wait",
            env="ENQUEUE_WAIT",
            metavar="[DURATION]",
            help="Wait for the job to end (not longer than this, if given) and print its result.",
        ),
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Insert a job and print its id.

    The task's module is imported if it can be, so that the arguments are checked; if not, the worker checks them.
    """
    from fairchild.cli import parse  # noqa: PLC0415 - help comes first
    from fairchild.cli.modules import import_all  # noqa: PLC0415
    from fairchild.errors import UsageError  # noqa: PLC0415

    if in_ is not None and at is not None:
        raise UsageError("--in and --at exclude each other")
    options = {
        "delay": None if in_ is None else parse.duration("--in", in_),
        "scheduled_at": None if at is None else parse.instant("--at", at),
        "queue": queue,
        "priority": priority,
        "tags": tag,
        "tenant": tenant,
        "meta": None if meta is None else parse.json_object("--meta", meta),
        "max_attempts": max_attempts,
        "timeout": None if timeout is None else parse.duration("--timeout", timeout),
    }
    limit = None if wait in (None, _FOREVER) else parse.duration("--wait", str(wait)).total_seconds()
    given = parse.Arguments.read(args, arg)
    task = _task_to_enqueue(name, import_all(imports))
    with connected(database_url, schema) as client:
        job = client.enqueue(
            task if task is not None else name,
            given.values(task.signature.types if task is not None else None),
            **{key: value for key, value in options.items() if value not in (None, [])},
        )
        if wait is not None:
            _wait(client, job, limit, json)
        elif json:
            print_json(job.to_dict())
        else:
            print(job.id)


def _task_to_enqueue(name: str, imported: list[str]) -> Task[Any, Any] | None:
    """The task, or None (and a note) if it is known elsewhere only."""
    from fairchild.cli.modules import find_task  # noqa: PLC0415 - help comes first

    task, why = find_task(name, imported)
    if task is None:
        say(f"note: {name} is not known here ({why}), so its arguments are checked only by the worker that runs it")
    return task


def _wait(client: Fairchild, job: Job, limit: float | None, json: bool) -> None:
    from fairchild.cli.jobs import error_line  # noqa: PLC0415 - help comes first
    from fairchild.errors import NoResult, TaskError  # noqa: PLC0415

    say(f"waiting for job {job.id}")
    try:
        result = client.get_result(job.id, limit)
    except NoResult as error:
        if json:
            print_json(job.refresh().to_dict())
        say(str(error))
    except TaskError:
        job.refresh()
        if json:
            print_json(job.to_dict())
        for cause in _causes(client, job):
            print(str(cause.get("traceback") or error_line(cause)).rstrip(), file=sys.stderr)
        raise
    else:
        print_json(job.refresh().to_dict() if json else result)


def _causes(client: Fairchild, job: Job) -> list[dict[str, Any]]:
    """The last errors of the jobs at which the workflow failed: of those that failed by themselves."""
    failed = client.jobs(workflow=job.id, state="failed", limit=100)
    last = [each.errors[-1] for each in failed.jobs if each.errors]
    return [error for error in last if error.get("kind") != "upstream_failed"][:3]


def run(
    name: TaskName,
    args: Args = None,
    arg: Arg = None,
    imports: Imports = None,
    json: Annotated[
        bool,
        option("--json", env="JSON", help="Nothing but the result on stdout: what the task prints goes to stderr."),
    ] = False,
) -> None:
    """Run a task here and now, without a database, and print what it returns as JSON.

    Tasks that it calls run here as well. An error is printed with its traceback.
    """
    from fairchild.cli import parse  # noqa: PLC0415 - help comes first
    from fairchild.cli.modules import find_task, import_all  # noqa: PLC0415
    from fairchild.errors import InvalidArguments, UnknownTask  # noqa: PLC0415

    given = parse.Arguments.read(args, arg)
    task, why = find_task(name, import_all(imports))
    if task is None:
        raise UnknownTask(f"no task {name!r}: {why}; name its module with -i")
    signature = task.signature
    try:
        bound = signature.bind((), given.values(signature.types))
        positional, named = signature.call_arguments(bound, None)
    except InvalidArguments as error:
        raise InvalidArguments(str(error).removesuffix("; nothing was enqueued")) from None
    named.pop(signature.job_parameter or "", None)
    try:
        with redirect_stdout(sys.stderr) if json else nullcontext():
            value = task.run_here(tuple(positional), named)
    except Exception as error:  # noqa: BLE001 - the task's own
        traceback.print_exception(type(error), error, _of_the_task(error.__traceback__))
        raise typer.Exit(1) from None
    _print_value(task, value)


def _of_the_task(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where the task's own code begins."""
    package = str(Path(__file__).parent.parent)
    at = trace
    while at is not None:
        if not at.tb_frame.f_code.co_filename.startswith(package):
            return at
        at = at.tb_next
    return trace


def _print_value(task: Task[Any, Any], value: Any) -> None:
    from fairchild import codec  # noqa: PLC0415 - help comes first
    from fairchild.errors import NotSerializable  # noqa: PLC0415
    from fairchild.record import Ending, Snooze  # noqa: PLC0415

    if isinstance(value, Ending):
        say(f"the task returned {type(value).__name__}: {value}")
        if not isinstance(value, Snooze):
            raise typer.Exit(1)
        return
    try:
        print_json(codec.decode(codec.encode(value).json))
    except NotSerializable as error:
        say(f"{task.name} returned a value that a worker could not keep: {error}")
