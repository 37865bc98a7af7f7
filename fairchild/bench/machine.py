"""What /proc tells: the CPU time and memory of processes, what the rest of the machine does, and what it is.

Everything here is None, or an empty answer, where there is no /proc or the process is on another machine.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from pathlib import Path

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_seconds(root: int) -> float | None:
    """CPU seconds of a process, of its living descendants, and of those that have ended and were waited for."""
    total = None
    for pid in _tree(root):
        stat = _stat(pid)
        if stat is not None:
            total = (total or 0.0) + sum(int(each) for each in stat[11:15]) / _TICK
    return total


def rss_mib(pid: int) -> float | None:
    """Resident memory of a process, now."""
    return _status(pid, "VmRSS:")


def peak_rss_mib(pid: int) -> float | None:
    """The most resident memory that a process has had."""
    return _status(pid, "VmHWM:")


def postmaster_of(backend: int) -> int | None:
    """The server process of a backend, if that is a process of this machine."""
    stat = _stat(backend)
    if stat is None or _name(backend) != "postgres":
        return None
    parent = int(stat[1])
    return parent if _name(parent) == "postgres" else None


def busy_seconds() -> float | None:
    """CPU seconds that anybody has used on this machine."""
    try:
        fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, _ = (int(each) for each in fields)
    return (user + nice + system + irq + softirq) / _TICK


def own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def describe() -> dict[str, str | int | None]:
    """What machine this is."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _first_of(_PROC / "cpuinfo", "model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "memory_mib": _memory_mib(),
    }


def _memory_mib() -> int | None:
    text = _first_of(_PROC / "meminfo", "MemTotal")
    return None if text is None else int(text.split()[0]) // 1024


def _first_of(path: Path, label: str) -> str | None:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() == label:
                return value.strip()
    return None


def _status(pid: int, label: str) -> float | None:
    text = _first_of(_PROC / str(pid) / "status", label.rstrip(":"))
    return None if text is None else int(text.split()[0]) / 1024


def _name(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text().strip()
    return None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    return None


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                stat = _stat(int(entry.name))
                if stat is not None:
                    children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left.extend(children.get(pid, ()))
    return found
