"""A job from a form: the fields come from what live workers have published of the task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.errors import ArgumentProblems, UnknownTask, UsageError
from fairchild.ids import derived, uuid7
from fairchild.job import Job
from fairchild.rules.query import parse
from fairchild.web.audit import place_of, state_of
from fairchild.web.forms import Form, form_of
from fairchild.web.pages.job import find
from fairchild.web.pages.site import Shown, Site

MOST_OFFERED = 60
"""Tasks to choose from without typing."""
OPTIONS = ("queue", "priority", "run_at", "tenant", "tags")


def add_to(site: Site) -> None:
    """Add the form and what takes it."""

    @site.page("/new", "jobs:insert")
    def page_new() -> Shown:
        old = find(site, request.args["from"]) if request.args.get("from") else None
        name = request.args.get("task") or (old.task if old is not None else "")
        args = None if old is None else _visible_args(site, old)
        options: dict[str, str] = dict.fromkeys(OPTIONS, "")
        if old is not None:
            options.update(queue=old.queue, priority=str(old.priority), tenant=old.tenant, tags=", ".join(old.tags))
        return _form(site, name, args, options, old=str(old.id) if old is not None else "")

    @site.page("/new", "jobs:insert", methods=("POST",))
    def page_new_send() -> Shown | AnyResponse:
        name = request.form.get("task", "").strip()
        options = {each: request.form.get(each, "").strip() for each in OPTIONS}
        task = _known(site, name)
        form = form_of(task) if task is not None and "raw" not in request.form else None
        wrong: list[str] = []
        args = form.read(request.form) if form is not None else _raw(wrong)
        if (form is None or form.fine) and not wrong:
            try:
                job = site.fc.enqueue_known(name, args, id=_id_of_form(), **_options(options), **_origin(site))
            except ArgumentProblems as error:
                wrong = form.say(error.problems) if form is not None else [str(error)]
                wrong = wrong or ["Nothing was enqueued: see the fields below."]
            except (UnknownTask, UsageError) as error:
                wrong = [str(error)]
            else:
                if job.conflict:  # sent twice
                    return site.done("made-before", 0, "job", id=job.id)
                if "retry_of" in job.meta:
                    site.fc.link_retry(UUID(job.meta["retry_of"]), job.id)
                site.audit(
                    "jobs:insert", f"{name} {job.id}", 1, after={**(state_of(job) or {}), **(place_of(job) or {})}
                )
                return site.done("enqueued", 1, "job", id=job.id)
        elif not wrong:
            wrong = ["Nothing was enqueued: see the fields below."]
        shown = _form(site, name, args, options, old=request.form.get("from", ""), form=form, wrong=wrong)
        shown.status = 422
        return shown


def _visible_args(site: Site, job: Job) -> dict[str, Any]:
    """The arguments of a job less those that whoever asks does not see as they are: a mask is no argument."""
    seen = site.visible(job)[0].args
    return {name: value for name, value in job.args.items() if name in seen and seen[name] == value}


def _known(site: Site, name: str) -> dict[str, Any] | None:
    if not name:
        return None
    try:
        return site.fc.known_task(name)
    except UnknownTask:
        return None


def _form(
    site: Site,
    name: str,
    args: Mapping[str, Any] | None,
    options: Mapping[str, str],
    *,
    old: str,
    form: Form | None = None,
    wrong: list[str] | None = None,
) -> Shown:
    task = _known(site, name)
    raw = "raw" in request.values or (task is not None and any(each.get("variadic") for each in task["params"]))
    if form is None and task is not None and not raw:
        form = form_of(task, args)
    typed = request.form.get("raw_args")
    known = site.fc.known_tasks()
    return Shown(
        "new.html",
        {
            "name": name,
            "task": task,
            "names": [each["name"] for each in known],
            "offered": [
                {"name": each["name"], "said": (each.get("docstring") or "").strip().partition("\n")[0]}
                for each in known[:MOST_OFFERED]
            ],
            "form": form,
            "raw": typed if typed is not None else json.dumps(args or {}, ensure_ascii=False, indent=2),
            "options": options,
            "old": old,
            "wrong": wrong or [],
            "key": uuid7(),
        },
    )


def _id_of_form() -> UUID:
    """The id of the job that this form makes: the same when it is sent again as it is, another when it was changed."""
    try:
        key = UUID(request.form["key"])
    except (KeyError, ValueError):
        return uuid7()
    said = json.dumps(sorted((name, value) for name, value in request.form.items(multi=True) if name != "key"))
    return derived(key, 0, hashlib.sha256(said.encode()).digest())


def _raw(wrong: list[str]) -> dict[str, Any]:
    try:
        args = json.loads(request.form.get("raw_args", "") or "{}")
    except ValueError as error:
        wrong.append(f"The arguments are no JSON: {error}")
        return {}
    if not isinstance(args, dict):
        wrong.append('The arguments must be an object: {"name": value}')
        return {}
    return args


def _options(options: Mapping[str, str]) -> dict[str, Any]:
    """The options of the job. Raises UsageError for what cannot be read."""
    given: dict[str, Any] = {"queue": options["queue"] or None, "tenant": options["tenant"] or None}
    if options["priority"]:
        if not options["priority"].isascii() or not options["priority"].isdigit():
            raise UsageError(f"priority: {options['priority']!r} is not a number from 0 to 9; nothing was enqueued")
        given["priority"] = int(options["priority"])
    if options["tags"]:
        given["tags"] = [tag.strip() for tag in options["tags"].split(",") if tag.strip()]
    if options["run_at"]:
        given |= _when(options["run_at"])
    return given


def _when(text: str) -> dict[str, Any]:
    """``5m`` is in five minutes; else a time, of UTC unless it says so."""
    moment = parse(f'before:"{text}"').terms[0].values[0]
    if isinstance(moment, timedelta):
        return {"delay": moment}
    if isinstance(moment, datetime):
        return {"scheduled_at": moment.astimezone(timezone.utc)}
    raise UsageError(f"{text!r} is no time; nothing was enqueued")


def _origin(site: Site) -> dict[str, Any]:
    """A job made from another says so."""
    old = request.form.get("from")
    return {"meta": {"retry_of": str(find(site, old).id)}} if old else {}
