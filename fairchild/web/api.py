"""The JSON API. Reads are limited in time and size; writes are in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, request
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from fairchild.client import Fairchild
from fairchild.client.client import MAX_OFFSET, Page
from fairchild.client.insight import ErrorGroup, Wanted
from fairchild.client.workflows import Scope, Workflow
from fairchild.errors import (
    ArgumentProblems,
    NotSerializable,
    UnknownJob,
    UnknownTask,
    UnknownWorker,
    UsageError,
    WorkerSilent,
)
from fairchild.ids import lowest
from fairchild.job import ERROR_KINDS, LEVELS, JobState
from fairchild.rules.fingerprint import FINGERPRINT, without_details
from fairchild.rules.query import MAX_TEXT, moment_before
from fairchild.web import openapi, shapes
from fairchild.web.aliases import NOT_YET, PRIORITIES, in_our_words
from fairchild.web.audit import after_of, place_of, state_of
from fairchild.web.auth import PUBLIC, VIEW, Gate
from fairchild.web.bulk import ACTION_SECONDS, AFTER, bulk_change, fits, in_batches
from fairchild.web.bulk import RIGHTS as BULK_RIGHTS
from fairchild.web.downloads import Part, download
from fairchild.web.filters import read_filter
from fairchild.web.operations import MAX_LIMIT, READ_SECONDS, Api, Schema, as_json, as_text, invalid, read_id
from fairchild.web.problems import Problem
from fairchild.web.redact import mask_defaults
from fairchild.web.shapes import MAX_AGE, named

MAX_BULK = 10_000
WHAT_HOLDS = "nothing but the time is got around"
AWAY = {"database": "it cannot be reached", "schema": "its tables are not those of this release"}
STACKS_SECONDS = 1.2
"""That a request waits for a worker, which holds a thread of the host."""
TO_COME = ("schedules", "limits")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

TEXT: Schema = {"type": "string", "maxLength": 255}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
ID: Schema = {"type": "string", "format": "uuid", "maxLength": 36}
STATE: Schema = {"type": "string", "enum": [state.value for state in JobState]}
LIMIT: Schema = {
    "type": "integer", "minimum": 1, "default": 50, "description": f"More than {MAX_LIMIT} is taken as {MAX_LIMIT}.",
}  # fmt: skip
OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}
MINUTES: Schema = {"type": "integer", "minimum": 1, "maximum": 7 * 24 * 60, "default": 60}
STEP: Schema = {"type": "integer", "minimum": 1, "maximum": 7 * 24 * 60, "default": 1}
FILTERS: dict[str, Schema] = {
    "state": STATE, "queue": NAME, "task": NAME, "tag": NAME, "tenant": TEXT, "workflow": ID, "worker": ID, "q": NAME,
    "error_kind": {"type": "string", "enum": [*ERROR_KINDS]}, "before": NAME,
}  # fmt: skip
FLOWS: dict[str, Schema] = {"name": NAME, "task": NAME, "tenant": TEXT, "state": STATE, "after": NAME}
PAGE: dict[str, Schema] = {"limit": LIMIT, "cursor": ID}
FILTER: Schema = {"type": "string", "maxLength": MAX_TEXT, "default": ""}
EXPORT_PAGE = 200
LOG: dict[str, Schema] = {
    "attempt": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "after": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0},
    "level": {"type": "string", "enum": [*LEVELS], "default": "debug"},
    "limit": LIMIT,
}
NEW_JOB: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "task": {"type": "string", "description": "Needed; or type."},
        "args": {"type": "object"},
        "priority": {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "string", "enum": [*PRIORITIES]}]
        },
        "queue": NAME,
        "scheduled_at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": NAME, "maxItems": 100},
        "tenant": TEXT,
        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 32767},
        "timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
        "depends_on": {"type": "array", "items": ID, "maxItems": 1000},
        "meta": {"type": "object"},
        "id": ID,
        "type": {"type": "string", "description": "Another word for task."},
        "payload": {"type": "object", "description": "Another word for args."},
        "retry_config": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"max_attempts": {"type": "integer", "minimum": 1, "maximum": 32767}},
        },
        **NOT_YET,
    },
}
REASON: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 255}},
}
CANCEL: Schema = {
    **REASON, "properties": {**REASON["properties"], "running": {"type": "boolean"}, "children": {"type": "boolean"}},
}  # fmt: skip
WITH_IT = {
    "running": "a job that runs is always asked to stop",
    "children": "what a job has called is always cancelled with it",
}
"""What may be said of a cancellation, and why it cannot be otherwise."""
WHERE_TO: dict[str, Schema] = {"queue": NAME, "priority": {"type": "integer", "minimum": 0, "maximum": 9}}
MOVE: Schema = {"type": "object", "additionalProperties": False, "properties": WHERE_TO}
RETRY: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "scope": {"type": "string", "enum": ["failed", "all"]},
        "before": {"type": "string", "format": "date-time"},
    },
}
BULK: Schema = {
    "type": "object",
    "required": ["action"],
    "additionalProperties": False,
    "properties": {
        "action": {"type": "string", "enum": [*BULK_RIGHTS]},
        "ids": {"type": "array", "items": ID, "minItems": 1, "maxItems": 1000},
        "filter": {"type": "object", "additionalProperties": False, "properties": FILTERS},
        "dry_run": {"type": "boolean"},
        **WHERE_TO,
        "reason": {"type": "string", "minLength": 1, "maxLength": 255},
    },
}


def add_to(blueprint: Blueprint, fc: Fairchild, gate: Gate) -> Api:
    """Add all operations, and an answer for paths under ``/api/`` that are none."""
    api = Api(blueprint, fc, gate)
    _jobs(api)
    _one_job(api)
    _whole(api)
    _queues(api)
    _workers(api)
    _workflows(api)

    @api.add("GET", "/api/openapi.json", VIEW)
    def openapi_document() -> Any:
        """This description of the API."""
        return openapi.document(api.operations, request.script_root + _mount())

    @gate.route(blueprint, "/api/<fairchild_any:rest>", PUBLIC, methods=METHODS, harmless=True)
    def no_such_path(rest: str) -> Any:
        first = rest.partition("/")[0]
        if first in TO_COME:
            raise Problem(404, f"there is nothing at this path: {first} are not part of this release")
        return nothing_here()

    return api


def _mount() -> str:
    """The path of this blueprint in its application."""
    rule = request.url_rule.rule if request.url_rule is not None else ""
    return rule.removesuffix("/api/openapi.json")


def nothing_here() -> Any:
    """Raises Problem 404, or 405 where another method would do."""
    adapter = request_ctx.url_adapter
    allowed = []
    for method in METHODS:
        try:
            endpoint = str(adapter.match(method=method)[0]) if adapter is not None else ""
        except HTTPException:
            continue
        if not endpoint.endswith((".no_such_path", ".page_nowhere")):
            allowed.append(method)
    if allowed:
        raise Problem(405, f"{request.method} is not possible here; there is {', '.join(allowed)}", allow=allowed)
    raise Problem(404, "there is nothing at this path")


def _jobs(api: Api) -> None:
    fc, gate = api.fc, api.gate

    @api.add("POST", "/api/jobs", "jobs:insert", body=NEW_JOB, status=201, refusals=(404, 409), answer=named("Job"))
    def enqueue(body: dict[str, Any]) -> Any:
        """Enqueue a task that is registered here or that a live worker knows."""
        body = in_our_words(body)
        options = {name: value for name, value in body.items() if name not in ("task", "args")}
        if "scheduled_at" in options:
            options["scheduled_at"] = datetime.fromisoformat(options["scheduled_at"].replace("Z", "+00:00"))
        try:
            job = fc.enqueue_known(body["task"], body.get("args", {}), **options)
        except UnknownJob as error:
            raise invalid([("$.depends_on", str(error))]) from None
        except (ArgumentProblems, UnknownTask):
            raise
        except UsageError as error:
            raise invalid([(_place_of(error), str(error))]) from None
        if job.conflict:
            raise Problem(409, f"job {job.id} was there already and was left as it is")
        api.note("jobs:insert", f"{job.task} {job.id}", after={**(state_of(job) or {}), **(place_of(job) or {})})
        first = ("id", "task", "queue", "state", "scheduled_at")
        shown = gate.show(job)
        return {**{name: shown[name] for name in first}, **shown}

    @api.add("GET", "/api/jobs", VIEW, query={**FILTERS, **PAGE, "offset": OFFSET}, answer=shapes.JOBS)
    def list_jobs(query: dict[str, Any]) -> Any:
        """Jobs that pass all filters, newest first. ``cursor`` asks for those after a page, which ``offset`` reads.

        ``before``: made before a time, or ``2h`` for two hours ago. ``error_kind``: of the last attempt that failed.
        """
        if "before" in query:
            query["before"] = _moment(query["before"], "?before")
        return _page(gate, fc.jobs(**query, short=True))

    @api.add(
        "GET",
        "/api/jobs/export",
        VIEW,
        query={"q": FILTER, "cursor": ID},
        answer=shapes.TEXT,
        media="application/x-ndjson",
    )
    def export_jobs(query: dict[str, Any]) -> Any:
        """Jobs that match a filter as the pages take it, newest first, each a line of JSON, for as long as a second.

        If there are more, the last line is ``{"cursor", "next"}`` and no job.
        """
        wanted, wrong = read_filter(gate, query["q"])
        if wanted is None:
            raise invalid([("?q", wrong)])

        def read(cursor: str | None) -> Part[str]:
            page = fc.search(wanted, limit=EXPORT_PAGE, cursor=cursor)
            return Part("".join(f"{as_text(gate.show(job))}\n" for job in page.jobs), page.cursor)

        def rest(cursor: str) -> str:
            return (
                as_text({"cursor": cursor, "next": f"export?{urlencode({'q': query['q'], 'cursor': cursor})}"}) + "\n"
            )

        return download(fc, "jobs.ndjson", "application/x-ndjson", read, rest, query.get("cursor"))

    @api.add(
        "POST",
        "/api/jobs/bulk",
        tuple(BULK_RIGHTS.values()),
        body=BULK,
        refusals=(403,),
        answer=shapes.BULK,
    )
    def bulk(body: dict[str, Any]) -> Any:
        """Cancel, retry, run now, move or delete jobs by ids or a filter, as many as a second allows; ``more``: again.

        At most 10,000 at once; ``dry_run`` only counts.
        """
        action = body["action"]
        gate.require(BULK_RIGHTS[action])
        if ("ids" in body) == bool(body.get("filter")):
            raise invalid([("$", "needs either ids or a filter that is not empty")])
        _check_where_to(body, action == "move")
        filters: dict[str, Any] = dict(body.get("filter", {}))
        filters |= {name: UUID(filters[name]) for name in ("workflow", "worker") if name in filters}
        if "before" in filters:
            filters["before"] = _moment(filters["before"], "$.filter.before")
        ids = [UUID(each) for each in body["ids"]] if "ids" in body else None
        with fc.reading_within(READ_SECONDS):
            found = fc.job_states(ids=ids, limit=MAX_BULK + 1, **filters)
        more, found = len(found) > MAX_BULK, found[:MAX_BULK]
        chosen = [job_id for job_id, state in found if fits(action, state)]
        counts = {"matching": len(found), "possible": len(chosen), "more": more}
        if body.get("dry_run"):
            return {**counts, "changed": 0, "refused": 0, "dry_run": True}
        changed, refused, left = in_batches(
            chosen, bulk_change(fc, action, body.get("reason", "cancelled"), body.get("queue"), body.get("priority"))
        )
        after = {name: body[name] for name in WHERE_TO if name in body} if action == "move" else AFTER[action]
        api.note(f"jobs:{action}", body.get("filter") or f"{len(found)} ids", changed, after=after)
        return {**counts, "more": more or left > 0, "changed": changed, "refused": refused, "dry_run": False}


def _place_of(error: UsageError) -> str:
    """Where in the body the value is that could not be taken."""
    place = f"$.{error.option}" if error.option else "$"
    if isinstance(error, NotSerializable):
        place = f"$.{error.path}" if error.option else f"$.args{error.path.removeprefix('$')}"
    return place


def _check_where_to(body: dict[str, Any], moves: bool) -> None:
    if moves != bool({"queue", "priority"} & body.keys()):
        raise invalid([("$", "needs a queue, a priority or both" if moves else "queue and priority are for moving")])


def _page(gate: Gate, page: Page) -> dict[str, Any]:
    return {"jobs": [gate.show(job) for job in page.jobs], "cursor": page.cursor}


def _one_job(api: Api) -> None:
    fc, gate = api.fc, api.gate

    def existing(id: str) -> Any:
        job = fc.get_job(read_id(id))
        if job is None:
            raise Problem(404, f"no job has the id {id}; it may have been deleted or pruned")
        return job

    @api.add("GET", "/api/jobs/{id}", VIEW, refusals=(404,), answer=named("Job"))
    def get_job(id: str) -> Any:
        """One job with all that is known of it."""
        return gate.show(existing(id))

    @api.add("GET", "/api/jobs/{id}/why", VIEW, refusals=(404,), answer=shapes.WHY)
    def why_job(id: str) -> Any:
        """Why a job does not run, or that nothing keeps it from running."""
        return fc.why(read_id(id)).to_dict()

    @api.add("GET", "/api/jobs/{id}/logs", "payload:read", query=LOG, refusals=(404,), answer=shapes.LOGS)
    def get_logs(id: str, query: dict[str, Any]) -> Any:
        """What a job has logged, oldest first, of one attempt or of all; ``after`` asks for what came after a line."""
        job = existing(id)
        lines = fc.logs(job.id, **query)
        shown = [each.to_dict() for each in gate.show_lines(job, lines)]
        return {"lines": shown, "after": lines[-1].id if lines else query["after"]}

    @api.add("GET", "/api/jobs/{id}/dependencies", VIEW, query=PAGE, refusals=(404,), answer=shapes.JOBS)
    def get_dependencies(id: str, query: dict[str, Any]) -> Any:
        """The jobs that a job waits or waited for, in the order of their ids; ``cursor`` asks for more."""
        return _page(gate, fc.dependencies(existing(id).id, **query, short=True))

    @api.add("GET", "/api/jobs/{id}/dependents", VIEW, query=PAGE, refusals=(404,), answer=shapes.JOBS)
    def get_dependents(id: str, query: dict[str, Any]) -> Any:
        """The jobs that wait or waited for a job, in the order of their ids; ``cursor`` asks for more."""
        return _page(gate, fc.dependents(existing(id).id, **query, short=True))

    @api.add("GET", "/api/jobs/{id}/family", VIEW, refusals=(404,), answer=shapes.FAMILY)
    def get_family(id: str) -> Any:
        """The workflow that a job belongs to: its root's id, its jobs and what they wait for."""
        family = fc.family(read_id(id))
        if family is None:
            raise Problem(404, f"no job has the id {id}")
        return {"root_id": str(family["root"].id), **_shown_family(gate, family)}

    @api.add(
        ("POST", "PATCH"),
        "/api/jobs/{id}/cancel",
        "jobs:cancel",
        body=CANCEL,
        body_optional=True,
        refusals=(404, 409),
        answer=named("Job"),
        also={202: shapes.CHANGED},
    )
    def cancel_job(id: str, body: dict[str, Any]) -> Any:
        """Cancel a job and its descendants, for about a second; one that runs is asked to stop.

        202 with ``more``: workers cancel the rest, or whoever asks again.

        ``running`` and ``children`` can only be true: neither of that can be left out.
        """
        for name, sentence in WITH_IT.items():
            if not body.get(name, True):
                raise invalid([(f"$.{name}", f"must be true or left out: {sentence}; nothing was changed")])
        job, reason = existing(id), body.get("reason", "cancelled")
        answer, status = _changed(
            api,
            job.id,
            "jobs:cancel",
            lambda done: fc.cancel_within(ACTION_SECONDS, [job.id], reason, lambda reached: done(len(reached))),
        )
        if job.ended and not answer["changed"]:
            raise Problem(409, f"job {job.id} has ended: it is {job.state}")
        return (answer, status) if status == 202 else gate.show(job.refresh())

    @api.add("POST", "/api/jobs/{id}/retry", "jobs:retry", refusals=(404, 409), answer=named("Job"))
    def retry_job(id: str) -> Any:
        """Make an ended job available again, with at least one attempt left."""
        job = existing(id)
        if not job.ended:
            raise Problem(409, f"job {job.id} has not ended: it is {job.state}")
        try:
            changed = fc.retry(job)
        except UsageError as error:
            raise Problem(409, str(error)) from None
        was, now = state_of(job), job.refresh()
        api.note("jobs:retry", job.id, len(changed), before=was, after=state_of(now))
        return gate.show(now)

    @api.add("POST", "/api/jobs/{id}/run", "jobs:edit", refusals=(404, 409), answer=named("Job"))
    def run_job(id: str) -> Any:
        """Make a scheduled job available before its time, also one that is to be tried again; 409 in other states."""
        job = existing(id)
        if not fc.run_now(job):
            raise Problem(409, f"job {job.id} is not scheduled: it is {job.refresh().state}; {WHAT_HOLDS}")
        was, now = state_of(job), job.refresh()
        api.note("jobs:run", job.id, before=was, after=state_of(now))
        return gate.show(now)

    @api.add("POST", "/api/jobs/{id}/move", "jobs:edit", body=MOVE, refusals=(404, 409), answer=named("Job"))
    def move_job(id: str, body: dict[str, Any]) -> Any:
        """Put a scheduled or available job into another ``queue``, or give it another ``priority``."""
        job = existing(id)
        _check_where_to(body, moves=True)
        if not fits("move", job.state):
            raise Problem(409, f"job {job.id} is {job.state}: only scheduled and available jobs can be moved")
        was, moved, now = place_of(job), fc.move(job, **body), job.refresh()
        if moved:
            api.note("jobs:move", f"{job.id} to {body}", before=was, after=place_of(now))
        return gate.show(now)

    @api.add("DELETE", "/api/jobs/{id}", "jobs:delete", refusals=(404, 409), answer=shapes.DELETED)
    def delete_job(id: str) -> Any:
        """Delete a job that has ended and that no other needs."""
        job = existing(id)
        if not fc.delete(job):
            why = "others still need it" if job.ended else f"it has not ended: it is {job.state}"
            raise Problem(409, f"job {job.id} was not deleted: {why}")
        api.note("jobs:delete", job.id, before=state_of(job))
        return {"deleted": str(job.id)}


