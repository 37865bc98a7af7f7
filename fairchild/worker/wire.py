"""What a worker and a child process that runs single jobs for it say to each other, over a pair of sockets.

worker                                   child
Program -------------------------------> once: how to be like its worker
Run -----------------------------------> imports the task's module
    <----------------------- Unfit       it is not there
    <----------------------- Begun       from here on the child's death is the job's doing
Ask -----------------------------------> stop: whenever the worker hears of it
AskFrames -----------------------------> where is it now?
    <----------------------- Frames
    <----------------------- Logged, Noted ...
    <----------------------- Done        the outcome
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from struct import Struct
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from fairchild.db.claim import Claimed
from fairchild.db.finish import Applied, Ended
from fairchild.db.notes import LineNote, ProgressNote
from fairchild.db.stacks import Frame
from fairchild.rules.replay import History
from fairchild.tasks import Home

_LENGTH = Struct(">Q")
_CHUNK = 256 * 1024


class Program(msgspec.Struct, tag=True):
    """What a child takes over from its worker: arguments, levels of loggers, what its client was made with."""

    argv: list[str]
    levels: dict[str, int]
    client: dict[str, Any]


class Run(msgspec.Struct, tag=True):
    """A claimed job, the values it waits for, and where its task is found."""

    claimed: Claimed
    values: dict[UUID, tuple[str, bytes | None, str]]
    worker: str
    home: Home
    memory_mb: float | None
    history: History | None = None


class Ask(msgspec.Struct, tag=True):
    """The attempt under this claim is to stop; see ``Attempt.interrupt``."""

    claim_id: UUID
    kind: str
    message: str


class AskFrames(msgspec.Struct, tag=True):
    """Where is the attempt under this claim now?"""

    claim_id: UUID


class Frames(msgspec.Struct, tag=True):
    """There."""

    frames: list[Frame]


class Begun(msgspec.Struct, tag=True):
    """The task is about to be called."""


class Unfit(msgspec.Struct, tag=True):
    """The task cannot be called in a child, and why."""

    message: str


class Logged(msgspec.Struct, tag=True):
    """A record of ``logging``, for the worker's handlers."""

    name: str
    level: int
    message: str
    fields: dict[str, Any]


class Noted(msgspec.Struct, tag=True):
    """What the job noted, for the worker's notebook."""

    note: LineNote | None = None
    progress: ProgressNote | None = None


class Done(msgspec.Struct, tag=True):
    """The outcome, and what recording it came to if the task's own transaction did that."""

    ended: Ended
    applied: Applied | None


ToChild = Program | Run | Ask | AskFrames
ToWorker = Begun | Unfit | Logged | Noted | Frames | Done
T = TypeVar("T")


class Wire(Generic[T]):
    """One end. Any thread may send; one receives messages of type ``T``."""

    def __init__(self, end: socket.socket, kind: Any, wait: Callable[[], None] | None = None) -> None:
        self._end = end
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._encoder = msgspec.msgpack.Encoder()
        self._wait = wait
        self._sending = threading.Lock()
        self._received = bytearray()

    def send(self, message: ToChild | ToWorker) -> None:
        """Send a message. Raises OSError if the other end is gone."""
        data = self._encoder.encode(message)
        with self._sending:
            self._end.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> T:
        """The next message. Raises EOFError if the other end is gone."""
        size = _LENGTH.unpack(self._take(_LENGTH.size))[0]
        return self._decoder.decode(self._take(size))

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            if self._wait is not None:
                self._wait()
            try:
                data = self._end.recv(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken
