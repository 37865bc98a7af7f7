"""Cancelling families that are too large for one transaction, and those whose cancellation nobody ends."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from fairchild.db import cancel, lease
from fairchild.db.control import retry, retry_workflow
from fairchild.db.finish import finish
from fairchild.upkeep.observer import Observer
from tests.support.store import Store, child_of, outcome


def going_on(store: Store) -> list[tuple[UUID, str]]:
    return store.sql("SELECT job_id, reason FROM {cancellations}")


def let_time_pass(store: Store) -> None:
    store.sql("UPDATE {cancellations} SET asked_at = asked_at - interval '1 minute'")


@pytest.mark.parametrize("inner", [False, True])
def test_a_portion_is_a_transaction_and_they_go_on_until_nothing_is_left(store: Store, inner: bool) -> None:
    parent = store.add()
    if inner:
        _, (parent, *_) = store.family(2, parent)
    store.family(30, parent)
    outside = store.add()

    portions = cancel.cancel_portions(store.link, [parent], "no", 7)

    assert [len(done) for done, _ in portions] == ([7, 7, 7, 7, 3] if inner else [1, 7, 7, 7, 7, 2])
    assert store.row(parent, "state, reason") == ("cancelled", "no")
    assert store.state(outside) == "available"
    assert going_on(store) == []
    assert store.violations() == []


def test_a_workflow_that_grows_while_it_is_cancelled_grows_no_more_once_its_root_is(store: Store) -> None:
    root = store.claim_one(store.add())
    child = child_of(root)
    store.finish(outcome(root, "waiting", children=[child]))
    running = store.claim_one(child.id)
    portions = cancel.cancel_portions(store.link, [root.job_id], "too many")

    assert next(portions) == ([root.job_id], [])  # and before the next, a child calls another task
    store.finish(outcome(running, "waiting", children=[child_of(running)]))

    assert list(portions) == []
    assert store.row(child.id, "state, reason") == ("cancelled", "too many")
    assert store.sql("SELECT count(*) FROM {jobs} WHERE depth = 2") == [(0,)]
    assert store.violations() == []


@pytest.mark.parametrize("inner", [False, True])
def test_what_nobody_ends_the_workers_cancel(store: Store, inner: bool) -> None:
    parent = store.add()
    if inner:
        _, (parent, *_) = store.family(2, parent)
    _, children = store.family(30, parent)
    portions = cancel.cancel_portions(store.link, [parent], "no", 7)
    next(portions)
    portions.close()  # whoever did this is gone
    assert store.states(*children).count("available") > 0
    assert going_on(store) == [(parent, "no")]

    observer = Observer(uuid4(), interval=5.0)
    observer.look(store.link)
    assert "available" in store.states(*children)  # somebody may still be at it
    let_time_pass(store)
    observer.look(store.link)

    assert set(store.states(*children)) == {"cancelled"}
    assert store.row(children[-1], "reason") == ("no",)
    assert going_on(store) == []
    assert lease.left_behind(store.link)[2] is False
    assert store.violations() == []


def test_one_worker_at_a_time_goes_on_and_another_where_it_stops(store: Store) -> None:
    parent, children = store.family(3)
    next(cancel.cancel_portions(store.link, [parent], "no", 1))
    let_time_pass(store)

    first = cancel.go_on(store.link)
    next(first)
    assert list(cancel.go_on(store.link)) == []
    first.close()
    let_time_pass(store)
    assert sum(cancel.go_on(store.link)) > 0

    assert set(store.states(*children)) == {"cancelled"}
    assert going_on(store) == []


def test_what_is_opened_again_is_not_cancelled_by_who_comes_late(store: Store) -> None:
    parent, children = store.family(3)
    next(cancel.cancel_portions(store.link, [parent], "no", 1))

    retry_workflow(store.link, parent)
    let_time_pass(store)

    assert list(cancel.go_on(store.link)) == []
    assert store.states(*children) == ["available"] * 3
    assert store.violations() == []


def test_one_of_those_that_were_cancelled_can_be_tried_again_later(store: Store) -> None:
    first, second = store.add(), store.add()
    cancel.cancel(store.link, [first, second], "no")
    assert going_on(store) == []

    assert retry(store.link, [first]) == [first]
    let_time_pass(store)
    assert list(cancel.go_on(store.link)) == []
    assert store.states(first, second) == ["available", "cancelled"]


def test_where_the_first_portion_fails_nothing_is_cancelled_later_either(store: Store) -> None:
    job = store.add()
    store.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the midst'; END $$")
    store.sql("CREATE TRIGGER refuse BEFORE UPDATE ON {jobs} FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises(psycopg.errors.RaiseException):
        cancel.cancel(store.link, [job], "no")

    assert going_on(store) == []
    assert store.state(job) == "available"


@pytest.mark.parametrize("reason", ['it\'s "his" %s {jobs} \\ --', "\u202e\U0001f600" * 50])
def test_a_reason_is_kept_as_it_is_until_the_workers_have_given_it_to_all(store: Store, reason: str) -> None:
    parent, children = store.family(3)
    next(cancel.cancel_portions(store.link, [parent], reason, 1))
    let_time_pass(store)
    list(cancel.go_on(store.link))

    assert {store.row(each, "state, reason") for each in (parent, *children)} == {("cancelled", reason)}


def test_what_was_pruned_meanwhile_is_forgotten(store: Store) -> None:
    store.sql("INSERT INTO {cancellations} (job_id, reason) VALUES (gen_random_uuid(), 'gone')")
    let_time_pass(store)

    assert sum(cancel.go_on(store.link)) == 0
    assert going_on(store) == []


def test_jobs_that_wait_for_others_are_cancelled_before_those(store: Store) -> None:
    """Ending one that many wait for would end all of them in its own transaction, for its reason."""
    root = store.claim_one(store.add())
    source = child_of(root)
    store.finish(
        outcome(root, "waiting", children=[source, *(child_of(root, refs=[(("x",), source.id)]) for _ in range(20))])
    )

    sizes = [len(done) for done, _ in cancel.cancel_portions(store.link, [root.job_id], "no", 5)]

    assert max(sizes) <= 5
    assert store.sql("SELECT DISTINCT reason FROM {jobs}") == [("no",)]


def test_an_outcome_that_arrives_between_two_portions_settles(store: Store) -> None:
    parent, children = store.family(4)
    running = store.claim_one(children[0])
    portions = cancel.cancel_portions(store.link, [parent], "no", 2)
    next(portions)
    finish(store.link, [outcome(running)])
    list(portions)

    assert store.states(*children) == ["completed", "cancelled", "cancelled", "cancelled"]
    assert store.violations() == []
