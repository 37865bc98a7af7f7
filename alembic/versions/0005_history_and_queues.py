"""What was counted and measured per minute, and what is set for a queue.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    at = sa.DateTime(timezone=True)

    op.create_table(
        "fairchild_minutes",
        sa.Column("minute", at, nullable=False, comment="or the hour, of what is older than two days"),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("inserted", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("completed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cancelled", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("waits", ARRAY(sa.BigInteger), comment="attempts by how long the job was available before"),
        sa.Column("runs", ARRAY(sa.BigInteger), comment="attempts by how long they ran"),
        schema=schema,
    )
    op.create_index("fairchild_minutes_by_minute", "fairchild_minutes", ["minute"], schema=schema)

    op.create_table(
        "fairchild_queues",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("paused_at", at),
        sa.PrimaryKeyConstraint("name", name="fairchild_queues_pkey"),
        schema=schema,
    )
    op.create_index(
        "fairchild_queues_paused",
        "fairchild_queues",
        ["name"],
        schema=schema,
        postgresql_where=sa.text("paused_at IS NOT NULL"),
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_table("fairchild_queues", schema=schema)
    op.drop_table("fairchild_minutes", schema=schema)
