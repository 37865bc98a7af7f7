"""``fairchild.workers``: who works on this database, and how to pause, resume and stop them from afar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from fairchild.db import workers
from fairchild.db.connect import Link
from fairchild.db.workers import WorkerInfo, WorkerState
from fairchild.errors import UnknownWorker

Found = list[WorkerInfo]
Chosen = WorkerInfo | UUID | str | Iterable[WorkerInfo | UUID | str]
"""Workers, by what ``list()`` gave, by a session's id or by name."""


class Workers:
    """The door to the workers. ``ask`` runs a question on a connection of the client's, again if one was lost."""

    def __init__(self, ask: Callable[[Callable[[Link], Found]], Found]) -> None:
        self._ask = ask

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

    def _change(self, chosen: Chosen, state: WorkerState) -> Found:
        each_of = [chosen] if isinstance(chosen, (WorkerInfo, UUID, str)) else chosen
        names = [str(each.id) if isinstance(each, WorkerInfo) else str(each) for each in each_of]

        def change(link: Link) -> Found:
            with link.atomic():
                found = workers.list_workers(link, names)
                for name in names:
                    if not any(_is(each, name) for each in found):
                        raise UnknownWorker(f"no worker at work has the id or name {name!r}; nothing was changed")
                workers.change_state(link, names, state)
                return workers.list_workers(link, names)

        return self._ask(change)


def _is(worker: WorkerInfo, name: str) -> bool:
    return name in (str(worker.id), worker.name) or worker.name.startswith(name + ".")
