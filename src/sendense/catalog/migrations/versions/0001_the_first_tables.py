"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_ID = sa.String(length=64)
_NAME = sa.String(length=255)
_TIME = sa.DateTime(timezone=True)
_MEMBER = sa.String(length=32)
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Make them; what others refer to comes first."""
    _app_user()
    _audit_entry()
    _host()
    _job()
    _reply()
    _repository()
    _secret()
    _setting()
    _instance()
    _point()
    _policy()
    _token()


def _app_user() -> None:
    op.create_table(
        "app_user",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("role", _MEMBER, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("grant", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_app_user"),
    )


def _audit_entry() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("who", _NAME, nullable=False),
        sa.Column("origin", _NAME, nullable=False),
        sa.Column("action", _NAME, nullable=False),
        sa.Column("subject", _NAME, nullable=False),
        sa.Column("outcome", _MEMBER, nullable=False),
        sa.Column("detail", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entry"),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"])
    op.create_index("ix_audit_entry_subject_id", "audit_entry", ["subject", "id"])
    op.create_index("ix_audit_entry_who_id", "audit_entry", ["who", "id"])


def _host() -> None:
    op.create_table(
        "host",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("transport", _MEMBER, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("control_port", sa.Integer()),
        sa.Column("data_ports", _JSON, nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("enrolled_at", _TIME),
        sa.Column("revoked_at", _TIME),
        sa.Column("heartbeat", _JSON),
        sa.Column("last_seen", _TIME),
        sa.Column("version", _ID, nullable=False),
        sa.Column("ticket_secret", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_host"),
        sa.UniqueConstraint("control_port", name="uq_host_control_port"),
        sa.UniqueConstraint("name", name="uq_host_name"),
    )


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", _MEMBER, nullable=False),
        sa.Column("subject", _NAME, nullable=False),
        sa.Column("content", _JSON, nullable=False),
        sa.Column("state", _MEMBER, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("requested_by", _NAME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("host_id", _ID),
        sa.Column("repository_id", _ID),
        sa.Column("policy_id", _ID),
        sa.Column("not_before", _TIME),
        sa.Column("started_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("progress", _JSON),
        sa.Column("result", _JSON),
        sa.Column("failure", _JSON),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_created_at_id", "job", ["created_at", "id"])
    op.create_index("ix_job_host_id_created_at_id", "job", ["host_id", "created_at", "id"])
    op.create_index("ix_job_kind_created_at_id", "job", ["kind", "created_at", "id"])
    op.create_index("ix_job_newest", "job", ["kind", "subject", "finished_at", "state"])
    op.create_index("ix_job_policy_id_created_at_id", "job", ["policy_id", "created_at", "id"])
    op.create_index("ix_job_state_created_at_id", "job", ["state", "created_at", "id"])
    op.create_index("ix_job_subject_created_at_id", "job", ["subject", "created_at", "id"])


def _reply() -> None:
    op.create_table(
        "reply",
        sa.Column("user", _NAME, nullable=False),
        sa.Column("key", _NAME, nullable=False),
        sa.Column("request_hash", _ID, nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", _JSON),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user", "key", name="pk_reply"),
    )
    op.create_index("ix_reply_expires_at", "reply", ["expires_at"])


def _repository() -> None:
    op.create_table(
        "repository",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("passphrase", sa.LargeBinary()),
        sa.Column("credentials", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_repository"),
        sa.UniqueConstraint("name", name="uq_repository_name"),
    )


def _secret() -> None:
    op.create_table(
        "secret",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secret"),
    )


def _setting() -> None:
    op.create_table(
        "setting",
        sa.Column("key", _NAME, nullable=False),
        sa.Column("value", _JSON, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_setting"),
    )


def _instance() -> None:
    op.create_table(
        "instance",
        sa.Column("uuid", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("host_id", _ID),
        sa.Column("power", _MEMBER, nullable=False),
        sa.Column("machine", _JSON, nullable=False),
        sa.Column("first_seen", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("gone_at", _TIME),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.id"], name="fk_instance_host_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("uuid", name="pk_instance"),
    )
    op.create_index("ix_instance_host_id_name_uuid", "instance", ["host_id", "name", "uuid"])
    op.create_index("ix_instance_name_uuid", "instance", ["name", "uuid"])


def _point() -> None:
    op.create_table(
        "point",
        sa.Column("id", _ID, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("machine_uuid", _ID, nullable=False),
        sa.Column("machine_name", _NAME, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", _TIME, nullable=False),
        sa.Column("mode", _MEMBER, nullable=False),
        sa.Column("consistency", _MEMBER, nullable=False),
        sa.Column("state", _MEMBER, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("read_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("locked_until", _TIME),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("job_id", _ID),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_point_repository_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", "repository_id", name="pk_point"),
    )
    op.create_index("ix_point_growth", "point", ["taken_at", "stored_bytes"])
    op.create_index("ix_point_holding", "point", ["repository_id", "machine_uuid", "stored_bytes"])
    op.create_index(
        "ix_point_machine_name_taken_at_id_repository_id",
        "point",
        ["machine_name", "taken_at", "id", "repository_id"],
    )
    op.create_index(
        "ix_point_machine_uuid_taken_at_id_repository_id",
        "point",
        ["machine_uuid", "taken_at", "id", "repository_id"],
    )
    op.create_index("ix_point_newest", "point", ["state", "machine_uuid", "taken_at"])
    op.create_index(
        "ix_point_repository_id_taken_at_id", "point", ["repository_id", "taken_at", "id"]
    )
    op.create_index(
        "ix_point_taken_at_id_repository_id", "point", ["taken_at", "id", "repository_id"]
    )


def _policy() -> None:
    op.create_table(
        "policy",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("rules", _JSON, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name="fk_policy_repository_id",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_policy"),
        sa.UniqueConstraint("name", name="uq_policy_name"),
    )
    op.create_index("ix_policy_repository_id", "policy", ["repository_id"])


def _token() -> None:
    op.create_table(
        "token",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("role", _MEMBER),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("last_used_at", _TIME),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"], ["app_user.name"], name="fk_token_user", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
    )
    op.create_index("ix_token_user_created_at_id", "token", ["user", "created_at", "id"])
