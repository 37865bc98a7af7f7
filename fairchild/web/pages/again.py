"""How to make the same job again from elsewhere: in Python, on a command line, over HTTP."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from flask import url_for

from fairchild.job import Job
from fairchild.web.pages.site import Site

USUAL_PRIORITY = 5


def ways_to_make(site: Site, job: Job, shown: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """``(name, id of the element, text)`` of each way, as far as whoever asks may see what is in it."""
    args = shown.get("args") or {}
    options: dict[str, Any] = {"queue": job.queue}
    if job.priority != USUAL_PRIORITY:
        options["priority"] = job.priority
    options |= {name: value for name, value in (("tenant", job.tenant), ("tags", job.tags)) if value}
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    words = ["fairchild", "enqueue", job.task, "--args", json.dumps(args, ensure_ascii=False)]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += ["--tag" if name == "tags" else f"--{name}", str(each)]
    ways = [("Python", "as-python", f"fc.enqueue({job.task!r}, {args!r}{said})"), ("CLI", "as-cli", shlex.join(words))]
    if site.gate.offers(("POST",)):
        body = json.dumps({"task": job.task, "args": args, **options}, ensure_ascii=False)
        url = url_for(".enqueue", _external=True)
        sent = f"curl {shlex.quote(url)} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        ways.append(("curl", "as-curl", sent))
    return ways
