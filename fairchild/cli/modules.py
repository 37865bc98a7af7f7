"""Importing the modules that define tasks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairchild.errors import ConfigError

if TYPE_CHECKING:
    from fairchild.tasks import Task


def split(given: Sequence[str] | None) -> list[str]:
    """``["a,b", "c"]`` as ``["a", "b", "c"]``."""
    return [name.strip() for each in given or () for name in each.split(",") if name.strip()]


def import_all(given: Sequence[str] | None) -> list[str]:
    """Import the modules of ``--import``, the current directory first; their names.

    Raises ConfigError naming the module and the cause.
    """
    _current_directory_first()
    names = split(given)
    for name in names:
        _load(name)
    return names


def find_task(name: str, imported: Sequence[str]) -> tuple[Task[Any, Any] | None, str]:
    """The task, or None and why it is not known here.

    Where nothing was imported with ``-i``, the name says where to look: ``shop.mail.send`` is in ``shop.mail``.
    Raises UnknownTask, with near names, where other tasks were found but not this one.
    """
    from fairchild.tasks import registry  # noqa: PLC0415 - help comes first

    module = None if imported or name in registry else _module_of(name)
    if module is not None:
        try:
            _load(module)
        except ConfigError as error:
            return None, str(error)
    if len(registry):
        return registry.get_task(name), ""
    if imported or module is not None:
        return None, f"{', '.join(imported) or module} defines no task"
    return None, f"no module of this name is in {Path.cwd()} or installed"


def _module_of(name: str) -> str | None:
    """The longest prefix of a task's name that is a module."""
    parts = name.split(".")[:-1]
    while parts:
        module = ".".join(parts)
        try:
            if importlib.util.find_spec(module) is not None:
                return module
        except (ImportError, ValueError):
            pass  # a prefix that is no package, or no name at all
        parts.pop()
    return None


def _current_directory_first() -> None:
    here = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
        importlib.invalidate_caches()


def _load(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        raise ConfigError(f"--import takes the name of a module, such as myapp.tasks, not a file: {name!r}")
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ConfigError(f"cannot import {name}: {type(error).__name__}: {error}{_where(error)}") from error


def _where(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and not _frames(error):
        return f"; looked in {Path.cwd()} and the Python path"
    frames = _frames(error)
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    own = (__file__, importlib.__file__)
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen ") and frame.filename not in own
    ]
