"""Waiting jobs say their queue, workflow and group, so that they are counted without their jobs' rows.

Rows that are there already, and those that workers of an older release still write, stay without.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0009"
down_revision = "0008"

_COLUMNS = (("queue", sa.Text()), ("workflow_id", UUID(as_uuid=True)), ("group_key", sa.BigInteger()))


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    for name, kind in _COLUMNS:
        op.add_column("fairchild_waiting", sa.Column(name, kind), schema=schema)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for name, _ in reversed(_COLUMNS):
        op.drop_column("fairchild_waiting", name, schema=schema)