def _whole(api: Api) -> None:
    fc = api.fc

    @api.add("GET", "/api/stats", VIEW, answer=shapes.STATS)
    def stats() -> Any:
        """How many jobs are in which state, in all and by queue."""
        return fc.stats()

    @api.add("GET", "/api/tenants", VIEW, query={"limit": LIMIT, "cursor": TEXT}, answer=shapes.TENANTS)
    def tenants(query: dict[str, Any]) -> Any:
        """How many jobs of each tenant have not ended, by state and by the tenants' names.

        Of each state 50,000 jobs are looked at: ``exact`` says whether those are all. ``cursor`` asks for more tenants.
        """
        found = fc.stats(by="tenant")
        names = [name for name in found["tenants"] if "cursor" not in query or name > query["cursor"]]
        listed = names[: query["limit"]]
        return {
            "tenants": [{"name": name, "counts": found["tenants"][name]} for name in listed],
            "cursor": listed[-1] if len(names) > len(listed) else None,
            "exact": found["exact"],
        }

    @api.add(
        "GET",
        "/api/timeseries",
        VIEW,
        query={"minutes": MINUTES, "step": STEP, "queue": NAME, "task": NAME},
        answer=shapes.TIMESERIES,
    )
    def timeseries(query: dict[str, Any]) -> Any:
        """What was inserted and ended per minute, or per ``step`` of them, and how long jobs waited and ran."""
        if query["step"] > query["minutes"]:
            raise invalid([("?step", f"must be at most {query['minutes']}, the number of minutes")])
        return fc.timeseries(**query)

    @api.add("GET", "/api/tasks", VIEW, answer=shapes.TASKS)
    def tasks() -> Any:
        """The tasks that live workers know."""
        return {"tasks": [{**each, "params": mask_defaults(each)} for each in fc.known_tasks()]}

    @api.add("GET", "/api/errors", VIEW, answer=shapes.ERRORS)
    def errors() -> Any:
        """The newest 5,000 failed jobs by the fingerprint of their last error, the latest first."""
        return {"errors": [_shown_error(api.gate, each) for each in fc.insight.errors()]}

    def known_error(fingerprint: str) -> str:
        if not FINGERPRINT.fullmatch(fingerprint):
            raise Problem(404, "this is not the fingerprint of an error")
        return fingerprint

    @api.add("POST", "/api/errors/{fingerprint}/mute", "jobs:edit", refusals=(404,), answer=shapes.MUTED)
    def mute_error(fingerprint: str) -> Any:
        """Leave an error out of what needs attention, also if more jobs fail by it."""
        changed = fc.insight.mute(known_error(fingerprint), api.gate.who())
        api.note("errors:mute", fingerprint, before={"muted": not changed}, after={"muted": True})
        return {"fingerprint": fingerprint, "muted": True}

    @api.add("POST", "/api/errors/{fingerprint}/unmute", "jobs:edit", refusals=(404,), answer=shapes.MUTED)
    def unmute_error(fingerprint: str) -> Any:
        """Undo that."""
        changed = fc.insight.unmute(known_error(fingerprint))
        api.note("errors:unmute", fingerprint, before={"muted": changed}, after={"muted": False})
        return {"fingerprint": fingerprint, "muted": False}

    @api.add(
        "GET",
        "/api/audit",
        "tokens:edit",
        query={"limit": LIMIT, "cursor": {"type": "integer", "minimum": 1}},
        answer=shapes.AUDIT,
    )
    def audit(query: dict[str, Any]) -> Any:
        """Who did what through the API and the pages, newest first."""
        entries = fc.audit_entries(**query)
        cursor = entries[-1].id if len(entries) == query["limit"] else None
        return {"entries": [each._asdict() for each in entries], "cursor": cursor}

    @api.add("GET", "/health", VIEW, query=MAX_AGE, answer=shapes.HEALTH, also={503: shapes.HEALTH})
    def health(query: dict[str, Any]) -> Any:
        """Whether jobs can run: the database, its tables, workers, the job that has waited longest, and more.

        503 if a check fails; warnings do not. ``max_age``: the seconds for which an available job may wait.
        """
        checks = fc.health(max_age=query.get("max_age"))
        good = all(check["ok"] for check in checks.values())
        for name, detail in AWAY.items():  # what the database said may name hosts and users
            if name in checks and not checks[name]["ok"]:
                checks[name]["detail"] = detail
        return as_json({"ok": good, "checks": checks}, 200 if good else 503)


