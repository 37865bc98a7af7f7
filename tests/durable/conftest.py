"""The application of these tests."""

from tests.support.app import app

__all__ = ["app"]
