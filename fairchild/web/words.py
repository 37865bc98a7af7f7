"""Numbers, times and states as people read them. Pure: the instant is always given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fairchild.job import Job, JobState
from fairchild.rules.query import RETRYING, Term

STATES = ("available", "running", "scheduled", "waiting", RETRYING, "completed", "failed", "cancelled")
"""As tiles and tabs are ordered."""
STACKED = ("completed", "cancelled", "failed")
"""From the base of a chart's column up."""
WORST_FIRST = ("failed", "cancelled", RETRYING, "running", "available", "scheduled", "waiting", "completed")


def number(value: float | None) -> str:
    """``1,284``."""
    return "–" if value is None else f"{value:,.0f}"


def short_number(value: float | None) -> str:
    """``99,999``, ``1.18M``: three figures above a hundred thousand."""
    if value is None:
        return "–"
    if abs(value) < 100_000:
        return number(value)
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # Rounding may carry: 999,999 is 1.00M and not 1000k.
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return number(value)


def percent(share: float) -> str:
    """``12 %``; what is not nothing, and not all, is never said to be."""
    if 0 < share < 1:
        return "<1 %"
    return f"{min(int(share + 0.5), 99) if share < 100 else 100} %"


def duration(seconds: float | timedelta | None) -> str:
    """``12 ms``, ``5.02 s``, ``3m 12s``, ``2d 4h``; nothing is longer than two units."""
    if seconds is None:
        return "–"
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    sign = "−" if seconds < 0 else ""
    seconds = abs(seconds)
    if seconds < 0.9995:
        return f"{sign}{round(seconds * 1000)} ms"
    if seconds < 9.995:
        return f"{sign}{seconds:.2f} s"
    if seconds < 59.95:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    first = next(place for place, (_, size) in enumerate(units) if whole >= size)
    (unit, size), (below, small) = units[first], units[first + 1]
    rest = whole % size // small
    return f"{sign}{whole // size}{unit}" + (f" {rest}{below}" if rest else "")


def relative(moment: datetime | None, now: datetime) -> str:
    """``5 s ago``, ``in 42 s``, ``3 min ago``, ``2 days ago``."""
    if moment is None:
        return "–"
    seconds = (moment - now).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    for below, unit, per in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600), (float("inf"), "d", 86400)):
        if size < below:
            count = int(size // per)
            return f"in {count} {unit}" if seconds > 0 else f"{count} {unit} ago"
    raise AssertionError("every number is below infinity")


def shown_state(job: Job) -> str:
    """The job's state, or ``retrying``: scheduled with attempts behind it."""
    if job.state is JobState.SCHEDULED and job.attempt > 0:
        return RETRYING
    return job.state.value


def ran_for(job: Job, now: datetime) -> timedelta | None:
    """How long the last attempt ran, or runs; a waiting parent's own run is not known."""
    if job.attempted_at is None:
        return None
    if job.state is JobState.RUNNING:
        return max(now - job.attempted_at, timedelta())
    return None if job.ended_at is None else max(job.ended_at - job.attempted_at, timedelta())


def short_task(name: str) -> str:
    """The last part of a task's name, which tells most: ``send_email``."""
    return name.rsplit(".", 1)[-1] or name


def compact(value: Any, limit: int = 200) -> str:
    """JSON on one line, cut after ``limit`` characters."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 job``, ``1,284 jobs``."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


@dataclass(frozen=True)
class Frame:
    """A place in a traceback. ``lines`` as Python printed them."""

    file: str
    line: int
    function: str
    lines: tuple[str, ...]
    library: bool


@dataclass(frozen=True)
class Traced:
    """A traceback in parts: runs of library frames are folded, what else was printed is text."""

    parts: tuple[tuple[Frame, ...] | str, ...]
    innermost: Frame | None
    """The innermost frame of the project itself, or of all if there is none."""


_LIBRARY = ("site-packages/", "dist-packages/", "/lib/python3", "<frozen ", "/fairchild/worker/", "/fairchild/tasks.py")


def traced(traceback: str) -> Traced:
    """A traceback taken apart. Groups of one or more library frames, and of one project frame each, in order."""
    parts: list[tuple[Frame, ...] | str] = []
    lines = traceback.rstrip("\n").split("\n")
    at = 0
    while at < len(lines):
        frame, at = _frame(lines, at)
        if isinstance(frame, str):
            last = parts[-1] if parts else None
            if isinstance(last, str):
                parts[-1] = f"{last}\n{frame}"
            else:
                parts.append(frame)
        else:
            last = parts[-1] if parts else None
            if frame.library and isinstance(last, tuple) and last[-1].library:
                parts[-1] = (*last, frame)
            else:
                parts.append((frame,))
    frames = [frame for part in parts if isinstance(part, tuple) for frame in part]
    own = [frame for frame in frames if not frame.library]
    return Traced(tuple(parts), own[-1] if own else frames[-1] if frames else None)


def _frame(lines: list[str], at: int) -> tuple[Frame | str, int]:
    head = lines[at]
    if not head.startswith('  File "') or '", line ' not in head:
        return head, at + 1
    file, _, rest = head[len('  File "') :].rpartition('", line ')
    digits, _, function = rest.partition(", in ")
    if not digits.isascii() or not digits.isdigit():
        return head, at + 1
    end = at + 1
    while end < len(lines) and lines[end].startswith("    "):
        end += 1
    plain = file.replace("\\", "/")
    return (
        Frame(file, int(digits), function, tuple(lines[at:end]), any(mark in plain for mark in _LIBRARY)),
        end,
    )


BAR = ("completed", "running", RETRYING, "failed", "cancelled", "available", "scheduled", "waiting")
"""As the parts of one bar are ordered."""


def moment_of(job: Job) -> datetime | None:
    """The time that matters most in a list: when it ended, began, or is due."""
    if job.ended_at is not None:
        return job.ended_at
    if job.state is JobState.RUNNING:
        return job.attempted_at
    return job.scheduled_at if job.state is JobState.SCHEDULED else job.inserted_at


def quoted(value: str) -> str:
    """A value as the filter language writes it."""
    return str(Term("task", (value,))).partition(":")[2]


def worst(counts: dict[str, int]) -> str:
    """The state of a group that deserves attention most."""
    return next((state for state in WORST_FIRST if counts.get(state)), "completed")
