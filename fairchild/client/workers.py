"""``fairchild.workers``: who works on this database, how to pause, resume and stop them, and where they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar
from uuid import UUID

from fairchild.db import stacks, workers
from fairchild.db.connect import Link
from fairchild.db.stacks import Frame, Stacks, ThreadStack
from fairchild.db.workers import WorkerInfo, WorkerState
from fairchild.errors import UnknownWorker, WorkerSilent

__all__ = ["Chosen", "Frame", "Stacks", "ThreadStack", "WorkerInfo", "WorkerState", "Workers"]

LOOK_SECONDS = 0.05
T = TypeVar("T")
Found = list[WorkerInfo]
Answers = list[Stacks]
Ids = list[UUID]
Chosen = WorkerInfo | UUID | str | Iterable[WorkerInfo | UUID | str]
"""Workers, by what ``list()`` gave, by a session's id or by name."""


class Ask(Protocol):
    """Runs a question on a connection of the client's, again if one was lost."""

    def __call__(self, question: Callable[[Link], T], /) -> T: ...


class Workers:
    """The door to the workers."""

    def __init__(self, ask: Ask, change: Ask | None = None) -> None:
        self._ask = ask
        self._do = change or ask

    def list(self, *, ended: bool = False) -> Found:
        """Those that have not ended, by name; with ``ended``, also those that have within the last hour."""
        return self._ask(lambda link: workers.list_workers(link, ended=ended))

    def pause(self, chosen: Chosen) -> Found:
        """Let them take no more jobs; those that run go on. It holds until ``resume``, and ends with the process.

        As they are now. Raises UnknownWorker if one is not at work, and changes nothing.
        """
        return self._change(chosen, WorkerState.PAUSED)

    def resume(self, chosen: Chosen) -> Found:
        """Let paused workers take jobs again. Raises UnknownWorker."""
        return self._change(chosen, WorkerState.RUNNING)

    def stop(self, chosen: Chosen) -> Found:
        """Let them drain and end, as SIGTERM does; nothing starts them again. Raises UnknownWorker.

        A program that claims by hand gets no more jobs until it connects anew.
        """
        return self._change(chosen, WorkerState.DRAINING)

    def stacks(self, chosen: Chosen, timeout: float = 10.0) -> Answers:
        """Where all their threads are now, and in which jobs: ``print(*fc.workers.stacks("mail-1"))``.

        Raises UnknownWorker, and WorkerSilent if one does not answer within ``timeout`` seconds.
        """
        asked = self.ask_stacks(chosen)
        until = time.monotonic() + timeout
        while True:
            found = self.last_stacks(asked)
            answered = [each for each in found if each.answered]
            if len(answered) == len(asked):
                return answered
            if time.monotonic() >= until:
                silent = ", ".join(each.worker for each in found if not each.answered) or "it has ended meanwhile"
                raise WorkerSilent(
                    f"no answer within {timeout:g} s from: {silent}. It may be frozen or away; behind a pooler, it "
                    "hears of this with its next beat. What it answers later is kept",
                    answered,
                )
            time.sleep(LOOK_SECONDS)

    def ask_stacks(self, chosen: Chosen) -> Ids:
        """Ask them where their threads are, and do not wait for it: ``last_stacks(ids)`` has the answers.

        Raises UnknownWorker if one is not at work.
        """
        names = _names(chosen)

        def ask(link: Link) -> Ids:
            _check(workers.list_workers(link, names), names)
            asked = stacks.ask(link, names)
            if not asked:
                raise UnknownWorker("the worker has ended just now; there is nobody to ask")
            return asked

        return self._do(ask)

    def last_stacks(self, ids: Iterable[UUID]) -> Answers:
        """What sessions have said last of where their threads are, of those that were ever asked."""
        wanted = [*ids]
        return self._ask(lambda link: stacks.read(link, wanted))

    def _change(self, chosen: Chosen, state: WorkerState) -> Found:
        names = _names(chosen)

        def change(link: Link) -> Found:
            with link.atomic():
                _check(workers.list_workers(link, names), names)
                workers.change_state(link, names, state)
                return workers.list_workers(link, names)

        return self._do(change)


def _names(chosen: Chosen) -> list[str]:
    each_of = [chosen] if isinstance(chosen, (WorkerInfo, UUID, str)) else chosen
    return [str(each.id) if isinstance(each, WorkerInfo) else str(each) for each in each_of]


def _check(found: Found, names: list[str]) -> None:
    for name in names:
        if not any(_is(each, name) for each in found):
            raise UnknownWorker(f"no worker at work has the id or name {name!r}; nothing was changed")


def _is(worker: WorkerInfo, name: str) -> bool:
    return name in (str(worker.id), worker.name) or worker.name.startswith(name + ".")
