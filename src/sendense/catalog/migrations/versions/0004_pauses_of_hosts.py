"""Until when a host is given no new work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the column."""
    op.add_column("host", sa.Column("paused_until", sa.DateTime(timezone=True)))
