"""Connections: our own pool and the workers' direct ones, and the callers' own from psycopg, SQLAlchemy and Django.

A ``Link`` is a connection as the store's functions see it: something that runs a ``Sql`` in a schema. Store functions
take one first, and never commit what they did not begin.
"""

from __future__ import annotations

import inspect
import logging
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar, cast

import psycopg
import psycopg_pool
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from fairchild import clock
from fairchild.config import Config, hide_parts, hide_password
from fairchild.db.census import Census
from fairchild.db.deadline import CONNECT_SECONDS, GRACE_SECONDS, Deadline, OutOfTime, Timed, current
from fairchild.db.deadline import LOCK_SECONDS as REQUEST_LOCK_SECONDS
from fairchild.db.gate import Gate
from fairchild.db.statement import Sql
from fairchild.errors import (
    ConfigError,
    DatabaseUnavailable,
    SchemaError,
    StoreError,
    TookTooLong,
    UsageError,
    WritesRefused,
)

log = logging.getLogger("fairchild")

T = TypeVar("T")
Row = tuple[Any, ...]

MIN_SERVER = 120000
# A dead peer is noticed in 5 + 3 * 2 seconds when idle, in 20 when data is on its way.
_TCP = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# The server's end of it: a partition must be noticed there as well, since its sessions hold locks.
_TCP_SESSION = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}
# A table that somebody has locked is tried again, not waited for: a worker must go on, and be able to stop.
LOCK_SECONDS = 5.0
POOL_TIMEOUT = 30.0
"""Seconds to wait while all connections of the pool are in use."""
CONFIGURE_SECONDS = 5.0
"""For a new connection's first statements."""
DOUBT_SECONDS = 3.0
"""Seconds of that wait after which the server is asked whether it is there."""
# What our statements and the reading of their answers rest on, whatever the role or the database was given by default.
_SESSION = {"DateStyle": "ISO, MDY", "default_transaction_isolation": "read committed"}
# The hot statements reach each table by an index, whatever the statistics say; those of a queue's tables are mostly of
# a moment when they were empty, and would have the planner scan them. Correctness needs none of these settings.
_WORKER_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # A role's own may be meant for pages that must not take long, and a batch is allowed to.
    "statement_timeout": "60s",
}


class _RawJson(Loader):
    """JSON as the bytes that came: decoded by whoever needs the value, one bad value at a time."""

    format = pq.Format.TEXT

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class _RawBinaryJson(Loader):
    """The same of a binary result, where the text comes after the number of its format, which is 1."""

    format = pq.Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]


class Hush:
    """Whether to go without notifications for now, because the server's queue for them is full.

    The queue is that of a whole cluster, and somebody's session that listens and does not read fills it. What had been
    asked for fails with it at its commit; done again in silence it succeeds, and workers find it when they poll.
    """

    SECONDS = 10.0

    def __init__(self) -> None:
        self._until = 0.0

    def note(self, error: psycopg.Error) -> None:
        if is_queue_full(error):
            if time.monotonic() > self._until + self.SECONDS:
                log.warning("the server's queue of notifications is full; jobs start up to a poll interval later")
            self._until = time.monotonic() + self.SECONDS

    def text(self, statement: str) -> str:
        """A statement as it is to be sent now."""
        return statement.replace("pg_notify(", "textcat(") if time.monotonic() < self._until else statement


