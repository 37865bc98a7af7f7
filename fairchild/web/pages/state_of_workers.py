"""The workers as pages show them: who is at work, and whether they are of one release."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

AT_WORK = ("running", "paused", "draining")
DEPLOYING = timedelta(minutes=10)
"""For so long a deploy may take; then two versions beside each other are worth a word."""


class Versions(NamedTuple):
    """More than one are at work."""

    names: list[str]
    since: datetime


def at_work(workers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that are heard of."""
    return [each for each in workers if each["state"] in AT_WORK]


def mixed_versions(workers: Iterable[Mapping[str, Any]], now: datetime) -> Versions | None:
    """The versions at work, if there have been several for longer than a deploy takes."""
    first: dict[str, datetime] = {}
    for each in at_work(workers):
        version = each["metadata"].get("version")
        if version:
            first[version] = min(first.get(version, each["started_at"]), each["started_at"])
    if len(first) < 2:
        return None
    since = max(first.values())
    return Versions(sorted(first), since) if now - since > DEPLOYING else None


def deployed_at(workers: Iterable[Mapping[str, Any]]) -> datetime | None:
    """When the newest release began to work: the first start of the version and the set of tasks that came last.

    Sessions are kept for an hour after their end, so a release whose processes are replaced now and then is seen to be
    the same.
    """
    first: dict[tuple[Any, Any], datetime] = {}
    living = set()
    for each in workers:
        if each["metadata"].get("kind") == "consumer":
            continue
        release = each["metadata"].get("version"), each["catalog"]
        first[release] = min(first.get(release, each["started_at"]), each["started_at"])
        if each["state"] in AT_WORK:
            living.add(release)
    return max((first[each] for each in living), default=None)
