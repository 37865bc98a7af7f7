"""How a worker's process is, for people who look at workers: its memory, its CPU time, its clock, its last trouble."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairchild.config import hide_password
from fairchild.events import subscribe

MOST_TEXT = 300
_STATM = Path("/proc/self/statm")
_TROUBLES = ("loop_failed", "runner_died", "worker_fenced", "worker_lost", "job_stuck")


class Vitals:
    """Of this process, as they are sent along with its beats. Start it before, and stop it after them."""

    def __init__(self) -> None:
        self._trouble: dict[str, Any] | None = None
        self._taken, self._used = time.monotonic(), time.process_time()
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Hear of trouble from now on."""
        self._unsubscribe = subscribe(self._hear, *_TROUBLES)

    def stop(self) -> None:
        """Hear of it no more."""
        self._unsubscribe()

    def take(self) -> dict[str, Any]:
        """``rss`` in bytes (None where that is not to be had), ``cpu``: of one core since the last time, ``clock``:
        this machine's, in seconds since the epoch, and ``error``: ``{what, text, at}``, or None."""
        now, used = time.monotonic(), time.process_time()
        cpu = (used - self._used) / max(now - self._taken, 0.001)
        self._taken, self._used = now, used
        return {"rss": resident(), "cpu": round(cpu, 3), "clock": time.time(), "error": self._trouble}

    def _hear(self, name: str, fields: dict[str, Any]) -> None:
        what, text = _words(name, fields)
        self._trouble = {"what": what, "text": hide_password(text)[:MOST_TEXT], "at": time.time()}


def resident() -> int | None:
    """Bytes of memory that the process has now; at most, where the system says no more."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _words(name: str, fields: dict[str, Any]) -> tuple[str, str]:
    error = fields.get("error")
    text = "" if error is None else f"{type(error).__name__}: {error}"
    if name == "loop_failed":
        return f"loop {fields['loop']}", text
    if name == "runner_died":
        return "a runner thread", text
    if name == "worker_fenced":
        return "beats", f"none was acknowledged for {fields['silent_seconds']:.1f} s; its jobs were stopped"
    if name == "worker_lost":
        return "beats", "the others took this worker for dead; it went on under a new session"
    return "a job that does not stop", f"{fields['task']}, {fields['stuck']} such threads"
