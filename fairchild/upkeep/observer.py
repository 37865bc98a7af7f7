"""Watching the other workers: a session whose beat stands still is dead, and what it held is given back.

No clock is compared with another. What counts is how long *we*, on our monotonic clock, have seen the same count, over
looks that succeeded. An outage of the database is no look, and a paused observer has not looked either: after a gap
between two looks every stopwatch starts again, since those who could not beat meanwhile are not dead.

Between looks it keeps the waiting jobs moving: it ends those that a dead worker had marked, and counts again where a
count may be wrong; and it goes on with cancellations of large families that nobody ends. What one part of a look fails
of does not keep the others from being done.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from fairchild import clock, failpoints
from fairchild.db import cancel, events, history, journal, lease, settle, xcom
from fairchild.db.connect import Link
from fairchild.db.lease import Watched
from fairchild.events import emit

log = logging.getLogger("fairchild.upkeep")

LOOKS_A_BEAT = 2
"""How often a worker looks at the others' beats. A death is declared at the first look after half a lease, and seen at
the first look after the last beat: with one look a beat both together cost up to two more beats than half a lease."""
MIN_LOOKS = 2 * LOOKS_A_BEAT + 1
"""However long the first of them took, those who could not beat meanwhile get two beats' time to do so."""
TIDY_SECONDS = 60.0
SWEEP_SHARE = 20
LOOKED_AWAY = 3 * LOOKS_A_BEAT  # intervals without a look, which are three beats


@dataclass
class _Seen:
    beat: int
    since: float
    looks: int = 0


class Observer:
    """Looks at all sessions once an ``interval`` of seconds; any number of workers may do so."""

    def __init__(self, own: UUID, interval: float) -> None:
        self.own = own
        self._interval = interval
        self._seen: dict[UUID, _Seen] = {}
        self._last_look = clock.now()
        self._next_tidy = self._last_look + TIDY_SECONDS
        self._next_sweep = 0.0
        self._audited = UUID(int=0)
        self.rescued = 0

    def look(self, link: Link) -> int:
        """One look: declare who is dead, give back what they held, keep waiting jobs moving; jobs given back."""
        sessions = lease.watch(link)
        now = clock.now()
        for dead in self.judge(sessions, now):
            if lease.declare_dead(link, dead):
                emit("session_dead", session=dead.id, silent_seconds=dead.lease / 2)
                log.warning("worker session %s is dead: no beat for %.1f s", dead.id, dead.lease / 2)
        rescued = 0
        orphans, waiting, cancelled = lease.left_behind(link)
        if failpoints.ARMED and orphans:
            failpoints.hit("rescue.before")
        while orphans and (batch := lease.rescue(link)):
            if failpoints.ARMED:
                failpoints.hit("rescue.after")
            rescued += len(batch)
            log.warning("%d jobs of lost workers were given back", len(batch))
        self.rescued += rescued
        if cancelled:
            self._go_on_cancelling(link)
        if waiting and now >= self._next_sweep:
            self._keep_moving(link)
            cost = clock.now() - now
            self._next_sweep = clock.now() + cost * SWEEP_SHARE
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_SECONDS
            lease.tidy(link)
            xcom.drop_expired(link)
            history.roll_up(link)
            events.forget(link)
        return rescued

    def _go_on_cancelling(self, link: Link) -> None:
        end = clock.now() + self._interval / 2
        with closing(cancel.go_on(link)) as portions:
            for reached in portions:
                if reached:
                    log.info("%d more jobs were cancelled whose cancellation nobody had ended", reached)
                if clock.now() >= end:
                    break

    def _keep_moving(self, link: Link) -> None:
        settle.sweep(link)
        journal.sweep(link)
        last, wrong = settle.audit(link, self._audited)
        self._audited = last if last is not None else UUID(int=0)
        if wrong:
            log.warning(
                "%d waiting jobs counted upstreams or children wrongly, which is put right; rows were changed or "
                "deleted by other hands. The first is job %s",
                len(wrong), wrong[0],
            )  # fmt: skip

    def judge(self, sessions: list[Watched], now: float) -> list[Watched]:
        """Those whose count has stood still for half their lease, over ``MIN_LOOKS`` looks and more."""
        dead = []
        seen: dict[UUID, _Seen] = {}
        gap, self._last_look = now - self._last_look, now
        looked_away = gap > LOOKED_AWAY * self._interval
        for each in sessions:
            if each.id == self.own:
                continue
            last = self._seen.get(each.id)
            if last is None or last.beat != each.beat or looked_away:
                seen[each.id] = _Seen(each.beat, now)
                continue
            last.looks += 1
            seen[each.id] = last
            if last.looks >= MIN_LOOKS and now - last.since >= each.lease / 2:
                dead.append(each)
        self._seen = seen
        return dead
