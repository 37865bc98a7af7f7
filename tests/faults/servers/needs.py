"""What some of these faults need of a machine; their tests are skipped, with the reason, where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

CLOCKS = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@lru_cache(maxsize=1)
def may_mount() -> bool:
    """Whether this process may mount file systems and make networks: it is root, and not in a narrow container."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return tried.returncode == 0


@lru_cache(maxsize=1)
def missing_of_networks() -> str:
    """What keeps this machine from having networks of a test's own; nothing if nothing does."""
    if not may_mount():
        return "needs root, and the right to make file systems and networks"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    wanted = [each for each in ("ip", "iptables", "tc") if shutil.which(each, path=path) is None]
    return f"needs {', '.join(wanted)} (Debian: iproute2, iptables)" if wanted else ""


root = pytest.mark.skipif(not may_mount(), reason="needs root, to mount a small file system")
networks = pytest.mark.skipif(bool(missing_of_networks()), reason=missing_of_networks() or "-")
clocks = pytest.mark.skipif(not CLOCKS, reason="needs libfaketime (Debian: faketime)")
