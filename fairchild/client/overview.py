"""What the client can tell of all jobs, workers and tasks at once. Nothing here reads jobs to count them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from fairchild import clock
from fairchild.db import audit, browse, crew, deadline, explain, history, redactions, workflows
from fairchild.db import events as event_log
from fairchild.db.audit import Entry
from fairchild.db.connect import Link
from fairchild.errors import ArgumentProblems, StoreError, UnknownJob, UnknownTask, UsageError
from fairchild.ids import uuid7
from fairchild.job import Job, JobState
from fairchild.rules import histogram
from fairchild.rules.schema import argument_problems
from fairchild.rules.why import Reason, reasons

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild

T = TypeVar("T")

_SETTINGS = ("queue", "priority", "max_attempts", "timeout", "expires", "on_child_failure")
_LISTEN_AGAIN = 60.0
_LOOK_AGAIN = 0.2
_KEPT_FOR = 300.0
"""Events are kept for ten minutes, and written for so long after somebody has asked for them."""
_MOST_EVENTS = 1000
MAX_MINUTES = 7 * 24 * 60
MAX_WAIT_MINUTES = 24 * 60
MAX_ROOTS = 200
MAX_FAMILY = 1000


@dataclass(frozen=True)
class Why:
    """What keeps a job from running, and what does not. Without ``blockers`` the next claim takes it."""

    job_id: UUID
    state: str
    reasons: list[Reason]

    @property
    def blockers(self) -> list[Reason]:
        return [reason for reason in self.reasons if reason.blocks]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's own types."""
        shown = [
            {
                **asdict(each),
                "jobs": [str(job) for job in each.jobs],
                "worker": None if each.worker is None else str(each.worker),
            }
            for each in self.reasons
        ]
        return {"job_id": str(self.job_id), "state": self.state, "blocked": bool(self.blockers), "reasons": shown}


