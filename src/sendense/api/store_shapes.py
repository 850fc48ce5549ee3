"""Bodies about repositories, points and policies."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field, SecretStr

from sendense.api.shapes import Asked, Count, Id, LongText, Name, Priority, Seconds, Shape, Text
from sendense.model.decision import Mode
from sendense.model.hold import MOST_LETTERS, HoldKind
from sendense.model.periods import UTC
from sendense.model.point import Consistency, PointState
from sendense.model.policy import MatchRules, Policy, PolicyRules
from sendense.model.retention import KeepRules


class NewRepository(Asked):
    """A repository to be used."""

    name: Name = Field(examples=["vault"])
    url: LongText = Field(examples=["s3://backups/zone-1?endpoint=https://s3.example.net"])
    """Where it is: see `docs/stores.md`; it holds no secret."""
    passphrase: SecretStr | None = Field(default=None, max_length=1000)
    """Of a deduplicating repository; it is sealed, and never given out again."""
    credentials: dict[Name, SecretStr] = Field(default={}, max_length=20)
    """For its store, by the names in `docs/stores.md`; sealed, and never given out again."""
    create: bool = False
    """Make it, in a place that is empty; else it is there already."""


class RepositoryChange(Asked):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    url: LongText | None = None
    passphrase: SecretStr | None = Field(default=None, max_length=1000)
    credentials: dict[Name, SecretStr] | None = Field(default=None, max_length=20)


class RepositoryShape(Shape):
    """A repository; its secrets are not shown, only whether there are any."""

    id: str
    name: str
    url: str
    created_at: datetime
    has_passphrase: bool
    has_credentials: bool


class RepositoryInFull(RepositoryShape):
    """A repository, and what the catalogue knows of its content."""

    points: int
    machines: int
    stored_bytes: int


class RepositoryLook(Shape):
    """What a repository itself says."""

    location: str
    kind: str
    machines: int
    points: int
    stored_bytes: int
    free_bytes: int | None
    """Null where its store has no such bound."""


class Listed(Shape):
    """How many points a repository has."""

    points: int


class PointShape(Shape):
    """A recovery point in one repository."""

    id: str
    repository_id: str
    machine_uuid: str
    machine_name: str
    sequence: int
    taken_at: datetime
    mode: Mode
    consistency: Consistency
    state: PointState
    size: int
    """Virtual bytes of all disks."""
    read_bytes: int
    stored_bytes: int
    locked_until: datetime | None
    pinned: bool
    job_id: str | None
    safety: bool
    """Made of what a restore was about to overwrite, to undo that; never the latest good point."""


class PointInFull(PointShape):
    """A point, and where else it is."""

    repositories: list[str]
    """Ids of all repositories that have it."""


class PinAsked(Asked):
    """A pin."""

    note: Text = Field(default="", max_length=MOST_LETTERS, examples=["before the upgrade"])
    """Why, in one line."""


class LockAsked(PinAsked):
    """A lock."""

    until: AwareDatetime = Field(examples=["2034-12-31T00:00:00Z"])
    """Its end, later than that of a lock that is there."""


class HoldShape(Shape):
    """What keeps a point."""

    kind: HoldKind
    until: datetime | None
    """When a lock ends; null for a pin."""
    note: str
    made_at: datetime


class HeldPoint(Shape):
    """What keeps a point now, besides the rules."""

    id: str
    repository_id: str
    pinned: bool
    locked_until: datetime | None
    holds: list[HoldShape]
    """A pin, a lock, both or none."""


class Keep(Asked):
    """What is kept: a point stays if any of these keeps it."""

    last: Count = 0
    hourly: Count = 0
    daily: Count = Field(default=0, examples=[14])
    weekly: Count = Field(default=0, examples=[8])
    monthly: Count = 0
    yearly: Count = 0
    within_s: Seconds | None = None
    """All that are younger than so many seconds."""


class Match(Asked):
    """Which instances are taken: those of the list, and those that fit each kind that is given."""

    names: list[Name] = Field(default=[], max_length=100, examples=[["web-*"]])
    """Shell patterns, any of which may fit."""
    hosts: list[Id] = Field(default=[], max_length=1000)
    """Ids of hosts; none: all."""
    instances: list[Id] = Field(default=[], max_length=10_000)
    """UUIDs that are taken whatever else is said, save for `except_names`."""
    except_names: list[Name] = Field(default=[], max_length=100)
    clouds: list[Name] = Field(default=[], max_length=100)
    """Patterns of names of clouds, or their ids."""
    zones: list[Name] = Field(default=[], max_length=100)
    domains: list[Text] = Field(default=[], max_length=100, examples=[["ROOT/acme/*"]])
    """Patterns of the path of the owner's domain."""
    accounts: list[Name] = Field(default=[], max_length=100)
    projects: list[Name] = Field(default=[], max_length=100)
    tags: list[Text] = Field(default=[], max_length=100, examples=[["backup=daily"]])
    """`key` for any value, or `key=value`."""
    offerings: list[Name] = Field(default=[], max_length=100)
    except_tags: list[Text] = Field(default=[], max_length=100)


