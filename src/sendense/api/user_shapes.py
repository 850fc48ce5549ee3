"""Bodies about users, tokens, the audit log, settings and the status."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from sendense.api.fleet_shapes import ProtectionShape
from sendense.api.shapes import Asked, Id, KnownUser, Name, Shape, Text, UserName
from sendense.model.access import ALL_SCOPES, Outcome, Role

Scope = Annotated[Literal[ALL_SCOPES], Field(examples=["jobs:write"])]  # type: ignore[valid-type]


class TenantScopeShape(Asked):
    """What a project, an account of a domain, or a domain with all below it owns in a cloud."""

    cloud_id: Id
    domain_path: Text = Field(default="", examples=["ROOT/acme"])
    domain_id: Id | Literal[""] = ""
    account: Text = ""
    """Name of one account in the domain; none: all in the domain and below it."""
    project_id: Id | Literal[""] = ""
    account_id: Id | Literal[""] = ""
    """Of that account: one that gets its name later is not meant."""

    model_config = Asked.model_config | {"from_attributes": True}


class GrantShape(Asked):
    """The instances of a tenant."""

    instances: list[Id] = Field(default=[], max_length=10_000)
    """UUIDs."""
    names: list[Name] = Field(default=[], max_length=100, examples=[["acme-*"]])
    """Patterns, with `*` and `?`; case matters."""
    tenants: list[TenantScopeShape] = Field(default=[], max_length=250)
    """All that these own in their clouds."""

    model_config = Asked.model_config | {"from_attributes": True}


class NewUser(Asked):
    """A user to be known."""

    name: UserName = Field(examples=["ada"])
    role: Role
    grant: GrantShape = GrantShape()
    """Of a tenant."""


class UserChange(Asked):
    """What is to be different; what is left out stays."""

    role: Role | None = None
    disabled: bool | None = None
    grant: GrantShape | None = None


class UserShape(Shape):
    """A user."""

    name: str
    called: str
    """What people call it: for one that came by the keys of a cloud `ROOT/acme/ann`, else its
    name."""
    role: Role
    created_at: datetime
    disabled: bool
    grant: GrantShape


class NewToken(Asked):
    """A token to be made; its user is whoever asks."""

    name: Name = Field(examples=["laptop"])
    """What it is for."""
    user: KnownUser | None = None
    """Of another user; administrators only."""
    role: Role | None = None
    """What it may do at most."""
    scopes: list[Scope] = Field(default=[], max_length=len(ALL_SCOPES))
    """None: all that the role may."""
    expires_in_s: Annotated[int, Field(ge=1, le=10 * 365 * 86400)] | None = None


class TokenShape(Shape):
    """A token, without what makes it valid."""

    id: str
    user: str
    name: str
    created_at: datetime
    role: Role | None
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None


class MadeToken(TokenShape):
    """A new token."""

    token: str
    """It is shown this once."""


class WhoShape(Shape):
    """Who asks."""

    user: str
    called: str
    """What people call this user."""
    role: Role
    """That counts for this token."""
    scopes: list[str]
    token_id: str


class AuditShape(Shape):
    """Something that somebody did, or was kept from doing."""

    id: int
    at: datetime
    who: str
    origin: str
    action: str
    subject: str
    outcome: Outcome
    detail: dict[str, Any]


class SettingValue(Asked):
    """The value of a setting: any JSON; no secret, for it is shown."""

    value: Any


class Resealed(Shape):
    """How many secrets were under another master key."""

    resealed: int


class GrowthShape(Shape):
    """Bytes that the points of the last days store."""

    day: int
    week: int
    month: int


class StatusShape(Shape):
    """The state of everything, a minute old at most."""

    at: datetime
    instances: dict[str, int]
    """Count by `protected`, `new`, `missed`, `failing`, `late`, `unprotected`."""
    clouds_own: int
    """Machines that CloudStack makes for itself: not in `instances`, and no policy takes them."""
    attention: list[ProtectionShape]
    """The first 100 that are not protected, the most urgent first; `/protection` has all."""
    hosts: dict[str, int]
    """Count by health."""
    jobs: dict[str, int]
    """Count of those that have not ended, by state."""
    points: int
    stored_bytes: int
    growth: GrowthShape


class HealthShape(Shape):
    """That the server lives."""

    status: str
    version: str
    database: str
