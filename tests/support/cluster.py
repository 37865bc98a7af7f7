"""PostgreSQL servers of a test's own: to be stopped, crashed, promoted, starved and lied to about the time.

Each has a folder, a port of TCP and a log, and is gone at the end of its block. The binaries are those of
``FAIRCHILD_TEST_PG_BIN`` if it is set, else those of the extra ``embedded``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psycopg

from fairchild.embedded import programs
from fairchild.embedded.server import Server
from fairchild.testing.plugin import BINARIES_VARIABLE
from tests.support.eventually import eventually

START_SECONDS = 60.0
SETTINGS = {"fsync": "off", "max_connections": "60", "max_wal_senders": "4", "shared_buffers": "32MB"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A server in ``folder``. ``environment``: what its process finds there, beside nothing of PostgreSQL's."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.host = host
        self.port = free_port()
        self._environment = dict(environment or {})
        given = os.environ.get(BINARIES_VARIABLE)
        self.account = programs.server_account(self.data)
        self._programs = Server(folder, bin_dir=Path(given) if given else None)._programs(self.account)

    @property
    def url(self) -> str:
        """Its database ``postgres``, over TCP."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{self.host}:{self.port}/{database}"

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "server.log").read_text(errors="replace")

    def run(self, program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run one of PostgreSQL's programs, or of the system's, as the server's user; what it printed."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        known = self._programs / program
        command: list[str | Path] = ["env", *variables, known if known.exists() else program, *arguments]
        done = programs.run(command, self.folder, self.account)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr or done.stdout}\n{self._tail()}"
        return done.stdout

    def make(self, *initdb: str, **settings: str) -> Cluster:
        """Make its data and start it."""
        self.run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            *initdb,
        )
        self.configure(**{**SETTINGS, "listen_addresses": self.host, **settings})
        with (self.data / "pg_hba.conf").open("a") as access:
            access.write("host all all 10.0.0.0/8 trust\nhost replication all 10.0.0.0/8 trust\n")
        self.start()
        return self

    def configure(self, **settings: str) -> None:
        """Add settings, in force after the next start or ``reload``."""
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        options = f"-p {self.port} -c unix_socket_directories={self.folder}"
        self.run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", str(self.folder / "server.log"), "-o", options,
            "start", environment=self._environment,
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "reload")

    def promote(self) -> None:
        """Make a standby a primary; returns when it is one."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "promote")

    def standby(self, folder: Path, **settings: str) -> Cluster:
        """A streaming copy of it, started."""
        copy = Cluster(folder)
        copy.run("pg_basebackup", "-D", str(copy.data), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", self.url)
        copy.configure(**settings)
        copy.start()
        return copy

    def ask(self, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Rows of a statement, on a connection of its own."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """A signal to one of its processes."""
        os.kill(pid, number)

    def remove(self) -> None:
        """Stop it as if the power had gone, and delete it."""
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split("\n", 1)[0])
            os.kill(pid, signal.SIGQUIT)
            eventually(lambda: not Path(f"/proc/{pid}").exists() or not pid_file.exists(), START_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tail(self) -> str:
        return self.log[-2000:] if (self.folder / "server.log").exists() else ""


@lru_cache(maxsize=8)
def _template(options: tuple[str, ...]) -> Path:
    """The data of a server that has never run: to make it takes a hundred times as long as to copy it."""
    folder = new_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    fresh = Cluster(folder)
    fresh.run(
        "initdb", "-D", str(fresh.data), "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8",
        *options,
    )  # fmt: skip
    return fresh.data


def new_folder() -> Path:
    """A folder that the server's user can write to."""
    folder = Path(tempfile.mkdtemp(prefix="fairchild-cluster-"))
    account = programs.server_account(folder / "data")
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


@contextmanager
def cluster(
    *initdb: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Cluster]:
    """A server, until the end of the block."""
    made = Cluster(folder or new_folder(), environment=environment)
    try:
        yield made.make(*initdb, **settings)
    finally:
        made.remove()


@contextmanager
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary and a standby that streams from it, until the end of the block."""
    with cluster() as primary:
        folder = new_folder()
        try:
            yield primary, primary.standby(folder)
        finally:
            Cluster(folder).remove()
