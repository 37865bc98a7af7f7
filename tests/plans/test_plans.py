"""The hot statements' plans on tables that are large and skewed, with one plan for all parameters, as workers run them.

No table of jobs and nothing of ``ready`` may be read from end to end, whatever PostgreSQL's version and statistics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from fairchild import Fairchild
from fairchild.db import (
    browse,
    cancel,
    census,
    claim,
    control,
    enqueue,
    events,
    finish,
    flow_tasks,
    history,
    insight,
    journal,
    lease,
    notes,
    portions,
    prune,
    queues,
    sample,
    search,
    settle,
    shape,
    stacks,
    wake,
    workflows,
    xcom,
)
from fairchild.db.connect import Link
from fairchild.db.statement import NAMES, Sql
from fairchild.ids import uuid7
from fairchild.rules.query import parse
from fairchild.testing import databases
from tests.support.store import new_job

JOBS = 100_000
FILL = """
INSERT INTO {jobs} (id, task, queue, priority, workflow_id, parent_id, args, state, ended_at, reason)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 't',
       CASE WHEN mod(n, 10) = 0 THEN 'rare' || mod(n, 7) ELSE 'default' END, mod(n, 10),
       ('01900000-0000-7000-8000-' || lpad(to_hex(n - mod(n, 100)), 12, '0'))::uuid,
       CASE WHEN mod(n, 100) <> 0 THEN ('01900000-0000-7000-8000-' || lpad(to_hex(n - mod(n, 100)), 12, '0'))::uuid END,
       '{{}}', CASE WHEN mod(n, 4) = 0 THEN 'pending' WHEN mod(n, 20) = 1 THEN 'failed' ELSE 'completed' END,
       CASE WHEN mod(n, 4) <> 0 THEN now() END, CASE WHEN mod(n, 20) = 1 THEN 'error' END
  FROM generate_series(1, %(n)s) n"""
PLACES = [
    """INSERT INTO {ready} (queue, priority, job_id, task)
       SELECT queue, priority, id, task FROM {jobs} WHERE state = 'pending' AND parent_id IS NOT NULL""",
    """INSERT INTO {waiting} (job_id, deps, children, ran, late, settle)
       SELECT id, 1, 1, true, false, false FROM {jobs} WHERE state = 'pending' AND parent_id IS NULL""",
    """INSERT INTO {due} (job_id, run_at, queue, priority, task)
       SELECT ('01900000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, now() + n * interval '1 second' - interval
       '1 hour', 'default', 5, 't' FROM generate_series(1, 20000) n""",
    """INSERT INTO {claims} (job_id, claim_id, session, fence, queue)
       SELECT ('01900000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, gen.id, gen.id, n, 'default'
         FROM generate_series(1, 5000) n, (SELECT '01900000-0000-7000-a000-000000000000'::uuid AS id) gen""",
    """INSERT INTO {edges} (upstream, downstream)
       SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
              ('01900000-0000-7000-8000-' || lpad(to_hex(n + 1), 12, '0'))::uuid FROM generate_series(1, 50000) n""",
    """INSERT INTO {journal} (job_id, seq, kind, name, ref)
       SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(mod(n, 1000) + 1), 12, '0'))::uuid, n, 'call', 't',
              ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, 50000) n""",
    """INSERT INTO {signals} (job_id, id, name, payload)
       SELECT id, id, 'go', 'null' FROM {jobs} ORDER BY id LIMIT 20000""",
    """INSERT INTO {timers} (job_id, wake_at)
       SELECT id, inserted_at + random() * interval '1 day' - interval '1 hour' FROM {jobs} ORDER BY id LIMIT 20000""",
    """INSERT INTO {xcom} (workflow_id, key, expires_at)
       SELECT id, 'k', now() + random() * interval '1 day' - interval '1 hour' FROM {jobs} ORDER BY id LIMIT 20000""",
]


@pytest.fixture(scope="module")
def tuned(fairchild_server: str, fairchild_template: str) -> Iterator[Link]:
    """A worker's connection to a database with a hundred thousand jobs."""
    with databases.copy_of(fairchild_server, fairchild_template) as url:
        client = Fairchild(url)
        link = client.database.open("tests", tuned=True)
        link.rows(Sql("fill", FILL), {"n": JOBS})
        for text in PLACES:
            link.rows(Sql("places", text))
        link.script("ANALYZE")
        yield link
        link.connection.close()
        client.disconnect()


