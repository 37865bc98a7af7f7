"""What happens inside, told to whoever has subscribed: for metrics and alarms. Each event is emitted in one place.

============= ============================== ==========================================================================
event         fields                         it says that
============= ============================== ==========================================================================
job_stuck     job_id, task, stuck            a job does not stop although it was told to; its thread is replaced, and
                                             ``stuck`` threads of the worker are so now
runner_died   job_id, task, error            a runner thread ended by an error outside of any task; it is replaced, and
                                             the job that it had, if any, has failed
worker_fenced worker, silent_seconds         no beat was acknowledged for so long that the worker stops its jobs
worker_lost   worker, session                the others took this worker for dead; it goes on under a new session
session_dead  session, silent_seconds        this process found that another worker is dead; its jobs are given back
loop_failed   loop, error, failures          a step of a loop failed, for this many times in a row; it is tried again
============= ============================== ==========================================================================

``job_id`` and ``session`` are UUIDs or None, ``error`` is the exception, all else is text or a number. Subscribers are
called in the thread in which it happened, in no particular order, and must be quick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

NAMES = frozenset({"job_stuck", "runner_died", "worker_fenced", "worker_lost", "session_dead", "loop_failed"})

Subscriber = Callable[[str, dict[str, Any]], None]
_subscribers: list[tuple[Subscriber, frozenset[str]]] = []
log = logging.getLogger("fairchild.events")


def subscribe(subscriber: Subscriber, *names: str) -> Callable[[], None]:
    """Call ``subscriber(name, fields)`` at each event of these names (all, if none is given); what undoes it.

    One that raises is reported and stays subscribed. Raises ValueError for a name that no event has.
    """
    unknown = set(names) - NAMES
    if unknown:
        raise ValueError(f"no event is called {', '.join(sorted(unknown))}; events are {', '.join(sorted(NAMES))}")
    entry = (subscriber, frozenset(names) or NAMES)
    _subscribers.append(entry)

    def unsubscribe() -> None:
        _subscribers[:] = [each for each in _subscribers if each is not entry]

    return unsubscribe


def emit(name: str, **fields: Any) -> None:
    """Tell the subscribers."""
    for subscriber, names in _subscribers:
        if name in names:
            try:
                subscriber(name, dict(fields))
            except Exception:
                log.exception("a subscriber failed at the event %s", name)