class Link:
    """Something that runs statements in a schema: a psycopg connection, ours or the caller's."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        schema: str,
        *,
        prepare: bool | None,
        owned: bool,
        hush: Hush | None = None,
        told: set[tuple[str, str]] | None = None,
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.owned = owned
        """Whether the connection is ours, so that a statement by itself is its own transaction."""
        self.deadline: Deadline | None = None
        """Of every transaction of ours."""
        self.committing = False
        """A commit was sent, and not answered yet."""
        self._prepare = prepare
        self._hush = hush or Hush()
        self.statements = 0
        """Round trips asked for so far."""
        self.told = set[tuple[str, str]]() if told is None else told
        """Of ``db/redactions.py``: what is known to be committed."""

    def rows(self, sql: Sql, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement and give its rows."""
        if self.deadline is not None and self.owned and self.idle:
            with self._noted():
                return self.rows(sql, params)
        self.statements += 1
        cursor = psycopg.Cursor(self.connection, row_factory=tuple_row)  # whatever cursor the caller's makes
        text = self._hush.text(sql.for_schema(self.schema)).encode()
        try:
            cursor.execute(text, params or {}, prepare=self._prepare, binary=sql.binary)
        except psycopg.Error as error:
            self._hush.note(error)
            raise
        return cursor.fetchall() if _has_rows(cursor) else []

    def script(self, text: str) -> list[Row]:
        """Run one plain statement of ours, without parameters."""
        if self.deadline is not None and self.owned and self.idle:
            with self._noted():
                return self.script(text)
        self.statements += 1
        cursor = psycopg.Cursor(self.connection, row_factory=tuple_row)
        cursor.execute(text.encode())
        return cursor.fetchall() if _has_rows(cursor) else []

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """A transaction of ours, which may fail with its notification at the commit."""
        given = self.deadline if self.idle else None
        try:
            with self.connection.transaction() if given is None else self._keeping_to(given):
                yield
            self.committing = False
        except psycopg.Error as error:
            self._hush.note(error)
            raise

    @contextmanager
    def _keeping_to(self, given: Deadline) -> Iterator[None]:
        """A transaction of which the server breaks off what takes too long. What begins it is one round trip."""
        left = given.left
        if left < 0.001:
            raise TookTooLong("the time for this was over before the database was asked; nothing was changed")
        statement, lock = int(left * 1000), int(min(left, REQUEST_LOCK_SECONDS) * 1000)
        try:
            self.statements += 1
            limits = f"SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}"
            psycopg.Cursor(self.connection).execute(f"BEGIN; {limits}".encode(), prepare=False)
            yield
            if not given.reads and self.rows(_HAS_WRITTEN)[0][0]:
                self.committing = given.sent = True
            self.connection.commit()
        except BaseException:
            with suppress(psycopg.Error):  # what went wrong is the error at hand
                self.connection.rollback()
            raise

    def atomic(self) -> AbstractContextManager[Any]:
        """All or nothing: a transaction of ours, or a savepoint in the caller's, who may go on after our error."""
        if self.owned:
            return self._noted()
        if self.idle and not self.connection.autocommit:
            self.script("SELECT 1")  # psycopg begins the caller's transaction, which the caller ends
        return self.connection.transaction()

    @property
    def idle(self) -> bool:
        """Whether it is in no transaction."""
        return self.connection.info.transaction_status == pq.TransactionStatus.IDLE

    def heard(self) -> set[str]:
        """Take the notifications that have come, without waiting: their payloads.

        Raises if the connection is gone. ``notifies(timeout=0)`` does the same, and takes a tenth of the whole way from
        a notification to the start of a job.
        """
        pgconn = self.connection.pgconn
        pgconn.consume_input()
        heard = set()
        while (notification := pgconn.notifies()) is not None:
            heard.add(notification.extra.decode("utf-8", "replace"))
        return heard

    @property
    def encoding(self) -> str:
        """What text is sent in, by Python's name for it."""
        return self.connection.info.encoding

    def copy(self, sql: Sql, data: bytes) -> None:
        """Feed ``data`` to a ``COPY ... FROM STDIN``."""
        self.statements += 1
        text = sql.for_schema(self.schema).replace("%%", "%")  # COPY takes no values, so the driver reads no %
        with psycopg.Cursor(self.connection) as cursor, cursor.copy(text.encode()) as copy:
            copy.write(data)


