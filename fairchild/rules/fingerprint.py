"""Which failures are the same one: a fingerprint of an exception, and its message less what varies. Pure.

A fingerprint is 12 hex digits of the task, the exception's type, and the innermost frame in the project: its module and
function, but neither its line nor its file, which another release, or another machine, would change. In the project is
what is not of the standard library, not installed among the packages and not of fairchild itself; a task that is an
installed package's own counts, as does all of that package. A time limit strikes anywhere, so where it did is left out.

It is made once for each attempt that fails, where the traceback is at hand; it takes 3 to 6 µs.
"""

from __future__ import annotations

import os
import re
import sysconfig
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

DIGITS = 12
FINGERPRINT = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
"""What one looks like."""
MOST_CHARACTERS = 300
_NOT_THEIRS = tuple(
    str(each) + os.sep
    for each in {
        Path(__file__).parents[1],  # fairchild
        Path(os.__file__).parent,
        Path(sysconfig.get_path("stdlib")),
        Path(sysconfig.get_path("platstdlib")),
    }
)
_PACKAGES = re.compile(r"[/\\](?:site|dist)-packages[/\\]")

# In this order: what is quoted may hold the others. A number counts as one also inside a word: user17, 0x1f.
_VARYING = re.compile(
    r"""
      "(?:[^"\\\n]|\\.){0,2000}" | (?<!\w)'(?:[^'\\\n]|\\.){0,2000}'(?!\w) | `[^`\n]{1,2000}`
    | \b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b
    | \b0x[0-9a-fA-F]+\b
    | \b(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b
    | [0-9]+(?:[.,:_][0-9]+)*
    """,
    re.VERBOSE,
)


def fingerprint(error: BaseException, task: str, module: str = "", *, placed: bool = True) -> str:
    """Of an exception that a task of ``module`` has raised. Without ``placed``, wherever it was raised."""
    kind = type(error)
    place = _place(error.__traceback__, module.partition(".")[0]) if placed else ""
    text = f"{task}\0{kind.__module__}.{kind.__qualname__}\0{place}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=DIGITS // 2).hexdigest()


def without_details(message: str) -> str:
    """A message with ``…`` for its numbers, ids and quoted strings."""
    return _VARYING.sub("…", message[:MOST_CHARACTERS])


def _place(trace: TracebackType | None, package: str) -> str:
    steps = []
    while trace is not None:
        steps.append(trace)
        trace = trace.tb_next
    for step in reversed(steps):
        frame = step.tb_frame
        code = frame.f_code
        name = frame.f_globals.get("__name__", "")
        if _in_project(code.co_filename) or (package and isinstance(name, str) and name.partition(".")[0] == package):
            return f"{name}:{code.co_name}"
    return ""


@lru_cache(maxsize=4096)
def _in_project(file: str) -> bool:
    return not (file.startswith(("<frozen ", *_NOT_THEIRS)) or _PACKAGES.search(file))
