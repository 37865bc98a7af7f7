"""Values shared inside a workflow: what one job pushes, every other job of the same workflow can pull.

A push is done with the attempt's own commit: an attempt that fails leaves nothing, and until then only the attempt
itself sees it. Keys live in a ``namespace`` of the workflow, '' unless told.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fairchild import codec, context
from fairchild.context import CurrentJob
from fairchild.db import xcom
from fairchild.db.xcom import Change
from fairchild.errors import InvalidArguments, UsageError

MAX_KEY = 255
_MISSING: Any = object()


def xcom_push(
    key: str, value: Any, ttl: float | timedelta | None = None, *, namespace: str = "", if_absent: bool = False
) -> None:
    """Share a JSON value under ``key``; gone after ``ttl`` seconds. ``if_absent``: only if there is none."""
    job = _job("xcom_push()")
    text = codec.encode(value, limit=job.max_payload_bytes, root=key)
    if text.refs:
        raise InvalidArguments(f"xcom_push({key!r}): a Future cannot be shared; push the value where it is there")
    _change(job, Change("absent" if if_absent else "set", namespace, check_key(key), text.json, _ttl(ttl)))


def xcom_pull(key: str, default: Any = _MISSING, *, namespace: str = "") -> Any:
    """The value under ``key`` as it stands now, with this attempt's own pushes. Raises KeyError without a default."""
    job = _job("xcom_pull()")
    check_key(key)

    def look() -> Any:
        found = _pull(job, namespace, key)
        return [] if found is None else [codec.decode(found)]

    found = look() if job.durable is None else job.durable.once("pull", key, namespace, look, now=False)
    if found:
        return found[0]
    if default is _MISSING:
        where = f" in namespace {namespace!r}" if namespace else ""
        raise KeyError(f"no value is shared under {key!r}{where} in workflow {job.workflow_id}")
    return default


def xcom_incr(key: str, by: float = 1, *, namespace: str = "") -> None:
    """Add to a number, 0 if there is none. Attempts that do so at the same time do not overwrite each other."""
    job = _job("xcom_incr()")
    if isinstance(by, bool) or not isinstance(by, (int, float)):
        raise InvalidArguments(f"xcom_incr({key!r}) adds a number, not {by!r}")
    _change(job, Change("incr", namespace, check_key(key), codec.encode(by).json))


def xcom_append(key: str, value: Any, *, namespace: str = "") -> None:
    """Add a JSON value to the end of a list, empty if there is none."""
    job = _job("xcom_append()")
    text = codec.encode([value], limit=job.max_payload_bytes, root=key)
    if text.refs:
        raise InvalidArguments(f"xcom_append({key!r}): a Future cannot be shared")
    _change(job, Change("append", namespace, check_key(key), text.json))


def xcom_keys(*, namespace: str = "") -> list[str]:
    """The keys under which values are shared, in order."""
    job = _job("xcom_keys()")

    def look() -> list[str]:
        there = set(_ask(job, "keys", namespace))
        touched = {each.key for each in job.changes if each.namespace == namespace and each.key is not None}
        there |= {key for key in touched if _pull(job, namespace, key) is not None}
        cleared = any(each.kind == "clear" and each.namespace == namespace for each in job.changes)
        return sorted(key for key in there if not cleared or _pull(job, namespace, key) is not None)

    found: list[str] = look() if job.durable is None else job.durable.once("pull", "*", namespace, look, now=False)
    return found


def xcom_clear(key: str | None = None, *, namespace: str = "") -> None:
    """Take away the value under ``key``, or all of the namespace."""
    job = _job("xcom_clear()")
    _change(job, Change("clear", namespace, None if key is None else check_key(key)))


def check_key(key: Any) -> str:
    """A key as it can be stored."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or "\x00" in key:
        raise InvalidArguments(f"a key is text of 1 to {MAX_KEY} characters, got {key!r}")
    return key


def _job(what: str) -> CurrentJob:
    job = context.get_current_job()
    if job is None or job.client is None:
        raise UsageError(f"{what} shares values inside a workflow and was called outside of a job; there is fc.xcom")
    return job


def _ttl(ttl: float | timedelta | None) -> float | None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if seconds is not None and (isinstance(seconds, bool) or not 0 < seconds < 1e11):
        raise InvalidArguments(f"ttl must be a positive number of seconds, or a timedelta, got {ttl!r}")
    return seconds


def _change(job: CurrentJob, change: Change) -> None:
    if job.durable is not None:
        value = (change.value or b"").decode()
        if not job.durable.changed(f"{change.namespace}/{change.key or '*'}", f"{change.kind} {value}"):
            return
    job.add_change(change)


def _pull(job: CurrentJob, namespace: str, key: str) -> bytes | None:
    """What is stored, and what this attempt has changed since, in the order of its calls."""
    mine = [each for each in job.changes if each.namespace == namespace and each.key in (key, None)]
    last = max((at for at, each in enumerate(mine) if each.kind in ("set", "clear")), default=None)
    value: bytes | None
    if last is None:
        value = _ask(job, "pull", namespace, key)
    else:
        value, mine = mine[last].value, mine[last + 1 :]
    for change in mine:
        if change.kind in ("incr", "append") and value is not None and change.value is not None:
            before = codec.decode(value)
            if change.kind == "append" and not isinstance(before, list):
                before = [before]
            value = codec.encode(before + codec.decode(change.value)).json
        elif change.kind != "absent" or value is None:
            value = change.value
    return value


def _ask(job: CurrentJob, what: str, *args: str) -> Any:
    assert job.client is not None
    assert job.workflow_id is not None
    question = xcom.pull if what == "pull" else xcom.keys
    workflow_id = job.workflow_id
    with job.client.database.link() as link:
        return question(link, workflow_id, *args)