class PolicyAsked(Asked):
    """A policy as it is to be."""

    name: Name = Field(examples=["nightly"])
    enabled: bool = True
    repository_id: Id
    schedule: Text = Field(examples=["30 1 * * *"])
    """Five fields as of cron, in the policy's time zone."""
    timezone: Text = UTC
    keep: Keep
    match: Match
    consistency: Consistency = Consistency.FILESYSTEM
    full_every: Count = 0
    """Every how many points one is read in full; 0: only for a reason."""
    keep_bitmaps: bool = True
    """Without bitmaps each backup reads all data, and a VM snapshot with memory can be reverted at
    any time."""
    beside_cloudstack: bool = False
    """Also instances that CloudStack's own backup offering backs up; else they are refused."""
    window: Text | None = Field(default=None, examples=["22:00-06:00"])
    """Jobs begin only inside it."""
    blackout_dates: list[Text] = Field(default=[], max_length=366, examples=[["2026-12-24"]])
    jitter_s: Seconds = 0
    """Starts are spread over so many seconds."""
    sla_s: Seconds | None = Field(default=None, gt=0)
    """The newest good point may be so old."""
    priority: Priority = 0


class PolicyShape(PolicyAsked):
    """A policy."""

    id: str
    created_at: datetime
    updated_at: datetime


class Run(Shape):
    """A run that is to come."""

    due: datetime | None
    begins: datetime | None
    """When it may begin: after its jitter, and inside the window."""
    reason: str


class Matched(Shape):
    """An instance that a policy takes."""

    uuid: str
    name: str
    host_id: str | None
    cloud_name: str | None
    """As its owner sees it in its cloud; null where no cloud has it."""
    repository_id: str
    """Where its points go: to the policy's, or to that of its tenant."""
    why: str


class LeftOut(Shape):
    """A machine that a policy's rules fit, and that no policy takes."""

    uuid: str
    name: str
    host_id: str | None
    why: str


class Preview(Shape):
    """What a policy would do."""

    count: int
    """Of instances that it takes."""
    instances: list[Matched]
    """The first 100 of them by name."""
    left_out: list[LeftOut]
    """The first 100 machines that fit and are not taken, because CloudStack makes them for itself:
    system VMs, routers and console proxies."""
    next_run: Run


class RoundShape(Shape):
    """One due time of a policy, and what was made of it."""

    policy_id: str
    due: datetime
    at: datetime
    """When it was seen."""
    submitted: int
    """Backups that were made of it."""
    skipped: int
    """Instances whose run before still waited or ran."""
    missed: int
    """Due times before it that nobody saw."""
    late: bool
    """It was made up: nobody looked when it was due."""
    reason: str


def keep_rules(keep: Keep, timezone: str) -> KeepRules:
    """Read rules of retention."""
    within = None if keep.within_s is None else timedelta(seconds=keep.within_s)
    return KeepRules(**keep.model_dump(exclude={"within_s"}), within=within, timezone=timezone)


def rules_of(asked: PolicyAsked) -> PolicyRules:
    """Read the rules of a policy; :class:`~sendense.errors.Rejected` where they mean nothing."""
    return PolicyRules(
        repository_id=asked.repository_id,
        schedule=asked.schedule,
        keep=keep_rules(asked.keep, asked.timezone),
        match=MatchRules(**{kind: tuple(each) for kind, each in asked.match.model_dump().items()}),
        timezone=asked.timezone,
        consistency=asked.consistency,
        full_every=asked.full_every,
        keep_bitmaps=asked.keep_bitmaps,
        beside_cloudstack=asked.beside_cloudstack,
        window=asked.window,
        blackout_dates=tuple(asked.blackout_dates),
        jitter=timedelta(seconds=asked.jitter_s),
        sla=None if asked.sla_s is None else timedelta(seconds=asked.sla_s),
        priority=asked.priority,
    )


def policy_shape(policy: Policy) -> PolicyShape:
    """Describe a policy."""
    rules, keep, match = policy.rules, policy.rules.keep, policy.rules.match
    return PolicyShape(
        id=policy.id,
        created_at=policy.created_at,
        updated_at=policy.updated_at,
        name=policy.name,
        enabled=policy.enabled,
        repository_id=rules.repository_id,
        schedule=rules.schedule,
        timezone=rules.timezone,
        keep=Keep(
            last=keep.last,
            hourly=keep.hourly,
            daily=keep.daily,
            weekly=keep.weekly,
            monthly=keep.monthly,
            yearly=keep.yearly,
            within_s=None if keep.within is None else keep.within.total_seconds(),
        ),
        match=Match(**{field.name: list(getattr(match, field.name)) for field in fields(match)}),
        consistency=rules.consistency,
        full_every=rules.full_every,
        keep_bitmaps=rules.keep_bitmaps,
        beside_cloudstack=rules.beside_cloudstack,
        window=rules.window,
        blackout_dates=list(rules.blackout_dates),
        jitter_s=rules.jitter.total_seconds(),
        sla_s=None if rules.sla is None else rules.sla.total_seconds(),
        priority=rules.priority,
    )
