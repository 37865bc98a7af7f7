"""Random workflows, each from a number: the tasks that make them, and what must become of every job."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg

from fairchild import Cancel, Discard, Outcome, current_job, task
from fairchild.future import Future

How = Literal["need", "default", "outcome", "after"]
MISSING = -1
MAX_NODES = 200


@dataclass
class Node:
    """A job: what it does when it runs, and the jobs before it."""

    does: str
    """'ok'; 'flaky': fails once; 'fails'; 'mends': fails until it is retried by hand; 'cancels' itself."""
    upstreams: dict[int, How] = field(default_factory=dict)


@dataclass
class End:
    """How a job must have ended."""

    state: str
    reason: str | None
    value: int | None


def dag(seed: int, largest: int = MAX_NODES) -> list[Node]:
    """The graph of this number; a node's upstreams come before it."""
    rng = random.Random(seed)
    nodes: list[Node] = []
    trouble = rng.choice([0.0, 0.05, 0.2])
    hows: list[How] = ["need", "default", "outcome", "after"]
    for number in range(rng.choice([1, 3, 10, 30, 60, largest])):
        does = rng.choice(["flaky", "fails", "mends", "cancels"]) if rng.random() < trouble else "ok"
        before = range(max(0, number - rng.choice([1, 5, 50])), number)
        chosen = rng.sample(before, min(len(before), rng.choice([0, 1, 1, 2, 5])))
        nodes.append(Node(does, {each: rng.choices(hows, weights=(6, 1, 1, 1))[0] for each in sorted(chosen)}))
    return nodes


def predict(nodes: list[Node], earlier: list[End] | None = None) -> list[End]:
    """How the jobs end. ``earlier``: how they had ended before a retry of the whole."""
    ends: list[End] = []
    mended = earlier is not None and any(end.state == "failed" for end in earlier)
    for number, node in enumerate(nodes):
        before = earlier[number] if earlier is not None else None
        kept = before is not None and (before.state == "completed" or (mended and before.reason == "by itself"))
        if before is not None and kept:
            ends.append(before)
        elif any(how == "need" and ends[each].state != "completed" for each, how in node.upstreams.items()):
            ends.append(End("cancelled", "upstream_failed", None))
        elif node.does == "fails" or (node.does == "mends" and (before is None or before.reason != "discarded")):
            ends.append(End("failed", "discarded", None))
        elif node.does == "cancels":
            ends.append(End("cancelled", "by itself", None))
        else:
            given = [_given(how, ends[each]) for each, how in node.upstreams.items()]
            ends.append(End("completed", None, number + sum(given)))
    return ends


def root_state(nodes: list[Node], ends: list[End]) -> str:
    """How the root ends: it fails of those that did not complete, unless somebody dealt with that."""
    handled = {each for node in nodes for each, how in node.upstreams.items() if how in ("default", "outcome")}
    return "completed" if all(e.state == "completed" or n in handled for n, e in enumerate(ends)) else "failed"


def _given(how: How, end: End) -> int:
    if how == "after":
        return 0
    if how == "outcome":
        return int(end.state == "completed")
    return MISSING if end.value is None else end.value


@task(name="dags.node", max_attempts=3, backoff=[0.01])
def node(number: int, does: str, values: list[int], outcomes: list[Outcome]) -> int:
    """Does what it must, and gives its number and what it was given."""
    attempt = current_job().attempt
    if does == "fails" or (does == "mends" and attempt == 1):
        raise Discard("as it must")
    if does == "cancels":
        raise Cancel("by itself")
    if does == "flaky" and attempt == 1:
        raise ValueError("once")
    return number + sum(values) + sum(outcome.ok for outcome in outcomes)


@task(name="dags.flow")
def flow(seed: int, largest: int = MAX_NODES) -> None:
    """The workflow of a number."""
    call(dag(seed, largest))