def _shown_error(gate: Gate, group: ErrorGroup) -> dict[str, Any]:
    message = group.message if gate.tells_messages() else None
    pattern = None if message is None else without_details(message)
    return {**group._asdict(), "hours": group.by_hour(), "message": message, "pattern": pattern}


def _queues(api: Api) -> None:
    fc = api.fc

    def checked(name: str) -> str:
        if not 1 <= len(name) <= 255 or not name.isprintable() or "\ufffd" in name:
            raise Problem(404, "there is no such queue")
        return name

    @api.add("GET", "/api/queues", VIEW, answer=shapes.QUEUES)
    def list_queues() -> Any:
        """Each queue with its counts, whether it is paused and how long its oldest available job has waited."""
        return {"queues": fc.queues.list()}

    @api.add("POST", "/api/queues/{name}/pause", "queues:pause", refusals=(404,), answer=named("Queue"))
    def pause_queue(name: str) -> Any:
        """Let nobody take jobs from a queue; what runs goes on."""
        changed = fc.queues.pause(checked(name), api.gate.who())
        api.note("queues:pause", name, before={"paused": not changed}, after={"paused": True})
        return fc.queues.get(name)

    @api.add("POST", "/api/queues/{name}/resume", "queues:pause", refusals=(404,), answer=named("Queue"))
    def resume_queue(name: str) -> Any:
        """Undo a pause."""
        checked(name)
        if not any(each["name"] == name for each in fc.queues.list()):
            raise Problem(404, "there is no such queue")
        changed = fc.queues.resume(name)
        api.note("queues:resume", name, before={"paused": changed}, after={"paused": False})
        return fc.queues.get(name)


