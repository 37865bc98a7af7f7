"""What a job has logged: the newest lines on its page, by attempt and level, and all of it as a text file."""

from __future__ import annotations

import json
from datetime import timezone
from typing import Any
from urllib.parse import urlencode

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from fairchild.client.client import MAX_PAGE
from fairchild.job import LEVELS, Job, LogLine
from fairchild.web.downloads import Part, download
from fairchild.web.pages.site import Site

MOST_LINES = 500
MOST_ATTEMPTS = 50
"""That can be chosen by name; the address takes any."""
_COLOURS = {"warning": "retrying", "error": "failed", "critical": "failed"}


def shown_logs(site: Site, job: Job) -> dict[str, Any] | None:
    """The card of a job's log; None if there is nothing to say or whoever asks may not read it."""
    if not site.gate.allows("payload:read"):
        return None
    attempt, level = _attempt(), _level()
    follow = not job.ended and request.args.get("follow") == "1"
    # Who does not follow is not sent the lines again, so they need not be read.
    unread = "_live" in request.args and not follow
    lines: list[LogLine] = []
    if not unread:
        lines = site.fc.logs(job.id, attempt=attempt, level=level, limit=MOST_LINES, newest=True)
    if not lines and not unread and attempt is None and level == "debug" and (job.ended or job.attempt == 0):
        return None
    first = max(job.attempt - MOST_ATTEMPTS + 1, 1)
    chosen = {} if attempt is None else {"attempt": attempt}
    return {
        "lines": [_shown(line) for line in site.gate.show_lines(job, lines)],
        "full": len(lines) == MOST_LINES,
        "attempt": attempt,
        "attempts": sorted({*range(first, job.attempt + 1), *chosen.values()}),
        "level": level,
        "levels": [*LEVELS],
        "follow": follow,
        "text": site.url("job_logs", id=job.id, **chosen, **({} if level == "debug" else {"level": level})),
    }


def whole_log(site: Site, job: Job) -> AnyResponse:
    """The log of a job as a text file, by the attempt and level asked for."""
    attempt, level = _attempt(), _level()
    chosen: dict[str, Any] = {} if attempt is None else {"attempt": attempt}
    if level != "debug":
        chosen["level"] = level

    def read(after: int | None) -> Part[int]:
        lines = site.fc.logs(job.id, attempt=attempt, level=level, after=after or 0)
        return Part(
            "".join(map(_written, site.gate.show_lines(job, lines))), lines[-1].id if len(lines) == MAX_PAGE else None
        )

    def rest(after: int) -> str:
        where = f"api/jobs/{job.id}/logs?{urlencode({**chosen, 'after': after})}"
        return f"There is more than could be read in the time: GET {where}\n"

    return download(site.fc, f"{job.id}.log", "text/plain", read, rest)


def _attempt() -> int | None:
    text = request.args.get("attempt", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else None


def _level() -> str:
    text = request.args.get("level", "")
    return text if text in LEVELS else "debug"


def _shown(line: LogLine) -> dict[str, Any]:
    moment = line.at.astimezone(timezone.utc)
    return {
        "at": moment.isoformat(timespec="milliseconds"),
        "written": f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC",
        "attempt": line.attempt,
        "level": line.level,
        "colour": _COLOURS.get(line.level, ""),
        "logger": line.logger,
        "message": line.message,
        "fields": _fields(line),
    }


def _fields(line: LogLine) -> str:
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in line.fields.items())


def _written(line: LogLine) -> str:
    """A line of the file. Further lines of a message are indented, so that no text of a task looks like a line."""
    at = line.at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = _fields(line)
    text = f"{line.message} {fields}" if fields else line.message
    body = "\n    ".join(text.splitlines()) if text else ""
    return f"{at} attempt {line.attempt} {line.level.upper()} {line.logger}: {body}\n"