def call(nodes: list[Node]) -> None:
    """Call the tasks of a graph, in a job or in a block."""
    called: list[Any] = []
    for number, each in enumerate(nodes):
        found = {how: [called[up] for up, its in each.upstreams.items() if its == how] for how in _HOWS}
        values = [*found["need"], *(up.or_else(MISSING) for up in found["default"])]
        after = [up.outcome() for up in found["after"]]
        future: Any = node(
            number,
            each.does,
            values,
            [up.outcome() for up in found["outcome"]],
            _depends_on=after,  # type: ignore[call-arg]
        )
        assert isinstance(future, Future)
        called.append(future)


@task(name="dags.noop")
def noop(n: int) -> int:
    """A child of a wide workflow, or a job of its own."""
    return n


@task(name="dags.total")
def total(values: list[int]) -> list[int]:
    """How many there were, and their sum."""
    return [len(values), sum(values)]


@task(name="dags.wide")
def wide(width: int) -> Any:
    """Fans out and in."""
    return total(noop.map(range(width)))


@task(name="dags.more")
def more(n: int) -> int:
    """A link of a chain."""
    return n + 1


@task(name="dags.chain")
def chain(length: int) -> Any:
    """Links that wait for each other's values."""
    value: Any = 0
    for _ in range(length):
        value = more(value)
    return value


@task(name="dags.nest")
def nest(depth: int) -> Any:
    """Levels of jobs, each of which returns the value of the next."""
    return nest(depth - 1) if depth else 0


@task(name="dags.bomb")
def bomb() -> None:
    """Calls itself ten times, for ever."""
    for _ in range(10):
        bomb()


_HOWS: tuple[How, ...] = ("need", "default", "outcome", "after")

SETUP = """
CREATE TABLE ends (job uuid NOT NULL, state text NOT NULL);
CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO ends (job, state) VALUES (NEW.id, NEW.state);
  RETURN NULL;
END $$;
CREATE TRIGGER note_end AFTER UPDATE ON fairchild_jobs_base FOR EACH ROW
  WHEN (OLD.state = 'pending' AND NEW.state <> 'pending') EXECUTE FUNCTION note_end();
"""


def differences(
    connection: psycopg.Connection[Any], roots: Mapping[Any, list[Node]], expected: Mapping[Any, list[End]]
) -> list[str]:
    """Where jobs are not as they must be: by root, the graphs and how their jobs must have ended."""
    wrong: list[str] = []
    found: dict[Any, dict[int, tuple[Any, ...]]] = {root: {} for root in roots}
    rows = connection.execute(
        """SELECT parent_id, (args ->> 'number')::int, state, reason, (result #>> '{}')::int, id
             FROM fairchild_jobs_base WHERE parent_id = ANY(%s)""",
        [list(roots)],
    )
    for root, number, *rest in rows:
        if number in found[root]:
            wrong.append(f"{root}: node {number} is there twice")
        found[root][number] = tuple(rest)
    for root, nodes in roots.items():
        if set(found[root]) != set(range(len(nodes))):
            wrong.append(f"{root}: {len(found[root])} children of {len(nodes)}")
            continue
        for number, end in enumerate(expected[root]):
            state, reason, value, job = found[root][number]
            if (state, reason, value) != (end.state, end.reason, end.value):
                wrong.append(f"{root}: node {number} {job} is {state, reason, value}, not {end}")
    states = dict(
        connection.execute("SELECT id, state FROM fairchild_jobs_base WHERE id = ANY(%s)", [list(roots)]).fetchall()
    )
    for root, nodes in roots.items():
        if states.get(root) != root_state(nodes, expected[root]):
            wrong.append(f"{root}: the root is {states.get(root)}, not {root_state(nodes, expected[root])}")
    twice = connection.execute(
        "SELECT job FROM ends WHERE state = 'completed' GROUP BY job HAVING count(*) > 1 LIMIT 5"
    ).fetchall()
    wrong.extend(f"{job} completed twice" for (job,) in twice)
    for place in ("ready", "claims", "due", "waiting"):
        left = connection.execute(f"SELECT count(*) FROM fairchild_{place}".encode()).fetchone()
        if left != (0,):
            wrong.append(f"{left} jobs are left in {place}")
    return wrong
