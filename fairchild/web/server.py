"""Serving the pages and the API by themselves: gunicorn's threads where there is gunicorn, waitress elsewhere."""

from __future__ import annotations

import select
import socket
from importlib.util import find_spec
from typing import Any

from flask import Flask

from fairchild import clock
from fairchild.client import Fairchild
from fairchild.errors import ConfigError
from fairchild.web import create_blueprint
from fairchild.web.arrivals import MOST, Arrivals
from fairchild.web.auth import add_headers, is_loopback

THREADS = 32


def make_app(fc: Fairchild, host: str, *, token: str | None = None, insecure: bool = False, **options: Any) -> Flask:
    """An application with nothing but the blueprint.

    Raises ConfigError for a ``host`` that others can reach, unless there is a ``token`` or it is to be ``insecure``.
    """
    if token is not None and insecure:
        raise ConfigError("give either a token or insecure, not both")
    if token is None and not insecure and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, where everybody could run and cancel jobs: give --token "
            "SECRET (or FAIRCHILD_UI_TOKEN), or --insecure if something else guards it"
        )
    app = Flask("fairchild")
    if insecure:
        options["authorize"] = lambda *_: "admin"
    elif token is None:
        options["hosts"] = ["localhost", "127.0.0.1", "[::1]", host.lower()]
    app.register_blueprint(create_blueprint(fc, token=token, **options))
    app.after_request(add_headers)  # of paths that nobody has
    return app


def serve(app: Flask, host: str, port: int, threads: int = THREADS) -> None:
    """Serve until stopped by a signal."""
    if find_spec("gunicorn") is not None and find_spec("fcntl") is not None:
        _by_gunicorn(app, host, port, threads)
    elif find_spec("waitress") is not None:
        _by_waitress(app, host, port, threads)
    else:
        raise ConfigError("serving the pages needs a server: pip install 'fairchild[ui]'")


def _by_gunicorn(app: Flask, host: str, port: int, threads: int) -> None:
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415 - optional

    settings = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": 1,
        "threads": threads,
        "worker_class": "gthread",
        "loglevel": "warning",
        "proc_name": "fairchild-ui",
        "timeout": 60,
        "graceful_timeout": 5,
        "control_socket_disable": True,
        # Who has come over a connection once may be slow the next time.
        "keepalive": 0,
        "worker_connections": threads + MOST,
        "post_worker_init": _hear_first,
    }

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in settings.items():
                if name in self.cfg.settings:  # some are of newer releases
                    self.cfg.set(name, value)

        def load(self) -> Any:
            return app

    Server().run()


def _hear_first(worker: Any) -> None:
    """The listeners of gunicorn's worker give it connections with a request.

    It tells its parent that it lives each second, and not three times for each request.
    """
    worker.sockets = [Arrivals(each).start() for each in worker.sockets]
    notify, told = worker.notify, 0.0

    def seldom() -> None:
        nonlocal told
        now = clock.now()
        if now - told >= 1.0:
            told = now
            notify()

    worker.notify = seldom


def _by_waitress(app: Flask, host: str, port: int, threads: int) -> None:
    import waitress  # noqa: PLC0415 - optional

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = {family: address for family, _, _, _, address in reversed(found)}
    listeners: list[Any] = [
        Arrivals(socket.create_server(address[:2], family=family)).start() for family, address in families.items()
    ]
    waitress.serve(
        app, sockets=listeners, threads=threads, ident="fairchild", connection_limit=threads + 2 * MOST,
        channel_timeout=10, cleanup_interval=2,
        asyncore_use_poll=hasattr(select, "poll"),
    )  # fmt: skip
