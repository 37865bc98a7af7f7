"""A PostgreSQL in a folder, shared by the processes that use it.

Who stops it
    Every process that uses a server holds a shared lock on the file ``users`` in the server's folder; the kernel gives
    it back however the process ends. A process that leaves tries to make the lock exclusive: who succeeds was the last
    one and stops the server. A forked child takes a lock of its own, so neither ends the server under the other. A
    last process that is killed leaves the server running; the next one joins it and stops it in its turn.

    ``folder/lock``   held exclusively while starting, joining, leaving: one process at a time looks and acts
    ``folder/users``  held shared by every user
    ``folder/keep``   there: nobody stops the server at exit, only ``stop()`` does
    ``folder/data``   the cluster; appears by a rename, so it is complete or not there

Who may connect
    Nobody over the network: it listens on a Unix socket in a folder that only its own user (and root) can enter.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fairchild.embedded import programs
from fairchild.embedded.programs import START_SECONDS, let_pass, major_of, may_run, run, server_account
from fairchild.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    import pwd

SUPERUSER = "postgres"
MAX_CONNECTIONS = 200
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, with a NUL at the end.
_MAX_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"
_DELETED_PREFIX = "fairchild-deleted-"
_SOCKET_PREFIX = "fairchild-socket-"
_OURS = {"data", "data.new", "keep", "lock", "users"}

_guard = threading.Lock()
_joined: dict[Path, int] = {}  # folder -> descriptor of the open, share-locked ``users``
_leaving: dict[Path, Server] = {}  # the same servers, for the end of the process
_hooks_set = False


def is_joined(folder: Path) -> bool:
    """Whether this process is a user of the server in ``folder``."""
    return folder in _joined


class Server:
    """A PostgreSQL in a folder, shared by the processes that join it. See the module's text."""

    def __init__(
        self,
        folder: Path,
        *,
        bin_dir: Path | None = None,
        major: int | None = None,
        durable: bool = True,
        temporary: bool = False,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """``bin_dir`` names another PostgreSQL's binaries. ``major`` chooses one of ``BUNDLED`` for a new cluster.

        Without ``durable`` a commit does not wait for the disk, and a crash of the machine may spoil the data. A
        ``temporary`` one is deleted by whoever stops it.
        """
        self.folder = folder
        self._temporary = temporary
        self._data = folder / "data"
        self._bin_dir = bin_dir
        self._major = major
        self._durable = durable
        self._max_connections = max_connections

    def join(self, *, keep: bool = False) -> None:
        """Start the server unless it runs, and be one of its users until ``leave()`` or the end of this process."""
        while True:
            self._make_folder()
            with self._locked() as held:
                if not held:
                    continue  # the last user of a temporary server deleted the folder while we waited
                if not self._running():
                    self._start()
                if keep:
                    (self.folder / "keep").touch()
                with _guard:
                    if self.folder not in _joined:
                        _joined[self.folder] = _share(self.folder)
                    _leaving[self.folder] = self
                _set_hooks()
                return

    def leave(self) -> bool:
        """Stop the server if no other process uses it. Returns whether it was stopped by this."""
        with _guard:
            mine = _joined.pop(self.folder, None)
            _leaving.pop(self.folder, None)
        try:
            if not self.folder.is_dir():
                return False
            with self._locked() as held:
                if not held:
                    return False
                if mine is not None:
                    os.close(mine)
                    mine = None
                if (self.folder / "keep").exists():
                    return False
                return self._stop_if_unused()
        finally:
            if mine is not None:
                os.close(mine)

    def url(self, database: str) -> str:
        """The libpq URL of one of its databases. The server must have been joined."""
        pid_file = self._pid_file()
        if len(pid_file) < 5:
            raise DatabaseUnavailable(f"the embedded PostgreSQL in {self.folder} is not running; its log is {self.log}")
        socket_folder = pid_file[4]
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(socket_folder)}&port=5432"

    def create_database(self, name: str) -> None:
        """Create a database unless it exists."""
        import psycopg  # noqa: PLC0415 - the URL alone needs no driver
        from psycopg import sql  # noqa: PLC0415

        with self._locked(), psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    @property
    def log(self) -> Path:
        """What the server wrote since its last start."""
        return self._data / "server.log"

    # -- the rest assumes the folder's lock

    def _start(self) -> None:
        account = server_account(self._data)
        if not (self._data / "PG_VERSION").exists():
            self._initialise(account)
        binaries = self._programs(account)
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # of a server that is no more
        self.log.unlink(missing_ok=True)
        self._configure(account)
        # "-D ." because pg_ctl hands the path to a shell in plain double quotes.
        begin: list[str | Path] = [
            binaries / "pg_ctl",
            "-D",
            ".",
            "-w",
            "-t",
            str(START_SECONDS),
            "-l",
            self.log.name,
            "start",
        ]
        done = run(begin, self._data, account)
        if done.returncode != 0 or not self._running():
            said = self.log.read_text(errors="replace") if self.log.exists() else done.stderr or done.stdout
            raise DatabaseUnavailable(
                f"the embedded PostgreSQL in {self.folder} did not start: {_last_line(said)}; its log is {self.log}"
            )

    def _initialise(self, account: pwd.struct_passwd | None) -> None:
        binaries = self._programs(account)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if account is not None:
            os.chown(fresh, account.pw_uid, account.pw_gid)
        command: list[str | Path] = [binaries / "initdb", "-D", ".", "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        version = run([binaries / "postgres", "--version"], fresh, account).stdout
        if major_of(version) >= 17:  # the first with a locale of its own, the same on every system
            command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            command += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        if not self._durable:
            command.append("--no-sync")
        done = run(command, fresh, account)
        if done.returncode != 0:
            raise DatabaseUnavailable(
                f"no PostgreSQL database could be made in {self.folder}: {_last_line(done.stderr or done.stdout)}"
            )
        with (fresh / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude_if_exists 'fairchild.conf'\n")
        fresh.rename(self._data)

    def _configure(self, account: pwd.struct_passwd | None) -> None:
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": '"' + str(self._socket_folder(account)).replace('"', '""') + '"',
            "max_connections": str(self._max_connections),
        }
        if not self._durable:
            settings |= {
                "fsync": "off",
                "full_page_writes": "off",
                "synchronous_commit": "off",
                "wal_level": "minimal",
                "max_wal_senders": "0",
            }
        lines = [f"{name} = {_setting(value)}\n" for name, value in settings.items()]
        path = self._data / "fairchild.conf"
        path.write_text("# Written at every start.\n" + "".join(lines), encoding="utf-8")
        if account is not None:
            os.chown(path, account.pw_uid, account.pw_gid)

    def _socket_folder(self, account: pwd.struct_passwd | None) -> Path:
        # libpq takes a comma for the end of a host's name.
        if len(os.fsencode(self._data / _SOCKET_NAME)) <= _MAX_SOCKET_PATH and "," not in str(self._data):
            return self._data
        name = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"{_SOCKET_PREFIX}{name}"
        owner = os.geteuid() if account is None else account.pw_uid
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise ConfigError(
                f"{self.folder} is too long for a Unix socket and {folder}, used in its place, belongs to somebody "
                "else; remove it or choose a shorter path"
            )
        return folder

    def _running(self) -> bool:
        """Whether the server accepts connections; waits while it starts or stops."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            pid_file = self._pid_file()
            if not pid_file or not _is_postmaster(int(pid_file[0]), self._data):
                return False
            if len(pid_file) > 7 and pid_file[7].strip() == "ready":  # the eighth and last line
                return True
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"the embedded PostgreSQL in {self.folder} was not ready within {START_SECONDS} seconds; its log "
                    f"is {self.log}"
                )
            time.sleep(0.05)

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _stop_if_unused(self) -> bool:
        import fcntl  # noqa: PLC0415 - not on Windows, where nothing gets here

        users = os.open(self.folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(users)  # nobody can join meanwhile: the folder's lock is ours
        stopped = self._stop()
        if self._temporary:
            # Renamed first: who wants to join meanwhile must find no folder, rather than one that is losing its files.
            gone = Path(tempfile.mkdtemp(prefix=_DELETED_PREFIX, dir=self.folder.parent))
            self.folder.rename(gone / self.folder.name)
            shutil.rmtree(gone)
        return stopped

    def _stop(self) -> bool:
        pid_file = self._pid_file()
        if not pid_file or not _is_postmaster(int(pid_file[0]), self._data):
            return False
        pid = int(pid_file[0])
        # What pg_ctl would send, without needing the binaries it was started with. Sessions are ended in both cases;
        # "immediate" also spares the checkpoint, as after a crash.
        os.kill(pid, signal.SIGQUIT if self._temporary else signal.SIGINT)
        deadline = time.monotonic() + START_SECONDS
        while _is_postmaster(pid, self._data):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"the embedded PostgreSQL in {self.folder} (process {pid}) did not stop within {START_SECONDS} "
                    f"seconds; its log is {self.log}"
                )
            time.sleep(0.01)
        socket_folder = Path(pid_file[4]) if len(pid_file) > 4 else self._data
        if socket_folder.name.startswith(_SOCKET_PREFIX):
            shutil.rmtree(socket_folder, ignore_errors=True)
        return True

    def remove_if_abandoned(self) -> None:
        """Stop and delete a temporary server whose users are all gone; leaves one alone that is starting or in use."""
        with self._locked(wait=False) as held:
            if held and (self.folder / "users").exists():
                self._stop_if_unused()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            strangers = {entry.name for entry in self.folder.iterdir()} - _OURS
        except OSError as error:
            raise ConfigError(f"the folder {self.folder} of the embedded database cannot be used: {error}") from None
        if strangers:
            raise ConfigError(
                f"{self.folder} is no embedded database: it holds {min(strangers)!r}; name an empty or a new folder"
            )
        account = server_account(self._data)
        if account is not None:
            self.folder.chmod(0o711)
            for above in self.folder.parents:
                let_pass(above, account)

    @contextlib.contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the folder's lock. Gives False if the folder was deleted meanwhile or, without ``wait``, it is taken."""
        import fcntl  # noqa: PLC0415 - not on Windows

        path = self.folder / "lock"
        try:
            lock = os.open(path, os.O_RDWR | (os.O_CREAT if wait else 0) | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            yield False
            return
        except PermissionError as error:
            raise ConfigError(f"the embedded database in {self.folder} belongs to another user: {error}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield path.exists() and path.stat().st_ino == os.fstat(lock).st_ino
        finally:
            # Said aloud, since a child forked by another thread meanwhile has the descriptor open as well.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _programs(self, account: pwd.struct_passwd | None) -> Path:
        """The folder with initdb, pg_ctl and postgres, where ``account`` can run them."""
        if self._bin_dir is not None:
            installed, libraries = self._bin_dir.resolve().parent, None
        else:
            installed, libraries = programs.bundled(self._data, self._major)
        if account is None or may_run(installed / "bin" / "postgres", account):
            return installed / "bin"
        return programs.within_reach(installed, libraries) / "bin"


def _share(folder: Path) -> int:
    import fcntl  # noqa: PLC0415 - not on Windows

    users = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(users, fcntl.LOCK_SH)
    return users


def _set_hooks() -> None:
    global _hooks_set  # noqa: PLW0603 - once in a process
    with _guard:
        if not _hooks_set:
            _hooks_set = True
            atexit.register(_leave_all)
            os.register_at_fork(after_in_child=_share_in_child)


def _leave_all() -> None:
    for server in list(_leaving.values()):
        server.leave()


def _share_in_child() -> None:
    # The descriptor that came with the fork is the parent's lock itself, so that neither would be the other's user.
    global _guard  # noqa: PLW0603 - another thread of the parent may have held it
    _guard = threading.Lock()
    for folder, inherited in list(_joined.items()):
        try:
            _joined[folder] = _share(folder)
        except FileNotFoundError:  # a temporary server that was deleted just now
            del _joined[folder], _leaving[folder]
        os.close(inherited)


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether ``pid`` is the server of ``data``, and not a process that got the number of one that is no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if sys.platform != "linux":
        return True
    process = Path("/proc") / str(pid)
    try:
        return (process / "cwd").readlink() == data.resolve()
    except FileNotFoundError:
        return False  # gone, or a zombie
    except PermissionError:  # root without CAP_SYS_PTRACE, as in a container
        try:
            return (process / "comm").read_text().strip() == "postgres"
        except FileNotFoundError:
            return False


def _setting(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
