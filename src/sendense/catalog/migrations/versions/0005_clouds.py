"""Clouds, what they have, what changed there, and tenants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

_ID = sa.String(length=64)
_NAME = sa.String(length=255)
_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _cloud()
    _cloud_object()
    _cloud_instance()
    _cloud_change()
    _tenant()
    op.add_column(
        "instance",
        sa.Column("from_cloud", sa.Boolean(), server_default=sa.false(), nullable=False),
    )


def _cloud() -> None:
    op.create_table(
        "cloud",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ca_pem", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("state", _JSON, nullable=False),
        sa.Column("signing_keys", sa.LargeBinary(), nullable=False),
        sa.Column("restore_keys", sa.LargeBinary()),
        sa.Column("webhook_secret", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_cloud"),
        sa.UniqueConstraint("name", name="uq_cloud_name"),
    )


def _cloud_object() -> None:
    op.create_table(
        "cloud_object",
        sa.Column("cloud_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("zone_id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("value", _JSON, nullable=False),
        sa.Column("digest", _ID, nullable=False),
        sa.Column("first_seen", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("gone_at", _TIME),
        sa.PrimaryKeyConstraint("cloud_id", "kind", "id", "zone_id", name="pk_cloud_object"),
        _of_cloud("cloud_object"),
    )
    op.create_index(
        "ix_cloud_object_cloud_id_kind_name_id_zone_id",
        "cloud_object",
        ["cloud_id", "kind", "name", "id", "zone_id"],
    )


def _cloud_instance() -> None:
    op.create_table(
        "cloud_instance",
        sa.Column("uuid", _ID, nullable=False),
        sa.Column("cloud_id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("display_name", _NAME, nullable=False),
        sa.Column("domain_name", _NAME, nullable=False),
        sa.Column("state", _NAME, nullable=False),
        sa.Column("zone_id", _ID, nullable=False),
        sa.Column("zone", _NAME, nullable=False),
        sa.Column("domain_id", _ID, nullable=False),
        sa.Column("domain_path", sa.Text(), nullable=False),
        sa.Column("account", _NAME, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("project", _NAME, nullable=False),
        sa.Column("offering", _NAME, nullable=False),
        sa.Column("host_id", _ID, nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("value", _JSON, nullable=False),
        sa.Column("digest", _ID, nullable=False),
        sa.Column("secrets", sa.LargeBinary()),
        sa.Column("first_seen", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("gone_at", _TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_cloud_instance"),
        _of_cloud("cloud_instance"),
    )
    table = "cloud_instance"
    op.create_index("ix_cloud_instance_name_uuid", table, ["name", "uuid"])
    op.create_index("ix_cloud_instance_cloud_id_name_uuid", table, ["cloud_id", "name", "uuid"])
    owner = ["cloud_id", "domain_path", "account", "project_id", "uuid"]
    op.create_index("ix_cloud_instance_owner", table, owner)


def _cloud_change() -> None:
    op.create_table(
        "cloud_change",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("cloud_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("object_id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("fields", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cloud_change"),
        _of_cloud("cloud_change"),
    )
    op.create_index("ix_cloud_change_cloud_id_id", "cloud_change", ["cloud_id", "id"])
    op.create_index("ix_cloud_change_object_id_id", "cloud_change", ["object_id", "id"])
    op.create_index("ix_cloud_change_at", "cloud_change", ["at"])


def _tenant() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("cloud_id", _ID, nullable=False),
        sa.Column("domain_path", sa.Text(), nullable=False),
        sa.Column("domain_id", _ID, nullable=False),
        sa.Column("account", _NAME, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("repository_id", _ID),
        sa.Column("quota_bytes", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
        sa.UniqueConstraint("name", name="uq_tenant_name"),
        _of_cloud("tenant"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_tenant_repository_id",
            ondelete="RESTRICT",
        ),
    )  # fmt: skip
    op.create_index("ix_tenant_cloud_id", "tenant", ["cloud_id"])
    op.create_index("ix_tenant_repository_id", "tenant", ["repository_id"])


def _of_cloud(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["cloud_id"], ["cloud.id"], name=f"fk_{table}_cloud_id", ondelete="CASCADE"
    )
