"""A group of a workflow's graph drawn as its jobs, one by one; those for which there is no room stay one node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fairchild.client.insight import Step
from fairchild.job import Job
from fairchild.rules.shape import Edge, Group, Shape
from fairchild.web import words
from fairchild.web.pages.flow_graph import SINGLE


def key_of(job: Job) -> str:
    """The key of a job that is drawn for itself."""
    return f"{SINGLE}{job.id}"


def split(shape: Shape, singles: Mapping[str, Sequence[Job]]) -> Shape:
    """The same shape with some jobs of these groups as nodes of their own. What they do not leave is no node."""
    if not singles:
        return shape
    groups: list[Group] = []
    drawn: dict[str, list[str]] = {}
    ended: dict[str, bool] = {}
    for group in shape.groups:
        jobs = singles.get(group.key, ())
        made = [*_each(group, jobs), *_rest(group, jobs)]
        groups += made
        drawn[group.key] = [each.key for each in made]
        ended.update((each.key, each.ended) for each in made)
    edges = [
        Edge(source, target, not ended[source])
        for edge in shape.edges
        for source in drawn[edge.source]
        for target in drawn[edge.target]
    ]
    parents = {key: shape.parents[group] for group, keys in drawn.items() if group in shape.parents for key in keys}
    return replace(shape, groups=groups, edges=edges, parents=parents)


def on_way(way: Collection[str], steps: Collection[Step], singles: Mapping[str, Sequence[Job]]) -> list[str]:
    """The critical path through the nodes as they are drawn: the jobs on it instead of the groups that were split."""
    keys = {str(step.id) for step in steps}
    found: list[str] = []
    for group in way:
        some = [key_of(job) for job in singles.get(group, ()) if str(job.id) in keys]
        found += some or [group]
    return found


def _each(group: Group, jobs: Sequence[Job]) -> list[Group]:
    return [
        Group(
            key_of(job), group.task, group.level, job.id, {words.shown_state(job): 1}, job.inserted_at,
            job.attempted_at, job.ended_at,
            (job.ended_at - job.attempted_at).total_seconds() if job.ended_at and job.attempted_at else None,
        )
        for job in jobs
    ]  # fmt: skip


def _rest(group: Group, jobs: Sequence[Job]) -> list[Group]:
    """The group less these jobs, if that leaves any."""
    if not jobs:
        return [group]
    counts = dict(group.counts)
    for job in jobs:
        state = words.shown_state(job)
        counts[state] = counts.get(state, 0) - 1
    counts = {state: left for state, left in counts.items() if left > 0}
    return [replace(group, counts=counts)] if sum(counts.values()) and group.jobs > len(jobs) else []