def _workers(api: Api) -> None:
    fc = api.fc

    @api.add("GET", "/api/workers", VIEW, answer=shapes.WORKERS)
    def workers() -> Any:
        """The workers, those that are over last."""
        found = fc.worker_sessions()
        if not api.gate.allows("payload:read"):
            for each in found:
                if each["vitals"].get("error"):
                    each["vitals"]["error"]["text"] = None
        return {"workers": found}

    def change(id: str, did: str, door: Callable[[UUID], list[Any]]) -> Any:
        wanted = read_id(id)
        was = next((each.state.value for each in fc.workers.list() if each.id == wanted), None)
        try:
            found = door(wanted)
        except UnknownWorker as error:
            raise Problem(404, str(error)) from None
        before, after = None if was is None else {"state": was}, {"state": found[0].state.value}
        api.note(f"workers:{did}", f"{found[0].name} {id}", before=before, after=after)
        return found[0].to_dict()

    @api.add("POST", "/api/workers/{id}/pause", "workers:control", refusals=(404,), answer=named("Worker"))
    def pause_worker(id: str) -> Any:
        """Let a worker take no more jobs; what runs goes on."""
        return change(id, "pause", fc.workers.pause)

    @api.add("POST", "/api/workers/{id}/resume", "workers:control", refusals=(404,), answer=named("Worker"))
    def resume_worker(id: str) -> Any:
        """Undo a pause."""
        return change(id, "resume", fc.workers.resume)

    @api.add("POST", "/api/workers/{id}/stop", "workers:control", refusals=(404,), answer=named("Worker"))
    def stop_worker(id: str) -> Any:
        """Let a worker end what it runs, take nothing new, and go."""
        return change(id, "stop", fc.workers.stop)

    @api.add("POST", "/api/workers/{id}/stacks", "workers:control", refusals=(404, 504), answer=shapes.STACKS)
    def ask_stacks(id: str) -> Any:
        """Where each thread of a worker is now, and which job it runs; no variable's value is in it."""
        try:
            (found,) = fc.workers.stacks(read_id(id), timeout=STACKS_SECONDS)
        except UnknownWorker as error:
            raise Problem(404, str(error)) from None
        except WorkerSilent as error:
            raise Problem(504, f"{error}: GET this path later") from None
        api.note("workers:stacks", f"{found.worker} {id}")
        return found.to_dict()

    @api.add("GET", "/api/workers/{id}/stacks", "workers:control", refusals=(404,), answer=shapes.STACKS)
    def last_stacks(id: str) -> Any:
        """What a worker has said last of where its threads are, and when; ``at`` is null if it has said nothing."""
        found = fc.workers.last_stacks([read_id(id)])
        if not found:
            raise Problem(404, "no worker of this id was ever asked; POST to this path asks it")
        return found[0].to_dict()


