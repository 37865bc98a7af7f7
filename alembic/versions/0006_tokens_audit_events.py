"""API tokens, who did what, and the log of events for those who listen.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    uuid, at = UUID(as_uuid=True), sa.DateTime(timezone=True)
    now = sa.text("now()")

    op.create_table(
        "fairchild_tokens",
        sa.Column("id", uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the secret, which is kept nowhere"),
        sa.Column("rights", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", at, nullable=False, server_default=now),
        sa.Column("expires_at", at),
        sa.Column("revoked_at", at),
        sa.PrimaryKeyConstraint("id", name="fairchild_tokens_pkey"),
        schema=schema,
    )
    op.create_index("fairchild_tokens_by_digest", "fairchild_tokens", ["digest"], schema=schema, unique=True)

    op.create_table(
        "fairchild_audit",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("at", at, nullable=False, server_default=now),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, server_default="1", comment="things that it changed"),
        sa.PrimaryKeyConstraint("id", name="fairchild_audit_pkey"),
        schema=schema,
    )

    op.create_table(
        "fairchild_events",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("at", at, nullable=False, server_default=now),
        sa.Column("jobs", JSONB, nullable=False, comment="[[id, event], ...] of one statement"),
        sa.PrimaryKeyConstraint("seq", name="fairchild_events_pkey"),
        schema=schema,
    )
    op.create_table(
        "fairchild_listeners",
        sa.Column("id", uuid, nullable=False),
        sa.Column("until", at, nullable=False),
        sa.PrimaryKeyConstraint("id", name="fairchild_listeners_pkey"),
        schema=schema,
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for name in ("listeners", "events", "audit", "tokens"):
        op.drop_table(f"fairchild_{name}", schema=schema)
