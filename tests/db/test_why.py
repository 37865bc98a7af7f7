"""A blocker is named exactly when the next claim would not take the job."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from fairchild import Fairchild
from fairchild.db import lease
from tests.support.store import Store, child_of, new_job, outcome, store_of

SEEDS = range(6)
ROUNDS = 25


@pytest.fixture
def store(fairchild: Fairchild) -> Iterator[Store]:
    with store_of(fairchild) as made:
        yield made


def open_session(store: Store, tasks: list[str], queues: list[str] | None) -> UUID:
    """A worker that knows these tasks and takes from these queues."""
    session = uuid4()
    schemas = [{"name": name, "aliases": [f"old.{name}"]} for name in tasks]
    store_session = lease.Session(session, "w", "h", 1, queues, 1, 30.0, "catalog " + ",".join(tasks), schemas, {})
    lease.open_session(store.link, store_session)
    return session


def make_job(store: Store, chance: random.Random, task: str, queue: str) -> UUID:
    """A job in some state or other."""
    with_options = {"task": task, "queue": queue, "priority": chance.randrange(10)}
    kind = chance.choice(
        ["available"] * 4 + ["scheduled", "due", "upstream", "freed", "cancelled", "completed", "retrying"]
    )
    if kind == "scheduled":
        return store.add(**with_options, delay=60.0)
    if kind in ("upstream", "freed"):
        upstream = store.add(queue="aside")
        job = store.add(**with_options, depends_on=[upstream])
        if kind == "freed":
            store.finish(*(outcome(each) for each in store.claim(queue="aside")))
        return job
    job = store.add(**with_options)
    if kind == "cancelled":
        from fairchild.db import cancel

        cancel.cancel(store.link, [job], "unwanted")
    elif kind in ("completed", "retrying"):
        session = open_session(store, [task], [queue])
        (claimed,) = [each for each in store.claim(queue=queue, tasks=(task,), session=session) if each.job_id == job]
        state = "completed" if kind == "completed" else "due"
        store.finish(outcome(claimed, state, delay=60.0))
        lease.set_state(store.link, session, "stopped")
    elif kind == "due":
        store.sql("DELETE FROM {ready} WHERE job_id = %(id)s", id=job)
        store.sql(
            "INSERT INTO {due} (job_id, run_at, queue, priority, task) SELECT id, now(), queue, priority, task "
            "FROM {jobs} WHERE id = %(id)s",
            id=job,
        )
    return job


@pytest.mark.parametrize("seed", SEEDS)
def test_no_blocker_is_named_exactly_when_the_next_claim_takes_the_job(
    fairchild: Fairchild, store: Store, seed: int
) -> None:
    chance = random.Random(seed)
    taken_at_all = 0
    for number in range(ROUNDS):
        task, queue = chance.choice(["t", "u"]), f"q{number}"
        job = make_job(store, chance, task, queue)
        sessions = []
        for _ in range(chance.choice([0, 1, 1, 2])):
            tasks = chance.choice([["t"], ["u"], ["t", "u"]])
            queues = chance.choice([None, None, [queue], ["elsewhere"]])
            session = open_session(store, tasks, queues)
            sessions.append((session, tasks, queues))
            if chance.random() < 0.25:
                store.sql("UPDATE {sessions} SET state = 'paused' WHERE id = %(id)s", id=session)
        if chance.random() < 0.25:
            fairchild.queues.pause(queue)
            if chance.random() < 0.3:
                fairchild.queues.resume(queue)

        why = fairchild.why(job)

        taken = []
        for session, tasks, queues in sessions:
            if queues is None or queue in queues:
                taken += store.claim(queue=queue, tasks=tuple(tasks), session=session)
        assert (job in [each.job_id for each in taken]) == (not why.blockers), (why, sessions)
        assert why.reasons
        taken_at_all += bool(taken)
        for session, _, _ in sessions:
            store.sql("DELETE FROM {claims} WHERE session = %(id)s", id=session)
            store.sql("DELETE FROM {sessions} WHERE id = %(id)s", id=session)
    assert 0 < taken_at_all < ROUNDS


def test_what_a_job_waits_for_is_named(fairchild: Fairchild, store: Store) -> None:
    upstream = store.add()
    job = store.insert(new_job(depends_on=[upstream]))[0]
    why = fairchild.why(job)
    (reason, *_) = why.blockers
    assert (why.state, reason.code, reason.jobs) == ("waiting", "upstream", (upstream,))
    parent = store.claim_one(upstream)
    children = [child_of(parent) for _ in range(3)]
    store.finish(outcome(parent, "waiting", children=children))
    (reason,) = fairchild.why(upstream).blockers
    assert reason.code == "children"
    assert set(reason.jobs) == {child.id for child in children}


def test_who_comes_first_is_counted(fairchild: Fairchild, store: Store) -> None:
    open_session(store, ["t"], None)
    first, second = store.add(priority=5), store.add(priority=5)
    store.add(priority=0)
    store.add(priority=9)
    for job, text in ((first, "1 job of its queue comes before it"), (second, "2 jobs of its queue come before it")):
        why = fairchild.why(job)
        assert not why.blockers
        assert any(text in reason.text for reason in why.reasons)


def test_an_alias_is_known(fairchild: Fairchild, store: Store) -> None:
    job = store.add(task="old.t")
    assert [each.code for each in fairchild.why(job).blockers] == ["no_worker"]
    open_session(store, ["t"], None)
    assert not fairchild.why(job).blockers


def test_numbers_are_told_in_good_grammar(fairchild: Fairchild, store: Store) -> None:
    job = store.add()

    def said() -> str:
        return "; ".join(each.text for each in fairchild.why(job).reasons)

    open_session(store, ["u"], None)
    assert "the one live worker does not know the task t" in said()
    open_session(store, ["u"], None)
    assert "none of 2 live workers knows the task t" in said()
    open_session(store, ["t"], ["elsewhere"])
    assert "the one live worker that knows t does not take from the queue default" in said()
    open_session(store, ["t"], ["elsewhere"])
    assert "none of 2 live workers that know t takes from the queue default" in said()
    open_session(store, ["t"], None)
    assert "1 live worker knows t and takes from default" in said()
    open_session(store, ["t"], None)
    assert "2 live workers know t and take from default" in said()


def test_a_pause_says_since_when_and_by_whom(fairchild: Fairchild, store: Store) -> None:
    job = store.add()
    fairchild.queues.pause("default")
    assert re.search(r"paused since \S+ \S+ UTC$", fairchild.why(job).blockers[0].text)
    fairchild.add_audit_entry("eve", "pause queue", "other", 1)
    fairchild.add_audit_entry("ann", "pause queue", "default", 1)
    fairchild.add_audit_entry("bob", "pause queue", "default", 1)
    assert fairchild.why(job).blockers[0].text.endswith("UTC by ann")
    assert fairchild.why(job).blockers[0].queue == "default"
