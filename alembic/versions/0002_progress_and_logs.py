"""What attempts note while they run: progress, a cursor, lines of log.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, UUID

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    uuid, moment = UUID(as_uuid=True), sa.DateTime(timezone=True)
    op.create_table(
        "fairchild_progress",
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("value", DOUBLE_PRECISION),
        sa.Column("total", DOUBLE_PRECISION),
        sa.Column("message", sa.Text),
        sa.Column("cursor", JSONB, comment="what the next attempt goes on from"),
        sa.Column("at", moment, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("job_id", name="fairchild_progress_pkey"),
        schema=schema,
    )
    op.create_table(
        "fairchild_logs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False, comment="as in Python's logging: 20 is info"),
        sa.Column("logger", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("fields", JSONB),
        sa.PrimaryKeyConstraint("id", name="fairchild_logs_pkey"),
        schema=schema,
    )
    op.create_index("fairchild_logs_by_job", "fairchild_logs", ["job_id", "id"], schema=schema)
    prefix = "" if schema is None else '"' + schema.replace('"', '""') + '".'
    op.execute(sa.text(f"ALTER TABLE {prefix}fairchild_progress SET (fillfactor = 50)".replace(":", r"\:")))


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_table("fairchild_logs", schema=schema)
    op.drop_table("fairchild_progress", schema=schema)
