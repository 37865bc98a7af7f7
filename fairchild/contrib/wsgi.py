"""The pages and the API as a plain WSGI application, for any host that can mount one."""

from __future__ import annotations

from typing import Any

from flask import Flask

from fairchild.client import Fairchild
from fairchild.web import create_blueprint


def make_wsgi(fc: Fairchild, **options: Any) -> Flask:
    """A WSGI application; options as those of ``create_blueprint``.

    Mount it with werkzeug's ``DispatcherMiddleware(app, {"/fairchild": make_wsgi(fc)})`` or anything that sets
    ``SCRIPT_NAME``: its links are relative to that.
    """
    app = Flask("fairchild")
    app.register_blueprint(create_blueprint(fc, **options))
    return app
