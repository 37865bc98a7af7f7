"""The schema's revisions: bring a database up to date, say where it is, print what would be run, take it all away.

The revisions are Alembic scripts. Each schema has a version table of its own, ``fairchild_alembic_version``, so neither
the application's Alembic nor a second fairchild in the same database is touched.

An upgrade is one transaction under an advisory lock of the database, taken before the version is read. Of any number of
processes that start at once one does the work; the others wait, read the version under the lock and find nothing left
to do. Whatever fails, the database stays as it was.

Reading a version (``current``, ``pending``, ``head``) loads neither Alembic nor SQLAlchemy: every client does it when
it connects.
"""

from __future__ import annotations

import ast
import hashlib
import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fairchild.config import hide_password
from fairchild.db import deadline
from fairchild.db.statement import NAMES, quote
from fairchild.errors import DatabaseUnavailable, SchemaError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.config import Config as AlembicConfig

    from fairchild.db.connect import Database, Link

VERSION_TABLE = "fairchild_alembic_version"
WORKS_FROM = "0006"
"""The oldest revision whose release works with the tables of this one, so that processes of it may go on, and be
started again, after the migration. A migration that only adds leaves it as it is; one that takes away raises it."""
_SAID = "Releases of fairchild that know revision {} or a later one work with these tables."
OLDEST_SERVER = 12
LOCK_TIMEOUT_SECONDS = 120

log = logging.getLogger("fairchild.migrate")

# Alembic keeps the migration under way in module-level state, so one runs at a time in a process. Always taken before
# the database's lock, never after it.
_one_at_a_time = threading.Lock()


def upgrade(conninfo: str, schema: str | None) -> list[str]:
    """Apply what is missing, in one transaction, and return the revisions applied, oldest first; [] if none was.

    Indexes that are invalid are built anew.

    ``conninfo`` is a libpq URL or ``key=value`` string. ``schema`` is made if it does not exist; None means the
    connection's current schema. Raises DatabaseUnavailable, or SchemaError when the server is too old, the role may not
    do it, or the database has a revision that this release does not know. In each case nothing has changed.
    """
    with _one_at_a_time, locked_transaction(conninfo, schema) as (connection, target):
        missing = _missing(_driver(connection), target)
        if missing:
            ensure_schema(connection, target)
            _alembic("upgrade", "head", connection=connection, schema=target)
        for name in _damaged(_driver(connection), target):
            log.warning("the index %s is invalid, which makes statements slow or wrong; it is built anew", name)
            _driver(connection).execute(sql.SQL("REINDEX INDEX {}").format(sql.Identifier(target, name)))
        return missing


def downgrade(conninfo: str, schema: str | None, revision: str = "base") -> None:
    """Go back to ``revision``; "base" takes away all tables and every job in them. Raises like ``upgrade``."""
    with _one_at_a_time, locked_transaction(conninfo, schema) as (connection, target):
        if _missing(_driver(connection), target, newer=False) != revisions():
            _alembic("downgrade", revision, connection=connection, schema=target)


def current(conninfo: str, schema: str | None) -> str | None:
    """The database's revision; None where nothing was installed. Raises DatabaseUnavailable or SchemaError."""
    with _connection(conninfo) as connection:
        return _read_version(connection, _resolve(connection, schema))


def pending(conninfo: str, schema: str | None) -> list[str]:
    """The revisions that ``upgrade`` would apply, oldest first. Raises like ``upgrade``; changes nothing."""
    with _connection(conninfo) as connection:
        return _missing(connection, _resolve(connection, schema))


def pending_on(link: Link) -> list[str]:
    """The same, asked on a connection that there is."""
    return _missing(link.connection, link.schema)


def current_on(link: Link) -> str | None:
    """The database's revision, asked on a connection that there is."""
    return _read_version(link.connection, link.schema)


def check(database: Database) -> None:
    """Raise SchemaError if the tables are there and not those of this release; DatabaseUnavailable."""
    link = database.open("check")
    with _our_errors(), link.connection as connection:
        version = _read_version(connection, link.schema)
        missing = [] if version is None else _missing(connection, link.schema)
    if missing:
        raise SchemaError(
            f"the tables are at revision {version} and this release needs {missing[-1]}: run `fairchild migrate`; "
            "nothing was done"
        )


def damaged(conninfo: str, schema: str | None) -> list[str]:
    """The indexes of our tables that are invalid, as a build that failed leaves them. Raises like ``upgrade``."""
    with _connection(conninfo) as connection:
        return _damaged(connection, _resolve(connection, schema))


