"""A server that is stopped, crashed and started again on purpose."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from unittest import mock

import psycopg

from fairchild.embedded import TemporaryServer

MODES = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
PATIENCE = 60.0


class Cluster:
    """A PostgreSQL of our own with a database in it. A context manager; ``url`` is the same after each start.

    ``environment``: what the server is started with besides.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._temporary = TemporaryServer()
        self._environment = dict(environment or {})
        self.url = ""

    def __enter__(self) -> Cluster:
        with mock.patch.dict(os.environ, self._environment):
            self.url = self._temporary.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.stop()

    @property
    def _server(self) -> Any:
        return self._temporary._server

    def stop(self, mode: str) -> None:
        """End it, as ``pg_ctl stop -m`` does, and wait until it is gone."""
        os.kill(int(self._server._pid_file()[0]), MODES[mode])
        deadline = time.monotonic() + PATIENCE
        while self._server._pid_file():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server did not stop ({mode}) within {PATIENCE:.0f} s; see {self._server.log}")
            time.sleep(0.005)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with mock.patch.dict(os.environ, self._environment), self._server._locked():
            self._server._start()

    def restart(self, mode: str) -> None:
        """``fast``, ``immediate``; ``crash``: one of its processes is killed, and it ends all sessions itself."""
        if mode == "crash":
            self.crash()
        else:
            self.stop(mode)
            self.start()

    def crash(self) -> None:
        """Kill one server process; return when the server has recovered."""
        with self.connect() as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            try:
                victim.execute("SELECT pg_sleep(60)")
            except psycopg.OperationalError:
                pass  # it is on its way down
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until it accepts connections."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of ours, in autocommit."""
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5, application_name="faults")

    def rows(self, query: str, params: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """What a query of ours gives."""
        with self.connect() as connection:
            cursor = connection.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description is not None else []

    def value(self, query: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """The one value that a query of ours gives."""
        return self.rows(query, params)[0][0]


@contextmanager
def cluster(environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """One with fairchild's tables."""
    from fairchild import Fairchild

    with Cluster(environment) as made:
        client = Fairchild(made.url)
        client.install()
        client.disconnect()
        yield made
