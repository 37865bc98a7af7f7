"""Groups of jobs that a workflow's graph draws as one node.

A job's group is made of the group of its parent, its task, and the set of groups it depends on. So two jobs of one
group have the same place in the graph, and one of them stands for all when edges between groups are looked up. Its rank
is the longest path to it from a source among its siblings; every edge between siblings raises it.

Roots have no group of their own: for those they are a parent or an upstream of, it counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from fairchild.job import NewJob


class Known(NamedTuple):
    """What is known of a job that is there already."""

    state: str
    group_key: int | None
    rank: int | None
    parent_id: UUID | None


def group_of(parent: int, task: str, upstreams: Iterable[int]) -> int:
    """The key of a group, a signed number of 64 bits."""
    parts = [str(parent), task, *map(str, sorted(set(upstreams)))]
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big", signed=True)


def assign_groups(jobs: Sequence[NewJob], known: Mapping[UUID, Known]) -> None:
    """Give children their ``group_key`` and ``rank``. They must not wait for each other in a circle.

    ``known``: their parents, and upstreams that are not among ``jobs``.
    """
    here = {job.id: job for job in jobs}
    alone: dict[tuple[UUID, str], int] = {}
    for job in jobs:
        stack = [job]
        while stack:
            top = stack.pop()
            if top.parent_id is None or top.group_key is not None:
                continue
            upstreams = top.upstreams()
            open_ones = [here[each] for each in upstreams if each in here and _is_open(here[each])]
            if open_ones:
                stack += [top, *open_ones]
                continue
            if upstreams:
                top.rank = max((_rank(each, top.parent_id, here, known) + 1 for each in upstreams), default=0)
                groups = {_group(each, here, known) for each in upstreams}
                top.group_key = group_of(_group(top.parent_id, here, known), top.task, groups)
                continue
            top.rank = 0
            key = (top.parent_id, top.task)
            if key not in alone:
                alone[key] = group_of(_group(top.parent_id, here, known), top.task, ())
            top.group_key = alone[key]


def _is_open(job: NewJob) -> bool:
    return job.parent_id is not None and job.group_key is None


def _group(job_id: UUID, here: Mapping[UUID, NewJob], known: Mapping[UUID, Known]) -> int:
    if job_id in known:
        return known[job_id].group_key or 0
    return (here[job_id].group_key or 0) if job_id in here else 0


def _rank(job_id: UUID, parent: UUID, here: Mapping[UUID, NewJob], known: Mapping[UUID, Known]) -> int:
    """The rank of a sibling; -1 for a job that is none, so that it raises nobody's."""
    job = known.get(job_id) or here.get(job_id)
    if job is None or job.parent_id != parent or job.rank is None:
        return -1
    return job.rank
