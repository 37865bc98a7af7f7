"""One job: what happened, why, what now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.job import Job, JobState
from fairchild.rules.query import RETRYING, Query, Term
from fairchild.rules.why import Reason
from fairchild.web import words
from fairchild.web.audit import after_of, place_of, state_of
from fairchild.web.bulk import ACTION_SECONDS, fits
from fairchild.web.pages import many, stacks
from fairchild.web.pages.again import ways_to_make
from fairchild.web.pages.attempts import attempts_of, moment_in, progress_of, told
from fairchild.web.pages.json_text import written
from fairchild.web.pages.logs import shown_logs, whole_log
from fairchild.web.pages.past_runs import runs_like
from fairchild.web.pages.relatives import MOST_RELATIVES, others_like, relatives_of
from fairchild.web.pages.site import Shown, Site
from fairchild.web.problems import Problem


class Step(NamedTuple):
    """A state on the way of a job. ``cls`` says whether it was there (past), is (past here) or may be yet ("")."""

    state: str
    moment: datetime | None
    note: str
    cls: str


def add_to(site: Site) -> None:
    """Add the page of a job and what can be done to it."""

    @site.page("/jobs/<id>")
    def page_job(id: str) -> Shown:
        job = find(site, id)
        return Shown("job.html", _shown(site, job))

    @site.page("/jobs/<id>/logs.txt", "payload:read")
    def page_job_logs(id: str) -> AnyResponse:
        return whole_log(site, find(site, id))

    @site.page("/jobs/<id>/<any(args,result,meta):part>.json", "payload:read")
    def page_job_payload(id: str, part: str) -> AnyResponse:
        job = find(site, id)
        value = site.gate.show(job).get(part)
        answer = Response(written(value) + "\n", content_type="application/json; charset=utf-8")
        answer.headers.set("Content-Disposition", "attachment", filename=f"{job.id}-{part}.json")
        return answer

    @site.page("/jobs/<id>/retry", "jobs:retry", methods=("POST",))
    def page_job_retry(id: str) -> AnyResponse:
        job = find(site, id)
        if request.form.get("ended", ended_key(job)) != ended_key(job):
            return site.done("changed-since", 0, "job", id=job.id)  # the button was pressed twice
        if not job.ended:
            raise Problem(409, f"this job is {job.state} and has not ended; nothing was changed")
        reopened = site.fc.retry(job)
        site.audit("jobs:retry", str(job.id), len(reopened), before=state_of(job), after=after_of(site.fc, job.id))
        return site.done("retried", len(reopened), "job", id=job.id)

    @site.page("/jobs/<id>/run", "jobs:edit", methods=("POST",))
    def page_job_run(id: str) -> AnyResponse:
        job = find(site, id)
        if not site.fc.run_now(job):
            raise Problem(409, f"this job is {job.refresh().state} and not put off; nothing was changed")
        site.audit("jobs:run", str(job.id), 1, before=state_of(job), after=after_of(site.fc, job.id))
        return site.done("made-available", 1, "job", id=job.id)

    @site.page("/jobs/<id>/move", "jobs:edit", methods=("POST",))
    def page_job_move(id: str) -> Shown | AnyResponse:
        job = find(site, id)
        if not fits("move", job.state):
            raise Problem(409, f"this job is {job.state}: only scheduled and available jobs can be moved")
        if request.form.get("sure") != "1":
            return _ask(site, "move", job)
        moved = many.move_as_told(site)([job.id])
        if moved:
            now = place_of(site.fc.get_job(job.id))
            site.audit("jobs:move", f"{job.id}{many.told_where()}", 1, before=place_of(job), after=now)
        return site.done("moved", len(moved), "job", id=job.id)

    @site.page("/jobs/<id>/cancel", "jobs:cancel", methods=("POST",))
    def page_job_cancel(id: str) -> Shown | AnyResponse:
        job = find(site, id)
        if job.ended:
            raise Problem(409, f"this job is {job.state} already; nothing was changed")
        if request.form.get("sure") != "1":
            return _ask(site, "cancel", job)
        if job.parent_id is None and sum(site.fc.workflows.get(job.id).counts.values()) > 1:
            # With as many others as there may be: they are cancelled in portions, and named before.
            return redirect(site.url("workflow_cancel", id=job.id), 307)
        reached: list[UUID] = []
        over = site.fc.cancel_within(ACTION_SECONDS, [job.id], "cancelled by hand", reached.extend)
        site.audit("jobs:cancel", str(job.id), len(reached), before=state_of(job), after=after_of(site.fc, job.id))
        return site.done("cancelled" if over else "cancelling", len(reached), "job", id=job.id)

    @site.page("/jobs/<id>/delete", "jobs:delete", methods=("POST",))
    def page_job_delete(id: str) -> Shown | AnyResponse:
        job = find(site, id)
        if request.form.get("sure") != "1":
            return _ask(site, "delete", job)
        deleted = site.fc.delete(job)
        if not deleted:
            raise Problem(409, "this job, or one that needs it, has not ended; nothing was deleted")
        site.audit("jobs:delete", str(job.id), len(deleted), before=state_of(job))
        return site.done("deleted", len(deleted), "jobs")


def find(site: Site, id: str) -> Job:
    """The job of an id in an address. Raises Problem 404."""
    try:
        found = site.fc.get_job(UUID(id))
    except ValueError:
        raise Problem(404, f"{id[:60]!r} is not the id of a job") from None
    if found is None:
        raise Problem(404, f"there is no job {id}: it was deleted, or pruned some days after it ended")
    return found


def _shown(site: Site, job: Job) -> dict[str, Any]:
    job, shown = site.visible(job)
    root = site.fc.get_job(job.workflow_id) if job.workflow_id not in (None, job.id) else None
    parent = None
    if job.parent_id is not None:
        parent = root if root is not None and root.id == job.parent_id else site.fc.get_job(job.parent_id)
    children = site.fc.search(Query((Term("parent", (job.id,)),)), limit=MOST_RELATIVES, short=True)
    worker = next((each["name"] for each in site.fc.worker_sessions() if each["id"] == job.worker), None)
    why = _why(site, job)
    return {
        "job": job,
        "shown": shown,
        "live": not job.ended,
        "root": root,
        "parent": parent,
        "path": _path(job),
        "why": why,
        "error": told(job.errors[-1]) if job.errors else None,
        "others": others_like(site, job) if job.errors else None,
        "progress": progress_of(job, site.now()),
        "attempts": attempts_of(job, site.now()),
        "relatives": relatives_of(site, job, [each for reason in why if reason.code == "upstream"
                                              for each in reason.jobs]),
        "children": children.jobs,
        "more_children": children.cursor is not None,
        "log": shown_logs(site, job),
        "worker": worker,
        "seen": stacks.of_job(site, job),
        "again": ways_to_make(site, job, shown),
        "made_from": _id_in(shown, "retry_of"),
        "made_into": _id_in(shown, "retried_as"),
        "past": runs_like(site, job),
        "quoted": words.quoted,
        "ended_key": ended_key(job),
    }  # fmt: skip


def _id_in(shown: Mapping[str, Any], name: str) -> UUID | None:
    """The id of another job in what is kept with this one."""
    try:
        return UUID(str((shown.get("meta") or {}).get(name, "")))
    except ValueError:
        return None


def _why(site: Site, job: Job) -> list[Reason]:
    """What matters to its next run, what keeps it first."""
    if job.ended:
        return []
    return sorted(site.fc.why(job.id).reasons, key=lambda each: not each.blocks)


def _path(job: Job) -> list[Step]:
    """The states it went through, the one it is in, and where that leads."""
    now_in = words.shown_state(job)
    steps: list[Step] = []

    def past(state: str, moment: datetime | None, note: str = "") -> None:
        steps.append(Step(state, moment, note, "past here" if state == now_in and not _has_here(steps) else "past"))

    late = job.scheduled_at is not None and job.inserted_at is not None and job.scheduled_at > job.inserted_at
    first_try = job.attempt == 0 or not job.errors
    if now_in == "scheduled" or (late and first_try):
        past("scheduled", job.inserted_at)
    if now_in == "waiting" and job.attempted_at is None:
        past("waiting", job.inserted_at)
    elif now_in not in ("scheduled", "waiting") and not (job.ended and job.attempted_at is None):
        past("available", job.scheduled_at if first_try else job.inserted_at)
    if job.attempted_at is not None:
        if job.errors and (not job.ended or len(job.errors) > 1) and now_in != RETRYING:
            past(RETRYING, moment_in(job.errors[-1].get("at")), "")
        past("running", job.attempted_at)
        if now_in == RETRYING:
            past(RETRYING, job.scheduled_at)
        elif now_in == "available" and job.errors:
            steps.append(Step("available", job.scheduled_at, "", "past here"))
        elif now_in == "waiting":
            past("waiting", None, "on other jobs")
    if job.ended:
        past(job.state.value, job.ended_at)
        return steps
    order = ["available", "running", "completed"]
    ahead = order[order.index(now_in) + 1 :] if now_in in order else order
    return [*steps, *(Step(state, None, "to come", "") for state in ahead)]


def _has_here(steps: list[Step]) -> bool:
    return any(step.cls == "past here" for step in steps)


def ended_key(job: Job) -> str:
    """Tells one end of a job from another, so that a form is not sent about the next one."""
    return job.ended_at.isoformat() if job.ended_at is not None else ""


def _ask(site: Site, action: str, job: Job) -> Shown:
    """Whether to do what cannot be undone, and where to move it."""
    facts = [("Job", str(job.id)), ("Task", job.task), ("State", job.state.value)]
    possible = 1
    if action == "delete":
        possible = 1 if job.ended else 0
    elif action == "move":
        facts += [("Queue", job.queue), ("Priority", str(job.priority))]
    else:
        facts.append(("With it", "its descendants that have not ended"))
        if job.state is JobState.RUNNING:
            facts.append(("What it does now", "its task is asked to stop, and may still come to its end"))
    return Shown(
        "confirm.html",
        {
            "verb": action.capitalize(),
            "what": f"this job of {words.short_task(job.task)}",
            "facts": facts,
            "possible": possible,
            "more": False,
            "type_number": 0,
            "dangerous": action != "move",
            "inputs": many.INPUTS if action == "move" else [],
            "target": site.url(f"job_{action}", id=job.id),
            "fields": [],
            "back": site.url("job", id=job.id),
            "back_name": "Job",
            "wrong": "",
            "going": "",
        },
    )
