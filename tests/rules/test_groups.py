"""Groups and ranks of jobs, by which a workflow's graph is drawn."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from fairchild.ids import uuid7
from fairchild.job import NewJob
from fairchild.rules.groups import Known, assign_groups

PARENT = uuid4()
KNOWN = {PARENT: Known("pending", 7, 0, None)}


def job(task: str, *upstreams: UUID, parent: UUID | None = PARENT) -> NewJob:
    return NewJob(id=uuid7(), task=task, args=b"{}", parent_id=parent, depends_on=list(upstreams))


def test_jobs_of_one_task_with_upstreams_of_the_same_groups_are_one_group() -> None:
    sources = [job("a") for _ in range(3)]
    others = [job("a2")]
    middle = [job("b", each.id) for each in sources]
    end = [job("b", sources[0].id, others[0].id), job("c", *(each.id for each in middle))]
    assign_groups([*sources, *others, *middle, *end], KNOWN)

    assert len({each.group_key for each in sources}) == len({each.group_key for each in middle}) == 1
    assert len({each.group_key for each in (sources[0], others[0], middle[0], *end)}) == 5
    assert [each.rank for each in (*sources, *middle, *end)] == [0, 0, 0, 1, 1, 1, 1, 2]


def test_the_group_depends_on_that_of_the_parent() -> None:
    other = uuid4()
    jobs = [job("a"), job("a", parent=other), job("a", parent=None)]
    assign_groups(jobs, {**KNOWN, other: Known("pending", 8, 0, None)})

    assert jobs[0].group_key != jobs[1].group_key
    assert (jobs[2].group_key, jobs[2].rank) == (None, None)


def test_siblings_made_before_raise_the_rank_and_jobs_of_other_parents_do_not() -> None:
    sibling, stranger = uuid4(), uuid4()
    known = {**KNOWN, sibling: Known("completed", 1, 4, PARENT), stranger: Known("completed", 2, 9, uuid4())}
    jobs = [job("a", sibling), job("a", stranger)]
    assign_groups(jobs, known)

    assert [each.rank for each in jobs] == [5, 0]


def test_the_order_in_which_jobs_come_does_not_matter_and_a_long_chain_is_no_recursion() -> None:
    chain = [job("a")]
    for _ in range(5000):
        chain.append(job("a", chain[-1].id))
    shuffled = random.Random(1).sample(chain, len(chain))
    assign_groups(shuffled, KNOWN)

    assert [each.rank for each in chain] == list(range(5001))
    assert len({each.group_key for each in chain}) == 5001
