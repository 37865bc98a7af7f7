"""Workflows as a whole: composed outside of a job, looked at, waited for, cancelled, run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fairchild import clock, context
from fairchild.client.graph import parse_graph
from fairchild.db import cancel, control, portions, shape
from fairchild.db import workflows as store
from fairchild.db.census import too_many
from fairchild.db.connect import Link
from fairchild.db.portions import Retriable, Scope
from fairchild.errors import UnknownJob, UsageError
from fairchild.future import Future
from fairchild.ids import uuid7
from fairchild.job import ENDED, Job, JobState, NewJob
from fairchild.rules.query import RETRYING
from fairchild.rules.shape import ROOT
from fairchild.tasks import Configured, Task, apply_options, check_text

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild

__all__ = ["Block", "Retriable", "Scope", "Workflow", "Workflows"]

_PAGE = 1000


class Workflow:
    """A root job and all its descendants. Each question is answered by the database as things stand then."""

    def __init__(self, client: Fairchild, id: UUID) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def root(self) -> Job:
        """The root job: its state, reason and result are the workflow's. Raises UnknownJob if it is not there."""
        job = self._client.get_job(self.id)
        if job is None:
            raise UnknownJob(f"no workflow has the id {self.id}")
        return job

    @property
    def name(self) -> str:
        """The name it was composed under, or its root's task."""
        return self.root.task

    @property
    def state(self) -> JobState:
        """The root's state: it is completed when all its jobs have ended well."""
        return self.root.state

    @property
    def progress(self) -> dict[str, Any]:
        """``{"total": n, "ended": n, "states": {state: n}}`` of the jobs below the root, known so far."""
        counts = self._client.ask(lambda link: store.count_states(link, [self.id], roots=False))[self.id]
        states = {state.value: counts.get(state.value, 0) for state in JobState}
        return {
            "total": sum(states.values()),
            "ended": sum(states[state.value] for state in ENDED),
            "states": states,
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many of its jobs, with the root, are in which state."""
        return self._client.ask(lambda link: store.count_states(link, [self.id]))[self.id]

    def jobs(self, state: JobState | str | None = None) -> Iterator[Job]:
        """All its jobs with the root, newest first; read a page at a time, however many there are."""
        cursor = None
        while True:
            page = self._client.jobs(workflow=self.id, state=state, limit=_PAGE, cursor=cursor)
            yield from page.jobs
            cursor = page.cursor
            if cursor is None:
                return

    def graph(self) -> dict[str, list[dict[str, Any]]]:
        """Its graph, a node for each group of jobs that are called and depend alike: small, whatever its width.

        ``{"nodes": [{key, parent, task, depth, rank, count, states, example}], "edges": [{upstream, downstream}]}``;
        keys are text, and the root's is "root".
        """
        groups = self._client.ask(lambda link: shape.groups(link, self.id))
        nodes: dict[int, dict[str, Any]] = {}
        for row in groups:
            node = nodes.setdefault(
                row.key,
                {"key": str(row.key), "parent": ROOT, "task": row.task, "depth": row.depth, "rank": row.rank,
                 "count": 0, "states": {}, "example": row.sample},
            )  # fmt: skip
            state = "scheduled" if row.state == RETRYING else row.state
            node["count"] += row.jobs
            node["states"][state] = node["states"].get(state, 0) + row.jobs
            node["example"] = min(node["example"], row.sample)
        by_example = {node["example"]: node for node in nodes.values()}
        edges = set()
        for found in self._client.ask(lambda link: shape.links(link, self.id, list(by_example))):
            node, source = by_example[found.sample], ROOT if found.source is None else str(found.source)
            if found.called:
                node["parent"] = source
            else:
                edges.add((source, node["key"]))
        ordered = sorted(nodes.values(), key=lambda node: (node["depth"], node["rank"], str(node["example"])))
        return {"nodes": ordered, "edges": [{"upstream": up, "downstream": down} for up, down in sorted(edges)]}

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended; its root. Raises ResultTimeout after ``timeout`` seconds, and it goes on."""
        return self._client.wait_for(self.id, timeout)

    def cancel(self, reason: str = "cancelled") -> int:
        """Cancel what has not ended, from the root down, and ask running jobs to stop; how many jobs that reached.

        Safe to repeat. Done in transactions of some thousand jobs: if it is broken off, the workers go on with it.
        """
        check_text("reason", reason)
        reached = 0
        with self._client.database.link() as link:
            for cancelled, asked in cancel.cancel_portions(link, [self.id], reason):
                reached += len(cancelled) + len(asked)
                self._client.jobs_ended()
        return reached

    def retry(self) -> list[UUID]:
        """Run again what failed, and what was cancelled because of it; what completed is kept.

        Jobs that were cancelled for another reason stay so, unless the whole was cancelled or nothing has failed. The
        ids of the jobs that the failure began with. Raises UsageError while such jobs cannot run again.
        """
        with self._client.database.link() as link:
            reopened = control.retry_workflow(link, self.id)
        self._client.wake_workers()
        return reopened

    def retriable(self) -> Retriable:
        """What a retry would run again: jobs that failed, that somebody cancelled, that were cancelled because of them.

        Of the third at most that many, if not all of the others are run again.
        """
        return self._client.ask(lambda link: portions.count_retriable(link, self.id))

    def cancel_within(self, seconds: float, reason: str, done: Callable[[int], None]) -> bool:
        """Cancel for about ``seconds``, a portion at a time; whether all have been. Repeat it until they have.

        ``done`` is told how many jobs each portion has reached, so that it is known if this is broken off. What nobody
        repeats, the workers end.
        """
        return self._client.cancel_within(seconds, [self.id], reason, lambda reached: done(len(reached)))

    def retry_within(self, seconds: float, scope: Scope, before: datetime, done: Callable[[int], None]) -> bool:
        """Run again for about ``seconds`` what ended badly before then, as ``cancel_within``.

        ``scope``: "failed", what failed and was cancelled because of it, or "all", also what somebody cancelled. Who
        repeats it gives the same ``before``, or what fails again meanwhile would be retried with it. Raises UsageError
        while such jobs cannot run again.
        """
        return self._for(seconds, lambda link: portions.retry_portions(link, self.id, scope, before), done)

    def _for(self, seconds: float, portions_of: Callable[[Link], Iterator[int]], done: Callable[[int], None]) -> bool:
        end, reached = clock.now() + seconds, 0
        with self._client.database.link() as link:
            for number in portions_of(link):
                reached += number
                done(number)
                if number:
                    self._client.jobs_ended()
                    self._client.wake_workers()
                if reached and clock.now() >= end:
                    break
            else:
                return True
        return False

    def to_dict(self) -> dict[str, Any]:
        """``{id, name, state, reason, inserted_at, ended_at, progress}`` in JSON's own types."""
        root = self.root.to_dict()
        shown = {key: root[key] for key in ("id", "state", "reason", "inserted_at", "ended_at")}
        return {**shown, "name": root["task"], "progress": self.progress}


class Block(Workflow):
    """``with fc.workflow("name") as w:``; see ``Fairchild.workflow``. After the block a Workflow like any other."""

    def __init__(
        self, client: Fairchild, name: str, *, on_child_failure: str, connection: Any, options: Mapping[str, Any]
    ) -> None:
        super().__init__(client, uuid7())
        if on_child_failure not in ("fail", "ignore"):
            raise UsageError(f'on_child_failure is "fail" or "ignore", not {on_child_failure!r}')
        self._root = NewJob(
            id=self.id, task=check_text("workflow name", name), args=b"{}", on_child_failure=on_child_failure
        )
        apply_options(self._root, options, client.max_payload_bytes)
        self._connection = connection
        self._jobs: list[NewJob] = []
        self._scope: AbstractContextManager[None] | None = None
        self._closed = False

    @property
    def max_payload_bytes(self) -> int:
        """The largest size of a job's arguments."""
        return self._client.max_payload_bytes

    def call(
        self, task: Task[Any, Any] | Configured[Any, Any] | str, args: Mapping[str, Any] | None = None, **options: Any
    ) -> Future:
        """Add a call of a task or of a task's name, as ``Fairchild.enqueue`` takes them."""
        return self.spawn(self._client.build(task, args or {}, options))

    def spawn(self, new: NewJob) -> Future:
        """Add a job. It is inserted with all others at the block's end."""
        limits = self._client.limits
        if self._closed:
            raise UsageError(f"workflow {self._root.task}: its block has ended; nothing was enqueued")
        if len(self._jobs) >= limits.max_children:
            raise UsageError(
                f"workflow {self._root.task} has {limits.max_children:,} calls, the most one may have (max_children); "
                "nothing was enqueued"
            )
        if len(self._jobs) >= limits.max_descendants:
            raise too_many(self.id, limits)
        new.parent_id = new.workflow_id = self.id
        new.depth = 1
        self._jobs.append(new)
        return Future(new.id, new.task)

    def __enter__(self) -> Block:
        if self._scope is not None or self._closed:
            raise UsageError(f"workflow {self._root.task}: a block is entered once; make another")
        scope = context.composing(self)
        scope.__enter__()
        self._scope = scope
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope is not None:
            self._scope.__exit__(None, None, None)
        self.close(insert=kind is None)

    def close(self, *, insert: bool = True) -> None:
        """End the composition; insert all, or nothing."""
        self._closed = True
        jobs, self._jobs = self._jobs, []
        if insert:
            self._client.insert_workflow(self._root, jobs, self._connection)


class Workflows:
    """``fc.workflows``."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def get(self, id: UUID | str) -> Workflow:
        """The workflow of this id, or to which the job of this id belongs. Raises UnknownJob."""
        job = self._client.get_job(id)
        if job is None:
            raise UnknownJob(f"no workflow has the id {id}")
        return Workflow(self._client, job.workflow_id or job.id)

    def list(self, *, limit: int = 50, before: UUID | str | None = None) -> list[Workflow]:
        """Workflows of more than one job, newest first. ``before``: those older than this one."""
        if not 1 <= limit <= _PAGE:
            raise UsageError(f"limit is a number from 1 to {_PAGE}, got {limit}")
        start = before if isinstance(before, UUID) or before is None else UUID(before)
        ids = self._client.ask(lambda link: store.list_workflows(link, start, limit))
        return [Workflow(self._client, each) for each in ids]

    def create(self, description: Mapping[str, Any], *, connection: Any = None) -> Workflow:
        """Insert a workflow from plain JSON; all of it in one transaction.

        ``{"name": ..., "on_child_failure": "fail", "nodes": [{"key": "a", "task": "app.load", "args": {...},
        "depends_on": ["b"], "queue": ..., "priority": ..., ...}]}``. In args ``{"$ref": "b"}`` is the value of node b,
        ``{"$ref": "b", "or_else": 0}`` and ``{"$ref": "b", "outcome": true}`` as of a Future; ``{"$value": ...}`` is
        taken as it is. Raises InvalidArguments, naming the node; UsageError, showing it, for a circle.
        """
        graph = parse_graph(description)
        block = Block(
            self._client, graph.name, on_child_failure=graph.on_child_failure, connection=connection, options={}
        )
        for node in graph.nodes:
            new = self._client.build(node.task, node.args, node.options)
            new.id = node.id
            _ = block.spawn(new)
        block.close()
        return block
