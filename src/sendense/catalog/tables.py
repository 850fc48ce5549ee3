"""The tables of the catalogue, as the code of this version sees them.

Columns are named as the fields of the dataclasses that they hold, so that a row is a value.  How a
database comes to have these tables is in ``migrations``; a test holds the two together.

Lists are read in the order of an index that ends in the primary key, so that a page is a range of
it however long the list is.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from sendense.catalog.columns import Encoded, Member, UtcTime
from sendense.model.access import Grant, Outcome, Role
from sendense.model.agent_status import Heartbeat
from sendense.model.cloud import CloudInstance, CloudKind, CloudState
from sendense.model.decision import Mode
from sendense.model.fleet import Transport
from sendense.model.job import JobFailure, JobKind, JobState
from sendense.model.machine import Machine, PowerState
from sendense.model.point import Consistency, PointState
from sendense.model.policy import PolicyRules

# Names of constraints are the same everywhere, so that migrations can name them.
METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
_ID = String(64)
_NAME = String(255)

HOSTS = Table(
    "host",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("address", _NAME, nullable=False),
    Column("transport", Member(Transport), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("control_port", Integer, unique=True),
    Column("data_ports", Encoded(tuple[int, ...]), nullable=False),
    Column("public_key", Text, nullable=False),
    Column("enrolled_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("heartbeat", Encoded(Heartbeat)),
    Column("last_seen", UtcTime),
    Column("version", String(64), nullable=False),
    Column("ticket_secret", LargeBinary),
    Column("paused_until", UtcTime),
)

INSTANCES = Table(
    "instance",
    METADATA,
    Column("uuid", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("host_id", _ID, ForeignKey("host.id", ondelete="SET NULL")),
    Column("power", Member(PowerState), nullable=False),
    Column("machine", Encoded(Machine), nullable=False),
    Column("first_seen", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("gone_at", UtcTime),
    # Its machine is made up from what a cloud says: no host has shown it yet.
    Column("from_cloud", Boolean, nullable=False, server_default=false()),
    Index(None, "name", "uuid"),
    Index(None, "host_id", "name", "uuid"),
)

REPOSITORIES = Table(
    "repository",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("passphrase", LargeBinary),
    Column("credentials", LargeBinary),
)

# The same point may be in several repositories: a copy keeps its id.
POINTS = Table(
    "point",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("repository_id", _ID, ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True),
    Column("machine_uuid", _ID, nullable=False),
    Column("machine_name", _NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("taken_at", UtcTime, nullable=False),
    Column("mode", Member(Mode), nullable=False),
    Column("consistency", Member(Consistency), nullable=False),
    Column("state", Member(PointState), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("locked_until", UtcTime),
    Column("pinned", Boolean, nullable=False),
    Column("job_id", _ID),
    Column("safety", Boolean, nullable=False, server_default=false()),
    # When this row was written: a listing that began before does not know the point.
    Column("recorded_at", UtcTime, nullable=False),
    Index(None, "taken_at", "id", "repository_id"),
    Index(None, "machine_uuid", "taken_at", "id", "repository_id"),
    Index(None, "machine_name", "taken_at", "id", "repository_id"),
    Index(None, "repository_id", "taken_at", "id"),
    # What the status and the growth are counted from, without a look at the rows.
    Index("ix_point_newest", "state", "safety", "machine_uuid", "taken_at"),
    Index("ix_point_growth", "taken_at", "stored_bytes"),
    Index("ix_point_holding", "repository_id", "machine_uuid", "stored_bytes"),
)

POLICIES = Table(
    "policy",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("rules", Encoded(PolicyRules), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # As in the rules; here the database keeps a repository that is used from being removed.
    Column("repository_id", _ID, ForeignKey("repository.id", ondelete="RESTRICT"), nullable=False),
    Index(None, "repository_id"),
)

JOBS = Table(
    "job",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("kind", Member(JobKind), nullable=False),
    Column("subject", _NAME, nullable=False),
    Column("content", Encoded(), nullable=False),
    Column("state", Member(JobState), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("requested_by", _NAME, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # No foreign keys: a job tells what it worked on also after that was removed.
    Column("host_id", _ID),
    Column("repository_id", _ID),
    Column("policy_id", _ID),
    Column("not_before", UtcTime),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("progress", Encoded()),
    Column("result", Encoded()),
    Column("failure", Encoded(JobFailure)),
    Column("cancel_requested", Boolean, nullable=False),
    Index(None, "created_at", "id"),
    Index(None, "state", "created_at", "id"),
    Index(None, "kind", "created_at", "id"),
    Index(None, "subject", "created_at", "id"),
    Index(None, "policy_id", "created_at", "id"),
    Index(None, "host_id", "created_at", "id"),
    Index("ix_job_newest", "kind", "subject", "finished_at", "state"),
)

JOB_FACTS = Table(
    "job_fact",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job_id", _ID, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("fact", Encoded(), nullable=False),
    Index(None, "job_id", "number"),
)

USERS = Table(
    "app_user",  # `user` is a word of PostgreSQL's SQL
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("role", Member(Role), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("grant", Encoded(Grant), nullable=False),
    # Of a cloud, whose end disabled it; nothing where somebody decided on it since.
    Column("ended_account", _ID),
)

TOKENS = Table(
    "token",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("user", _NAME, ForeignKey("app_user.name", ondelete="CASCADE"), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("role", Member(Role)),
    Column("scopes", Encoded(tuple[str, ...]), nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("secret_hash", LargeBinary, nullable=False),
    Index(None, "user", "created_at", "id"),
)

AUDIT = Table(
    "audit_entry",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("origin", _NAME, nullable=False),
    Column("action", _NAME, nullable=False),
    Column("subject", _NAME, nullable=False),
    Column("outcome", Member(Outcome), nullable=False),
    Column("detail", Encoded(), nullable=False),
    Index(None, "who", "id"),
    Index(None, "subject", "id"),
    Index(None, "at"),
)

SECRETS = Table(
    "secret",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

SETTINGS = Table(
    "setting",
    METADATA,
    Column("key", _NAME, primary_key=True),
    Column("value", Encoded(), nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

REPLIES = Table(
    "reply",
    METADATA,
    Column("user", _NAME, primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer),
    Column("body", Encoded()),
    Column("expires_at", UtcTime, nullable=False),
    Index(None, "expires_at"),
)

CLOUDS = Table(
    "cloud",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("endpoint", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("ca_pem", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("state", Encoded(CloudState), nullable=False),
    Column("signing_keys", LargeBinary, nullable=False),
    Column("restore_keys", LargeBinary),
    Column("webhook_secret", LargeBinary),
)

# A template has one id in all of its zones.
CLOUD_OBJECTS = Table(
    "cloud_object",
    METADATA,
    Column("cloud_id", _ID, ForeignKey("cloud.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Member(CloudKind), primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("zone_id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("value", Encoded(), nullable=False),
    # Of the value: what did not change is not read.
    Column("digest", _ID, nullable=False),
    Column("first_seen", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("gone_at", UtcTime),
    Index(None, "cloud_id", "kind", "name", "id", "zone_id"),
)

CLOUD_INSTANCES = Table(
    "cloud_instance",
    METADATA,
    Column("uuid", _ID, primary_key=True),
    Column("cloud_id", _ID, ForeignKey("cloud.id", ondelete="CASCADE"), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("display_name", _NAME, nullable=False),
    Column("domain_name", _NAME, nullable=False),
    Column("state", _NAME, nullable=False),
    Column("zone_id", _ID, nullable=False),
    Column("zone", _NAME, nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("domain_path", Text, nullable=False),
    # ``/id/id/``: of the domains above it, as its cloud's tree was when it was seen last.
    Column("above", Text, nullable=False, server_default=""),
    Column("account", _NAME, nullable=False),
    # Empty where the key may not list accounts.
    Column("account_id", _ID, nullable=False, server_default=""),
    Column("project_id", _ID, nullable=False),
    Column("project", _NAME, nullable=False),
    Column("offering", _NAME, nullable=False),
    # CloudStack's, which is none of ours.
    Column("host_id", _ID, nullable=False),
    # ``&key=value&key=value&``, each quoted as in a URL, so that a pattern finds it.
    Column("tags", Text, nullable=False),
    Column("value", Encoded(CloudInstance), nullable=False),
    Column("digest", _ID, nullable=False),
    Column("secrets", LargeBinary),
    Column("first_seen", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("gone_at", UtcTime),
    Index(None, "name", "uuid"),
    Index(None, "cloud_id", "name", "uuid"),
    # Whose it is: what a tenant may see is found without a look at the rows.
    Index("ix_cloud_instance_owner", "cloud_id", "domain_id", "account", "project_id", "uuid"),
)

CLOUD_CHANGES = Table(
    "cloud_change",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("cloud_id", _ID, ForeignKey("cloud.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("object_id", _ID, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("what", String(32), nullable=False),
    Column("fields", Encoded(dict[str, tuple[str, str]]), nullable=False),
    Index(None, "cloud_id", "id"),
    Index(None, "object_id", "id"),
    Index(None, "at"),
)

TENANTS = Table(
    "tenant",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("cloud_id", _ID, ForeignKey("cloud.id", ondelete="CASCADE"), nullable=False),
    Column("domain_path", Text, nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("account", _NAME, nullable=False),
    Column("project_id", _ID, nullable=False),
    Column("account_id", _ID, nullable=False, server_default=""),
    Column("repository_id", _ID, ForeignKey("repository.id", ondelete="RESTRICT")),
    Column("quota_bytes", BigInteger),
    Index(None, "cloud_id"),
    Index(None, "repository_id"),
)

SEALED = (
    (CLOUDS, CLOUDS.c.id, CLOUDS.c["signing_keys"]),
    (CLOUDS, CLOUDS.c.id, CLOUDS.c.restore_keys),
    (CLOUDS, CLOUDS.c.id, CLOUDS.c.webhook_secret),
    (CLOUD_INSTANCES, CLOUD_INSTANCES.c.uuid, CLOUD_INSTANCES.c.secrets),
    (HOSTS, HOSTS.c.id, HOSTS.c.ticket_secret),
    (REPOSITORIES, REPOSITORIES.c.id, REPOSITORIES.c.passphrase),
    (REPOSITORIES, REPOSITORIES.c.id, REPOSITORIES.c.credentials),
    (SECRETS, SECRETS.c.name, SECRETS.c.value),
)
"""Every column that holds a sealed secret, with its table and the key of its rows."""

WORKERS = Table(
    "worker",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("incarnation", _ID, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("flows", String(32), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

RUNS = Table(
    "job_run",
    METADATA,
    Column("job_id", _ID, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("take", Integer, nullable=False),
    Column("workflow_id", _ID, nullable=False),
    # No foreign key: a run outlives a worker that was removed.
    Column("worker", _NAME, nullable=False),
    Column("incarnation", _ID, nullable=False),
    Column("placed_at", UtcTime, nullable=False),
    Column("begun_at", UtcTime),
    Column("beat", BigInteger, nullable=False),
)

ATTEMPTS = Table(
    "job_attempt",
    METADATA,
    Column("job_id", _ID, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", _NAME, nullable=False),
    Column("takes", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime, nullable=False),
    Column("failure", Encoded(JobFailure)),
    Column("then", Text, nullable=False),
)

# Who of several processes does what only one may do at a time.
TURNS = Table(
    "turn",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("holder", _ID, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

ROUNDS = Table(
    "policy_round",
    METADATA,
    Column("policy_id", _ID, ForeignKey("policy.id", ondelete="CASCADE"), primary_key=True),
    Column("due", UtcTime, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("submitted", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)
