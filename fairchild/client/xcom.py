"""``fc.xcom``: the values that the jobs of a workflow share, seen from outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from fairchild import codec
from fairchild.db import xcom
from fairchild.db.connect import Link
from fairchild.db.xcom import Change
from fairchild.xcom import check_key

T = TypeVar("T")
Ask = Callable[[Callable[[Link], T]], T]
_MISSING: Any = object()


class SharedValues:
    """Of one client. ``workflow``: the id of a workflow's root job. Each call is a transaction of its own."""

    def __init__(self, ask: Callable[[Callable[[Link], Any]], Any]) -> None:
        self._ask = ask

    def push(
        self, workflow: UUID, key: str, value: Any, ttl: float | timedelta | None = None, *, namespace: str = ""
    ) -> None:
        """Share a JSON value under ``key``. Raises StoreError if there is no such workflow."""
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        change = Change("set", namespace, check_key(key), codec.encode(value, root=key).json, seconds)
        self._ask(lambda link: xcom.apply(link, workflow, None, [change]))

    def pull(self, workflow: UUID, key: str, default: Any = _MISSING, *, namespace: str = "") -> Any:
        """The value under ``key``. Raises KeyError if there is none and no default."""
        found = self._ask(lambda link: xcom.pull(link, workflow, namespace, key))
        if found is not None:
            return codec.decode(found)
        if default is _MISSING:
            raise KeyError(f"no value is shared under {key!r} in workflow {workflow}")
        return default

    def keys(self, workflow: UUID, *, namespace: str = "") -> list[str]:
        """The keys under which values are shared, in order."""
        found: list[str] = self._ask(lambda link: xcom.keys(link, workflow, namespace))
        return found

    def clear(self, workflow: UUID, key: str | None = None, *, namespace: str = "") -> None:
        """Take away the value under ``key``, or all of the namespace."""
        self._ask(lambda link: xcom.apply(link, workflow, None, [Change("clear", namespace, key)]))
