"""The store of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairchild import Fairchild
from tests.support.store import Store, store_of


@pytest.fixture
def store(fairchild: Fairchild) -> Iterator[Store]:
    """A connection to a fresh database, and functions that move jobs in it."""
    with store_of(fairchild) as made:
        yield made
