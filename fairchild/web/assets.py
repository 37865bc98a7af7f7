"""The static files: read once, compressed once, and named by what is in them, so that they may be kept for ever."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from flask import Response, request

from fairchild.web.problems import Problem

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
KEEP = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """One file, as it is and compressed."""

    kind: str
    plain: bytes
    packed: bytes


class Assets:
    """All files of ``static/``. ``digest`` changes when any of them does."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}
        whole = hashlib.sha256()
        for entry in sorted(files("fairchild.web").joinpath("static").iterdir(), key=lambda each: each.name):
            ending = entry.name.rpartition(".")[2]
            if ending in TYPES:
                plain = entry.read_bytes()
                whole.update(plain)
                self._files[entry.name] = Asset(TYPES[ending], plain, gzip.compress(plain, mtime=0))
        self.digest = whole.hexdigest()[:12]

    def names(self) -> list[str]:
        """The names of all files."""
        return list(self._files)

    def text(self, name: str) -> str:
        """What is in a file."""
        return self._files[name].plain.decode()

    def answer(self, digest: str, name: str) -> Response:
        """A file. One of another release is answered with what there is now, to be asked for again."""
        found = self._files.get(name)
        if found is None:
            raise Problem(404, "there is no such file")
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        response = Response(found.packed if packed else found.plain, content_type=found.kind)
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = KEEP if digest == self.digest else "no-cache"
        return response
