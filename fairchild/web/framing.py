"""Where an HTTP request ends, told while it comes in. Pure.

It is a first look and no judgement: whoever reads the request afterwards takes it apart for itself and refuses what is
wrong. What is too long is said to have ended early, so that it can be refused.
"""

from __future__ import annotations

import re

MAX_HEAD = 64 * 1024
MAX_LINE = 1024
"""Of the size of a chunk, and of a line after the last one."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)


class Framing:
    """Told of a request piece by piece.

    ``cut_off``: it ends where it was said to only because it was too long. ``expects``: its sender waits for a word
    before the body.
    """

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._head: bytearray | None = bytearray()
        self._left = 0
        self._chunked = False
        self._line: bytearray | None = None
        self._last = False
        self._body = self._around = 0
        self.cut_off = False
        self.expects = False

    def feed(self, piece: bytes) -> int | None:
        """How many bytes of ``piece`` are the rest of the request; None: all, and it goes on."""
        start = 0
        if self._head is not None:
            end = self._take_head(piece)
            if end is None:
                return self._cut(piece) if len(self._head) > MAX_HEAD else None
            if not self._chunked and (self._left == 0 or self._left > self._max_body):
                self.cut_off = self._left > 0
                return end
            self.expects = self.expects and end == len(piece)
            start = end
        if not self._chunked:
            ended = self._left <= len(piece) - start
            end, self._left = start + self._left, self._left - (len(piece) - start)
            return end if ended else None
        return self._take_chunks(piece, start)

    def _take_head(self, piece: bytes) -> int | None:
        head = self._head
        assert head is not None
        before = len(head)
        head += piece
        found = head.find(b"\r\n\r\n", max(0, before - 3))
        if found < 0:
            return None
        whole = bytes(head[: found + 4])
        self._head = None
        self._chunked = _CHUNKED.search(whole) is not None
        length = _LENGTH.search(whole)
        self._left = int(length[1]) if length is not None else 0
        self.expects = _EXPECTS.search(whole) is not None
        if self._chunked:
            self._left, self._line = 0, bytearray()
        return len(whole) - before

    def _take_chunks(self, piece: bytes, at: int) -> int | None:
        while at < len(piece):
            if self._line is None:  # inside of a chunk, or of the end of line after it
                step = min(self._left, len(piece) - at)
                at, self._left, self._body = at + step, self._left - step, self._body + step
                if self._left == 0:
                    self._line = bytearray()
            else:
                end = piece.find(b"\n", at) + 1 or len(piece)
                self._line += piece[at:end]
                at, self._around = end, self._around + end - at
                if self._line.endswith(b"\n") and not self._end_line():
                    return at
            if self._body > self._max_body or self._around > self._max_body or len(self._line or b"") > MAX_LINE:
                return self._cut(piece)
        return None

    def _end_line(self) -> bool:
        """A line around the chunks is whole; whether more is to come."""
        line = bytes(self._line or b"").strip()
        if self._last:
            self._line = bytearray()
            return line != b""
        size = line.partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            self.cut_off = True
            return False
        self._left = int(size, 16) + 2
        self._last = self._left == 2
        self._line = bytearray() if self._last else None
        return True

    def _cut(self, piece: bytes) -> int:
        self.cut_off = True
        return len(piece)
