"""Waking idle workers: the channel of a schema, and the gate that keeps NOTIFY from serialising commits."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

BEAT = "beat"
"""The payload of a notification that workers or running jobs were asked for something, which their next beat brings:
they are to beat at once."""
SIGNAL = "signal"
"""The payload of one that a signal was sent in a transaction that could not wake its job: somebody should look."""
PROBE = "probe"
"""The payload of one that only shows that notifications arrive. All others mean that there is something to do."""


@lru_cache(maxsize=64)
def channel(schema: str) -> str:
    """The NOTIFY channel of a schema: an identifier of at most 63 bytes."""
    name = f"fairchild:{schema}"
    if len(name.encode()) <= 63:
        return name
    return "fairchild:" + hashlib.sha256(schema.encode()).hexdigest()[:32]


@lru_cache(maxsize=64)
def gate(schema: str) -> int:
    """The advisory lock key of that channel's gate: a signed 64 bit number."""
    return int.from_bytes(hashlib.sha256(b"fairchild gate " + schema.encode()).digest()[:8], "big", signed=True)


def wake_params(schema: str, room: int = 0) -> dict[str, Any]:
    """Parameters of a statement that may wake others."""
    return {"channel": channel(schema), "gate": gate(schema), "room": room}
