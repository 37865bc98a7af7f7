"""fairchild: a PostgreSQL-backed job queue and workflow engine for synchronous Python.

Call tasks inside a task, get futures, pass them around, and the workflow is there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fairchild.client import Fairchild, get_fairchild
    from fairchild.context import CurrentJob, current_job
    from fairchild.durable import as_completed, gather, now, random, sleep, step, uuid, wait_signal
    from fairchild.errors import (
        FairchildError,
        JobCancelled,
        JobFailed,
        NonDeterminismError,
        NoResult,
        ResultTimeout,
        SignalTimeout,
        UnknownTask,
    )
    from fairchild.future import Future, Outcome
    from fairchild.job import Job, JobState
    from fairchild.record import Cancel, Discard, Record, Retry, Snooze
    from fairchild.rules.retry import Backoff
    from fairchild.tasks import Registry, Task, get_task, get_task_schemas, registry, task
    from fairchild.xcom import xcom_append, xcom_clear, xcom_incr, xcom_keys, xcom_pull, xcom_push

_HOMES = {
    "Backoff": "fairchild.rules.retry",
    "Cancel": "fairchild.record",
    "CurrentJob": "fairchild.context",
    "Discard": "fairchild.record",
    "Fairchild": "fairchild.client",
    "FairchildError": "fairchild.errors",
    "Future": "fairchild.future",
    "Job": "fairchild.job",
    "JobCancelled": "fairchild.errors",
    "JobFailed": "fairchild.errors",
    "JobState": "fairchild.job",
    "NonDeterminismError": "fairchild.errors",
    "NoResult": "fairchild.errors",
    "Outcome": "fairchild.future",
    "Record": "fairchild.record",
    "Registry": "fairchild.tasks",
    "ResultTimeout": "fairchild.errors",
    "Retry": "fairchild.record",
    "SignalTimeout": "fairchild.errors",
    "Snooze": "fairchild.record",
    "Task": "fairchild.tasks",
    "UnknownTask": "fairchild.errors",
    "as_completed": "fairchild.durable",
    "current_job": "fairchild.context",
    "gather": "fairchild.durable",
    "get_fairchild": "fairchild.client",
    "get_task": "fairchild.tasks",
    "get_task_schemas": "fairchild.tasks",
    "now": "fairchild.durable",
    "random": "fairchild.durable",
    "registry": "fairchild.tasks",
    "sleep": "fairchild.durable",
    "step": "fairchild.durable",
    "task": "fairchild.tasks",
    "uuid": "fairchild.durable",
    "wait_signal": "fairchild.durable",
    "xcom_append": "fairchild.xcom",
    "xcom_clear": "fairchild.xcom",
    "xcom_incr": "fairchild.xcom",
    "xcom_keys": "fairchild.xcom",
    "xcom_pull": "fairchild.xcom",
    "xcom_push": "fairchild.xcom",
}

__all__ = [
    "Backoff",
    "Cancel",
    "CurrentJob",
    "Discard",
    "Fairchild",
    "FairchildError",
    "Future",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobState",
    "NonDeterminismError",
    "NoResult",
    "Outcome",
    "Record",
    "Registry",
    "ResultTimeout",
    "Retry",
    "SignalTimeout",
    "Snooze",
    "Task",
    "UnknownTask",
    "as_completed",
    "current_job",
    "gather",
    "get_fairchild",
    "get_task",
    "get_task_schemas",
    "now",
    "random",
    "registry",
    "sleep",
    "step",
    "task",
    "uuid",
    "wait_signal",
    "xcom_append",
    "xcom_clear",
    "xcom_incr",
    "xcom_keys",
    "xcom_pull",
    "xcom_push",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: ``fairchild --help`` need not load a database driver."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairchild' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
