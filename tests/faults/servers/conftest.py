"""A server that may be stopped, and an application on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairchild.testing import databases
from tests.support.app import App
from tests.support.cluster import Cluster, cluster


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    """One for all tests that leave it running; each has a database of its own there."""
    with cluster() as made:
        yield made


@pytest.fixture
def server_db(server: Cluster) -> Iterator[str]:
    """The URL of a database with all tables on ``server``."""
    with databases.copy_of(server.url, databases.template(server.url)) as url:
        yield url


@pytest.fixture
def app(server_db: str) -> Iterator[App]:
    """An application there."""
    with App(server_db).closing() as made:
        yield made
