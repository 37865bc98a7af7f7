"""What a job gets of one that did not complete: a default, an outcome, or an end of its own that names the cause."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from fairchild import Cancel, Discard, Future, Outcome, current_job
from fairchild.errors import JobFailed, NotSerializable
from tests.support.app import App


def _of(value: object) -> Future:
    """What a call inside a job really gives; annotations say what its receiver gets."""
    assert isinstance(value, Future)
    return value


def _tasks(app: App) -> dict[str, Any]:
    @app.task
    def work(how: str) -> Any:
        if how == "fail":
            raise Discard("no luck")
        if how == "cancel":
            raise Cancel("not today")
        return {"none": None, "nothing": object()}.get(how, how)

    @app.task
    def take(x: Any) -> Any:
        return x

    return {"work": work, "take": take}


@pytest.mark.parametrize(
    ("how", "expected"), [("fine", "fine"), ("none", None), ("fail", "def"), ("cancel", "def"), ("nothing", "def")]
)
def test_or_else_gives_the_default_where_there_is_no_value_and_none_is_a_value(
    app: App, how: str, expected: object
) -> None:
    work, take = _tasks(app).values()

    @app.task
    def flow() -> Any:
        return take([_of(work(how)).or_else("def")])

    job = flow.enqueue()
    app.work()

    assert app.result(job) == [expected]


@pytest.mark.parametrize(
    ("how", "ok", "told"),
    [
        ("fine", True, None),
        ("none", True, None),
        ("fail", False, ("failed", "discarded", "no luck")),
        ("cancel", False, ("cancelled", "not today", None)),
        ("nothing", False, ("completed", "no_result", "it completed and kept no result")),
    ],
)
def test_outcome_tells_what_a_job_came_to(app: App, how: str, ok: bool, told: object) -> None:
    work = _tasks(app)["work"]

    @app.task
    def judge(outcome: Outcome, plain: Any) -> Any:
        assert isinstance(outcome, Outcome)
        assert plain == [outcome]
        error = outcome.error and (outcome.error["state"], outcome.error["reason"], outcome.error["message"])
        return [outcome.ok, outcome.value, error]

    @app.task
    def flow() -> Any:
        called = _of(work(how))
        return judge(called.outcome(), [called.outcome()])  # type: ignore[arg-type]

    job = flow.enqueue()
    app.work()

    value = {"fine": "fine"}.get(how)
    assert app.result(job) == [ok, value, None if told is None else list(told)]  # type: ignore[call-overload]


def test_a_returned_value_may_hold_defaults_and_outcomes(app: App) -> None:
    work = _tasks(app)["work"]

    @app.task
    def flow() -> Any:
        bad = _of(work("fail"))
        return {"else": bad.or_else([1]), "good": work("fine"), "out": _of(work("cancel")).outcome()}

    @app.task
    def alone() -> Any:
        return _of(work("fail")).or_else("instead")

    jobs = [flow.enqueue(), alone.enqueue()]
    app.work()
    found = app.result(jobs[0])

    assert (found["else"], found["good"], found["out"]["ok"]) == ([1], "fine", False)
    assert found["out"]["error"]["reason"] == "not today"
    assert app.result(jobs[1]) == "instead"


def test_a_failure_that_nobody_deals_with_still_fails_the_parent(app: App) -> None:
    work, take = _tasks(app).values()

    @app.task
    def flow() -> Any:
        bad = _of(work("fail"))
        take(bad)
        return take(bad.or_else(1))

    @app.task
    def finally_only() -> None:
        take(1, _depends_on=[_of(work("fail")).outcome()])

    jobs = [flow.enqueue(), finally_only.enqueue()]
    app.work()
    first, second = app.wait(*jobs)

    assert (first.state, first.reason) == ("failed", "child_failed")
    assert [each.state for each in app.children(first)] == ["failed", "cancelled", "completed"]
    assert (second.state, second.reason) == ("failed", "child_failed")
    assert [each.state for each in app.children(second)] == ["failed", "completed"]


def test_jobs_from_outside_have_the_same_policies_whether_they_have_ended_or_not(app: App) -> None:
    work, take = _tasks(app).values()
    bad = work.enqueue("fail")
    early = take.enqueue([bad.or_else({"at": datetime(2030, 1, 1, tzinfo=timezone.utc)}), bad.outcome()])
    after = take.enqueue("after", _depends_on=[bad.outcome()])
    app.work()
    app.wait(bad, early, after)
    late = take.enqueue(bad.or_else("late"))
    later = take.enqueue("later", _depends_on=bad.outcome())

    value, outcome = app.result(early)
    assert value == {"at": "2030-01-01T00:00:00+00:00"}
    assert outcome["error"]["message"] == "no luck"
    assert [app.result(each) for each in (after, late, later)] == ["after", "late", "later"]


def test_a_default_is_checked_when_the_job_is_made(app: App) -> None:
    work, take = _tasks(app).values()
    job = work.enqueue("fine")

    with pytest.raises(NotSerializable, match=r"\$\.x\[0\].*not a type JSON can hold"):
        take.enqueue([job.or_else(object())])
    with pytest.raises(NotSerializable, match="the default of or_else.*plain data"):
        take.enqueue(job.or_else([job.outcome()]))


def test_the_reason_of_a_transitive_cancellation_names_where_it_began(app: App) -> None:
    work, take = _tasks(app).values()

    @app.task
    def inner() -> Any:
        return take(take(work("fail")))

    @app.task
    def flow() -> Any:
        return take(inner())

    job = flow.enqueue()
    app.work()
    with pytest.raises(JobFailed, match=r"child job .* did not complete; it began with .*work [0-9a-f-]+ failed") as e:
        app.result(job)
    (root,) = app.store.sql("SELECT id FROM {jobs} WHERE reason = 'discarded'")
    ended = app.store.sql("SELECT errors -> -1 -> 'cause' ->> 'job_id' FROM {jobs} WHERE reason LIKE '%%_failed'")

    assert "no luck" in str(e.value)
    assert {each[0] for each in ended} == {str(root[0])}
    assert len(ended) == 5


def test_a_retried_upstream_brings_back_what_it_had_cancelled_and_leaves_those_with_a_default(app: App) -> None:
    take = _tasks(app)["take"]

    @app.task(max_attempts=1)
    def fails_once() -> str:
        if current_job().attempt == 1:
            raise ValueError("first")
        return "second"

    first = fails_once.enqueue()
    needs, fine = take.enqueue(first), take.enqueue(first.or_else("none"))
    further = take.enqueue(needs)
    app.work()
    app.wait(needs, fine, further)
    assert app.get(further).state == "cancelled"
    first.retry()

    assert [app.result(each) for each in (needs, further, fine)] == ["second", "second", "none"]
    assert app.get(fine).attempt == 1


def test_a_task_in_a_process_of_its_own_gets_and_returns_them_too(app: App) -> None:
    from tests.support import isolated

    for each in isolated.tasks.tasks():
        app.client.registry.register(each)
    work = _tasks(app)["work"]
    job = isolated.falls_back.enqueue(work.enqueue("fail").outcome())
    app.work()

    assert app.result(job) == ["no luck", 7]
