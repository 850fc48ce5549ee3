"""Owners by ids: those of accounts, and of the domains above the one that has an instance.

What was known before has none of them.  The next whole look at its cloud fills them in.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_ID = sa.String(length=64)
_INDEX = "ix_cloud_instance_owner"


def upgrade() -> None:
    """Add the columns, and find owners by the ids of their domains."""
    for table, name, kind in (
        ("cloud_instance", "above", sa.Text()),
        ("cloud_instance", "account_id", _ID),
        ("tenant", "account_id", _ID),
    ):
        op.add_column(table, sa.Column(name, kind, server_default="", nullable=False))
    op.drop_index(_INDEX, "cloud_instance")
    owner = ["cloud_id", "domain_id", "account", "project_id", "uuid"]
    op.create_index(_INDEX, "cloud_instance", owner)