def _workflows(api: Api) -> None:
    fc, gate = api.fc, api.gate

    def existing(id: str) -> Workflow:
        try:
            return fc.workflows.get(read_id(id))
        except UnknownJob as error:
            raise Problem(404, str(error)) from None

    @api.add("GET", "/api/workflows", VIEW, query={**FLOWS, **PAGE}, answer=shapes.WORKFLOWS)
    def list_workflows(query: dict[str, Any]) -> Any:
        """Jobs that have called others and pass all filters, newest first, with the states of all their jobs.

        ``name`` is a part of the root's task, ``task`` the whole; ``after`` a time, or ``2h`` for two hours ago. Some
        hundred are looked at for an answer: where few pass it may hold less than ``limit``, and ``cursor`` leads on.
        """
        wanted = Wanted(
            **{name: query[name] for name in ("name", "task", "tenant", "state") if name in query},
            since=_since(query.get("after")),
        )
        found, cursor = fc.roots(query["limit"], query.get("cursor"), wanted)
        return {
            "workflows": [{"root": gate.show(each["job"]), **progress(each["counts"])} for each in found],
            "cursor": cursor,
        }

    @api.add("GET", "/api/workflows/{id}", VIEW, query={"cursor": ID}, refusals=(404,), answer=shapes.WORKFLOW)
    def get_workflow(id: str, query: dict[str, Any]) -> Any:
        """The workflow of any of its jobs: up to 1,000 of its jobs, what those wait for, and how far it is."""
        family = fc.family(read_id(id), cursor=query.get("cursor"))
        if family is None:
            raise Problem(404, f"no job has the id {id}")
        return {"id": str(family["root"].id), "root": gate.show(family["root"]), **_shown_family(gate, family)}

    @api.add(
        "POST",
        "/api/workflows/{id}/cancel",
        "jobs:cancel",
        body=REASON,
        body_optional=True,
        refusals=(404,),
        answer=shapes.CHANGED,
        also={202: shapes.CHANGED},
    )
    def cancel_workflow(id: str, body: dict[str, Any]) -> Any:
        """Cancel what has not ended in a workflow, for about a second; 202 with ``more``: as of a job."""
        workflow = existing(id)
        reason = body.get("reason", "cancelled")
        return _changed(
            api, workflow.id, "workflows:cancel", lambda done: workflow.cancel_within(ACTION_SECONDS, reason, done)
        )

    @api.add(
        "POST",
        "/api/workflows/{id}/retry",
        "jobs:retry",
        body=RETRY,
        body_optional=True,
        refusals=(404, 409),
        answer=shapes.RETRIED,
        also={202: shapes.RETRIED},
    )
    def retry_workflow(id: str, body: dict[str, Any]) -> Any:
        """Run again what failed, and what was cancelled because of it, for about a second; what completed is kept.

        202, ``more``: ask again with the ``scope`` and ``before`` of the answer. ``scope`` "all" is also what somebody
        cancelled: without one, if all was cancelled or nothing failed.
        """
        workflow = existing(id)
        found = workflow.retriable()
        scope: Scope = body.get("scope") or ("all" if found.whole else "failed")
        before = moment_of(body["before"]) if "before" in body else found.at
        answer, status = _changed(
            api, workflow.id, "workflows:retry", lambda done: workflow.retry_within(ACTION_SECONDS, scope, before, done)
        )
        return {**answer, "scope": scope, "before": before}, status


