"""What must hold after every step, whatever steps are taken: the store against a model of it in plain Python.

The machine makes, claims, ends, cancels, retries, loses and rescues jobs by the functions that clients and workers use,
each on a connection of its own so that nothing can rest on a session. The model knows states, edges and parents, and
says what each step must have come to; the tables are then compared with it and looked over for what must never be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fairchild import Fairchild
from fairchild.db import lease
from fairchild.db.cancel import cancel
from fairchild.db.claim import Claimed, promote_due
from fairchild.db.control import retry
from fairchild.db.finish import Ended
from fairchild.db.settle import audit, sweep
from fairchild.errors import UsageError
from fairchild.future import Ref
from fairchild.job import NewJob
from tests.support.store import Store, child_of, new_job

ENDED = ("completed", "failed", "cancelled")
NOWHERE = UUID(int=0)
_YES_OR_NO: st.SearchStrategy[Any] = st.booleans()


@dataclass
class Row:
    """A job as the model has it."""

    state: str
    upstreams: set[UUID] = field(default_factory=set)
    parent: UUID | None = None
    policy: str = "fail"
    run: int = 0
    born_in: int = 0
    "Which run of the parent called it: a retried parent is judged by the children of its last run."
    ran: bool = False
    value_of: UUID | None = None
    attempts: int = 0
    losses: int = 0
    reason: str | None = None
    result: bytes | None = None
    asked: bool = False


class Model:
    """All jobs, and what the end of one entails."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, Row] = {}

    def children(self, job: UUID) -> list[UUID]:
        """Those that the last run of a job called."""
        row = self.jobs[job]
        return [each for each, child in self.jobs.items() if child.parent == job and child.born_in == row.run]

    def live(self, jobs: Any) -> list[UUID]:
        return [each for each in jobs if self.jobs[each].state not in ENDED]

    def failed(self, jobs: Any) -> list[UUID]:
        return [each for each in jobs if self.jobs[each].state in ("failed", "cancelled")]

    def settle(self) -> None:
        """Let every waiting job go on whose conditions are met, until none is left."""
        moved = True
        while moved:
            moved = False
            for job, row in self.jobs.items():
                if row.state == "waiting" and self._step(job, row):
                    moved = True

    def _step(self, job: UUID, row: Row) -> bool:
        if not row.ran:
            if self.failed(row.upstreams):
                row.state, row.reason = "cancelled", "upstream_failed"
                return True
            if not self.live(row.upstreams):
                row.state = "available"
                return True
            return False
        value = [row.value_of] if row.value_of else []
        if self.live(self.children(job)) or self.live(value):
            return False
        if self.failed(self.children(job)) and row.policy == "fail":
            row.state, row.reason = "failed", "child_failed"
        elif value and (self.failed(value) or self.jobs[value[0]].result is None):
            row.state, row.reason = "failed", "upstream_failed"
        else:
            row.state = "completed"
            if value:
                row.result = self.jobs[value[0]].result
        return True

    def waits_for(self, job: UUID, other: UUID) -> bool:
        """Whether ``job`` waits for ``other``, directly or not."""
        seen: set[UUID] = set()
        stack = [job]
        while stack:
            here = stack.pop()
            if here == other:
                return True
            if here not in seen:
                seen.add(here)
                row = self.jobs[here]
                stack += [*row.upstreams, *self.children(here), *([row.value_of] if row.value_of else [])]
        return False


