"""Where a worker's threads were when somebody asked.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    at = sa.DateTime(timezone=True)
    for column in (
        sa.Column("stacks_asked_at", at, comment="somebody wants to know where its threads are"),
        sa.Column("stacks_at", at, comment="when it answered last"),
        sa.Column("stacks", JSONB, comment="[{name, job, task, attempt, note, frames}, ...]: the answer"),
    ):
        op.add_column("fairchild_sessions", column, schema=schema)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for name in ("stacks", "stacks_at", "stacks_asked_at"):
        op.drop_column("fairchild_sessions", name, schema=schema)
