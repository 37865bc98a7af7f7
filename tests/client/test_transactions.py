"""Enqueuing in the caller's transaction: the job exists exactly if that transaction commits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as counter
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from fairchild import Fairchild, Job, Registry, Task
from fairchild.errors import SchemaError, UnknownJob, UsageError
from tests.support.app import App


@pytest.fixture
def add(app: App) -> Task[..., Any]:
    def add(a: int, b: int = 0) -> int:
        return a + b

    return app.task(name="add")(add)


def jobs(app: App) -> list[Any]:
    return [job.id for job in app.client.jobs()]


class Opened:
    """A caller's connection of one kind, in a transaction."""

    def __init__(self, connection: Any, execute: Callable[[str], object]) -> None:
        self.connection = connection
        self.commit = connection.commit
        self.rollback = connection.rollback
        self.execute = execute


def sqlalchemy_url(app: App) -> str:
    return app.url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def engine_of(app: App, **options: Any) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlalchemy_url(app), **options)
    try:
        yield engine
    finally:
        engine.dispose()


def psycopg_kind(**options: Any) -> Callable[[App], Any]:
    @contextmanager
    def opened(app: App) -> Iterator[Any]:
        with psycopg.connect(app.url, **options) as connection:
            yield Opened(connection, lambda text: connection.execute(text.encode()))

    return opened


@contextmanager
def psycopg_autocommit_with_begin(app: App) -> Iterator[Any]:
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute("BEGIN")
        yield Opened(connection, lambda text: connection.execute(text.encode()))


@contextmanager
def sqlalchemy_connection(app: App) -> Iterator[Any]:
    with engine_of(app) as engine, engine.connect() as connection:
        yield Opened(connection, connection.exec_driver_sql)


@contextmanager
def sqlalchemy_begun(app: App) -> Iterator[Any]:
    with engine_of(app) as engine, engine.connect() as connection:
        transaction = connection.begin()
        opened = Opened(connection, connection.exec_driver_sql)
        opened.commit, opened.rollback = transaction.commit, transaction.rollback
        yield opened


@contextmanager
def sqlalchemy_session(app: App) -> Iterator[Any]:
    with engine_of(app) as engine, Session(engine) as session:
        yield Opened(session, lambda text: session.execute(sa.text(text)))


@contextmanager
def sqlalchemy_scoped_session(app: App) -> Iterator[Any]:
    with engine_of(app) as engine:
        session = scoped_session(sessionmaker(engine))
        try:
            yield Opened(session, lambda text: session.execute(sa.text(text)))
        finally:
            session.remove()


_aliases = counter()


@contextmanager
def django_connection(app: App) -> Iterator[Any]:
    """``django.db.connections[...]`` for the test's database."""
    if int(app.store.sql("SHOW server_version_num")[0][0]) < 140000:
        pytest.skip("Django 5.2 itself needs PostgreSQL 14 or later")
    import django
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure(USE_TZ=True)
    django.setup()
    given = conninfo_to_dict(app.url)
    alias = f"fairchild_{next(_aliases)}"
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given["dbname"],
        "USER": given.get("user", ""),
        "PASSWORD": given.get("password", ""),
        "HOST": given.get("host", ""),
        "PORT": given.get("port", ""),
    }
    known: Any = connections.databases
    known[alias] = connections.configure_settings({"default": {}, alias: database})[alias]
    try:
        yield connections[alias]
    finally:
        connections[alias].close()
        del connections[alias]
        del known[alias]


def atomic_of(connection: Any) -> Any:
    from django.db import transaction

    return transaction.atomic(using=connection.alias)


@contextmanager
def django_atomic(app: App) -> Iterator[Any]:
    with django_connection(app) as connection:
        atomic = atomic_of(connection)
        atomic.__enter__()

        class Atomic:
            def __init__(self) -> None:
                self.connection = connection

            def commit(self) -> None:
                atomic.__exit__(None, None, None)

            def rollback(self) -> None:
                connection.set_rollback(True)
                atomic.__exit__(None, None, None)

            def execute(self, text: str) -> object:
                with connection.cursor() as cursor:
                    cursor.execute(text)
                return None

        yield Atomic()