class Machine(RuleBasedStateMachine):
    """Steps by the store's own functions. ``client`` is set by the test."""

    client: Fairchild

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.client.database)
        for table in ("jobs", "ready", "claims", "due", "waiting", "edges", "sessions", "counters"):
            self.store.sql(f"DELETE FROM {{{table}}}")
        self.model = Model()
        self.claims: dict[UUID, Claimed] = {}
        self.stale: list[Claimed] = []
        self.ended: dict[UUID, tuple[str, int]] = {}
        self.dead = self.store.open_session()

    def teardown(self) -> None:
        self.store.close()

    def reconnect(self) -> None:
        """From here on a connection on which nothing has been said yet."""
        self.store.link.connection.close()
        self.store.link = self.client.database.open("tests")

    def pick(self, data: st.DataObject, wanted: Callable[[Row], bool] = lambda row: True) -> UUID | None:
        found = [job for job, row in self.model.jobs.items() if wanted(row)]
        return data.draw(st.sampled_from(found)) if found else None

    def some(self, data: st.DataObject, most: int = 3) -> set[UUID]:
        jobs = list(self.model.jobs)
        return set(data.draw(st.lists(st.sampled_from(jobs), max_size=most))) if jobs else set()

    # Making

    @rule(data=st.data(), count=st.integers(1, 3), later=st.booleans(), policy=st.sampled_from(["fail", "ignore"]))
    def enqueue(self, data: st.DataObject, count: int, later: bool, policy: str) -> None:
        """A few jobs at once, which may wait for older ones and for each other."""
        made: list[NewJob] = []
        for _ in range(count):
            upstreams = self.some(data)
            if made and data.draw(_YES_OR_NO):
                upstreams.add(made[-1].id)
            plain = later and not upstreams
            job = new_job(depends_on=sorted(upstreams), on_child_failure=policy, delay=3600.0 if plain else None)
            made.append(job)
            self.model.jobs[job.id] = Row("scheduled" if plain else "waiting", upstreams, policy=policy)
        self.reconnect()
        self.store.insert(*made)
        self.model.settle()

    @rule()
    @precondition(lambda self: any(row.state == "scheduled" for row in self.model.jobs.values()))
    def let_time_pass(self) -> None:
        self.store.sql("UPDATE {due} SET run_at = statement_timestamp() - interval '1 second'")
        self.reconnect()
        promote_due(self.store.link)
        for row in self.model.jobs.values():
            if row.state == "scheduled":
                row.state = "available"

    # Running

    @rule(room=st.integers(1, 4), doomed=st.booleans())
    def claim(self, room: int, doomed: bool) -> None:
        session = self.dead if doomed else self.store.session
        self.reconnect()
        for each in self.store.claim(room, session=session):
            row = self.model.jobs[each.job_id]
            assert row.state == "available"
            assert each.attempt == row.attempts + 1
            row.state = "running"
            self.claims[each.job_id] = each

    @rule(data=st.data(), states=st.lists(st.sampled_from(
        ["completed", "completed", "failed", "cancelled", "ready", "given back", "due", "waiting", "waiting", "value"]
    ), min_size=1, max_size=3))  # fmt: skip
    @precondition(lambda self: self.claims)
    def finish(self, data: st.DataObject, states: list[str]) -> None:
        """One to three attempts of the same batch."""
        batch: list[Ended] = []
        news: list[tuple[UUID, Row]] = []
        for state in states:
            left = [job for job in self.claims if job not in {ended.job_id for ended in batch}]
            if not left:
                break
            job = data.draw(st.sampled_from(left))
            batch.append(self._outcome(data, self.claims[job], state, news))
        before = {job: row.state for job, row in self.model.jobs.items()}
        self.reconnect()
        applied = self.store.finish(*batch)
        assert applied.lost == {}
        for ended in batch:
            self.stale.append(self.claims.pop(ended.job_id))
            self._apply(ended)
        stopped = {ended.job_id for ended in batch if self.model.jobs[ended.job_id].reason == "asked"}
        self.model.jobs.update((job, row) for job, row in news if row.parent not in stopped)
        note(f"{before} -> {[(ended.job_id, ended.state) for ended in batch]}")
        self.model.settle()

    def _outcome(self, data: st.DataObject, claimed: Claimed, state: str, news: list[tuple[UUID, Row]]) -> Ended:
        job = claimed.job_id
        ended = Ended(job, claimed.claim_id, {"given back": "ready", "value": "waiting"}.get(state, state))
        ended.spent = state in ("completed", "failed", "ready", "due", "waiting", "value")
        ended.delay = 3600.0
        if state in ("failed", "cancelled"):
            ended.reason = "by itself"
        if state in ("completed", "waiting"):
            ended.result = data.draw(st.sampled_from([None, b"1", b"null"]))
        if state == "value":
            free = [each for each in self.model.jobs if not self.model.waits_for(each, job)]
            if free:
                ended.result, ended.value_refs = b"null", [Ref((), data.draw(st.sampled_from(free)))]
        if ended.state == "waiting":
            run = self.model.jobs[job].run + 1
            for _ in range(data.draw(st.integers(0 if ended.value_refs else 1, 3))):
                older = [each for each in self.model.jobs if not self.model.waits_for(each, job)]
                upstreams = set(data.draw(st.lists(st.sampled_from(older), max_size=2))) if older else set()
                if ended.children and data.draw(_YES_OR_NO):
                    upstreams.add(ended.children[-1].id)
                child = child_of(claimed, depends_on=sorted(upstreams))
                ended.children.append(child)
                news.append((child.id, Row("waiting", upstreams, parent=job, born_in=run)))
        return ended

    def _apply(self, ended: Ended) -> None:
        row = self.model.jobs[ended.job_id]
        row.attempts += ended.spent
        row.run += 1
        asked, row.asked = row.asked, False
        row.ran, row.value_of, row.result, row.reason = False, None, None, None
        if asked and ended.state in ("ready", "due", "waiting"):
            row.state, row.reason = "cancelled", "asked"
        elif ended.state in ENDED:
            row.state, row.reason, row.result = ended.state, ended.reason, ended.result
        elif ended.state == "waiting":
            row.state, row.ran, row.result = "waiting", True, ended.result
            row.value_of = ended.value_refs[0][1] if ended.value_refs else None
        else:
            row.state = {"ready": "available", "due": "scheduled"}[ended.state]

    @rule(data=st.data(), state=st.sampled_from(["completed", "failed", "ready", "due", "waiting"]))
    @precondition(lambda self: self.stale or self.claims)
    def finish_without_the_claim(self, data: st.DataObject, state: str) -> None:
        """Under a claim that was never given, or one that is over: nothing may change."""
        known = [*self.stale[-5:], *(each._replace(claim_id=uuid4()) for each in self.claims.values())]
        claimed = data.draw(st.sampled_from(known))
        before = self.picture()
        ended = Ended(claimed.job_id, claimed.claim_id, state, result=b"666", delay=1.0)
        if state == "waiting":
            ended.children.append(child_of(claimed))
        self.reconnect()
        applied = self.store.finish(ended)
        assert applied.lost.keys() == {claimed.job_id}
        assert applied.lost[claimed.job_id] in ("stale", "already")
        assert self.picture() == before

    # By hand

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def cancel(self, data: st.DataObject) -> None:
        job = self.pick(data)
        assert job is not None
        family = [job]
        for each in family:
            family += [other for other, row in self.model.jobs.items() if row.parent == each]
        self.reconnect()
        cancelled, asked = cancel(self.store.link, [job], "asked")
        live = self.model.live(family)
        assert set(asked) == {each for each in live if self.model.jobs[each].state == "running"}
        assert set(cancelled) == set(live) - set(asked)
        for each in live:
            row = self.model.jobs[each]
            if row.state == "running":
                row.asked = True
            else:
                row.state, row.reason = "cancelled", "asked"
        self.model.settle()

    @rule(data=st.data())
    @precondition(lambda self: any(row.state in ENDED for row in self.model.jobs.values()))
    def retry(self, data: st.DataObject) -> None:
        job = self.pick(data, lambda row: row.state in ENDED)
        assert job is not None
        before = self.picture()
        jobs = self.model.jobs
        reopened = {job: False}  # -> whether its function has run and is not to run again
        edge = [job]
        while edge:
            edge = [
                other
                for other, row in jobs.items()
                if other not in reopened
                and row.reason == "upstream_failed"
                and row.state in ("failed", "cancelled")
                and (row.upstreams | ({row.value_of} if row.value_of else set())) & set(edge)
            ]
            reopened.update({each: jobs[each].state == "failed" and jobs[each].value_of is not None for each in edge})
        refused, edge = False, list(reopened)
        up: set[UUID] = set()
        while edge:
            above = {jobs[each].parent for each in edge} - {None} - up - set(reopened)
            edge = []
            for parent in above:
                assert parent is not None
                row = jobs[parent]
                if row.state not in ENDED and not (row.state == "waiting" and row.ran):
                    refused = True
                elif row.state == "failed" and row.reason in ("child_failed", "upstream_failed"):
                    up.add(parent)
                    edge.append(parent)
                elif row.state == "waiting":
                    up.add(parent)
        anew = [each for each, ran in reopened.items() if not ran]
        refused |= any(row.parent in anew and row.state not in ENDED for row in jobs.values())
        self.reconnect()
        if refused:
            with pytest.raises(UsageError):
                retry(self.store.link, [job])
            assert self.picture() == before
            return
        assert retry(self.store.link, [job]) == [job]
        for each in [*reopened, *up]:
            row = jobs[each]
            if row.state in ENDED:
                row.state, row.reason, row.losses = "waiting", None, 0
                row.ran = reopened.get(each, True)
                self.ended.pop(each, None)
                if not row.ran:
                    row.result, row.value_of = None, None
        self.model.settle()

    # Losing workers

    @rule()
    @precondition(lambda self: any(each for each in self.claims))
    def lose_a_worker(self) -> None:
        """The doomed session is declared dead, what it held is given back, and another takes its place."""
        (seen,) = [each for each in lease.watch(self.store.link) if each.id == self.dead]
        held = {row[0] for row in self.store.sql("SELECT job_id FROM {claims} WHERE session = %(s)s", s=self.dead)}
        assert lease.declare_dead(self.store.link, seen)
        self.reconnect()
        given_back = lease.rescue(self.store.link)
        assert set(given_back) == held
        for job in held:
            row = self.model.jobs[job]
            self.stale.append(self.claims.pop(job))
            row.losses = row.losses + 1 if len(held) == 1 else max(row.losses, 1)
            asked, row.asked = row.asked, False
            if row.losses >= lease.MAX_LOSSES:
                row.state, row.reason = "failed", "poison"
            elif asked:
                row.state, row.reason = "cancelled", "asked"
            else:
                row.state = "available"
        self.model.settle()
        self.dead = self.store.open_session()

    @rule()
    def beat_and_sweep(self) -> None:
        """Upkeep finds nothing to do, since nothing was left undone."""
        before = self.picture()
        self.reconnect()
        assert lease.beat(self.store.link, self.store.session) is not None
        assert sweep(self.store.link) == 0
        assert audit(self.store.link, NOWHERE)[1] == []
        assert self.picture() == before

    # What must hold

    def picture(self) -> list[tuple[Any, ...]]:
        return self.store.sql(
            "SELECT v.id, v.state, v.reason, v.attempt, v.result, v.claim_id, j.errors, w.deps, w.children, w.settle "
            "FROM {view} v JOIN {jobs} j ON j.id = v.id LEFT JOIN {waiting} w ON w.job_id = v.id ORDER BY v.id"
        )

    @invariant()
    def the_tables_agree_with_the_model(self) -> None:
        rows = self.store.sql(
            "SELECT v.id, v.state, j.reason, j.attempt, j.losses, v.result FROM {view} v JOIN {jobs} j ON j.id = v.id"
        )
        found = {row[0]: row[1:] for row in rows}
        expected = {
            job: (
                row.state, row.reason if row.state in ENDED else None, row.attempts, row.losses,
                row.result if row.state == "completed" else None,
            )
            for job, row in self.model.jobs.items()
        }  # fmt: skip
        assert found == expected

    @invariant()
    def nothing_is_as_it_must_never_be(self) -> None:
        assert [row for row in self.store.violations() if row[0] != "a parent has ended before its child"] == []

    @invariant()
    def what_has_ended_stays_as_it_ended_until_a_retry(self) -> None:
        for job, row in self.model.jobs.items():
            if row.state in ENDED:
                assert self.ended.setdefault(job, (row.state, row.attempts)) == (row.state, row.attempts)

    @invariant()
    def only_running_jobs_are_claimed(self) -> None:
        held = dict(self.store.sql("SELECT job_id, claim_id FROM {claims}"))
        assert held == {job: claimed.claim_id for job, claimed in self.claims.items()}

    @invariant()
    def the_counters_add_up(self) -> None:
        rows = self.store.sql("SELECT state, sum(n)::int FROM {counters} GROUP BY state HAVING sum(n) <> 0")
        expected: dict[str, int] = {}
        for row in self.model.jobs.values():
            if row.state in ENDED:
                expected[row.state] = expected.get(row.state, 0) + 1
        assert dict(rows) == expected


def test_the_invariants_hold_after_every_step(fairchild: Fairchild) -> None:
    """``FAIRCHILD_TEST_EXAMPLES`` asks for more, or with other numbers than those of every build."""
    examples = os.environ.get("FAIRCHILD_TEST_EXAMPLES")

    class Bound(Machine):
        client = fairchild

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=int(examples or 40),
            stateful_step_count=25 if examples is None else 50,
            deadline=None,
            derandomize=examples is None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
