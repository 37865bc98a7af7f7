"""Where the threads of this process are now, and what they run. Only code is looked at, never a variable's value.

A thread shows what its interpreter has: for a job with ``isolation="process"`` its runner only waits, so the child is
asked, which answers by a thread of its own; one in C code that keeps the interpreter's lock does not answer in time.
A coroutine is not on any thread's stack while it waits; it is walked through what it awaits.
"""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections.abc import Iterable
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any

from fairchild.db.stacks import Frame, ThreadStack

if TYPE_CHECKING:
    from fairchild.worker.attempt import Attempt

ANSWER_SECONDS = 1.0
"""What children get to answer, all together."""
MOST_FRAMES = 100
OUTER_FRAMES = 20
MOST_CHARACTERS = 500


def take(attempts: Iterable[Attempt]) -> list[ThreadStack]:
    """All threads but this one, those that run one of these attempts first."""
    attempts = [each for each in attempts if each.runner is not None]
    children = {each.runner: each.elsewhere for each in attempts}
    for child in children.values():
        if child is not None:
            child.ask_frames()
    running = {each.runner: each for each in attempts}
    names = {each.ident: each.name for each in threading.enumerate()}
    until = time.monotonic() + ANSWER_SECONDS
    found = []
    for ident, frame in sys._current_frames().items():
        if ident == threading.get_ident():
            continue
        name, attempt = _text(names.get(ident) or f"thread {ident}"), running.get(ident)
        if attempt is None:
            found.append(ThreadStack(name, frames_of(frame)))
            continue
        claimed, child, note = attempt.claimed, children[ident], ""
        frames: list[Frame] | None = None
        if child is not None:
            frames = child.frames(max(0.0, until - time.monotonic()))
            note = f"in process {child.pid}, its own"
            if frames is None:
                note += ", which does not answer: it is starting, or runs code that is not Python"
        elif attempt.coroutine is not None:
            frames, note = frames_of_coroutine(attempt.coroutine), "a coroutine"
        else:
            frames = frames_of(frame)
        found.append(ThreadStack(name, frames or [], claimed.job_id, claimed.task, claimed.attempt, note))
    return sorted(found, key=lambda each: (each.job is None, each.name))


def frames_of(frame: FrameType | None) -> list[Frame]:
    """The frames of a thread from its innermost one on, the outermost first."""
    places = []
    while frame is not None:
        places.append(_place(frame))
        frame = frame.f_back
    return _frames(places[::-1])


def frames_of_coroutine(coroutine: Any) -> list[Frame]:
    """The frames of a coroutine and of those that it awaits."""
    places = []
    while isinstance(coroutine, CoroutineType) and coroutine.cr_frame is not None:
        places.append(_place(coroutine.cr_frame))
        coroutine = coroutine.cr_await
    return _frames(places)


def frames_of_thread(attempt: Attempt | None) -> list[Frame]:
    """The frames of an attempt in this process."""
    if attempt is None:
        return []
    if attempt.coroutine is not None:
        return frames_of_coroutine(attempt.coroutine)
    thread = attempt.thread
    return [] if thread is None else frames_of(sys._current_frames().get(thread))


_Place = tuple[str, int, str]


def _place(frame: FrameType) -> _Place:
    code = frame.f_code
    return code.co_filename, frame.f_lineno or 0, code.co_name


def _frames(places: list[_Place]) -> list[Frame]:
    """Frames of places, bounded: of a deep recursion both ends."""
    left_out = len(places) - MOST_FRAMES
    if left_out > 0:
        cut = (f"({left_out} frames are left out here)", 0, "…")
        places = [*places[:OUTER_FRAMES], cut, *places[OUTER_FRAMES + left_out :]]
    return [
        Frame(_text(file), line, _text(function), _text(linecache.getline(file, line).strip()))
        for file, line, function in places
    ]


def _text(text: str) -> str:
    """What the database can keep of it: no half of a surrogate pair, no NUL."""
    return text[:MOST_CHARACTERS].encode("utf-8", "replace").decode().replace("\0", "�")
