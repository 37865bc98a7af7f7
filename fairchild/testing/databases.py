"""Databases for tests: one server for a run, a template on it that is migrated once, and a copy for each test.

Copying a database of these few tables takes some 20 ms, which is less than emptying them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fairchild.db import migrate
from fairchild.embedded import TemporaryServer, is_embedded
from fairchild.embedded import start as start_embedded
from fairchild.errors import DatabaseUnavailable
from fairchild.testing import test_database_url

# "fairchild" and "template", to tell our lock in the server from others.
_TEMPLATE_LOCK = (0x66616972, 0x746D706C)


@contextmanager
def server(url: str | None, bin_dir: str | None, run: str | None) -> Iterator[str]:
    """URL of a server: the one of ``url``, else a temporary one of ``bin_dir``'s binaries, else the embedded one.

    ``run`` names a test run of several processes; all that give the same share one temporary server. Raises UsageError
    when ``url`` names a database that is not for tests.
    """
    if url is not None:
        yield _reachable(test_database_url(url))
        return
    folder = None
    if run is not None:
        # By user, since the temporary folder is everybody's; short, since the socket's path is part of it.
        name = hashlib.sha256(f"{os.getuid()} {run}".encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"fairchild-temporary-{name}"
    with TemporaryServer(durable=False, bin_dir=bin_dir, folder=folder) as temporary:
        yield temporary.url_of("postgres")


def template(server_url: str) -> str:
    """Name of a migrated database on the server, made unless it is there. Safe to ask for in many processes at once."""
    name = f"fairchild_template_{_fingerprint()}_test"
    with _connection(server_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", _TEMPLATE_LOCK)  # ends with the connection
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            # Renamed when it is complete, so that a run that was killed half-way leaves nothing that looks finished.
            unfinished = f"{name}_unfinished"
            _drop(connection, unfinished)
            _retried(connection, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
            migrate.upgrade(database_url(server_url, unfinished), "public")
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            _retried(connection, rename.format(sql.Identifier(unfinished), sql.Identifier(name)))
    return name


@contextmanager
def copy_of(server_url: str, template_name: str) -> Iterator[str]:
    """URL of a fresh copy of a database on the server. Dropped at the end, whoever is still connected."""
    name = f"fairchild_{uuid.uuid4().hex[:16]}_test"
    with _connection(server_url) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        _retried(connection, copy.format(sql.Identifier(name), sql.Identifier(template_name)))
    try:
        yield database_url(server_url, name)
    finally:
        with _connection(server_url) as connection:
            _drop(connection, name)


def database_url(server_url: str, name: str) -> str:
    """``server_url`` with another database: a URL, so that SQLAlchemy and Django can be given it as well."""
    from urllib.parse import quote, urlencode  # noqa: PLC0415

    given: dict[str, Any] = {**conninfo_to_dict(server_url), "dbname": None}
    given = {key: str(value) for key, value in given.items() if value is not None}
    login = quote(given.pop("user", ""), safe="")
    if "password" in given:
        login += ":" + quote(given.pop("password"), safe="")
    # As parameters, since only there may a host be a folder and a list have several ports.
    query = urlencode(given, quote_via=quote, safe="/")
    return f"postgresql://{login + '@' if login else ''}/{quote(name, safe='')}{'?' + query if query else ''}"


def _reachable(url: str) -> str:
    """``url``, or its server's database ``postgres`` when its own does not exist."""
    if is_embedded(url):
        url = start_embedded(url)
    try:
        with _connection(url):
            return url
    except psycopg.OperationalError as error:
        other = make_conninfo(url, dbname="postgres")
        try:
            with _connection(other):
                return other
        except psycopg.OperationalError:
            text = " ".join(str(error).split())
            raise DatabaseUnavailable(f"the server for tests cannot be reached: {text}") from None


@contextmanager
def _connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    connection = psycopg.connect(url, autocommit=True, application_name="fairchild:tests")
    try:
        yield connection
    finally:
        connection.close()


def _drop(connection: psycopg.Connection[Any], name: str) -> None:
    database = sql.Identifier(name)
    if connection.info.server_version >= 130000:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        return
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    # The server waits five seconds for those sessions to be gone; nobody can come in between but us.
    _retried(connection, sql.SQL("DROP DATABASE IF EXISTS {}").format(database))


def _retried(connection: psycopg.Connection[Any], statement: sql.Composed) -> None:
    """Run a statement that nobody may be connected for. Its server waits five seconds for those who are, each time."""
    for left in (2, 1, 0):
        try:
            connection.execute(statement)
            return
        except errors.ObjectInUse:
            if left == 0:
                raise


def _fingerprint() -> str:
    """Twelve characters that change with any of the migrations."""
    digest = hashlib.sha256()
    for script in sorted((migrate.scripts() / "versions").glob("*.py")):
        digest.update(script.name.encode() + b"\0" + script.read_bytes())
    return digest.hexdigest()[:12]
