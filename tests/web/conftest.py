"""A site of this test's own: an application, its API, and requests from this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.web import create_blueprint
from tests.support.app import App, app

__all__ = ["app"]


def mounted(fc: Fairchild, prefix: str = "/ops", **options: Any) -> FlaskClient:
    """A client of an application with the blueprint under ``prefix``."""
    flask = Flask("site")
    flask.register_blueprint(create_blueprint(fc, **options), url_prefix=prefix)
    return flask.test_client()


@pytest.fixture
def mount(app: App) -> Callable[..., FlaskClient]:
    """``mount(read_only=True)``: a client of an application made with these options."""
    return lambda **options: mounted(app.client, **options)


@pytest.fixture
def site(app: App) -> Iterator[FlaskClient]:
    """Requests from this machine."""
    with mounted(app.client) as client:
        yield client
