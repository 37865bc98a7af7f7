"""Settings of a client: arguments over environment over built-in values; checked once, then frozen."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fairchild.errors import ConfigError

URL_VARIABLE = "FAIRCHILD_DATABASE_URL"
SCHEMA_VARIABLE = "FAIRCHILD_SCHEMA"
TIMEOUT_VARIABLE = "FAIRCHILD_DEFAULT_TIMEOUT"
_SCHEMES = re.compile(r"^(postgres|postgresql|postgresql\+psycopg|postgresql\+psycopg2)://")
# Up to the last @, since a password that was not quoted may hold one.
_PASSWORD_IN_URL = re.compile(r"(://[^:/@\s]*):\S*@")
_PASSWORD_IN_DSN = re.compile(r"((?:password|passfile)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
_TWO_ATS = re.compile(r"^[^/]*//[^/?#]*@[^/?#]*@")
_LOGIN = re.compile(r"://[^:/@\s]*:(\S*)@")
_QUOTED = re.compile(r"\"([^\"]+)\"")
MAX_IDENTIFIER_BYTES = 63


@dataclass(frozen=True)
class Limits:
    """How far a workflow may grow. A task that calls itself without end is stopped by one of them."""

    max_depth: int = 64
    """Levels of jobs below the root."""
    max_children: int = 100_000
    """Tasks that one attempt may call."""
    max_descendants: int = 1_000_000
    """Jobs below the root, of all levels."""

    @staticmethod
    def load(environment: Mapping[str, str], **given: int | None) -> Limits:
        """Arguments over ``FAIRCHILD_MAX_DEPTH`` and the like. Raises ConfigError for what is no positive number."""
        values = {}
        for name, value in given.items():
            variable = f"FAIRCHILD_{name.upper()}"
            text = environment.get(variable)
            chosen: object = text if value is None else value
            if chosen is None or chosen == "":
                continue
            try:
                values[name] = int(str(chosen))
            except ValueError:
                values[name] = 0
            most = 32_000 if name == "max_depth" else 2**31 - 1
            if not 1 <= values[name] <= most:
                what = variable if value is None else name
                raise ConfigError(f"{what} must be a whole number from 1 to {most:,}, got {chosen!r}")
        return Limits(**values)


def hide_password(text: str) -> str:
    """``text`` with the passwords of any URL or connection string in it replaced by ``***``."""
    return _PASSWORD_IN_DSN.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1:***@", text))


def hide_parts(text: str, url: str) -> str:
    """``text``, a complaint about ``url``, without what it quotes of that URL's password.

    A password with characters that should have been percent-encoded is cut at those, and libpq quotes the piece that it
    took for a port or a parameter.
    """
    found = _LOGIN.search(url)
    secret = found.group(1) if found else ""
    hidden = _QUOTED.sub(lambda piece: '"***"' if piece.group(1) in secret else piece.group(), text)
    return hide_password(hidden)


@dataclass(frozen=True)
class Config:
    """Where the tables are and how much may be used."""

    url: str
    schema: str | None = None
    pool_size: int = 10
    max_payload_bytes: int = 1024 * 1024
    pooler: bool | None = None
    """The URL leads through a pooler in transaction mode: no prepared statements, no session state. None: find out."""
    limits: Limits = Limits()
    default_timeout: float | None = None
    """Seconds that an attempt may take that has no time limit of its own, in workers of this client. None: any time."""

    def __repr__(self) -> str:
        return f"Config(url={hide_password(self.url)!r}, schema={self.schema!r}, pool_size={self.pool_size})"

    @staticmethod
    def load(
        url: str | None = None,
        *,
        schema: str | None = None,
        pool_size: int = 10,
        max_payload_bytes: int | None = None,
        pooler: bool | None = None,
        max_depth: int | None = None,
        max_children: int | None = None,
        max_descendants: int | None = None,
        default_timeout: float | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """The settings in force. Raises ConfigError, with what to set, when there is no database to go to."""
        environment = os.environ if environ is None else environ
        chosen = url if url is not None else environment.get(URL_VARIABLE)
        if not chosen:
            if not any(environment.get(name) for name in ("PGHOST", "PGDATABASE", "PGSERVICE", "PGHOSTADDR")):
                raise ConfigError(
                    f"no database is configured: set {URL_VARIABLE} (for example postgresql://localhost/myapp, "
                    "or embedded: for one that needs no installation) or pass a URL to Fairchild(...)"
                )
            chosen = "postgresql://"
        schema = schema if schema is not None else environment.get(SCHEMA_VARIABLE) or None
        if schema is not None:
            check_identifier("schema", schema)
        if pool_size < 1:
            raise ConfigError(f"pool_size must be at least 1, got {pool_size}")
        limit = 1024 * 1024 if max_payload_bytes is None else max_payload_bytes
        if limit < 1:
            raise ConfigError(f"max_payload_bytes must be at least 1, got {limit}")
        limits = Limits.load(
            environment, max_depth=max_depth, max_children=max_children, max_descendants=max_descendants
        )
        given = default_timeout if default_timeout is not None else environment.get(TIMEOUT_VARIABLE) or None
        return Config(normalize_url(chosen), schema, pool_size, limit, pooler, limits, _seconds(given))


def _seconds(given: float | str | None) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"default_timeout ({TIMEOUT_VARIABLE}) is a positive number of seconds, got {given!r}")
    return seconds


def normalize_url(url: str) -> str:
    """A URL that libpq understands; ``embedded:`` URLs and ``key=value`` strings pass as they are."""
    if url.startswith("embedded:"):
        return url
    if _SCHEMES.match(url):
        if _TWO_ATS.match(url):  # libpq would take a part of the password for the host, and say it aloud
            raise ConfigError("the database URL has more than one @ before its path: write one in a password as %40")
        return _SCHEMES.sub("postgresql://", url, count=1)
    if "://" not in url and "=" in url:
        return url
    scheme = url.split(":", 1)[0] if ":" in url else url
    raise ConfigError(
        f"the database URL must start with postgresql://, postgres:// or embedded:, not {hide_password(scheme)!r}"
    )


def check_identifier(what: str, name: str) -> None:
    """Raise ConfigError unless ``name`` can be an SQL identifier (1 to 63 bytes, no NUL)."""
    size = len(name.encode("utf-8", "replace"))
    if not 1 <= size <= MAX_IDENTIFIER_BYTES or "\x00" in name:
        raise ConfigError(f"the {what} must have 1 to {MAX_IDENTIFIER_BYTES} bytes and no NUL, got {name[:80]!r}")
