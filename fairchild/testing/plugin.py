"""Fixtures for pytest. Nothing happens unless a test asks for one of them.

``fairchild_server``    session  URL of the server that databases are made on
``fairchild_template``  session  name of a migrated database there, to be copied
``fairchild_db``        test     URL of a fresh copy with all tables, dropped afterwards
``fairchild``           test     a client connected to it

The server is ``FAIRCHILD_TEST_DATABASE_URL`` if that is set (its role must be allowed to create databases, and the name
of its database must say that it is for tests), else one of PostgreSQL's binaries in ``FAIRCHILD_TEST_PG_BIN``, else the
embedded one. Under xdist all workers share one server, which the last one stops. Every database made here has ``_test``
in its name; no other is written to.

pytest loads this module in each run of each project where fairchild is installed, so it imports next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import fairchild as package

URL_VARIABLE = "FAIRCHILD_TEST_DATABASE_URL"
BINARIES_VARIABLE = "FAIRCHILD_TEST_PG_BIN"


@pytest.fixture(scope="session")
def fairchild_server() -> Iterator[str]:
    """URL of a PostgreSQL server to make databases on; the database it names is only connected to."""
    from fairchild.testing import databases  # noqa: PLC0415 - see the module's text

    with databases.server(
        os.environ.get(URL_VARIABLE), os.environ.get(BINARIES_VARIABLE), os.environ.get("PYTEST_XDIST_TESTRUNUID")
    ) as url:
        yield url


@pytest.fixture(scope="session")
def fairchild_template(fairchild_server: str) -> str:
    """Name of a database on ``fairchild_server`` with the newest tables and nothing in them."""
    from fairchild.testing import databases  # noqa: PLC0415

    return databases.template(fairchild_server)


@pytest.fixture
def fairchild_db(fairchild_server: str, fairchild_template: str) -> Iterator[str]:
    """URL of a database of this test's own, with all tables."""
    from fairchild.testing import databases  # noqa: PLC0415

    with databases.copy_of(fairchild_server, fairchild_template) as url:
        yield url


@pytest.fixture
def fairchild(fairchild_db: str) -> Iterator[package.Fairchild]:
    """A client connected to ``fairchild_db``."""
    from fairchild import Fairchild  # noqa: PLC0415

    client = Fairchild(fairchild_db)
    client.connect()
    try:
        yield client
    finally:
        client.disconnect()
