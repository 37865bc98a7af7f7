"""Job ids: UUID version 7 (RFC 9562, section 5.7), made by the client.

48 bits of Unix milliseconds, the version, a 12 bit counter, the variant, 62 random bits. The counter makes ids of one
process grow within a millisecond (method 1 of section 6.2), so that a bulk insert fills the primary key in order.
"""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7() -> UUID:
    """A new id, greater than every id this process made before."""
    global _last_ms, _counter  # noqa: PLW0603
    random = int.from_bytes(os.urandom(8), "big")
    now = time.time_ns() // 1_000_000
    with _lock:
        if now > _last_ms:
            _last_ms = now
            _counter = random >> 54  # start low enough to leave room: 10 of the 12 bits
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms += 1
                _counter = 0
        ms, count = _last_ms, _counter
    value = (ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | (random & 0x3FFFFFFFFFFFFFFF)
    return UUID(int=value)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
