"""API tokens. Of a secret only its SHA-256 is kept: it is 256 random bits, so nothing slower is needed."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

ADD_TOKEN = Sql(
    "add_token",
    """
INSERT INTO {tokens} (id, name, digest, rights, expires_at)
VALUES (%(id)s, %(name)s, %(digest)s, %(rights)s::text[],
        statement_timestamp() + %(lasts)s::float8 * interval '1 second')
RETURNING id, name, rights, created_at, expires_at, revoked_at""",
)
# Each request that carries one. Index fairchild_tokens_by_digest.
FIND_TOKEN = Sql(
    "find_token",
    """
SELECT id, name, rights, created_at, expires_at, revoked_at, digest FROM {tokens}
 WHERE digest = %(digest)s AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > statement_timestamp())""",
)
LIST_TOKENS = Sql(
    "list_tokens",
    "SELECT id, name, rights, created_at, expires_at, revoked_at FROM {tokens} ORDER BY created_at DESC LIMIT 1000",
)
REVOKE_TOKEN = Sql(
    "revoke_token",
    """
UPDATE {tokens} SET revoked_at = coalesce(revoked_at, statement_timestamp()) WHERE id = %(id)s
RETURNING id, name, rights, created_at, expires_at, revoked_at""",
)


class Token(NamedTuple):
    """What is known of a token. The secret is not."""

    id: UUID
    name: str
    rights: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def add_token(link: Link, id: UUID, name: str, digest: bytes, rights: list[str], lasts: float | None) -> Token:
    """Keep a token that expires after ``lasts`` seconds, or never."""
    params = {"id": id, "name": name, "digest": digest, "rights": rights, "lasts": lasts}
    return Token(*link.rows(ADD_TOKEN, params)[0])


def find_token(link: Link, digest: bytes) -> Token | None:
    """The token of a secret's digest, unless it was revoked or has expired."""
    for *token, kept in link.rows(FIND_TOKEN, {"digest": digest}):
        if hmac.compare_digest(bytes(kept), digest):
            return Token(*token)
    return None


def list_tokens(link: Link) -> list[Token]:
    """All of them, newest first."""
    return [Token(*row) for row in link.rows(LIST_TOKENS)]


def revoke_token(link: Link, id: UUID) -> Token | None:
    """From now on it opens nothing. None: there is no such token."""
    rows = link.rows(REVOKE_TOKEN, {"id": id})
    return Token(*rows[0]) if rows else None