class Overview:
    """The part of ``Fairchild`` that looks at the whole."""

    def ask(self, question: Callable[[Link], T]) -> T:
        raise NotImplementedError

    @contextmanager
    def reading_within(self, seconds: float) -> Iterator[None]:
        """Reads in this block, in this thread, get ``seconds`` in all. They raise TookTooLong then."""
        with deadline.within(seconds):
            yield

    @contextmanager
    def writing_within(self, seconds: float) -> Iterator[None]:
        """What is written and read in this block, in this thread, gets ``seconds`` in all.

        Raises TookTooLong then. ``unknown`` of that, and of all that the database raises here, is whether something may
        have been changed all the same.
        """
        with deadline.within(seconds) as given:
            try:
                yield
            except StoreError as error:
                error.unknown = given.sent
                raise

    @staticmethod
    def time_left() -> float | None:
        """The seconds that reads in this thread still have; None without such a limit."""
        given = deadline.current.get()
        return None if given is None else max(given.left, 0.0)

    def stats(self, by: str | None = None) -> dict[str, Any]:
        """``{"jobs": {state: n}, "queues": {queue: {state: n}}}``: all states, also those with none.

        ``by="tenant"``: ``{"tenants": {tenant: {state: n}}, "exact": bool}`` of jobs that have not ended. If there are
        many, 50,000 of each state are looked at, and ``exact`` is False.
        """
        if by == "tenant":
            counts, exact = self.ask(browse.count_tenants)
            live = [state.value for state in JobState if not state.ended]
            return {
                "tenants": {name: {s: found.get(s, 0) for s in live} for name, found in sorted(counts.items())},
                "exact": exact,
            }
        if by is not None:
            raise UsageError(f'by is "tenant" or left out, for queues and states, not {by!r}')
        queues = self.ask(browse.count_by_queue)
        filled = {name: {s: counts.get(s, 0) for s in self.stats_states()} for name, counts in sorted(queues.items())}
        total = {s: sum(counts[s] for counts in filled.values()) for s in self.stats_states()}
        return {"jobs": total, "queues": filled}

    @staticmethod
    def stats_states() -> list[str]:
        """The names of all states, in the order of a job's life."""
        return [state.value for state in JobState]

    def timeseries(
        self, minutes: int = 60, queue: str | None = None, task: str | None = None, *, step: int = 1
    ) -> dict[str, Any]:
        """``{"minutes": points(...), "tasks": timings(...)}`` of the last ``minutes``."""
        points, timings = self.points(minutes, queue, task, step=step), self.timings(minutes, queue, task)
        return {"minutes": points, "tasks": timings}

    def points(
        self, minutes: int = 60, queue: str | None = None, task: str | None = None, *, step: int = 1
    ) -> list[dict[str, Any]]:
        """``[{minute, inserted, completed, failed, cancelled}, ...]`` of the last ``minutes``, the one at hand last.

        ``step``: how many minutes are one point, which begins with its ``minute``. ``inserted`` is None until it has
        been counted, one or two minutes later.
        """
        _check_minutes(minutes)
        if not 1 <= step <= minutes:
            raise UsageError(f"step is a number of minutes from 1 to {minutes}, got {step}")
        return [each._asdict() for each in self.ask(lambda link: history.read_points(link, minutes, step, queue, task))]

    def timings(self, minutes: int = 60, queue: str | None = None, task: str | None = None) -> list[dict[str, Any]]:
        """``[{queue, task, inserted, completed, failed, cancelled, wait, run}, ...]`` of the last ``minutes``.

        ``wait`` (from available to claimed) and ``run`` are ``{count, seconds, p50, p95, p99, buckets}`` of attempts:
        their number, sum and percentiles in seconds, and buckets as in fairchild/rules/histogram.py.
        """
        _check_minutes(minutes)
        return [_timing(each) for each in self.ask(lambda link: history.read_timings(link, minutes, queue, task))]

    def waits(self, minutes: int, queue: str | None = None, *, step: int = 1) -> list[float | None]:
        """For each of ``points()``: below how many seconds 95 of 100 attempts had waited; None where none began.

        ``minutes``: at most a day, since it adds up what every task did in every minute.
        """
        if not 1 <= minutes <= MAX_WAIT_MINUTES:
            raise UsageError(f"minutes is a number from 1 to {MAX_WAIT_MINUTES}, got {minutes}")
        found = self.ask(lambda link: history.read_waits(link, minutes, step, queue))
        return [None if waits is None else histogram.quantile(histogram.split(waits)[0], 0.95) for waits in found]

    def totals(self) -> list[dict[str, Any]]:
        """As ``timings``, of all time: numbers that only grow, whatever is deleted or retried."""
        return [_timing(each) for each in self.ask(history.read_totals)]

    def ended_by_queue(self, minutes: int) -> dict[str, list[int]]:
        """How many jobs of each queue ended in each of the last ``minutes``, the one at hand last."""
        _check_minutes(minutes)
        return self.ask(lambda link: history.read_ended(link, minutes))

    def known_tasks(self) -> list[dict[str, Any]]:
        """The tasks that live workers know, by name: ``Task.schema()`` and the number of ``workers``."""
        return self.ask(crew.read_tasks)

    def known_task(self, name: str) -> dict[str, Any]:
        """One of them, or one that is registered here. Raises UnknownTask."""
        client = cast("Fairchild", self)
        found = next((each for each in self.known_tasks() if each["name"] == name), None)
        if found is not None:
            return found
        own = client.registry.find(name)
        if own is None:
            raise UnknownTask(f"no live worker knows a task named {name!r}; nothing was enqueued")
        return {**own.schema(), "workers": 0}

    def enqueue_known(self, name: str, args: Mapping[str, Any], **options: Any) -> Job:
        """Enqueue a task by name as its own code would, without that code: as live workers have described it.

        Raises UnknownTask if no live worker knows it, ArgumentProblems if the arguments do not fit.
        """
        client = cast("Fairchild", self)
        task = self.known_task(name)
        if found := argument_problems(args, task["params"]):
            raise ArgumentProblems(name, found)
        if client.registry.find(name) is None:
            own = {key: task.get(key) for key in _SETTINGS}
            tags = [*(task.get("tags") or ()), *options.get("tags", ())]
            options = {**own, **options, "tags": tags}
        return client.enqueue(name, args, **options)

    def why(self, id: UUID | str) -> Why:
        """Why a job does not run, or that nothing keeps it from running. Raises UnknownJob."""
        job_id = _uuid(id)
        assert job_id is not None
        facts = self.ask(lambda link: explain.read_facts(link, job_id))
        if facts is None:
            raise UnknownJob(f"no job has the id {id}")
        return Why(job_id, facts.state, reasons(facts))

    def redactions(self) -> dict[str, list[str]]:
        """By the name of each task that hides arguments, the paths of those: ``{"shop.pay": ["customer.ssn"]}``."""
        found: dict[str, list[str]] = {}
        for task, path in self.ask(redactions.read_redactions):
            found.setdefault(task, []).append(path)
        return found

    def worker_sessions(self) -> list[dict[str, Any]]:
        """All workers, those that are over last, each with how many jobs it is ``running``."""
        return self.ask(crew.read_workers)

    def catalog(self, digest: str | None) -> list[dict[str, Any]]:
        """The tasks that a worker knows, as ``Task.schema()`` describes them; ``digest``: its ``catalog``."""
        return self.ask(lambda link: crew.read_catalog(link, digest))

    def roots(
        self, limit: int = 50, cursor: UUID | str | None = None, wanted: workflows.Wanted | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Workflows of more than one job, newest first: ``{"job": Job, "counts": {state: n}}``, and where to go on.

        ``wanted``: only those that pass; of some hundred that are looked at, so that it may be less than ``limit``.
        """
        if not 1 <= limit <= MAX_ROOTS:
            raise UsageError(f"limit is a number from 1 to {MAX_ROOTS}, got {limit}")
        client = cast("Fairchild", self)
        walked = client.insight.walk(workflows.Wanted() if wanted is None else wanted, limit, _uuid(cursor))
        ids = walked.ids
        jobs = client._read(ids, short=True)
        counts = self.ask(lambda link: workflows.count_states(link, ids))
        found = [{"job": jobs[each], "counts": counts.get(each, {})} for each in ids if each in jobs]
        return found, None if walked.further is None else str(walked.further)

    def family(self, id: UUID | str, limit: int = MAX_FAMILY, cursor: str | None = None) -> dict[str, Any] | None:
        """The workflow of any of its jobs: ``{"root": Job, "jobs": [Job], "edges": [Edge], "counts", "cursor"}``.

        ``jobs`` are ``limit`` of them, newest first, and ``edges`` what those wait for. None: there is no such job.
        """
        client = cast("Fairchild", self)
        job = client.get_job(id)
        if job is None:
            return None
        root_id = job.workflow_id or job.id
        page = client.jobs(workflow=root_id, limit=limit, cursor=cursor, short=True)
        edges = self.ask(lambda link: workflows.edges_into(link, [each.id for each in page.jobs]))
        counts = self.ask(lambda link: workflows.count_states(link, [root_id]))
        root: Job = job if job.id == root_id else client.get_job(root_id) or job
        return {
            "root": root,
            "jobs": page.jobs,
            "edges": edges,
            "counts": counts.get(root_id, {}),
            "cursor": page.cursor,
        }

    def job_states(
        self, *, ids: list[UUID] | None = None, limit: int = 1000, **filters: Any
    ) -> list[tuple[UUID, JobState]]:
        """Ids and states of jobs, newest first: those of ``ids``, or all that pass the filters of ``jobs()``."""
        if not ids and not any(value is not None for value in filters.values()):
            raise UsageError("an empty filter would mean all jobs; nothing was changed")
        state = filters.pop("state", None)
        wanted = None if state is None else JobState(state)
        return self.ask(lambda link: browse.list_states(link, state=wanted, limit=limit, ids=ids, **filters))

    def listen(
        self,
        after: int | str | None = None,
        timeout: float | None = None,
        poll_interval: float = 0.5,
        *,
        events: str | Iterable[str] | None = None,
        queue: str | None = None,
        job: Job | UUID | str | None = None,
    ) -> Iterator[dict[str, Any] | None]:
        """What happens to jobs, as it happens; without end, or until ``timeout`` seconds have passed.

        ``{"type": "job_update", "event", "job_id", "seq", "data": {job_id, type, queue, priority, state, workflow_id,
        attempt, timestamp}}``, where ``event`` is job_created, job_ready, job_started, job_progress, job_waiting,
        job_timeout, job_retrying, job_completed, job_failed or job_cancelled, and ``data`` the job as it stands when it
        is read. Each comes at least once. ``after``: the ``seq`` of an event up to which all are known. Where the log
        does not reach back that far (it is kept for ten minutes, while somebody listens) the first is ``{"type":
        "resync", "seq"}``: look at what is of interest anew. None comes between whenever there was nothing new, so that
        a loop can end.

        ``events``: only those of these names, in which ``*`` at the end stands for the rest; so can what happens to
        others be had: ``worker_*`` (worker_started, worker_paused, worker_resumed, worker_stopping, worker_stopped,
        worker_lost; ``data`` names the worker) and ``queue_*`` (queue_paused, queue_resumed). ``queue``: only what
        happens to its jobs, and to itself. ``job``: only what happens to this one.
        """
        client = cast("Fairchild", self)
        wanted = event_log.Filter.of(
            events, queue, None if job is None else _uuid(job.id if isinstance(job, Job) else job)
        )
        return self._listen(client, wanted, after, timeout, poll_interval)

    def events_after(
        self,
        after: str | None = None,
        wait: float = 0.0,
        *,
        events: str | Iterable[str] | None = None,
        queue: str | None = None,
        job: Job | UUID | str | None = None,
    ) -> dict[str, Any]:
        """What ``listen()`` gives, for who asks now and then: ``{"events": [...], "after": text, "resync": bool}``.

        ``after``: that of the last answer, or the ``seq`` of an event; without it there is only where to begin. If
        nothing is new it is waited for, up to ``wait`` seconds. ``resync``: more may have happened than is known here,
        so look at what is of interest anew.
        """
        client = cast("Fairchild", self)
        wanted = event_log.Filter.of(
            events, queue, None if job is None else _uuid(job.id if isinstance(job, Job) else job)
        )
        place = None if after is None else event_log.Place.parse(after)
        end = clock.now() + wait
        if place is None or clock.now() - client.heard_at > _LISTEN_AGAIN:
            last = self.ask(lambda link: event_log.listen(link, client.listener))
            client.heard_at = clock.now()
            if place is None:
                return {"events": [], "after": str(event_log.Place(last, int(time.time()))), "resync": False}
        if not self._reaches(place):
            last = self.ask(lambda link: event_log.listen(link, client.listener))
            return {"events": [], "after": str(event_log.Place(last, int(time.time()))), "resync": True}
        while True:
            rows, place = self.ask(partial(place.read, now=time.time(), most=_MOST_EVENTS))
            found = list(_numbered(client, rows, place.low, wanted))
            if found or clock.now() + _LOOK_AGAIN > end:
                return {"events": found, "after": str(place), "resync": False}
            time.sleep(_LOOK_AGAIN)

    def _reaches(self, place: event_log.Place) -> bool:
        """Whether all that came after is still kept."""
        if place.at is None:
            return self.ask(lambda link: event_log.is_kept(link, place.high))
        return abs(time.time() - place.at) < _KEPT_FOR

    def _listen(
        self, client: Fairchild, wanted: event_log.Filter, after: int | str | None, timeout: float | None, pause: float
    ) -> Iterator[dict[str, Any] | None]:
        listener, end = uuid7(), None if timeout is None else clock.now() + timeout
        last = self.ask(lambda link: event_log.listen(link, listener))
        heard = clock.now()
        try:
            low = last if after is None else int(after)
        except ValueError:
            raise UsageError(f"after is the seq of an event, not {after!r}") from None
        if after is not None and not self.ask(lambda link: event_log.is_kept(link, low)):
            low = last
            yield {"type": "resync", "seq": low}
        follower = event_log.Follower(low, clock.now)
        while end is None or clock.now() < end:
            if clock.now() - heard > _LISTEN_AGAIN:
                self.ask(lambda link: event_log.listen(link, listener))
                heard = clock.now()
            rows = self.ask(follower.read)
            any_wanted = False
            for update in _numbered(client, rows, follower.low, wanted):
                any_wanted = True
                yield update
            if not any_wanted:
                yield None
            if not rows:
                time.sleep(pause)

    def audit_entries(self, limit: int = 50, cursor: int | None = None) -> list[Entry]:
        """Who did what, newest first, before the entry ``cursor``."""
        return self.ask(lambda link: audit.read_entries(link, cursor, limit))

    def add_audit_entry(
        self,
        who: str,
        action: str,
        target: str,
        number: int,
        *,
        request_id: str | None = None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep that somebody did something to ``number`` things, and how it was ``before`` and is ``after``."""
        with cast("Fairchild", self).database.link() as link:
            audit.add_entry(link, who, action, target, number, request_id, before, after)


def _numbered(
    client: Fairchild, rows: list[event_log.Row], low: int, wanted: event_log.Filter
) -> Iterator[dict[str, Any]]:
    """The events of rows. ``low``: the row up to which all are known once these are.

    The ``seq`` of each is a row up to which all have been told with it: who goes on from there misses none.
    """
    for number, row in enumerate(rows, 1):
        following = rows[number] if number < len(rows) else None
        told = list(_updates(client, row, min(low, row.seq - 1), wanted))
        if told:
            told[-1]["seq"] = low if following is None else min(low, following.seq - 1)
        yield from told


def _updates(client: Fairchild, row: event_log.Row, low: int, wanted: event_log.Filter) -> Iterator[dict[str, Any]]:
    """The events of a row, numbered ``low``."""
    told = [each for each in row.jobs if wanted.takes_job(*each)]
    jobs = client._read([job_id for job_id, _ in told])
    for job_id, event in told:
        job = jobs.get(job_id)
        if wanted.queue is not None and (job is None or job.queue != wanted.queue):
            continue
        data: dict[str, Any] = {"job_id": str(job_id), "timestamp": row.at.isoformat()}
        if job is not None:
            data.update(
                type=job.task, queue=job.queue, priority=job.priority, state=job.state.value, attempt=job.attempt,
                workflow_id=str(job.workflow_id),
            )  # fmt: skip
        yield {"type": "job_update", "event": event, "job_id": str(job_id), "seq": low, "data": data}
    for other in row.others:
        if wanted.takes_other(other):
            about = {name: value for name, value in other.items() if name != "event"}
            kind, event = other["event"].partition("_")[0], other["event"]
            data = {**about, "timestamp": row.at.isoformat()}
            yield {"type": f"{kind}_update", "event": event, "seq": low, "data": data}


def _check_minutes(minutes: int) -> None:
    if not 1 <= minutes <= MAX_MINUTES:
        raise UsageError(f"minutes is a number from 1 to {MAX_MINUTES}, got {minutes}")


def _timing(found: history.Timing) -> dict[str, Any]:
    return {
        "queue": found.queue, "task": found.task, "inserted": found.inserted, "completed": found.completed,
        "failed": found.failed, "cancelled": found.cancelled, "wait": _shape(found.waits), "run": _shape(found.runs),
    }  # fmt: skip


def _shape(counts: list[int]) -> dict[str, Any]:
    buckets, seconds = histogram.split(counts)
    quantiles = {f"p{share}": histogram.quantile(buckets, share / 100) for share in (50, 95, 99)}
    return {"count": sum(buckets), "seconds": seconds, **quantiles, "buckets": list(buckets)}


def _uuid(value: UUID | str | None) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError:
        raise UsageError(f"{value!r} is not a job id (a UUID)") from None