def _changed(
    api: Api, id: UUID, action: str, run: Callable[[Callable[[int], None]], bool]
) -> tuple[dict[str, Any], int]:
    """As much as a request may do; it is noted even if it is broken off."""
    done: list[int] = []
    was = after_of(api.fc, id)
    try:
        over = run(done.append)
    except UsageError as error:
        if action.endswith("cancel"):
            raise
        if not sum(done):
            raise Problem(409, str(error)) from None
        over = False
    finally:
        if sum(done):
            api.note(action, id, sum(done), before=was, after=after_of(api.fc, id))
    return {"id": str(id), "changed": sum(done), "more": not over}, 200 if over else 202


def _since(text: str | None) -> UUID:
    """The first id of those made after a time of a query. Raises Problem 422."""
    return UUID(int=0) if text is None else lowest(_moment(text, "?after"))


def _moment(text: str, path: str) -> datetime:
    """A time, or how long ago, as filters have it. Raises Problem 422."""
    try:
        return moment_before(text, datetime.now(timezone.utc))
    except UsageError as error:
        raise invalid([(path, str(error).removeprefix("after: "))]) from None


def moment_of(text: str) -> datetime:
    """A time of a body; one that does not say its zone is UTC."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _shown_family(gate: Gate, family: dict[str, Any]) -> dict[str, Any]:
    return {
        "jobs": [gate.show(job) for job in family["jobs"]],
        "edges": [each._asdict() for each in family["edges"]],
        **progress(family["counts"]),
        "cursor": family["cursor"],
    }


def progress(counts: dict[str, int]) -> dict[str, Any]:
    """Counts by state, and the share of jobs that have ended."""
    total = sum(counts.values())
    ended = sum(counts.get(state.value, 0) for state in JobState if state.ended)
    return {"counts": counts, "total": total, "progress": ended / total if total else 1.0}
