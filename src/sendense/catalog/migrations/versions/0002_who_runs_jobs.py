"""Who runs jobs, what became of attempts, and which due times of policies were dealt with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

_ID = sa.String(length=64)
_NAME = sa.String(length=255)
_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    _worker()
    _job_run()
    _job_attempt()
    _turn()
    _policy_round()


def _worker() -> None:
    op.create_table(
        "worker",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("incarnation", _ID, nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("flows", sa.String(length=32), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )


def _job_run() -> None:
    op.create_table(
        "job_run",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("take", sa.Integer(), nullable=False),
        sa.Column("workflow_id", _ID, nullable=False),
        sa.Column("worker", _NAME, nullable=False),
        sa.Column("incarnation", _ID, nullable=False),
        sa.Column("placed_at", _TIME, nullable=False),
        sa.Column("begun_at", _TIME),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_run"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="fk_job_run_job_id", ondelete="CASCADE"
        ),
    )


def _job_attempt() -> None:
    op.create_table(
        "job_attempt",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", _NAME, nullable=False),
        sa.Column("takes", sa.Integer(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=False),
        sa.Column("failure", _JSON),
        sa.Column("then", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt", name="pk_job_attempt"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="fk_job_attempt_job_id", ondelete="CASCADE"
        ),
    )


def _turn() -> None:
    op.create_table(
        "turn",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("holder", _ID, nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_turn"),
    )


def _policy_round() -> None:
    op.create_table(
        "policy_round",
        sa.Column("policy_id", _ID, nullable=False),
        sa.Column("due", _TIME, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("submitted", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("policy_id", "due", name="pk_policy_round"),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policy.id"], name="fk_policy_round_policy_id", ondelete="CASCADE"
        ),
    )
