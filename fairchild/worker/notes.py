"""What jobs note while they run: gathered here and written a moment later by a thread of its own, never by a job.

Lines come from ``job.log()`` and from ``logging``: each record made by code that runs as part of a job is kept with it,
whatever becomes of it otherwise. The record factory sees them, and not a handler, since a handler of ours would keep
``logging.basicConfig()`` from doing anything and Python's last resort from printing.

Nothing is unbounded: a line, an attempt's number of lines, and what waits to be written. Lines that are dropped are
counted, and the attempt's last line says how many were its own.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from fairchild import context
from fairchild.db.claim import Claimed
from fairchild.db.connect import Database, is_transient
from fairchild.db.notes import LineNote, ProgressNote, write_lines, write_progress
from fairchild.loop import Loop

GATHER_SECONDS = 0.25
MAX_LINES = 1000
"""Of one attempt."""
MAX_WAITING = 10_000
"""Lines of all attempts that have not been written yet."""
BATCH = 1000
MAX_MESSAGE = 8_000
MAX_FIELDS = 30
MAX_FIELD = 1_000

log = logging.getLogger("fairchild.worker")
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_installing = threading.Lock()
_plain = logging.Formatter()


class Sink(Protocol):
    """Where an attempt's notes go: the worker's notebook, or from a child process to its worker."""

    def line(self, note: LineNote, record: logging.LogRecord | None = None) -> None: ...
    def progress(self, note: ProgressNote) -> None: ...
    def hurry(self) -> None: ...


class Notes:
    """The notes of one attempt. Any thread may write them."""

    def __init__(self, sink: Sink, claimed: Claimed, most: float = MAX_LINES) -> None:
        self._sink = sink
        self._most = most
        self._claimed = claimed
        self._lines = 0
        self._any = False

    def line(self, level: int, logger: str, message: str, fields: dict[str, Any]) -> None:
        """Keep a line, if the attempt has not written too many."""
        if self._may():
            self._put(level, logger, message, clean(fields))

    def _may(self) -> bool:
        self._any = True
        self._lines += 1
        return self._lines <= self._most

    def record(self, record: logging.LogRecord) -> None:
        """Keep a record of ``logging``. Its ``extra`` is not there yet, and is read when it is written."""
        if not self._may():
            return
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the format are reported by the handlers
            message = str(record.msg)
        if record.exc_info and record.exc_info[0] is not None:
            message += "\n" + _plain.formatException(record.exc_info)
        self._put(record.levelno, record.name, message, {}, record)

    def progress(self, value: float, total: float | None, message: str | None) -> None:
        """Keep how far it is; the last one before a write counts."""
        self._any = True
        claimed = self._claimed
        text = None if message is None else bounded(message, MAX_MESSAGE)
        self._sink.progress(ProgressNote(claimed.job_id, claimed.claim_id, claimed.attempt, value, total, text))

    def close(self) -> None:
        """The attempt has ended: what it has noted is written before its next attempt can end."""
        dropped = self._lines - self._most
        if dropped > 0:
            self._put(logging.WARNING, "fairchild", f"{dropped} further lines of this attempt were dropped", {})
            self._lines = 0
        if self._any:
            self._sink.hurry()

    def _put(
        self, level: int, logger: str, message: str, fields: dict[str, Any], record: logging.LogRecord | None = None
    ) -> None:
        claimed, text = self._claimed, bounded(message, MAX_MESSAGE)
        note = LineNote(claimed.job_id, claimed.claim_id, claimed.attempt, time.time(), level, logger, text, fields)
        self._sink.line(note, record)


class Notebook:
    """Gathers notes and writes them in batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._lines: list[tuple[LineNote, logging.LogRecord | None]] = []
        self._progress: dict[tuple[int, int], ProgressNote] = {}
        self._due = math.inf
        self._ending = False
        self._loop = Loop("notes", self._step)
        self.dropped = 0
        """Notes dropped so far: too many waited, or their attempt had lost its claim."""

    def start(self) -> None:
        """Start the thread, and see the records of ``logging``."""
        install()
        self._loop.start()

    def end(self) -> None:
        """Let it write what is there, if the database lets it, and end; see ``join``."""
        self._ending = True
        self._loop.wake()

    def join(self, timeout: float) -> bool:
        """Wait for its end; whether it has ended."""
        return self._loop.join(timeout)

    def line(self, note: LineNote, record: logging.LogRecord | None = None) -> None:
        """Keep a line, and the extra fields of the record it is of, unless too many wait."""
        with self._lock:
            if len(self._lines) >= MAX_WAITING:
                self.dropped += 1
                return
            self._lines.append((note, record))
        self._soon(GATHER_SECONDS)

    def progress(self, note: ProgressNote) -> None:
        """Keep how far an attempt is, in place of what it said before."""
        with self._lock:
            self._progress[note.job_id.int, note.claim_id.int] = note
        self._soon(GATHER_SECONDS)

    def hurry(self) -> None:
        """Write what waits at once."""
        self._soon(0.0)

    def flush(self) -> None:
        """Write what waits now: outcomes of the jobs that noted it are about to be recorded."""
        if self._lines or self._progress:
            try:
                self._write()
            except Exception:  # noqa: BLE001 - the thread tries again and reports it; the outcome goes first
                self._soon(0.0)

    def _soon(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if due < self._due:
            self._due = due
            self._loop.wake()

    def _step(self) -> float | None:
        if self._ending:
            self._write_last()
            return None
        left = self._due - time.monotonic()
        if left > 0:
            return None if left == math.inf else left
        self._due = math.inf
        try:
            self._write()
        except Exception:
            self._due = 0.0
            raise
        return 0.0

    def _write_last(self) -> None:
        self._loop.stop()
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - a worker stops without the database, too
            log.warning("%d notes of jobs could not be written before the end: %s", len(self._lines), error)

    def _write(self) -> None:
        """Write all that waits. What is refused is dropped; what cannot be written now is kept. Raises StoreError."""
        with self._writing:
            self._write_all()

    def _write_all(self) -> None:
        with self._lock:
            progress, self._progress = self._progress, {}
        newest = {note.job_id: note for note in progress.values()}
        if newest:
            try:
                self._counted(list(newest.values()), write_progress)
            except BaseException:
                with self._lock:
                    self._progress = {**progress, **self._progress}
                raise
        while batch := self._lines[:BATCH]:
            self._counted([note if record is None else _whole(note, record) for note, record in batch], write_lines)
            with self._lock:
                del self._lines[: len(batch)]

    def _counted(self, notes: list[Any], write: Callable[..., int]) -> None:
        try:
            with self._database.link() as link:
                self.dropped += len(notes) - write(link, notes)
        except Exception as error:
            if is_transient(error):
                raise
            log.warning("%d notes of jobs were refused and are dropped: %s", len(notes), error)
            self.dropped += len(notes)


def install() -> None:
    """Have each record of ``logging`` pass by here, once in a process."""
    with _installing:
        before = logging.getLogRecordFactory()
        if getattr(before, "keeps_with_job", False):
            return

        def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            notes = context.current_notes()
            if notes is not None:
                notes.record(record)
            return record

        make.keeps_with_job = True  # type: ignore[attr-defined]
        logging.setLogRecordFactory(make)


def _whole(note: LineNote, record: logging.LogRecord) -> LineNote:
    extra = {key: value for key, value in list(record.__dict__.items()) if key not in _USUAL}
    return note._replace(fields=clean(extra))


def clean(fields: dict[str, Any]) -> dict[str, Any]:
    """What JSON and PostgreSQL keep of these; a few, each of bounded size."""
    return {bounded(str(key), 100): _scalar(value) for key, value in list(fields.items())[:MAX_FIELDS]}


def _scalar(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    try:
        return bounded(value if isinstance(value, str) else repr(value), MAX_FIELD)
    except Exception:  # noqa: BLE001 - repr() of a user's value may raise anything
        return f"<{type(value).__name__}>"


def bounded(text: str, most: int) -> str:
    """Text that PostgreSQL keeps, of at most ``most`` bytes and a mark where something was left out."""
    whole = text.replace("\x00", "\ufffd").encode("utf-8", "replace")
    if len(whole) <= most:
        return whole.decode("utf-8")
    half = most // 2
    start, end = whole[:half].decode("utf-8", "ignore"), whole[-half:].decode("utf-8", "ignore")
    return f"{start} [... {len(whole) - 2 * half} bytes left out ...] {end}"
