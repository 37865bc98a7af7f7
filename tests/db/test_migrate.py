"""The revisions: what they make, and what happens when many run them, or somebody may not."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fairchild import Fairchild
from fairchild.db import migrate, statement, tables
from fairchild.errors import DatabaseUnavailable, SchemaError
from fairchild.testing import databases
from tests.support.eventually import eventually

ODD_NAMES = ['My "schema" %s', "with:colon", "Übung (1)", "select", "a'b\\c", "{braces}", "$$"]


@pytest.fixture
def empty_db(fairchild_server: str) -> Iterator[str]:
    with databases.copy_of(fairchild_server, "template0") as url:
        yield url


def ask(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def run(url: str, command: str | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(command if isinstance(command, sql.Composed) else command.encode())


def relations(url: str, schema: str = "public") -> set[str]:
    found = ask(
        url,
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'v')",
        schema,
    )
    return {name for (name,) in found}


EVERYTHING = {*statement.NAMES.values(), migrate.VERSION_TABLE}


def test_an_empty_database_gets_every_table_and_the_view(empty_db: str) -> None:
    assert migrate.current(empty_db, None) is None
    assert migrate.pending(empty_db, None) == migrate.revisions()

    assert migrate.upgrade(empty_db, None) == migrate.revisions()

    assert relations(empty_db) == EVERYTHING
    assert migrate.current(empty_db, None) == migrate.head()
    assert migrate.pending(empty_db, None) == []


def test_a_second_upgrade_applies_nothing(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)

    assert migrate.upgrade(empty_db, None) == []


def test_every_revision_goes_up_and_down_and_up(empty_db: str) -> None:
    for revision in migrate.revisions():
        migrate.upgrade(empty_db, None)
        migrate.downgrade(empty_db, None)
        assert relations(empty_db) == {migrate.VERSION_TABLE}, revision
        assert migrate.current(empty_db, None) is None
        assert migrate.upgrade(empty_db, None) == migrate.revisions()
    assert relations(empty_db) == EVERYTHING


def test_a_downgrade_of_nothing_does_nothing(empty_db: str) -> None:
    migrate.downgrade(empty_db, None)

    assert relations(empty_db) == set()


def test_ten_threads_at_once_all_succeed_and_one_does_the_work(empty_db: str) -> None:
    with ThreadPoolExecutor(10) as threads:
        applied = list(threads.map(lambda _: migrate.upgrade(empty_db, None), range(10)))

    assert sorted(map(len, applied)) == [0] * 9 + [len(migrate.revisions())]
    assert relations(empty_db) == EVERYTHING


def _upgrade_in_process(url: str, schema: str, barrier: Any, answers: Any) -> None:
    barrier.wait(60)
    try:
        answers.put(migrate.upgrade(url, schema))
    except Exception as error:  # noqa: BLE001 - the parent asserts that there is none
        answers.put(repr(error))


def test_ten_processes_at_once_all_succeed_and_one_does_the_work(empty_db: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(10), spawn.Queue()
    processes = [
        spawn.Process(target=_upgrade_in_process, args=(empty_db, "fresh schema", barrier, answers)) for _ in range(10)
    ]
    for process in processes:
        process.start()
    applied = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        process.close()
    answers.close()
    answers.join_thread()

    assert sorted(applied, key=len) == [[]] * 9 + [migrate.revisions()]
    assert relations(empty_db, "fresh schema") == EVERYTHING


def test_an_upgrade_waits_for_the_one_that_holds_the_lock(empty_db: str) -> None:
    with ThreadPoolExecutor(1) as threads, psycopg.connect(empty_db) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (migrate.lock_key("public"),))
        waiting = threads.submit(migrate.upgrade, empty_db, None)
        eventually(lambda: ask(empty_db, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        assert not waiting.done()
        assert relations(empty_db) == set()

        holder.commit()

        assert waiting.result(30) == migrate.revisions()


def test_an_upgrade_that_waits_too_long_says_so_and_changes_nothing(
    empty_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_SECONDS", 0.05)
    with psycopg.connect(empty_db) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (migrate.lock_key("public"),))
        with pytest.raises(SchemaError, match="another migration.*nothing was changed"):
            migrate.upgrade(empty_db, None)
    assert relations(empty_db) == set()


@pytest.mark.parametrize("schema", ODD_NAMES)
def test_a_schema_with_an_odd_name_is_made_and_used(empty_db: str, schema: str) -> None:
    assert migrate.upgrade(empty_db, schema) == migrate.revisions()

    assert migrate.current(empty_db, schema) == migrate.head()
    assert relations(empty_db, schema) == EVERYTHING
    assert relations(empty_db) == set()
    migrate.downgrade(empty_db, schema)
    assert migrate.upgrade(empty_db, schema) == migrate.revisions()
    migrate.drop(empty_db, schema)
    assert relations(empty_db, schema) == set()


def test_two_schemas_of_one_database_are_independent(empty_db: str) -> None:
    migrate.upgrade(empty_db, "first")
    migrate.upgrade(empty_db, "second")

    migrate.drop(empty_db, "first")

    assert relations(empty_db, "first") == set()
    assert relations(empty_db, "second") == EVERYTHING
    assert migrate.current(empty_db, "first") is None


def test_without_a_schema_the_search_path_of_the_connection_decides(empty_db: str) -> None:
    run(empty_db, "CREATE SCHEMA app")
    url = f"{empty_db}&options=-csearch_path%3Dapp%2Cpublic"

    migrate.upgrade(url, None)

    assert relations(empty_db, "app") == EVERYTHING
    assert relations(empty_db) == set()


@pytest.mark.parametrize("action", [migrate.upgrade, migrate.current, migrate.pending, migrate.drop])
def test_a_search_path_that_leads_nowhere_is_an_error_with_advice(empty_db: str, action: Any) -> None:
    url = f"{empty_db}&options=-csearch_path%3Dnowhere"

    with pytest.raises(SchemaError, match="no current schema.*FAIRCHILD_SCHEMA"):
        action(url, None)


def test_the_tables_are_those_of_tables_py(empty_db: str) -> None:
    import sqlalchemy as sa
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrate.upgrade(empty_db, None)

    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty_db), poolclass=sa.NullPool)
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "version_table": migrate.VERSION_TABLE,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def _shape(url: str, schema: str) -> dict[str, object]:
    """All that a catalogue knows of a schema's relations and that Alembic's comparison leaves out."""
    here = "(SELECT oid FROM pg_namespace WHERE nspname = %s)"
    columns = (
        "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,"
        " pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        f" WHERE c.relkind = 'r' AND c.relname <> %s AND c.relnamespace = {here} ORDER BY 1, 2"
    )
    checks = (
        "SELECT conname, conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) FROM pg_constraint"
        f" WHERE contype <> 'n' AND connamespace = {here} AND conname NOT LIKE %s ORDER BY 1"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s AND tablename <> %s ORDER BY 1"
    return {
        "columns": ask(url, columns, migrate.VERSION_TABLE, schema),
        "constraints": [
            (name, table.rpartition(".")[2], kind, text.replace(f" {schema}.", " "))
            for name, table, kind, text in ask(url, checks, schema, migrate.VERSION_TABLE + "%")
        ],
        "indexes": [
            (name, text.replace(f" {schema}.", " ")) for name, text in ask(url, indexes, schema, migrate.VERSION_TABLE)
        ],
    }


def test_comments_defaults_and_constraints_are_those_of_tables_py(empty_db: str) -> None:
    import sqlalchemy as sa

    run(empty_db, "CREATE SCHEMA wanted")
    options = "-csearch_path=wanted"
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(empty_db, options=options), poolclass=sa.NullPool
    )
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
    engine.dispose()

    migrate.upgrade(empty_db, "migrated")

    assert _shape(empty_db, "migrated") == _shape(empty_db, "wanted")


def test_storage_parameters_are_those_of_tables_py(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)

    wanted = {table.name: str(table.info.get("storage", "")) for table in tables.metadata.tables.values()}
    wanted |= {table.name: tables.STORAGE_PARAMETERS for table in tables.EAGERLY_VACUUMED}
    found = ask(empty_db, "SELECT relname, coalesce(reloptions, '{}') FROM pg_class WHERE relkind = 'r'")
    assert {name: sorted(options) for name, options in found if name in wanted} == {
        name: sorted(part.replace(" ", "") for part in text.split(",") if part) for name, text in wanted.items()
    }


def test_the_view_is_that_of_tables_py(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)
    names = {key: statement.quote(name) for key, name in statement.NAMES.items()}
    run(empty_db, tables.VIEW.format(**{**names, "view": "wanted"}))

    definition = "SELECT pg_get_viewdef(%s::regclass)"
    assert ask(empty_db, definition, tables.VIEW_NAME) == ask(empty_db, definition, "wanted")


def test_the_names_in_statements_are_those_of_tables_py() -> None:
    assert {*statement.NAMES.values()} == {*tables.metadata.tables, tables.VIEW_NAME}


def test_the_view_shows_a_job_with_its_true_state(fairchild_db: str) -> None:
    run(
        fairchild_db,
        "INSERT INTO fairchild_jobs_base (id, task, workflow_id, args)"
        " SELECT id, 'a.task', id, '{}' FROM (SELECT md5('1')::uuid AS id) x",
    )
    assert ask(fairchild_db, "SELECT task_name, state, attempt, errors FROM fairchild_jobs") == [
        ("a.task", "available", 0, [])
    ]

    run(
        fairchild_db,
        "INSERT INTO fairchild_due (job_id, run_at, queue, priority, task)"
        " SELECT id, '2100-01-01Z', queue, priority, task FROM fairchild_jobs_base",
    )
    assert ask(fairchild_db, "SELECT state, scheduled_at > now() FROM fairchild_jobs") == [("scheduled", True)]


@pytest.mark.parametrize("schema", [None, *ODD_NAMES])
def test_the_printed_sql_runs_as_it_stands(empty_db: str, schema: str | None) -> None:
    printed = migrate.offline_sql(schema)
    with psycopg.connect(empty_db, autocommit=True) as connection:
        connection.execute(printed.encode())

    assert migrate.current(empty_db, schema) == migrate.head()
    assert migrate.upgrade(empty_db, schema) == []
    target = schema or "public"
    migrate.upgrade(empty_db, "migrated")
    assert relations(empty_db, target) == EVERYTHING
    if schema is None:
        assert _shape(empty_db, "public") == _shape(empty_db, "migrated")


def test_the_printed_sql_leaves_nothing_behind_when_it_fails_half_way(empty_db: str) -> None:
    run(empty_db, "CREATE TABLE fairchild_waiting (taken text)")
    with psycopg.connect(empty_db, autocommit=True) as connection, pytest.raises(psycopg.errors.DuplicateTable):
        connection.execute(migrate.offline_sql(None).encode())

    assert relations(empty_db) == {"fairchild_waiting"}


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(empty_db: str) -> None:
    run(empty_db, "CREATE TABLE fairchild_waiting (taken text)")

    with pytest.raises(SchemaError, match="fairchild_waiting.*already exists.*nothing was changed"):
        migrate.upgrade(empty_db, "public")

    assert relations(empty_db) == {"fairchild_waiting"}


def test_an_older_release_refuses_a_newer_schema(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)
    run(empty_db, f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    run(empty_db, migrate.works_from_sql(None).replace(migrate.WORKS_FROM, "9998"))

    for action in (migrate.upgrade, migrate.pending, migrate.downgrade):
        with pytest.raises(SchemaError, match=r"9999.*newer fairchild.*nothing was changed"):
            action(empty_db, None)
    assert migrate.current(empty_db, None) == "9999"
    assert relations(empty_db) == EVERYTHING


def test_a_release_goes_on_with_the_tables_of_a_newer_one_that_says_so(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)
    run(empty_db, f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")

    assert migrate.pending(empty_db, None) == []
    assert migrate.upgrade(empty_db, None) == []
    with Fairchild(empty_db) as client:
        assert client.enqueue("t").state == "available"
    with pytest.raises(SchemaError, match="newer fairchild"):
        migrate.downgrade(empty_db, None)
    run(empty_db, f"COMMENT ON TABLE {migrate.VERSION_TABLE} IS NULL")
    with pytest.raises(SchemaError, match="newer fairchild"):
        migrate.pending(empty_db, None)


def test_drop_takes_ours_and_leaves_what_is_not_ours(empty_db: str) -> None:
    run(empty_db, "CREATE TABLE alembic_version (version_num text)")
    run(empty_db, "CREATE TABLE fairchild_of_mine (x int)")
    migrate.upgrade(empty_db, None)

    migrate.drop(empty_db, None)

    assert relations(empty_db) == {"alembic_version", "fairchild_of_mine"}
    migrate.drop(empty_db, None)
    assert migrate.upgrade(empty_db, None) == migrate.revisions()


def test_drop_refuses_while_a_view_of_the_user_depends_on_ours(empty_db: str) -> None:
    migrate.upgrade(empty_db, None)
    run(empty_db, "CREATE VIEW mine AS SELECT id FROM fairchild_jobs")

    with pytest.raises(SchemaError, match="depends on.*view mine.*nothing was changed"):
        migrate.drop(empty_db, None)

    assert relations(empty_db) == EVERYTHING | {"mine"}


@pytest.fixture
def weak_url(empty_db: str) -> Iterator[str]:
    """A URL of a role that may connect and look, and nothing else."""
    role = f"weak_{os.getpid()}"
    run(empty_db, f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
    run(empty_db, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        given = conninfo_to_dict(empty_db)
        yield make_conninfo("", **{**given, "user": role, "password": "hunter2"})
    finally:
        run(empty_db, f"DROP OWNED BY {role}")
        run(empty_db, f"DROP ROLE {role}")


def test_a_role_that_may_not_create_is_told_what_to_do(weak_url: str, empty_db: str) -> None:
    with pytest.raises(SchemaError, match="permission denied.*nothing was changed.*migrate --sql") as caught:
        migrate.upgrade(weak_url, None)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SchemaError, match="permission denied"):
        migrate.upgrade(weak_url, "new")
    assert relations(empty_db) == set()


def test_a_role_that_may_not_create_can_upgrade_what_is_up_to_date(weak_url: str, empty_db: str) -> None:
    migrate.upgrade(empty_db, None)
    run(empty_db, f"GRANT SELECT ON {migrate.VERSION_TABLE} TO PUBLIC")

    assert migrate.upgrade(weak_url, None) == []


def test_the_strict_settings_of_a_role_do_not_stop_a_migration(empty_db: str) -> None:
    options = "-c default_transaction_isolation=serializable -c statement_timeout=200"
    url = f"{empty_db}&options={quote(options)}"
    with ThreadPoolExecutor(2) as threads, psycopg.connect(empty_db) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (migrate.lock_key("public"),))
        both = [threads.submit(migrate.upgrade, url, "public") for _ in range(2)]
        eventually(lambda: ask(empty_db, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        holder.execute("SELECT pg_sleep(0.3)")  # longer than the role lets a statement run
        holder.commit()

        assert sorted((one.result(30) for one in both), key=len) == [[], migrate.revisions()]


BAD_URLS = [
    "postgresql://ada:hunter2@127.0.0.1:1/app",
    "postgresql://ada:hunter2@no-such-host.invalid/app",
    "host=127.0.0.1 port=1 user=ada password=hunter2 dbname=app",
    "postgresql://ada:hun%ter2@127.0.0.1:1/app",
    "postgresql://ada:hunter2@[::1/app",
    "host=127.0.0.1 password hunter2",
    "postgresql://ada:hunter2@127.0.0.1:notaport/app",
    "postgresql://ada:hunter2@127.0.0.1:1/app?hunter2=1",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("action", [migrate.upgrade, migrate.current, migrate.pending, migrate.drop])
def test_a_message_has_one_line_and_no_password(url: str, action: Any) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        action(url, None)

    error: BaseException | None = caught.value
    assert "\n" not in str(error)
    while error is not None:
        assert "hunter2" not in str(error)
        assert "ter2" not in str(error)
        error = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__


def test_a_database_that_does_not_exist_is_named(fairchild_server: str) -> None:
    with pytest.raises(DatabaseUnavailable, match='database "no_such_test" does not exist'):
        migrate.upgrade(databases.database_url(fairchild_server, "no_such_test"), None)


def test_a_migration_neither_prints_nor_sets_logging_up(empty_db: str) -> None:
    program = (
        "import logging, sys\n"
        "from fairchild.db import migrate\n"
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules\n"
        "migrate.head(), migrate.current(sys.argv[1], None), migrate.pending(sys.argv[1], None)\n"
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules\n"
        "migrate.upgrade(sys.argv[1], None)\n"
        "names = ['', 'alembic', 'sqlalchemy', 'fairchild']\n"
        "handlers = [handler for name in names for handler in logging.getLogger(name).handlers]\n"
        "assert all(isinstance(handler, logging.NullHandler) for handler in handlers), handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, empty_db], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_revisions_form_the_line_that_alembic_sees() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrate.scripts()))

    assert [revision.revision for revision in script.walk_revisions()][::-1] == migrate.revisions()
    assert script.get_heads() == [migrate.head()]


def test_the_folder_of_the_migrations_is_no_package() -> None:
    assert not (migrate.scripts() / "__init__.py").exists()


def test_alembic_of_a_checkout_reaches_the_same_database(empty_db: str, tmp_path: Path) -> None:
    root = Path(migrate.__file__).parents[2]
    if not (root / "alembic.ini").exists():
        pytest.skip("not a checkout")
    environment = {**os.environ, "FAIRCHILD_DATABASE_URL": empty_db, "FAIRCHILD_SCHEMA": "by alembic"}
    command = [sys.executable, "-m", "alembic", "-c", str(root / "alembic.ini"), "upgrade", "head"]
    # Not from the checkout itself: there "-m alembic" would find the folder of that name.
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=60)

    assert migrate.current(empty_db, "by alembic") == migrate.head()


def test_the_log_of_a_migration_goes_to_the_loggers_of_alembic(empty_db: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="alembic"):
        migrate.upgrade(empty_db, None)

    assert any("Running upgrade" in record.message for record in caplog.records)