def _has_rows(cursor: psycopg.Cursor[Any]) -> bool:
    """As ``description`` says, which makes an object of every column to say it."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


class SqlAlchemyLink(Link):
    """A SQLAlchemy Connection. Statements go through it, so that it knows of the transaction they begin."""

    def __init__(self, connection: Any, schema: str) -> None:
        super().__init__(_driver_connection(connection), schema, prepare=None, owned=False)
        self._outer = connection

    def rows(self, sql: Sql, params: Mapping[str, Any] | None = None) -> list[Row]:
        self.statements += 1
        result = self._outer.exec_driver_sql(sql.for_schema(self.schema), dict(params or {}))
        return [tuple(row) for row in result] if result.returns_rows else []

    def script(self, text: str) -> list[Row]:
        result = self._outer.exec_driver_sql(text)
        return [tuple(row) for row in result] if result.returns_rows else []

    def atomic(self) -> AbstractContextManager[Any]:
        if self.connection.autocommit:
            return super().atomic()
        savepoint: AbstractContextManager[Any] = self._outer.begin_nested()
        return savepoint


class DjangoLink(Link):
    """A Django connection (``django.db.connection``). Outside of ``atomic()`` our statements are one transaction."""

    def __init__(self, connection: Any, schema: str) -> None:
        connection.ensure_connection()
        driver = connection.connection
        if not isinstance(driver, psycopg.Connection):
            raise _not_psycopg(driver)
        super().__init__(driver, schema, prepare=False, owned=False)
        self._outer = connection

    def rows(self, sql: Sql, params: Mapping[str, Any] | None = None) -> list[Row]:
        self.statements += 1
        with self._outer.cursor() as cursor:
            cursor.execute(sql.for_schema(self.schema), dict(params or {}))
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def script(self, text: str) -> list[Row]:
        with self._outer.cursor() as cursor:
            cursor.execute(text)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def atomic(self) -> AbstractContextManager[Any]:
        from django.db import transaction  # noqa: PLC0415 - only where Django is the caller

        return cast("AbstractContextManager[Any]", transaction.atomic(using=self._outer.alias))


def _not_psycopg(driver: object) -> UsageError:
    kind = f"{type(driver).__module__}.{type(driver).__qualname__}"
    return UsageError(
        f"fairchild enqueues through psycopg 3, and this connection is a {kind}; nothing was enqueued. "
        "Use a postgresql+psycopg:// URL (SQLAlchemy) or install psycopg 3 (Django)"
    )


def _driver_connection(connection: Any) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise _not_psycopg(driver)
    return driver


_HAS_WRITTEN = Sql("has_written", "SELECT txid_current_if_assigned() IS NOT NULL")


@contextmanager
def _keeping(link: Link, deadline: Deadline) -> Iterator[None]:
    """All that is done on the connection keeps to the deadline. Raises TookTooLong.

    Its cause is told where a commit was sent and not answered, so that nobody knows whether it was done.
    """
    connection, before = link.connection, link.deadline
    until = connection.until if isinstance(connection, Timed) else None
    link.deadline = deadline
    if isinstance(connection, Timed):
        connection.until = deadline.until + GRACE_SECONDS
    try:
        yield
    except (OutOfTime, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        if link.committing:
            raise TookTooLong("the database did not say in time whether it was done") from error
        what = f"the database did not do this within {deadline.seconds:.3g} seconds"
        if isinstance(error, psycopg.errors.LockNotAvailable):
            what = "somebody else kept a lock on what this needs"
        raise TookTooLong(f"{what}; it was broken off and nothing was changed") from None
    finally:
        link.deadline = before
        if isinstance(connection, Timed):
            connection.until = until


def within(link: Link, seconds: float, question: Callable[[Link], T]) -> T:
    """The answer of a read that gets ``seconds``. Raises TookTooLong."""
    with _keeping(link, Deadline(seconds, reads=True)), link.atomic():
        return question(link)


def caller_link(connection: Any, schema: str) -> Link:
    """The caller's connection as a Link: psycopg, SQLAlchemy Connection or Session, or Django.

    Raises UsageError, with what is accepted, for anything else.
    """
    if isinstance(connection, Link):
        return connection
    if isinstance(connection, psycopg.Connection):
        return Link(connection, schema, prepare=None, owned=False)
    if inspect.iscoroutinefunction(getattr(connection, "connection", None)) or inspect.iscoroutinefunction(
        getattr(connection, "commit", None)
    ):
        raise _not_accepted(connection, ". For one of asyncio's, use run_sync()")
    if hasattr(connection, "exec_driver_sql"):
        return SqlAlchemyLink(connection, schema)
    if hasattr(connection, "vendor") and hasattr(connection, "ensure_connection"):
        return DjangoLink(connection, schema)
    if callable(getattr(connection, "connection", None)):  # a Session, or Flask-SQLAlchemy's db.session
        inner = connection.connection()
        if hasattr(inner, "exec_driver_sql"):
            return SqlAlchemyLink(inner, schema)
    raise _not_accepted(connection)


def _not_accepted(connection: object, advice: str = "") -> UsageError:
    return UsageError(
        f"cannot enqueue with a {type(connection).__module__}.{type(connection).__qualname__}: give a psycopg "
        f"Connection, a SQLAlchemy Connection or Session, or a Django connection; nothing was enqueued{advice}"
    )


@contextmanager
def caller_errors() -> Iterator[None]:
    """What fails on a caller's connection comes out as its own driver says it, but for missing tables."""
    try:
        yield
    except Exception as error:
        driver = getattr(error, "orig", None) or error.__cause__ or error  # SQLAlchemy's, Django's, psycopg's
        if isinstance(driver, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
            raise translate(driver) from error
        raise


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_of_parents: list[object] = []


class Database:
    """One database as one client uses it: where it is, which schema, and the connections to it.

    Safe to make before a fork: connections are opened at first use and belong to the process that opened them.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]] | None = None
        self._pid = 0
        self._conninfo: str | None = None
        self._schema = config.schema
        self._pooled = config.pooler
        self._gate = Gate()
        self._hush = Hush()
        self.census = Census(config.limits)
        self.told: set[tuple[str, str]] = set()
        _databases.add(self)

    def _forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock, and is not here to give it back."""
        self._lock = threading.Lock()

    @property
    def conninfo(self) -> str:
        """The libpq connection string; starts the embedded server if that is what the URL names."""
        with self._lock:
            if self._conninfo is None:
                url = self.config.url
                if url.startswith("embedded:"):
                    from fairchild import embedded  # noqa: PLC0415 - an extra

                    url = embedded.start(url)
                self._conninfo = url
            return self._conninfo

    def _dsn(self, role: str) -> str:
        try:
            given = conninfo_to_dict(self.conninfo)
        except psycopg.ProgrammingError as error:
            text = hide_parts(" ".join(str(error).split()), self.config.url)
            raise ConfigError(
                f"the database URL cannot be read: {text}. Characters like @ : / % in a password must be "
                "percent-encoded"
            ) from None
        defaults: dict[str, Any] = {} if str(given.get("host") or "").startswith("/") else dict(_TCP)
        if "," in f"{given.get('host') or ''}{given.get('hostaddr') or ''}":
            defaults["target_session_attrs"] = "read-write"  # of several servers, the primary
        defaults["client_encoding"] = "UTF8"
        defaults["application_name"] = f"fairchild:{role}"
        return make_conninfo("", **{**defaults, **given})

    def open(self, role: str, *, tuned: bool = False, lock_timeout: float = LOCK_SECONDS) -> Link:
        """A connection of its own, outside of the pool, in autocommit.

        ``tuned`` ones carry the workers' settings, and wait ``lock_timeout`` seconds for a lock.

        Raises DatabaseUnavailable.
        """
        dsn, deadline = self._dsn(role), current.get()
        until = None
        if deadline is not None:
            until = deadline.until + GRACE_SECONDS
            dsn = make_conninfo(dsn, connect_timeout=max(CONNECT_SECONDS, int(deadline.left)))

        def attempt() -> Timed:
            return Timed.connect(dsn, autocommit=True, prepare_threshold=None)

        try:
            connection = self._gate.connect(attempt, until)
        except psycopg.Error as error:
            raise self._translate(error) from None
        try:
            connection.until = until
            schema = self._look(connection)
            wait = {"lock_timeout": f"{max(1, int(lock_timeout * 1000))}ms"}
            self._configure(connection, _WORKER_SETTINGS | wait if tuned else {})
        except psycopg.Error as error:
            connection.close()
            raise translate(error) from None
        except BaseException:
            connection.close()
            raise
        connection.until = None
        return Link(connection, schema, prepare=not self.pooled, owned=True, hush=self._hush, told=self.told)

    @property
    def pooled(self) -> bool:
        """Whether a pooler such as PgBouncer stands between: then nothing may be kept in a session.

        Said by the setting, or seen: a pooler makes up the process id that a connection learns at its start.
        """
        if self._pooled is None:
            self.check()
        return bool(self._pooled)

    def hurry(self, seconds: float) -> None:
        """While the server is away, try again at least so often: somebody here has less time than others."""
        self._gate.longest = min(self._gate.longest, seconds)

    def _configure(self, connection: psycopg.Connection[Any], settings: Mapping[str, str] | None = None) -> None:
        connection.adapters.register_loader("jsonb", _RawJson)
        connection.adapters.register_loader("jsonb", _RawBinaryJson)
        connection.prepare_threshold = None if self.pooled else 5
        if connection.info.server_version < MIN_SERVER:
            raise SchemaError(
                f"fairchild needs PostgreSQL 12 or later; this server is {connection.info.server_version // 10000}"
            )
        if not self.pooled:
            local = connection.info.host.startswith(("/", "@")) or not connection.info.host
            wanted = {**_SESSION, **({} if local else _TCP_SESSION), **(settings or {})}
            calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in wanted.items())
            connection.execute(f"SELECT {calls}".encode())
            return
        style = connection.info.parameter_status("DateStyle") or "ISO"
        if not style.startswith("ISO"):
            raise SchemaError(
                f"through this pooler dates come in the style {style!r}, and fairchild reads ISO; nothing was done. "
                "Reset DateStyle for the role and the database"
            )

    def _configure_in_time(self, connection: psycopg.Connection[Any]) -> None:
        """A thread of the pool that waited for a frozen server would be missing there."""
        assert isinstance(connection, Timed)
        connection.until = clock.now() + CONFIGURE_SECONDS
        self._configure(connection)
        connection.until = None

    def _look(self, connection: psycopg.Connection[Any]) -> str:
        """Learn, from the first connection, what is on the other side; the schema."""
        if self._schema is None or self._pooled is None:
            row = connection.execute("SELECT current_schema(), pg_backend_pid()").fetchone()
            assert row is not None
            if self._pooled is None:
                self._pooled = row[1] != connection.info.backend_pid
            if self._schema is None and row[0] is None:
                raise SchemaError(
                    "the connection has no current schema (its search_path names none that exists); "
                    "give Fairchild(schema=...) or set FAIRCHILD_SCHEMA"
                )
            self._schema = self._schema or str(row[0])
        return self._schema

    @property
    def schema(self) -> str:
        """The schema of the tables; asks the database once if none was configured."""
        if self._schema is None:
            retrying(self.check)
        assert self._schema is not None
        return self._schema

    def _current_pool(self) -> psycopg_pool.ConnectionPool[psycopg.Connection[Any]]:
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            return pool
        dsn = self._dsn("client")
        self.check()  # a pool would try for long what this knows at once
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._leave_to_parent()
                self._pool = psycopg_pool.ConnectionPool(
                    dsn,
                    connection_class=_through(self._gate),
                    min_size=0,
                    max_size=self.config.pool_size,
                    open=True,
                    max_lifetime=1800.0,
                    name="fairchild-pool",
                    configure=self._configure_in_time,
                    check=_still_there,
                    kwargs={"autocommit": True},
                    reconnect_timeout=5.0,
                )
                self._pid = os.getpid()
            return self._pool

    @contextmanager
    def link(self) -> Iterator[Link]:
        """A connection of the pool for one use, by the deadline of this thread. Driver errors come out as ours."""
        pool, deadline = None, current.get()
        try:
            pool = self._current_pool()
            connection = self._taken(pool, POOL_TIMEOUT if deadline is None else deadline.left)
            try:
                with connection, _spoiled_closed(connection):
                    schema = self._look(connection)
                    link = Link(
                        connection, schema, prepare=not self.pooled, owned=True, hush=self._hush, told=self.told
                    )
                    if deadline is None:
                        yield link
                    else:
                        with _keeping(link, deadline):
                            yield link
            finally:
                pool.putconn(connection)
        except psycopg_pool.PoolClosed:  # the server was lost while this one waited for a connection
            self.check()
            raise DatabaseUnavailable("the connections were lost while one was waited for; nothing was sent") from None
        except psycopg_pool.PoolTimeout as error:
            if deadline is not None:
                raise TookTooLong(
                    f"all {self.config.pool_size} connections of this client were in use; nothing was sent"
                ) from None
            raise StoreError(
                f"all {self.config.pool_size} connections of this client are in use; raise pool_size ({error})"
            ) from None
        except psycopg.Error as error:
            if pool is not None and _all_lost(error):
                self._drop(pool)
            raise self._translate(error) from error

    def _taken(
        self, pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]], patience: float
    ) -> psycopg.Connection[Any]:
        """A connection out of the pool. Waits while all are in use, but not for a server that is away."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return pool.getconn(max(0.0, min(DOUBT_SECONDS, deadline - time.monotonic())))
            except psycopg_pool.PoolTimeout:
                if current.get() is None or time.monotonic() < deadline:
                    self.check()
                if time.monotonic() >= deadline:
                    raise

    def _drop(
        self,
        pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]],
    ) -> None:
        """Where one connection was lost or demoted the others were too; a new pool finds the server there is now."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.close(timeout=1.0)

    def _translate(self, error: psycopg.Error) -> StoreError:
        ours = translate(error)
        return type(ours)(hide_parts(str(ours), self.config.url))

    def pool_use(self) -> tuple[int, int, int]:
        """Of the pool: connections open, of those in use, and how many wait for one."""
        pool = self._pool
        stats = {} if pool is None else pool.get_stats()
        size = stats.get("pool_size", 0)
        return size, size - stats.get("pool_available", 0), stats.get("requests_waiting", 0)

    def check(self) -> None:
        """Raise DatabaseUnavailable unless a connection can be made now; says why at once, where a pool would wait."""
        self.open("check").connection.close()

    def close(self) -> None:
        """Close the pool. The next use opens another."""
        with self._lock:
            self._leave_to_parent()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _leave_to_parent(self) -> None:
        """After a fork the parent's pool is neither closed, which would end the parent's connections, nor let go.

        With its last reference it would wait for its threads, and after a fork from C, as uWSGI's, Python does not know
        that they are not here.
        """
        if self._pool is not None and self._pid != os.getpid():
            _of_parents.append(self._pool)
            self._pool = None


