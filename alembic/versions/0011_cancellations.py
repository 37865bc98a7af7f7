"""Cancellations of large families, which workers end if nobody else does.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "fairchild_cancellations",
        sa.Column(
            "job_id",
            UUID(as_uuid=True),
            nullable=False,
            comment="who was cancelled, while what it has called still is being",
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_cancellations_pkey"),
        schema=op.get_context().version_table_schema,
    )


def downgrade() -> None:
    op.drop_table("fairchild_cancellations", schema=op.get_context().version_table_schema)