def _damaged(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    rows = connection.execute(
        "SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
        " JOIN pg_catalog.pg_class t ON t.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
        " WHERE n.nspname = %s AND t.relname = ANY(%s) AND NOT (x.indisvalid AND x.indisready) ORDER BY 1",
        (schema, list(NAMES.values())),
    ).fetchall()
    return [row[0] for row in rows]


def drop(conninfo: str, schema: str | None) -> None:
    """Drop fairchild's view, tables and version table, with every job, in one transaction; nothing else.

    The schema itself stays. Raises DatabaseUnavailable, or SchemaError when something of the user's (a view, say)
    depends on one of them; in each case nothing has changed.
    """
    with _connection(conninfo) as connection, connection.transaction():
        target = _resolve(connection, schema)
        _lock(connection, target)
        qualified = {name: sql.Identifier(target, table) for name, table in NAMES.items()}
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(qualified.pop("view")))
        tables = [*qualified.values(), sql.Identifier(target, VERSION_TABLE)]
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(tables)))


def offline_sql(schema: str | None) -> str:
    """The SQL that makes everything in an empty database, as one transaction; for ``psql``, needs no connection.

    With None as the schema the names are unqualified and the search path of whoever runs it decides.
    """
    with _one_at_a_time:
        printed = io.StringIO()
        _alembic("upgrade", "head", printed=printed, schema=schema)
        return printed.getvalue()


def head() -> str:
    """The newest revision this release knows."""
    return revisions()[-1]


@lru_cache(maxsize=1)
def revisions() -> list[str]:
    """All revisions, oldest first. The scripts are read but not run, which costs a millisecond and not Alembic."""
    following: dict[str | None, str] = {}
    for script in (scripts() / "versions").glob("*.py"):
        values = _constants(script)
        following[values["down_revision"]] = str(values["revision"])
    ordered: list[str] = []
    at = following.get(None)
    while at is not None:
        ordered.append(at)
        at = following.get(at)
    if not ordered or len(ordered) != len(following):
        raise SchemaError(f"the revisions in {scripts() / 'versions'} do not form one line from base to head")
    return ordered


def create_schema_sql(schema: str) -> str:
    """For the printed SQL, which cannot look whether the schema is there."""
    return f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}"


@contextmanager
def locked_transaction(conninfo: str, schema: str | None) -> Iterator[tuple[sa.Connection, str]]:
    """A SQLAlchemy connection in a transaction that holds the schema's lock, and the schema's name.

    Commits at the end, rolls back on an error. Driver errors come out as DatabaseUnavailable or SchemaError.
    """
    import sqlalchemy as sa  # noqa: PLC0415 - 150 ms that only a migration needs

    with _our_errors():
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: _connect(conninfo),
            poolclass=sa.NullPool,
            # A role's default may be stricter, and then the version read after the wait would be the one from before.
            isolation_level="READ COMMITTED",
        )
        try:
            with engine.connect() as connection, connection.begin():
                target = _resolve(_driver(connection), schema)
                _lock(_driver(connection), target)
                yield connection, target
        finally:
            engine.dispose()


def lock_key(schema: str) -> int:
    """The advisory lock of a schema's migrations: 64 bits, signed."""
    digest = hashlib.sha256(b"fairchild\x00migrate\x00" + schema.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _lock(connection: psycopg.Connection[Any], schema: str) -> None:
    # A role's own statement_timeout is meant for its queries, not for the wait of ten starting processes.
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_TIMEOUT_SECONDS}s")))
    connection.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (lock_key(schema),))


def _read_version(connection: psycopg.Connection[Any], schema: str) -> str | None:
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (schema, VERSION_TABLE),
    ).fetchone()
    if found is None:
        return None
    rows = connection.execute(
        sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, VERSION_TABLE))
    ).fetchall()
    if len(rows) > 1:
        raise SchemaError(
            f"{schema}.{VERSION_TABLE} holds {len(rows)} revisions where one is expected; nothing was changed"
        )
    return str(rows[0][0]) if rows else None


def _missing(connection: psycopg.Connection[Any], schema: str, *, newer: bool = True) -> list[str]:
    """The revisions that the tables lack. ``newer``: those of a later release will do if they say so."""
    known, version = revisions(), _read_version(connection, schema)
    if version is None:
        return list(known)
    if version in known:
        return known[known.index(version) + 1 :]
    if newer and _read_works_from(connection, schema) in known:
        return []
    raise SchemaError(
        f"the database is at revision {version}, which this release (newest: {known[-1]}) does not know: it was "
        "migrated by a newer fairchild; nothing was changed; upgrade this installation"
    )


def works_from_sql(schema: str | None) -> str:
    """Says in the database which releases work with its tables, for those that do not know its revision."""
    table = VERSION_TABLE if schema is None else f"{quote(schema)}.{VERSION_TABLE}"
    return f"COMMENT ON TABLE {table} IS '{_SAID.format(WORKS_FROM)}'"