def _after_fork() -> None:
    for database in list(_databases):
        database._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _through(gate: Gate) -> type[psycopg.Connection[Any]]:
    """Connections that are made through a gate."""

    class Gated(Timed):
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            return gate.connect(lambda: Timed.connect(*args, **kwargs))

    return Gated


def _still_there(connection: psycopg.Connection[Any]) -> None:
    """Raise if a connection that was at rest has been closed by its server. Asks nobody: it was told, or was not."""
    found = select.poll()
    found.register(connection.fileno(), select.POLLIN)
    while found.poll(0):
        connection.pgconn.consume_input()  # the server's last words; then, at the end of them, this raises


def _is_spoiled(error: BaseException) -> bool:
    """Whether nothing more can succeed on the connection that failed so."""
    return getattr(error, "sqlstate", None) in _SPOILED


@contextmanager
def _spoiled_closed(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Close a connection of the pool on which nothing can succeed any more, so that nobody is given it again."""
    try:
        yield
    except psycopg.Error as error:
        if _is_spoiled(error):
            connection.close()
        raise


STORE_ERRORS: tuple[type[Exception], ...] = (psycopg.Error, StoreError)
"""Whatever a statement may fail with."""
REPLY_LOST: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError)
"""After these nobody knows whether the statement was done."""

_TRANSIENT_CLASSES = ("08", "53", "57", "58")
_READ_ONLY = "25006"
# The server has become a standby; a prepared statement fits its tables no more, is gone, or is another session's.
_SPOILED = (_READ_ONLY, "0A000", "26000", "42P05")
_TRANSIENT_STATES = ("40001", "40P01", "55P03", "25P03", *_SPOILED)


def _all_lost(error: psycopg.Error) -> bool:
    """Whether what befell one connection to a server has befallen all of them."""
    state = error.sqlstate or "57P"
    return state == _READ_ONLY or (isinstance(error, REPLY_LOST) and state.startswith("57P"))


def is_reply_lost(error: BaseException) -> bool:
    """Whether nobody knows if the statement that failed so was done."""
    if isinstance(error, StoreError) and error.__cause__ is not None:
        error = error.__cause__
    state = getattr(error, "sqlstate", None)
    return isinstance(error, REPLY_LOST) and (state is None or state[:2] == "08" or state[:3] == "57P")


def was_cancelled(error: BaseException) -> bool:
    """Whether somebody had the statement that failed so broken off."""
    return getattr(error, "sqlstate", None) == "57014"


def was_idle(error: BaseException) -> bool:
    """Whether the server ended a transaction because nothing was done in it for too long."""
    return getattr(error, "sqlstate", None) == "25P03"


def is_queue_full(error: BaseException) -> bool:
    """Whether the server could not take one more notification. By where it says so: the words are in its language."""
    return isinstance(error, psycopg.Error) and error.sqlstate == "54000" and error.diag.source_file == "async.c"


def is_transient(error: BaseException) -> bool:
    """Whether the same statement may well succeed in a moment, perhaps on another connection."""
    if isinstance(error, StoreError) and error.__cause__ is not None:
        return is_transient(error.__cause__)
    if isinstance(error, DatabaseUnavailable):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES or is_queue_full(error)


def translate(error: psycopg.Error) -> StoreError:
    """Our error for a driver's, in one line, with no password in it."""
    text = hide_password(" ".join(str(error).split()))
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return SchemaError(f"fairchild's tables are missing or outdated: run `fairchild install` ({text})")
    if error.sqlstate is None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return DatabaseUnavailable(f"the database cannot be reached: {text}")
    if error.sqlstate is not None and error.sqlstate[:2] in ("08", "53", "57"):
        return DatabaseUnavailable(f"the database is not available: {text}")
    if error.sqlstate == _READ_ONLY:
        return WritesRefused(
            f"this database only reads: {text}; nothing was written. It is a standby (name the primary, or all of "
            "them: postgresql://h1,h2/db), or default_transaction_read_only is set for the role or the database"
        )
    kind = WritesRefused if isinstance(error, psycopg.errors.InsufficientPrivilege) else StoreError
    return kind(f"the database refused the statement: {text}")


def retrying(
    step: Callable[[], T],
    *,
    tries: int = 5,
    first_delay: float = 0.05,
    possible: Callable[[Exception], bool] = lambda _: True,
) -> T:
    """Run ``step``, which may be repeated, until it succeeds or fails for good; full jitter between tries.

    ``possible``: asked with what failed, whether another try can succeed at all. Where this thread has a deadline, a
    try that would come close to it is not made: what the last one met says more than that the time is over.
    """
    delay, given = first_delay, current.get()
    for left in range(tries - 1, -1, -1):
        try:
            return step()
        except (StoreError, psycopg.Error) as error:
            if left == 0 or not is_transient(error) or not possible(error):
                raise
            if given is not None and given.left < 2 * delay:
                raise
        time.sleep(random.uniform(0, delay))
        delay *= 3
    raise AssertionError("unreachable")


def again(link: Link, step: Callable[[], T]) -> T:
    """Run a transaction of ours, again if it met a deadlock. What is part of the caller's is the caller's to repeat."""
    if not (link.owned and link.idle):
        return step()
    return retrying(step, possible=lambda error: not (link.connection.closed or _is_spoiled(error)))
