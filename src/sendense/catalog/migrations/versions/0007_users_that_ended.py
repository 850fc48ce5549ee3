"""By which account's end a user was disabled, so that it comes back with that account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the column."""
    op.add_column("app_user", sa.Column("ended_account", sa.String(length=64)))
