"""Job ids: UUID version 7 (RFC 9562, section 5.7), made by the client.

48 bits of Unix milliseconds, the version, a 12 bit counter, the variant, 62 random bits. The counter makes ids of one
process grow within a millisecond (method 1 of section 6.2), so that a bulk insert fills the primary key in order.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from datetime import datetime
from uuid import UUID, SafeUUID

_DRAWN = 128
"""Random numbers fetched from the system at once: one call costs as much as the rest of an id."""
_lock = threading.Lock()
_random: list[int] = []
_process = os.getpid()
_last_ms = 0
_counter = 0
_set = object.__setattr__


def uuid7() -> UUID:
    """A new id, greater than every id this process made before."""
    global _last_ms, _counter, _process  # noqa: PLW0603
    now = time.time_ns() // 1_000_000
    with _lock:
        if _process != os.getpid():  # or two processes would draw the same numbers
            _process = os.getpid()
            _random.clear()
        if not _random:
            _random.extend(struct.unpack(f"{_DRAWN}Q", os.urandom(8 * _DRAWN)))
        random = _random.pop()
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
    made = object.__new__(UUID)  # what UUID(int=value) does, without its checks of seven ways to give a value
    _set(made, "int", value)
    _set(made, "is_safe", SafeUUID.unknown)
    return made


def derived(parent: UUID, number: int, digest: bytes) -> UUID:
    """The id of a job's ``number``-th call: the same whenever it is asked for, in the order of the calls.

    The parent's time, 20 bits of the number, 54 bits of ``digest``, which is of all that tells the call apart.
    """
    count = number & 0xFFFFF
    tail = int.from_bytes(digest[:7], "big") & 0x3FFFFFFFFFFFFF
    return UUID(
        int=(parent.int >> 80) << 80 | 0x7 << 76 | (count >> 8) << 64 | 0b10 << 62 | (count & 0xFF) << 54 | tail
    )


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def lowest(moment: datetime) -> UUID:
    """Not above any id made at that time or later: ids begin with the milliseconds at which they were made."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)
