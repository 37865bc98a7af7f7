"""How a command writes log records: lines of text, or one JSON object each, to stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from enum import Enum

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogLevel(str, Enum):
    """What is worth a line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(str, Enum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """``{time, level, logger, message, ...}`` with every field that was given in ``extra=``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for each record, and below it, indented, what was raised. No text of a task can look like either."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}"
        below = self.formatException(record.exc_info).split("\n") if record.exc_info else ()
        return "\n".join([_visible(head), *(f"    {_visible(line)}" for line in below)])


def _visible(text: str) -> str:
    """Without line ends, colours and what else a terminal obeys: those are written out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def set_up(level: LogLevel, style: LogFormat) -> None:
    """Send all records of ``level`` and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=level.value.upper(), handlers=[handler], force=True)