def _read_works_from(connection: psycopg.Connection[Any], schema: str) -> str | None:
    row = connection.execute(
        "SELECT pg_catalog.obj_description(%s::regclass, 'pg_class')", (f"{quote(schema)}.{VERSION_TABLE}",)
    ).fetchone()
    before, _, after = _SAID.partition("{}")
    said = str(row[0]) if row is not None and row[0] is not None else ""
    return said[len(before) : -len(after)] if said.startswith(before) and said.endswith(after) else None


def ensure_schema(connection: sa.Connection, schema: str) -> None:
    """Make the schema unless it is there. The caller holds the lock."""
    # IF NOT EXISTS asks for the right to create even where the schema is there.
    driver = _driver(connection)
    if driver.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        driver.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _resolve(connection: psycopg.Connection[Any], schema: str | None) -> str:
    if schema is not None:
        return schema
    row = connection.execute("SELECT current_schema()").fetchone()
    if row is None or row[0] is None:
        raise SchemaError(
            "the connection has no current schema: its search_path names none that exists and may be used; "
            "nothing was changed; create that schema, or name one (schema=..., FAIRCHILD_SCHEMA)"
        )
    return str(row[0])


@contextmanager
def _connection(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with _our_errors():
        connection = _connect(conninfo)
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.Error:
        # libpq quotes the part it could not read, and that part may be the password.
        raise DatabaseUnavailable(
            "the database URL cannot be read; expected postgresql://user:password@host:port/database, with special "
            "characters percent-encoded"
        ) from None
    dsn = make_conninfo(
        "", **{"connect_timeout": "10", "client_encoding": "UTF8", "application_name": "fairchild:migrate", **given}
    )
    given_time = deadline.current.get()
    if given_time is not None:
        dsn = make_conninfo(dsn, connect_timeout=deadline.CONNECT_SECONDS)
    try:
        connection = deadline.Timed.connect(dsn, prepare_threshold=None)
        connection.until = None if given_time is None else given_time.until + deadline.GRACE_SECONDS
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"the database cannot be reached: {_one_line(error, str(given.get('password') or ''))}"
        ) from None
    version = connection.info.server_version
    if version < OLDEST_SERVER * 10000:
        connection.close()
        raise SchemaError(
            f"fairchild needs PostgreSQL {OLDEST_SERVER} or later and this server is {version // 10000}; "
            "nothing was changed"
        )
    return connection


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error) from error
    except StoreError:
        raise
    except Exception as error:
        driver = getattr(error, "orig", None)  # SQLAlchemy wraps what the driver raised
        if not isinstance(driver, psycopg.Error):
            raise
        raise _translated(driver) from error


def _translated(error: psycopg.Error) -> StoreError:
    text = _one_line(error)
    match error:
        case errors.InsufficientPrivilege():
            return SchemaError(
                f"this role may not change the schema: {text}; nothing was changed; migrate as its owner, grant CREATE "
                "on it, or hand the output of `fairchild migrate --sql` to somebody who may"
            )
        case errors.LockNotAvailable():
            return SchemaError(
                f"another migration or a long transaction held a lock for {LOCK_TIMEOUT_SECONDS} seconds: {text}; "
                "nothing was changed; try again when it has ended"
            )
        case errors.DependentObjectsStillExist():
            detail = " ".join((error.diag.message_detail or "").split())
            return SchemaError(f"something else depends on fairchild's tables: {text}: {detail}; nothing was changed")
        case errors.ReadOnlySqlTransaction():
            return SchemaError(f"this is a read-only connection or a standby: {text}; nothing was changed")
        case _ if error.sqlstate is None or error.sqlstate.startswith(("08", "53", "57P")):
            return DatabaseUnavailable(f"the connection was lost: {text}; an unfinished migration leaves no trace")
        case _:
            return SchemaError(f"the schema could not be read or changed: {text}; nothing was changed")


def _one_line(error: psycopg.Error, password: str = "") -> str:
    text = " ".join((error.diag.message_primary or str(error)).split())
    return hide_password(text.replace(password, "***") if password else text)


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver: Any = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _alembic(
    command: str,
    revision: str,
    *,
    schema: str | None,
    connection: sa.Connection | None = None,
    printed: io.StringIO | None = None,
) -> None:
    from alembic import command as commands  # noqa: PLC0415 - as above
    from alembic.config import Config  # noqa: PLC0415

    config: AlembicConfig = Config(output_buffer=printed)
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["schema"] = schema
    if connection is not None:
        config.attributes["connection"] = connection
    getattr(commands, command)(config, revision, sql=printed is not None)


def scripts() -> Path:
    """The folder of the Alembic scripts: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_alembic", package.parent / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError(f"this installation of fairchild lacks its migrations ({package / '_alembic'}); reinstall it")


def _constants(script: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in {"revision", "down_revision"}:
                values[name] = ast.literal_eval(node.value)
    if len(values) != 2:
        raise SchemaError(f"{script} does not name its revision and down_revision as plain values")
    return values