def explain(link: Link, sql: Sql, params: dict[str, Any], kinds: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The nodes of the generic plan of a statement, in a transaction that is rolled back."""
    text = sql.for_schema(link.schema)
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match.group(1)) + 1}", text).replace("%%", "%")
    kinds = {"tasks": "text[]", "ids": "uuid[]", "notify": "boolean", "gated": "boolean", "gate": "bigint",
             "room": "bigint", "most": "bigint", "after": "uuid", "id": "uuid", "queues": "text[]",
             "priority": "int", "max_attempts": "int", "depth": "int", "workflow": "uuid", "parent": "uuid",
             "timeout": "float8", "expires": "float8", "tags": "text[]",
             "claim_id": "uuid", "session": "uuid", "before": "uuid", "job": "uuid", "signal": "uuid",
             "tell": "boolean", "seconds": "float8", **(kinds or {})}  # fmt: skip
    declared = f"({', '.join(kinds.get(name, 'text') for name in names)})" if names else ""
    nodes: list[dict[str, Any]] = []
    with link.connection.transaction(force_rollback=True):
        cursor = psycopg.ClientCursor(link.connection)
        cursor.execute(f"PREPARE checked {declared} AS {numbered}".encode())
        try:
            values = ", ".join(cursor.mogrify("%s", [params[name]]) for name in names)
            call = f"checked ({values})" if names else "checked"
            rows = cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {call}".encode()).fetchone()
            assert rows is not None
            plan = rows[0] if not isinstance(rows[0], (str, bytes)) else json.loads(rows[0])
            stack = [plan[0]["Plan"]]
            while stack:
                node = stack.pop()
                nodes.append(node)
                stack.extend(node.get("Plans", []))
        finally:
            cursor.execute("DEALLOCATE checked")
    return nodes


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    """Tables read from end to end."""
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


BIG = {
    NAMES[name]
    for name in ("jobs", "ready", "due", "edges", "claims", "waiting", "journal", "signals", "timers", "xcom")
}
PKEY = "fairchild_jobs_base_pkey"


def outcomes(count: int) -> str:
    rows = [
        {"job_id": uuid7(), "claim_id": uuid4(), "state": "completed", "spent": 1, "kept": False} for _ in range(count)
    ]
    return msgspec.json.encode(rows).decode()


@pytest.mark.parametrize("statement", [claim.CLAIM, claim.CLAIM_ANY])
def test_claim_walks_its_lanes_by_the_index_and_probes_jobs_by_their_key(tuned: Link, statement: Sql) -> None:
    lanes = [
        {"queue": queue, "priority": priority, "floor": 0} for priority in range(10) for queue in ("default", "rare0")
    ]
    nodes = explain(
        tuned, statement,
        {"lanes": json.dumps(lanes), "tasks": ["t"], "room": 100, "claim_id": uuid4(), "session": uuid4()},
    )  # fmt: skip

    assert {"fairchild_ready_for_claim", PKEY} <= indexes(nodes)
    assert not scanned(nodes) & BIG
    assert any(node["Node Type"] == "Tid Scan" for node in nodes)


def test_finish_reaches_every_table_by_its_key(tuned: Link) -> None:
    nodes = explain(tuned, finish.FINISH, {"outcomes": outcomes(100), **wake.wake_params("public")})

    assert {"fairchild_claims_pkey", PKEY, "fairchild_edges_pkey", "fairchild_waiting_pkey"} <= indexes(nodes)
    assert not scanned(nodes) & BIG


def test_ending_jobs_reaches_every_table_by_its_key(tuned: Link) -> None:
    nodes = explain(tuned, settle.END_JOBS, {"outcomes": outcomes(100), **wake.wake_params("public")})

    assert {PKEY, "fairchild_edges_pkey", "fairchild_waiting_pkey"} <= indexes(nodes)
    assert not scanned(nodes) & BIG


@pytest.mark.parametrize("fingerprint", [None, "0123456789ab"])
def test_errors_are_grouped_from_the_newest_failed_job_back(tuned: Link, fingerprint: str | None) -> None:
    nodes = explain(tuned, insight.ERROR_GROUPS, {"fingerprint": fingerprint})

    assert {"fairchild_jobs_by_reason"} <= indexes(nodes) <= {"fairchild_jobs_by_reason", "fairchild_muted_pkey"}
    assert not scanned(nodes) & BIG
    assert any(node["Node Type"] == "Limit" for node in nodes)


def test_the_last_runs_of_a_task_are_looked_for_among_the_newest_jobs(tuned: Link) -> None:
    nodes = explain(tuned, insight.PAST_RUNS, {"task": "t", "limit": 60}, {"limit": "int"})

    assert indexes(nodes) == {PKEY}
    assert not scanned(nodes) & BIG


def test_the_newest_jobs_are_sampled_by_the_primary_key_from_the_end(tuned: Link) -> None:
    nodes = explain(tuned, sample.SAMPLE, {})

    assert indexes(nodes) == {"fairchild_jobs_base_pkey"}
    assert not scanned(nodes) & BIG
    assert any(node.get("Scan Direction") == "Backward" for node in nodes)


def test_the_menu_and_banners_read_a_bounded_part_of_their_tables(tuned: Link) -> None:
    menu = explain(tuned, insight.MENU, {"most": 99}, {"most": "int"})
    assert {"fairchild_jobs_by_reason", "fairchild_jobs_by_workflow"} <= indexes(menu)
    assert not scanned(menu) & BIG
    trouble = explain(tuned, insight.TROUBLE, {})
    assert "fairchild_minutes_by_minute" in indexes(trouble)
    retrying = explain(tuned, insight.RETRYING, {})
    assert {"fairchild_due_by_time", PKEY} <= indexes(retrying)
    assert not scanned(retrying) & BIG


def test_what_waits_in_a_queue_is_found_by_steps_of_the_index_of_claims(tuned: Link) -> None:
    for statement in (queues.LONGEST_WAITING, queues.COUNT_PRIORITIES):
        nodes = explain(tuned, statement, {"name": "default", "most": 10}, {"most": "int"})
        assert indexes(nodes) == {"fairchild_ready_for_claim"}
        assert not scanned(nodes) & BIG


def test_stacks_are_kept_and_read_by_a_sessions_key_and_touch_no_job(tuned: Link) -> None:
    session = uuid4()
    answered = explain(tuned, stacks.ANSWER_STACKS, {"id": session, "stacks": "[]"})
    found = explain(tuned, stacks.READ_STACKS, {"ids": [session]})
    asked = explain(
        tuned, stacks.ASK_STACKS, {"names": ["web"], "channel": "c", "beat": wake.BEAT}, {"names": "text[]"}
    )

    assert indexes(answered) == indexes(found) == {"fairchild_sessions_pkey"}
    assert {node.get("Relation Name") for node in asked} <= {None, NAMES["sessions"]}


def test_promoting_walks_the_index_by_time(tuned: Link) -> None:
    nodes = explain(tuned, claim.PROMOTE_DUE, {"most": 1000, **wake.wake_params("public")})

    assert {"fairchild_due_by_time", "fairchild_timers_by_time"} <= indexes(nodes)
    assert not scanned(nodes) & BIG


@pytest.mark.parametrize(
    "text",
    ["queue:rare1", "task:t", "tag:a", "tenant:acme", "worker:01900000-0000-7000-8000-000000000001",
     "fp:0123456789ab", "args.n:5", "error:lost", "state:completed task:t", "priority:3",
     "state:failed fp:0123456789ab", "state:failed tenant:acme"],
)  # fmt: skip
def test_a_filter_walks_its_window_by_the_ids_or_the_jobs_that_ended_badly(tuned: Link, text: str) -> None:
    asked = parse(text).bounded()
    assert asked.windowed == ("failed" not in text)
    expected = {PKEY} if asked.windowed else {"fairchild_jobs_by_reason"}
    for statement, params in (
        search.searching(tuned, asked, 25),
        search.counting(tuned, asked, 10_000),
        search.counting_states(tuned, asked, 10_000),
    ):
        nodes = explain(tuned, statement, params, {name: kind_of(value) for name, value in params.items()})
        assert expected <= indexes(nodes), (statement, nodes)
        assert "fairchild_jobs_base" not in scanned(nodes), (statement, nodes)


def test_jobs_made_before_a_time_are_listed_from_the_newest_id_back(tuned: Link) -> None:
    given = {"before": datetime.now(timezone.utc), "error_kind": "lost", "limit": 50, "offset": 0}
    statement = browse._filtered("list_short", {name: given[name] for name in ("before", "error_kind")}, None,
                                 browse._SHORT_COLUMNS)  # fmt: skip
    nodes = explain(tuned, statement, given, {"before": "timestamptz", "limit": "int", "offset": "int"})
    assert PKEY in indexes(nodes)
    assert not scanned(nodes) & {NAMES["jobs"], NAMES["redactions"]}


def test_who_asks_for_events_now_and_then_reads_them_by_their_numbers(tuned: Link) -> None:
    given = {"missing": [3, 5], "after": 7, "most": 500}
    nodes = explain(tuned, events.READ_AFTER, given, {"missing": "bigint[]", "after": "bigint", "most": "int"})
    assert indexes(nodes) == {"fairchild_events_pkey"}


def kind_of(value: object) -> str:
    """The type that a statement's text leaves open."""
    if isinstance(value, list):
        return f"{kind_of(value[0])}[]"
    return {int: "int", UUID: "uuid", timedelta: "interval"}.get(type(value), "text")


def test_running_jobs_now_goes_by_their_keys(tuned: Link) -> None:
    nodes = explain(tuned, control.RUN_NOW, {"ids": [uuid7() for _ in range(100)]})

    assert {PKEY, "fairchild_due_pkey"} <= indexes(nodes)
    assert not scanned(nodes) & BIG


@pytest.mark.parametrize(
    ("statement", "index"),
    [(control.MOVE_DUE, "fairchild_due_pkey"), (control.MOVE_READY, "fairchild_ready_for_claim")],
)
def test_moving_jobs_goes_by_their_keys_and_lanes(tuned: Link, statement: Sql, index: str) -> None:
    nodes = explain(
        tuned, statement, {"ids": [uuid7() for _ in range(100)], "queue": "q", "priority": 1}, {"priority": "smallint"}
    )

    assert {PKEY, index} <= indexes(nodes)
    assert not scanned(nodes) & BIG


def test_inserting_touches_the_primary_key_only(tuned: Link) -> None:
    document = msgspec.json.encode([enqueue._document(new_job(), enqueue._FREE)]).decode()
    nodes = explain(
        tuned, enqueue.INSERT_FREE_JOBS,
        {"jobs": document, "notify": True, "gated": True, **wake.wake_params("public")},
    )  # fmt: skip

    assert not scanned(nodes) & BIG
    assert not indexes(nodes)


def test_inserting_one_job_reads_nothing_but_whether_anybody_listens(tuned: Link) -> None:
    values = {"id": uuid7(), "task": "t", "queue": "q", "tenant": "", "priority": 5, "max_attempts": 3, "depth": 0,
              "workflow": uuid7(), "parent": None, "on_child_failure": "fail", "timeout": None, "expires": None,
              "tags": None, "args": "{}", "meta": None, "notify": True, "gated": True}  # fmt: skip
    nodes = explain(tuned, enqueue.INSERT_ONE, {**values, **wake.wake_params("public")})

    assert scanned(nodes) <= {NAMES["listeners"]}
    assert not indexes(nodes)


def test_settling_reaches_its_jobs_by_their_keys(tuned: Link) -> None:
    ids = [uuid7() for _ in range(100)]

    for statement, expected in (
        (settle.TAKE_MARKED, {"fairchild_waiting_pkey", PKEY}),
        (settle.READ_RESULTS, {PKEY}),
        (settle.LOCK_WAITING, {"fairchild_waiting_pkey"}),
        (
            settle.RECOUNT,
            {
                "fairchild_waiting_pkey",
                PKEY,
                "fairchild_edges_by_downstream",
                "fairchild_jobs_by_workflow",
                "fairchild_journal_by_ref",
            },
        ),
    ):
        nodes = explain(tuned, statement, {"ids": ids, **wake.wake_params("public")})
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


def test_the_sweeps_read_what_they_look_for_only(tuned: Link) -> None:
    for statement, expected in (
        (settle.FIND_MARKED, {"fairchild_waiting_to_settle"}),
        (settle.FIND_LATE, {"fairchild_waiting_late", "fairchild_edges_by_downstream", PKEY}),
        (settle.FIND_WRONG, {"fairchild_waiting_pkey", "fairchild_edges_by_downstream", "fairchild_jobs_by_workflow"}),
    ):
        nodes = explain(tuned, statement, {"after": uuid4()})
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


@pytest.mark.parametrize("statement", [claim.LOOK_EVERYWHERE, claim.LOOK_AT])
def test_looking_for_jobs_hops_along_the_indexes(tuned: Link, statement: Sql) -> None:
    nodes = explain(tuned, statement, {"most": 1000, "queues": ["default", "rare1"]})

    assert indexes(nodes) == {"fairchild_ready_for_claim", "fairchild_due_by_time", "fairchild_timers_by_time"}
    assert not scanned(nodes) & BIG


def test_a_beat_touches_one_row(tuned: Link) -> None:
    nodes = explain(tuned, lease.BEAT, {"id": uuid4(), "vitals": None})

    assert indexes(nodes) == {"fairchild_sessions_pkey"}
    assert not scanned(nodes)  # and no other table, which may be locked


def test_what_is_asked_with_a_beat_reads_only_what_runs(tuned: Link) -> None:
    nodes = explain(tuned, lease.ASKED, {"id": uuid4()})

    assert scanned(nodes) == {NAMES["claims"]}


def test_what_a_finish_asks_besides_goes_by_keys(tuned: Link) -> None:
    ids = [uuid7() for _ in range(100)]
    edges = msgspec.json.encode([{"upstream": uuid7(), "downstream": uuid7(), "policy": "need"}]).decode()

    for statement, expected in (
        (finish.WHY_LOST, {PKEY, "fairchild_claims_pkey"}),
        (finish.CANCELLED_ROOTS, {PKEY}),
        (finish.FIND_WAITERS, {PKEY, "fairchild_edges_pkey"}),
        (enqueue.UPSTREAM_STATES, {PKEY}),
        (enqueue.INSERT_EDGES, set[str]()),
        (browse.FIND_ENDED, {PKEY}),
        (browse.FIND_EXISTING, {PKEY}),
    ):
        nodes = explain(tuned, statement, {"ids": ids, "edges": edges})
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


def test_inserting_jobs_that_wait_reads_nothing_but_themselves(tuned: Link) -> None:
    document = msgspec.json.encode([enqueue._document(new_job(), enqueue._FREE)]).decode()
    nodes = explain(
        tuned, enqueue.INSERT_JOBS,
        {"jobs": document, "notify": True, "gated": True, **wake.wake_params("public")},
    )  # fmt: skip

    assert not scanned(nodes) & BIG


def test_rescuing_reads_claims_and_reaches_the_rest_by_keys(tuned: Link) -> None:
    nodes = explain(tuned, lease.RESCUE, {"most": 3, **wake.wake_params("public")})

    assert {PKEY, "fairchild_edges_pkey", "fairchild_waiting_pkey"} <= indexes(nodes)
    assert scanned(nodes) & BIG <= {NAMES["claims"]}


def test_what_jobs_note_is_checked_and_read_by_keys(tuned: Link) -> None:
    written = msgspec.json.encode([{"n": n, "job_id": uuid7(), "claim_id": uuid4()} for n in range(100)]).decode()

    for statement, expected in (
        (notes.WRITE_LINES, {PKEY, "fairchild_claims_pkey"}),
        (notes.WRITE_PROGRESS, {PKEY, "fairchild_claims_pkey"}),
        (notes.WRITE_CURSOR, {"fairchild_claims_pkey"}),
        (notes.READ_CURSOR, {"fairchild_progress_pkey"}),
        (notes.READ_LINES, {"fairchild_logs_by_job"}),
        (notes.READ_LAST_LINES, {"fairchild_logs_by_job"}),
    ):
        nodes = explain(
            tuned,
            statement,
            {"notes": written, "id": uuid7(), "claim_id": uuid4(), "attempt": 1, "cursor": "1", "after": 0, "level": 10,
             "limit": 100},
            {"after": "bigint", "level": "int", "limit": "int", "attempt": "int"},
        )  # fmt: skip
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


def test_what_durable_jobs_cost_goes_by_keys(tuned: Link) -> None:
    ids = [uuid7() for _ in range(100)]
    entries = msgspec.json.encode([{"job_id": uuid7(), "seq": 1, "kind": "step", "name": "s", "hash": ""}]).decode()
    waits = msgspec.json.encode([{"job_id": each, "ran": False, "wake": "all", "timer": 1} for each in ids]).decode()
    params = {
        "ids": ids, "id": uuid7(), "job": uuid7(), "claim_id": uuid4(), "entries": entries, "waits": waits,
        "most": 1000, "signal": uuid7(), "name": "go", "payload": "1", "told": "t", "tell": True,
        **wake.wake_params("public"),
    }  # fmt: skip

    for statement, expected in (
        (
            journal.READ_HISTORY,
            {"fairchild_journal_pkey", "fairchild_journal_by_ref", PKEY, "fairchild_signals_pkey"},
        ),
        (journal.READ_REFS, {PKEY}),
        (journal.WRITE_ENTRIES, {"fairchild_claims_pkey"}),
        (journal.RECORD_ENTRIES, set[str]()),
        (journal.SUSPEND, {"fairchild_waiting_pkey", "fairchild_edges_by_downstream", "fairchild_timers_pkey"}),
        (journal.SET_TIMERS, {"fairchild_journal_pkey"}),
        (journal.WAKE_SLEEPERS, {"fairchild_timers_by_time", "fairchild_waiting_pkey", PKEY}),
        (journal.WAKE_SIGNALLED, {"fairchild_waiting_pkey", "fairchild_signals_pkey", PKEY}),
        (journal.FIND_SIGNALLED, {"fairchild_waiting_for_signal"}),
        (journal.SEND_SIGNAL, {PKEY}),
    ):
        nodes = explain(tuned, statement, params)
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


def test_shared_values_are_reached_by_their_keys(tuned: Link) -> None:
    changes = msgspec.json.encode([{"workflow_id": uuid7(), "namespace": "", "key": "k", "value": 1}]).decode()
    params = {"changes": changes, "workflow": uuid7(), "namespace": "", "key": "k"}

    for statement, expected in (
        (xcom.PULL, {"fairchild_xcom_pkey", PKEY}),
        (xcom.KEYS, {"fairchild_xcom_pkey"}),
        (xcom.DROP_EXPIRED, {"fairchild_xcom_by_expiry"}),
        (xcom.CHANGES["clear"], {"fairchild_xcom_pkey"}),
        *((xcom.CHANGES[kind], set[str]()) for kind in ("set", "absent", "incr", "append")),
    ):
        nodes = explain(tuned, statement, params)
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & BIG, statement


def test_counting_what_was_inserted_reads_only_the_ids_of_its_minutes(tuned: Link) -> None:
    nodes = explain(tuned, history.COUNT_INSERTED, {})

    assert PKEY in indexes(nodes)
    assert not scanned(nodes) & BIG


def test_roots_are_found_by_steps_of_the_index_of_families(tuned: Link) -> None:
    nodes = explain(tuned, workflows.LIST_WORKFLOWS, {"before": workflows._NEWEST, "most": 50})

    assert indexes(nodes) == {"fairchild_jobs_by_workflow"}
    assert not scanned(nodes) & BIG


def test_pruning_goes_by_primary_key_from_the_oldest(tuned: Link) -> None:
    states = ["completed", "failed", "cancelled"]
    params = {"after": UUID(int=0), "age": 1.0, "states": states, "most": 1000}
    for statement, given in ((prune.PRUNE_JOBS, params), (prune.DELETE_JOBS, {"ids": [uuid4()]})):
        nodes = explain(tuned, statement, given)
        assert PKEY in indexes(nodes)
        assert not scanned(nodes) & BIG


SEEN_ELSEWHERE = {
    # For tests, of everything there is.
    "journal": {"FAST_FORWARD"},
    # COPY has no plan, and these read nothing.
    "enqueue": {"COPY_JOBS", "COPY_READY", "COPY_WAITING", "COPY_EDGES", "NOTIFY", "STATEMENT_TIME",
                "INSERT_ROOT", "BULK_CREATED"},
    # After a lost reply, of one table that holds what runs now.
    "claim": {"FIND_CLAIM"},
    # Once in a worker's life, once an interval on tables of a few rows, or once a minute.
    "lease": {"OPEN_SESSION", "SET_STATE", "WATCH", "DECLARE_DEAD", "LEFT_BEHIND", "PRUNE_SESSIONS",
              "PRUNE_CATALOGS"},
}  # fmt: skip


def test_a_workflow_is_read_by_its_own_part_of_the_index(tuned: Link) -> None:
    params = {"id": uuid7(), "ids": [uuid7()], "before": uuid7(), "most": 50, "root": uuid7(), "group": 1, "limit": 5,
              "after": uuid7(), "from": uuid7(), "floor": uuid7(), "name": "%t%", "task": "t", "tenant": None,
              "state": "failed", "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}  # fmt: skip
    for statement, expected in (
        (census.COUNT_DESCENDANTS, {"fairchild_jobs_by_workflow"}),
        (workflows.LIST_WORKFLOWS, {"fairchild_jobs_by_workflow"}),
        (workflows.COUNT_STATES, {"fairchild_jobs_by_workflow"}),
        (workflows.ROOT_STATES, {PKEY}),
        (workflows.EDGES_INTO, {"fairchild_edges_by_downstream"}),
        (workflows.LIST_UPSTREAMS, {"fairchild_edges_by_downstream"}),
        (workflows.LIST_DOWNSTREAMS, {"fairchild_edges_pkey"}),
        (workflows.COUNT_RELATIVES, {"fairchild_edges_pkey", "fairchild_waiting_pkey"}),
        (workflows.WALK_OLDER, {"fairchild_jobs_by_workflow", PKEY}),
        (workflows.WALK_NEWER, {"fairchild_jobs_by_workflow", PKEY}),
        (workflows.COUNT_SOME, {"fairchild_jobs_by_workflow"}),
        (shape.GROUPS, {"fairchild_jobs_by_workflow"}),
        (
            shape.PLACES_OF_FEW,
            {"fairchild_jobs_by_workflow", "fairchild_claims_pkey", "fairchild_due_pkey", "fairchild_waiting_pkey"},
        ),
        (shape.PLACES_OF_MANY, set[str]()),
        (shape.SPREAD, {"fairchild_jobs_by_workflow"}),
        (flow_tasks.TASK_RUNS, {"fairchild_jobs_by_workflow", PKEY}),
        (shape.SLOWEST, {"fairchild_jobs_by_workflow"}),
        (shape.BEFORE, {PKEY, "fairchild_edges_by_downstream"}),
        (shape.LAST_CHILD, {"fairchild_jobs_by_workflow"}),
        (shape.RUNS, {"fairchild_jobs_by_workflow"}),
        (shape.STEP, {PKEY}),
        (shape.LINKS, {PKEY, "fairchild_edges_by_downstream"}),
        (shape.GROUP_JOBS, {"fairchild_jobs_by_workflow"}),
    ):
        nodes = explain(
            tuned,
            statement,
            params,
            {
                "most": "int",
                "limit": "int",
                "group": "bigint",
                "from": "uuid",
                "floor": "uuid",
                "since": "timestamptz",
                "until": "timestamptz",
                "after": "uuid",
            },
        )
        assert expected <= indexes(nodes), statement
        assert NAMES["jobs"] not in scanned(nodes), statement


def test_retrying_and_cancelling_a_workflow_reads_its_own_part_and_reaches_the_rest_by_keys(tuned: Link) -> None:
    params = {"id": uuid7(), "ids": [uuid7() for _ in range(500)], "most": 500, "room": 1500, "all": True,
              "before": "2026-01-01T00:00:00Z", "reason": "no"}  # fmt: skip
    kinds = {"before": "timestamptz", "all": "boolean", "room": "bigint"}
    for statement, expected in (
        (cancel.WHOLE, {"fairchild_jobs_by_workflow", PKEY}),
        (cancel.FAMILY, {"fairchild_jobs_by_workflow", PKEY}),
        (cancel.ROOTS, {PKEY}),
        (cancel.BEGIN, {PKEY}),
        (portions.OURS, {"fairchild_jobs_by_workflow", PKEY}),
        (portions.FREED, {"fairchild_jobs_by_workflow", "fairchild_edges_by_downstream", PKEY}),
        (portions.COUNTS, {"fairchild_jobs_by_workflow", PKEY}),
        (control.OWN_ENDS, {"fairchild_jobs_by_workflow"}),
        (control.FAILED_WITH, {"fairchild_edges_pkey", PKEY}),
        (control.LIVE_CHILDREN, {"fairchild_jobs_by_workflow", PKEY}),
        (control.COUNT_UP, {"fairchild_edges_pkey", PKEY, "fairchild_waiting_pkey"}),
    ):
        nodes = explain(tuned, statement, params, kinds)
        assert expected <= indexes(nodes), statement
        assert not scanned(nodes) & {NAMES["jobs"], NAMES["edges"], NAMES["ready"]}, statement


@pytest.mark.parametrize("module", [census, claim, enqueue, finish, settle, lease, notes, journal, xcom])
def test_no_statement_of_the_hot_paths_goes_unexplained(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    own = {each for each, value in vars(module).items() if isinstance(value, Sql)}
    text = Path(__file__).read_text()
    explained = {each for each in own if any(f"{other}.{each}" in text for other in (name, "enqueue"))}

    assert own - explained == SEEN_ELSEWHERE.get(name, set())
