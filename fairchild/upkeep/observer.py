"""Watching the other workers: a session whose beat stands still is dead, and what it held is given back.

No clock is compared with another. What counts is how long *we*, on our monotonic clock, have seen the same count, over
looks that succeeded: an outage of the database is no look, and a paused observer has not looked either.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from uuid import UUID

from fairchild.db import lease, settle
from fairchild.db.connect import Link
from fairchild.db.lease import Watched

log = logging.getLogger("fairchild.upkeep")

MIN_LOOKS = 3
TIDY_SECONDS = 60.0


@dataclass
class _Seen:
    beat: int
    since: float
    looks: int = 0


class Observer:
    """Looks at all sessions once an interval; any number of workers may do so."""

    def __init__(self, own: UUID) -> None:
        self.own = own
        self._seen: dict[UUID, _Seen] = {}
        self._next_tidy = time.monotonic() + TIDY_SECONDS
        self.rescued = 0

    def look(self, link: Link) -> int:
        """One look: declare who is dead, give back what they held, end what was left marked; jobs given back."""
        sessions = lease.watch(link)
        now = time.monotonic()
        for dead in self.judge(sessions, now):
            if lease.declare_dead(link, dead):
                log.warning("worker session %s is dead: no beat for %.1f s", dead.id, dead.lease / 2)
        rescued = 0
        while batch := lease.rescue(link):
            rescued += len(batch)
            log.warning("%d jobs of lost workers were given back", len(batch))
        settle.sweep(link)
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_SECONDS
            lease.tidy(link)
        self.rescued += rescued
        return rescued

    def judge(self, sessions: list[Watched], now: float) -> list[Watched]:
        """Those whose count has stood still for half their lease, over three looks and more."""
        dead = []
        seen: dict[UUID, _Seen] = {}
        for each in sessions:
            if each.id == self.own:
                continue
            last = self._seen.get(each.id)
            if last is None or last.beat != each.beat:
                seen[each.id] = _Seen(each.beat, now)
                continue
            last.looks += 1
            seen[each.id] = last
            if last.looks >= MIN_LOOKS and now - last.since >= each.lease / 2:
                dead.append(each)
        self._seen = seen
        return dead
