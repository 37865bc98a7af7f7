"""``fc.tokens``: secrets for programs that use the HTTP API."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from fairchild.db import tokens
from fairchild.db.tokens import Token
from fairchild.errors import UsageError
from fairchild.ids import uuid7
from fairchild.rules.rights import granted
from fairchild.tasks import check_seconds, check_text

if TYPE_CHECKING:
    from fairchild.client.client import Fairchild

__all__ = ["PREFIX", "Token", "Tokens"]

PREFIX = "fct_"
FIND_SECONDS = 2.0
"""For the look that comes before everything else, and that everybody can have made."""


class Tokens:
    """A token has a name for people and rights for the API (fairchild/rules/rights.py). Its secret is shown once."""

    def __init__(self, client: Fairchild) -> None:
        self._client = client

    def create(
        self, name: str, rights: Iterable[str] = ("view",), expires: timedelta | float | None = None
    ) -> tuple[Token, str]:
        """A new token, and its secret, which is kept nowhere. ``expires``: after how long; None: never."""
        check_text("token name", name)
        given = [rights] if isinstance(rights, str) else list(rights)
        if not given:
            raise UsageError("a token without rights opens nothing; give some, such as view")
        try:
            granted(given)
        except ValueError as error:
            raise UsageError(f"{error}; no token was made") from None
        lasts = None if expires is None else check_seconds("expires", expires)
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._client.database.link() as link:
            return tokens.add_token(link, uuid7(), name, _digest(secret), given, lasts), secret

    def find(self, secret: str) -> Token | None:
        """The token of a secret; None if there is none, or it was revoked or has expired."""
        if not secret.startswith(PREFIX):
            return None
        with self._client.reading_within(FIND_SECONDS):
            return self._client.ask(lambda link: tokens.find_token(link, _digest(secret)))

    def list(self) -> list[Token]:
        """All of them, newest first."""
        return self._client.ask(tokens.list_tokens)

    def revoke(self, id: UUID | str) -> Token:
        """From now on it opens nothing. Raises UsageError if there is none of this id."""
        try:
            wanted = id if isinstance(id, UUID) else UUID(id)
        except ValueError:
            raise UsageError(f"{id!r} is not a token's id (a UUID); nothing was changed") from None
        with self._client.database.link() as link:
            revoked = tokens.revoke_token(link, wanted)
        if revoked is None:
            raise UsageError(f"no token has the id {id}; nothing was changed")
        return revoked


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
