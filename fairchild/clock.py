"""The clock by which silence is measured."""

from __future__ import annotations

import time

_ALSO_ASLEEP = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds that never go back and, on Linux, go on while the machine sleeps: who overslept can see it."""
    return time.monotonic() if _ALSO_ASLEEP is None else time.clock_gettime(_ALSO_ASLEEP)
