"""The attempts of a job: when each waited and ran, what it came to, and what it said when it went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fairchild.job import Job, JobState
from fairchild.web import words
from fairchild.web.words import Traced

TRACK = 400.0
"""How wide the bar of an attempt is drawn."""


class Told(NamedTuple):
    """An entry of a job's ``errors`` as a page shows it."""

    attempt: Any
    name: str
    """The type of what was raised, or the kind of its end where nothing was."""
    message: str | None
    traceback: str | None
    traced: Traced
    at: datetime | None
    worker: str | None


class Attempt(NamedTuple):
    """One attempt as a bar: (x, width) of its wait and of its run, where those are known."""

    label: str
    state: str
    wait: tuple[float, float] | None
    run: tuple[float, float] | None
    took: str
    said: str
    error: Told | None = None
    dropped: int = 0
    """How many attempts before it are not kept: of a long list the first and the last are."""


def told(entry: Mapping[str, Any]) -> Told:
    """An entry of ``errors``. What whoever asks may not read is None in it already."""
    traceback = entry.get("traceback")
    name = entry.get("type") or (entry.get("kind") or "error").replace("_", " ")
    traced, worker = words.traced(traceback or ""), entry.get("worker")
    return Told(entry.get("attempt"), name, entry.get("message"), traceback, traced, moment_in(entry.get("at")), worker)


def attempts_of(job: Job, now: datetime) -> list[Attempt]:
    """All attempts on one scale, from when the job was made until now or its end."""
    if job.inserted_at is None or not (job.errors or job.attempted_at):
        return []
    start = job.inserted_at
    end = max(job.ended_at or now, job.scheduled_at or now) if not job.ended else job.ended_at or now
    whole = max((end - start).total_seconds(), 0.001)

    def at(moment: datetime) -> float:
        return round(min(max((moment - start).total_seconds() / whole, 0), 1) * TRACK, 1)

    def span(first: datetime, last: datetime) -> tuple[float, float]:
        x = min(at(first), TRACK - 1.5)
        return x, max(round(at(last) - x, 1), 1.5)

    found = []
    before, last = start, 0
    for entry in job.errors:
        error = told(entry)
        begun = moment_in(entry.get("started_at"))
        newest = entry is job.errors[-1]
        if begun is None and newest and job.attempted_at and error.at and job.attempted_at <= error.at:
            begun = job.attempted_at
        kind = entry.get("kind") or "error"
        state = "failed" if kind in ("error", "timeout", "invalid_args") else "cancelled"
        took = words.duration(error.at - begun) if begun and error.at else ""
        label = f"{entry.get('attempt', '?')} {'failed' if kind == 'error' else kind.replace('_', ' ')}"
        said = f"attempt {entry.get('attempt')}: {error.name}" + (f" after {took}" if took else "")
        wait = run = None
        if error.at is not None:
            wait = span(before, begun or error.at) if (begun or error.at) > before else None
            run = span(begun or error.at, error.at)
            before = error.at
        number = entry.get("attempt")
        dropped = number - last - 1 if isinstance(number, int) and last else 0
        found.append(Attempt(label, state, wait, run, took, said, error, max(dropped, 0)))
        last = number if isinstance(number, int) else last
    number = job.attempt
    if job.state is JobState.RUNNING and job.attempted_at is not None:
        took = words.duration(now - job.attempted_at)
        found.append(Attempt(f"{number} running", "running", span(before, job.attempted_at),
                             span(job.attempted_at, now), took, f"attempt {number}: running"))  # fmt: skip
    elif job.state is JobState.COMPLETED and job.attempted_at is not None and job.ended_at is not None:
        took = words.duration(job.ended_at - job.attempted_at)
        found.append(Attempt(f"{number} completed", "completed", span(before, job.attempted_at),
                             span(job.attempted_at, job.ended_at), took, f"attempt {number}: {took}"))  # fmt: skip
    elif job.state is JobState.SCHEDULED and job.errors and job.scheduled_at is not None:
        due = words.relative(job.scheduled_at, now)
        found.append(Attempt(f"{number + 1} due", "scheduled", span(before, job.scheduled_at), None, due,
                             f"attempt {number + 1}: due {due}"))  # fmt: skip
    return found


class Going(NamedTuple):
    """How far a job said that it is."""

    done: float
    total: float | None
    said: str


def progress_of(job: Job, now: datetime) -> Going | None:
    """Its progress; while it runs with how fast it goes and what is left by that."""
    kept = job.progress
    if kept is None:
        return None
    said = [words.number(kept.value)]
    if kept.total:
        said[0] += f" of {words.number(kept.total)}, {kept.value / kept.total:.0%}"
    # An attempt that goes on from where another came to says nothing of its own pace.
    if job.state is JobState.RUNNING and job.attempted_at is not None and job.attempt == kept.attempt == 1:
        spent = (kept.at - job.attempted_at).total_seconds()
        if spent > 0 and kept.value > 0:
            pace = kept.value / spent
            said.append(_pace(pace))
            if kept.total and kept.total > kept.value:
                left = (kept.total - kept.value) / pace - (now - kept.at).total_seconds()
                if left > 0:  # else it has fallen behind its own pace
                    said.append(f"{words.duration(left)} left")
    if kept.message:
        said.append(kept.message)
    return Going(kept.value, kept.total, " · ".join(said))


def _pace(per_second: float) -> str:
    for pace, unit in ((per_second, "s"), (per_second * 60, "min"), (per_second * 3600, "h")):
        if pace >= 1 or unit == "h":
            break
    return f"{pace:,.0f}/{unit}" if pace >= 10 else f"{pace:.1f}/{unit}"


def moment_in(value: Any) -> datetime | None:
    """A time as an entry of ``errors`` has it; None for what is none."""
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
