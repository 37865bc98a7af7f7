"""Arguments that are hidden, and in the audit log what was before, what after, and in which request.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.create_table(
        "fairchild_redactions",
        sa.Column("task", sa.Text, nullable=False, comment="a task's name or alias"),
        sa.Column("path", sa.Text, nullable=False, comment="the dotted path of an argument that nobody is shown"),
        sa.PrimaryKeyConstraint("task", "path", name="fairchild_redactions_pkey"),
        schema=schema,
    )
    op.add_column("fairchild_audit", sa.Column("request_id", sa.Text), schema=schema)
    op.add_column("fairchild_audit", sa.Column("before", JSONB, comment="what it was, where it was one"), schema=schema)
    op.add_column("fairchild_audit", sa.Column("after", JSONB, comment="what it became"), schema=schema)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for column in ("after", "before", "request_id"):
        op.drop_column("fairchild_audit", column, schema=schema)
    op.drop_table("fairchild_redactions", schema=schema)
