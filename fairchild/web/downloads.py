"""Files that are read page by page while they are sent, for no longer than a request may take."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from flask import Response, copy_current_request_context

from fairchild import clock
from fairchild.client import Fairchild
from fairchild.errors import StoreError

log = logging.getLogger("fairchild.web")

SECONDS = 1.5
"""For which pages are read."""
Cursor = TypeVar("Cursor")


class Part(NamedTuple, Generic[Cursor]):
    """A page of a file, and where the next one begins; None at the end."""

    text: str
    cursor: Cursor | None


def download(
    fc: Fairchild,
    name: str,
    mimetype: str,
    read: Callable[[Cursor | None], Part[Cursor]],
    rest: Callable[[Cursor], str],
    cursor: Cursor | None = None,
) -> Response:
    """A file of this name. What the time was too short for is not in it: then ``rest`` is its last line and says so.

    Raises StoreError if the first page cannot be read.
    """
    end = clock.now() + SECONDS
    with fc.reading_within(SECONDS):
        first = read(cursor)
    # The request is over when the rest is read, and what may be shown depends on it. It comes back page by page:
    # over a whole file it would stay when nobody reads that to its end.
    read_on = copy_current_request_context(read)

    def parts() -> Iterator[str]:
        yield first.text
        at = first.cursor
        while at is not None and clock.now() < end:
            try:
                with fc.reading_within(end - clock.now()):
                    part = read_on(at)
            except StoreError as error:
                log.warning("%s was broken off: %s", name, error)
                break
            yield part.text
            at = part.cursor
        if at is not None:
            yield rest(at)

    answer = Response(parts(), content_type=f"{mimetype}; charset=utf-8")
    answer.headers.set("Content-Disposition", "attachment", filename=name)
    return answer
