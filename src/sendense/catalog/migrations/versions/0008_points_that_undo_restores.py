"""Which points were made of what a restore was about to overwrite, to undo that.

Points that are known already count as others until their repository is listed anew: only what is
stored tells it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_INDEX = "ix_point_newest"


def upgrade() -> None:
    """Add the column, and have the newest good points found by it without a look at the rows."""
    op.add_column(
        "point", sa.Column("safety", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.drop_index(_INDEX, "point")
    op.create_index(_INDEX, "point", ["state", "safety", "machine_uuid", "taken_at"])
