"""The application of these tests, and the store alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairchild import Fairchild
from tests.support.app import app
from tests.support.store import Store, store_of

__all__ = ["app", "store"]


@pytest.fixture
def store(fairchild: Fairchild) -> Iterator[Store]:
    with store_of(fairchild) as made:
        yield made