KINDS: dict[str, Callable[[App], Any]] = {
    "psycopg": psycopg_kind(),
    "psycopg with dict rows": psycopg_kind(row_factory=dict_row),
    "psycopg with client-side binding": psycopg_kind(cursor_factory=psycopg.ClientCursor),
    "psycopg with $1 binding": psycopg_kind(cursor_factory=psycopg.RawCursor),
    "psycopg, nothing prepared": psycopg_kind(prepare_threshold=None),
    "psycopg, BEGIN by hand": psycopg_autocommit_with_begin,
    "SQLAlchemy connection": sqlalchemy_connection,
    "SQLAlchemy connection, begun": sqlalchemy_begun,
    "SQLAlchemy session": sqlalchemy_session,
    "SQLAlchemy scoped session": sqlalchemy_scoped_session,
    "Django in atomic()": django_atomic,
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@every_kind
def test_a_commit_leaves_exactly_what_was_enqueued(app: App, add: Task[..., Any], kind: Callable[[App], Any]) -> None:
    with kind(app) as opened:
        job = add.enqueue(1, b=2, _connection=opened.connection, _tags=["%s"])
        assert jobs(app) == []
        opened.commit()

    found = app.get(job)
    assert jobs(app) == [job.id]
    assert (found.args, found.state, found.tags) == ({"a": 1, "b": 2}, job.state, ["%s"])
    assert found.scheduled_at == job.scheduled_at


@every_kind
def test_a_rollback_leaves_nothing(app: App, add: Task[..., Any], kind: Callable[[App], Any]) -> None:
    with kind(app) as opened:
        first = add.enqueue(1, _connection=opened.connection)
        add.enqueue(first, _connection=opened.connection)
        add.enqueue_in(1, minutes=5, _connection=opened.connection)
        add.using(opened.connection).enqueue_many({"a": n} for n in range(1200))
        opened.rollback()

    assert jobs(app) == []
    assert app.store.violations() == []
    assert app.client.get_job(first.id) is None


@every_kind
def test_everything_that_can_be_enqueued_can_be_in_a_transaction(
    app: App, add: Task[..., Any], kind: Callable[[App], Any]
) -> None:
    cancelled = add.enqueue(0)
    cancelled.cancel()
    given = uuid4()
    add.enqueue(5, _id=given, _meta={"m": [1]})
    with kind(app) as opened:
        client = app.client.using(opened.connection)
        one = client.enqueue(add, {"a": 1}, priority=1)
        two = add.using(opened.connection).enqueue(one, b=one)
        many = client.enqueue_many("add", ({"a": n} for n in range(1500)), queue="many")
        doomed = client.enqueue("add", {"a": cancelled})
        again = client.enqueue(add, {"a": 6}, id=given)
        later = add.using(opened.connection).enqueue_in(1, hours=1)
        opened.commit()

    assert (two.state, two.deps) == ("waiting", [one.id])
    assert (doomed.state, doomed.reason) == ("cancelled", "upstream_failed")
    assert (again.conflict, again.args, again.meta) == (True, {"a": 5}, {"m": [1]})
    assert later.refresh().state == "scheduled"
    assert app.client.stats()["queues"]["many"]["available"] == 1500
    app.work(concurrency=2, poll_interval=0.05)
    assert app.result(two) == 2
    assert app.result(many[-1]) == 1499


@every_kind
def test_a_refused_call_leaves_the_transaction_as_it_was(
    app: App, add: Task[..., Any], kind: Callable[[App], Any]
) -> None:
    with kind(app) as opened:
        opened.execute("CREATE TABLE own (n int)")
        kept = add.enqueue(1, _connection=opened.connection)
        with pytest.raises(UnknownJob):
            add.enqueue(1, _depends_on=uuid4(), _connection=opened.connection)
        with pytest.raises(TypeError):
            add.using(opened.connection).enqueue_many({"a": "x" if n == 6000 else n} for n in range(6001))
        opened.execute("INSERT INTO own VALUES (1)")
        opened.commit()

    assert jobs(app) == [kept.id]
    assert app.store.sql("SELECT count(*) FROM own") == [(1,)]


@every_kind
def test_the_callers_search_path_and_temporary_tables_are_nothing_to_us(
    app: App, add: Task[..., Any], kind: Callable[[App], Any]
) -> None:
    with kind(app) as opened:
        opened.execute("CREATE SCHEMA elsewhere")
        opened.execute("CREATE TABLE elsewhere.fairchild_jobs_base (n int)")
        opened.execute("CREATE TEMPORARY TABLE fairchild_ready (n int)")
        opened.execute("SET search_path = elsewhere")
        job = add.enqueue(1, _connection=opened.connection)
        opened.commit()

    assert jobs(app) == [job.id]


# psycopg


def test_on_a_connection_in_autocommit_the_job_is_there_at_once_and_whole(app: App, add: Task[..., Any]) -> None:
    with psycopg.connect(app.url, autocommit=True) as connection:
        one = add.enqueue(1, _connection=connection)
        two = add.enqueue(one, _connection=connection)
        assert connection.info.transaction_status == TransactionStatus.IDLE
        with pytest.raises(TypeError):
            add.using(connection).enqueue_many({"a": n if n < 5500 else "x"} for n in range(6000))

        assert set(jobs(app)) == {one.id, two.id}
    assert app.store.violations() == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_savepoint_of_psycopg_decides_too(app: App, add: Task[..., Any], autocommit: bool) -> None:
    with psycopg.connect(app.url, autocommit=autocommit) as connection:
        with connection.transaction():
            kept = add.enqueue(1, _connection=connection)
            with pytest.raises(LookupError), connection.transaction():  # noqa: PT012
                add.enqueue(2, _connection=connection)
                add.enqueue(kept, _connection=connection)
                raise LookupError
            with connection.transaction():
                also = add.enqueue(3, _connection=connection)
            assert jobs(app) == []

        assert set(jobs(app)) == {kept.id, also.id}


def test_the_callers_own_settings_of_the_connection_stay(app: App, add: Task[..., Any]) -> None:
    with psycopg.Connection[Any].connect(app.url, row_factory=dict_row) as connection:
        connection.execute("SET statement_timeout = '77s'")
        add.using(connection).enqueue_many({"a": n} for n in range(1500))

        assert connection.execute("SHOW statement_timeout").fetchone() == {"statement_timeout": "77s"}
        assert connection.execute("SELECT '{\"a\": 1}'::jsonb AS j").fetchone() == {"j": {"a": 1}}


def test_in_a_transaction_that_has_failed_the_driver_says_so(app: App, add: Task[..., Any]) -> None:
    with psycopg.connect(app.url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            add.enqueue(1, _connection=connection)
        connection.rollback()

    assert jobs(app) == []


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_stricter_isolation_works_as_well(app: App, add: Task[..., Any], level: psycopg.IsolationLevel) -> None:
    with psycopg.connect(app.url) as connection:
        connection.isolation_level = level
        one = add.enqueue(1, _connection=connection)
        add.enqueue(one, _connection=connection)
        connection.commit()

    assert len(jobs(app)) == 2


def test_a_worker_is_woken_by_the_callers_commit(app: App, add: Task[..., Any]) -> None:
    add.enqueue(0)
    app.work(concurrency=1, poll_interval=60)
    app.wait(*app.client.jobs())
    with psycopg.connect(app.url) as connection:
        job = add.enqueue(1, _connection=connection)
        connection.commit()

    assert app.result(job) == 1


# SQLAlchemy


def test_a_block_of_sqlalchemy_commits_or_rolls_back_with_its_own_rows(app: App, add: Task[..., Any]) -> None:
    with engine_of(app) as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE own (n int)")
            kept = add.enqueue(1, _connection=connection)
        with pytest.raises(LookupError), engine.begin() as connection:  # noqa: PT012
            connection.exec_driver_sql("INSERT INTO own VALUES (1)")
            add.enqueue(2, _connection=connection)
            raise LookupError

    assert jobs(app) == [kept.id]
    assert app.store.sql("SELECT count(*) FROM own") == [(0,)]


def test_a_nested_transaction_of_sqlalchemy_decides_too(app: App, add: Task[..., Any]) -> None:
    with engine_of(app) as engine, Session(engine) as session:
        kept = add.enqueue(1, _connection=session)
        with session.begin_nested() as inner:
            add.using(session).enqueue_many({"a": n} for n in range(1500))
            inner.rollback()
        with session.begin_nested():
            also = add.enqueue(kept, _connection=session)
        session.commit()

    assert set(jobs(app)) == {kept.id, also.id}


def test_a_connection_of_sqlalchemy_in_autocommit_leaves_the_jobs_at_once(app: App, add: Task[..., Any]) -> None:
    with engine_of(app, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        one = add.enqueue(1, _connection=connection)
        add.enqueue(one, _connection=connection)
        with pytest.raises(TypeError):
            add.using(connection).enqueue_many({"a": n if n < 5500 else "x"} for n in range(6000))

        assert len(jobs(app)) == 2


def test_an_orm_session_flushes_its_own_rows_with_the_job(app: App, add: Task[..., Any]) -> None:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    with engine_of(app) as engine:
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            order = Order()
            session.add(order)
            session.flush()
            job = add.enqueue(order.id, _connection=session)

    assert app.get(job).args == {"a": 1}


# Django


def test_outside_of_atomic_the_job_is_there_at_once_and_whole(app: App, add: Task[..., Any]) -> None:
    with django_connection(app) as connection:
        one = add.enqueue(1, _connection=connection)
        two = add.enqueue(one, _connection=connection)
        with pytest.raises(TypeError):
            add.using(connection).enqueue_many({"a": n if n < 5500 else "x"} for n in range(6000))
        assert not connection.in_atomic_block

        assert set(jobs(app)) == {one.id, two.id}


def test_an_inner_atomic_decides_too(app: App, add: Task[..., Any]) -> None:
    with django_connection(app) as connection:
        with atomic_of(connection):
            kept = add.enqueue(1, _connection=connection)
            with pytest.raises(LookupError), atomic_of(connection):  # noqa: PT012
                add.enqueue(kept, _connection=connection)
                raise LookupError
            assert jobs(app) == []

        assert jobs(app) == [kept.id]


def test_the_proxy_that_django_code_imports_is_accepted(app: App, add: Task[..., Any]) -> None:
    from django.utils.connection import ConnectionProxy

    with django_connection(app) as connection:
        from django.db import connections

        proxy = ConnectionProxy(connections, connection.alias)
        with atomic_of(connection):
            job = add.enqueue(1, _connection=proxy)

    assert jobs(app) == [job.id]


# What is no connection


class AsyncLike:
    """As SQLAlchemy's AsyncConnection and AsyncSession look from here."""

    async def connection(self) -> None: ...
    async def commit(self) -> None: ...
    async def exec_driver_sql(self) -> None: ...


def test_anything_else_is_refused_with_what_is_accepted(app: App, add: Task[..., Any]) -> None:
    with sqlite3.connect(":memory:") as sqlite, engine_of(app) as engine:
        for thing in ("postgresql://x", 5, sqlite, engine, app.client, AsyncLike()):
            with pytest.raises(
                UsageError, match="a psycopg Connection, a SQLAlchemy Connection or Session, or a Django"
            ):
                add.enqueue(1, _connection=thing)
    sqlite.close()

    assert jobs(app) == []


def test_a_connection_of_asyncio_is_refused_with_a_way_out(app: App, add: Task[..., Any]) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(app.url) as connection:
            add.enqueue(1, _connection=connection)

    with pytest.raises(UsageError, match=r"AsyncConnection.*run_sync\(\)"):
        asyncio.run(main())


def test_another_driver_under_sqlalchemy_is_refused_by_name(app: App, add: Task[..., Any]) -> None:
    engine = sa.create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(UsageError, match=r"sqlite3\.Connection.*postgresql\+psycopg://"),
    ):
        add.enqueue(1, _connection=connection)
    with Session(engine) as session, pytest.raises(UsageError, match=r"postgresql\+psycopg://"):
        add.enqueue(1, _connection=session)
    engine.dispose()


# Schemas


@pytest.mark.parametrize("schema", ['My "schema" %s', "with:colon", "select", "a'b\\c", "{braces}", "100%", "ü" * 31])
def test_a_schema_with_an_odd_name_works_on_every_way(app: App, schema: str) -> None:
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    with Fairchild(app.url, schema=schema, registry=Registry()) as client:
        client.install()

        @client.task(name="add")
        def add(a: int) -> int:
            return a

        made: list[Job] = [add.enqueue(1)]
        made.append(add.enqueue(made[0]))
        client.enqueue_many("add", ({"a": n} for n in range(1500)))
        for kind in (psycopg_kind(), sqlalchemy_connection, django_atomic):
            with kind(app) as opened:
                made.append(add.enqueue(2, _connection=opened.connection))
                add.using(opened.connection).enqueue_many({"a": n} for n in range(1500))
                opened.commit()

        assert len(client.jobs(limit=10)) == 10
        assert client.stats()["jobs"]["available"] == 4 * 1500 + 4
        assert made[1].cancel().state == "cancelled"
    assert jobs(app) == []


@pytest.mark.parametrize("kind", [psycopg_kind(), sqlalchemy_connection, django_atomic])
def test_missing_tables_are_explained_on_a_callers_connection_too(app: App, kind: Callable[[App], Any]) -> None:
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA empty")
    with Fairchild(app.url, schema="empty", registry=Registry()) as client, kind(app) as opened:
        with pytest.raises(SchemaError, match="fairchild install"):
            client.enqueue("t", connection=opened.connection)
        opened.rollback()
