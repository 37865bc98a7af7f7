"""Workflows composed outside of a job, and edges that only order.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COMMENT = "need: cancelled if it does not complete; any: deals with its failure; after: only comes later"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.add_column(
        "fairchild_jobs_base",
        sa.Column("composed", sa.Boolean, comment="true: root of a workflow made outside of a job, with no function"),
        schema=schema,
    )
    op.alter_column("fairchild_edges", "policy", comment=COMMENT, schema=schema)
    op.drop_constraint("fairchild_edges_policy", "fairchild_edges", schema=schema)
    op.create_check_constraint(
        "fairchild_edges_policy", "fairchild_edges", "policy IN ('need', 'any', 'after')", schema=schema
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    edges = sa.table("fairchild_edges", sa.column("policy"), schema=schema)
    op.execute(edges.update().where(edges.c.policy == "after").values(policy="any"))
    op.drop_constraint("fairchild_edges_policy", "fairchild_edges", schema=schema)
    op.create_check_constraint("fairchild_edges_policy", "fairchild_edges", "policy IN ('need', 'any')", schema=schema)
    op.alter_column("fairchild_edges", "policy", comment=None, schema=schema)
    op.drop_column("fairchild_jobs_base", "composed", schema=schema)
