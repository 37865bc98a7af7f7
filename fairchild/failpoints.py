"""Faults on purpose, for tests: what is to happen at a named place in the code.

    FAIRCHILD_FAILPOINTS="claim.after=kill:0.05;finish.before_commit=sleep:3;run.after=raise"

``kill`` ends the process as ``kill -9`` does, ``raise`` raises DatabaseUnavailable, both with the chance that may
follow (1 if none does); ``sleep`` waits for so many seconds, and may be given a chance as well (``sleep:3:0.5``).

Read once, when this module is imported. Without the variable ``ARMED`` is false, and a place costs the look at it:

    if failpoints.ARMED:
        failpoints.hit("claim.after")
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from typing import NamedTuple

from fairchild.errors import ConfigError, DatabaseUnavailable

VARIABLE = "FAIRCHILD_FAILPOINTS"
SITES = {
    "enqueue.before": "before jobs are sent to the database",
    "enqueue.before_commit": "many jobs have been sent, and not been committed",
    "enqueue.after": "jobs are committed, and the caller does not know it yet",
    "cancel.begun": "the first jobs of a family are cancelled, and the others are not",
    "claim.before": "before a claim",
    "claim.after": "jobs are claimed, and no thread has them yet",
    "run.before": "a thread is about to call the task",
    "run.after": "the task has returned, and nothing of it is recorded",
    "spawn.call": "a task has called another",
    "spawn.insert": "within the transaction of an outcome, before its children are inserted",
    "finish.before": "before outcomes are recorded",
    "finish.before_commit": "outcomes with children have been written, and not been committed",
    "finish.before_settle": "outcomes are recorded, and the parents that they end are not",
    "finish.after": "outcomes are committed, and the worker does not know it yet",
    "transaction.before_commit": "an outcome is written in the task's own transaction, and not committed",
    "transaction.after_commit": "the task's own transaction is committed, and the worker does not know it yet",
    "rescue.before": "a worker has been declared dead, and holds its jobs still",
    "rescue.before_commit": "jobs of a dead worker have been given back, and that is not committed",
    "rescue.after": "jobs of a dead worker have been given back",
}


class Fault(NamedTuple):
    """What happens at a place."""

    action: str
    seconds: float
    chance: float


def parse(text: str) -> dict[str, Fault]:
    """The faults that a text asks for, by place. Raises ConfigError for what it cannot mean."""
    faults = {}
    for part in filter(None, (each.strip() for each in text.split(";"))):
        site, _, what = part.partition("=")
        action, *numbers = what.split(":")
        try:
            values = [float(each) for each in numbers]
        except ValueError:
            values = [-1.0]
        seconds = values.pop(0) if action == "sleep" and values else 0.0
        chance = values.pop(0) if values else 1.0
        if (
            site not in SITES
            or action not in ("kill", "raise", "sleep")
            or values
            or seconds < 0
            or not 0 <= chance <= 1
        ):
            raise ConfigError(
                f"{VARIABLE} cannot mean {part!r}: give SITE=kill, SITE=raise or SITE=sleep:SECONDS, each with :CHANCE "
                f"if it is not to happen always. Sites are {', '.join(SITES)}"
            )
        faults[site] = Fault(action, seconds, chance)
    return faults


def hit(site: str) -> None:
    """Let happen what was asked for at this place."""
    fault = _FAULTS.get(site)
    if fault is None or random.random() >= fault.chance:
        return
    if fault.action == "sleep":
        time.sleep(fault.seconds)
    elif fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise DatabaseUnavailable(f"failpoint {site}")


_FAULTS = parse(os.environ.get(VARIABLE, ""))
ARMED = bool(_FAULTS)
if ARMED:
    logging.getLogger("fairchild").warning("faults on purpose: %s is set (%s)", VARIABLE, os.environ[VARIABLE])
