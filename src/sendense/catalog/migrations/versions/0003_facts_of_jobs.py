"""What a try of a job leaves for the next one to know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "job_fact",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("fact", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_job_fact"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="fk_job_fact_job_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_job_fact_job_id_number", "job_fact", ["job_id", "number"])
