"""Who paused a queue, how workers fare, errors that are muted, the last prune, and events besides those of jobs.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    at, now = sa.DateTime(timezone=True), sa.text("now()")
    op.add_column("fairchild_queues", sa.Column("paused_by", sa.Text, comment="who asked for the pause"), schema=schema)
    op.add_column(
        "fairchild_sessions",
        sa.Column("vitals", JSONB, comment="{rss, cpu, clock, error}: how its process was at its last beat"),
        schema=schema,
    )
    op.add_column(
        "fairchild_events",
        sa.Column("others", JSONB, comment="[{type, event, ...}, ...] of what is no job"),
        schema=schema,
    )
    op.create_table(
        "fairchild_muted",
        sa.Column("fingerprint", sa.Text, nullable=False, comment="of an error that nobody wants to be shown"),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", at, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("fingerprint", name="fairchild_muted_pkey"),
        schema=schema,
    )
    op.create_table(
        "fairchild_marks",
        sa.Column("name", sa.Text, nullable=False, comment="what was done last at this time: prune"),
        sa.Column("at", at, nullable=False, server_default=now),
        sa.Column("number", sa.BigInteger, nullable=False, server_default="0", comment="things that it changed"),
        sa.PrimaryKeyConstraint("name", name="fairchild_marks_pkey"),
        schema=schema,
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for table in ("fairchild_marks", "fairchild_muted"):
        op.drop_table(table, schema=schema)
    for table, column in (
        ("fairchild_events", "others"),
        ("fairchild_sessions", "vitals"),
        ("fairchild_queues", "paused_by"),
    ):
        op.drop_column(table, column, schema=schema)
