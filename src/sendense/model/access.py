"""Who may do what in the control plane: users, roles, tokens, and the record of what was done."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Optional

from sendense.errors import Rejected
from sendense.model.cloud import CloudFacts


class Role(str, Enum):
    """What a user may do at most."""

    ADMIN = "admin"
    """Everything."""
    OPERATOR = "operator"
    """Runs and changes what is about backups; not users, tokens of others, settings."""
    VIEWER = "viewer"
    """Reads."""
    TENANT = "tenant"
    """Reads and restores the instances that were granted to it, and sees nothing else."""


_LOWER = (Role.ADMIN, Role.OPERATOR, Role.VIEWER)
"""Each may what the ones behind it may."""


def roles_below(role: Role) -> tuple[Role, ...]:
    """Give the roles that a token of somebody with ``role`` may have: its own and lower ones."""
    return (role,) if role is Role.TENANT else _LOWER[_LOWER.index(role) :]


def effective_role(role: Role, cap: Optional[Role]) -> Role:
    """Give the role that counts: the user's, or less where the token has less.

    A user may have been given less since the token was made; then that counts.
    """
    if cap is None or role is Role.TENANT or cap is Role.TENANT:
        return role if cap is None else Role.TENANT
    return max(role, cap, key=_LOWER.index)


class Area(str, Enum):
    """What a scope is about."""

    HOSTS = "hosts"
    CLOUDS = "clouds"
    TENANTS = "tenants"
    INSTANCES = "instances"
    REPOSITORIES = "repositories"
    POINTS = "points"
    POLICIES = "policies"
    JOBS = "jobs"
    USERS = "users"
    TOKENS = "tokens"
    AUDIT = "audit"
    SETTINGS = "settings"
    STATUS = "status"


READ, WRITE = "read", "write"
ALL_SCOPES = tuple(f"{area.value}:{access}" for area in Area for access in (READ, WRITE))


def scopes_cover(scopes: Collection[str], area: Area, access: str) -> bool:
    """Tell whether scopes allow something; none at all allow everything, to write is to read."""
    if not scopes:
        return True
    wanted = {f"{area.value}:{access}", f"{area.value}:{WRITE}"}
    return not wanted.isdisjoint(scopes)


def scopes_within(scopes: Collection[str], limit: Collection[str]) -> bool:
    """Tell whether scopes allow nothing that ``limit`` does not."""
    if not limit:
        return True
    if not scopes:
        return False
    return all(
        scopes_cover(limit, Area(area), access)
        for area, access in (scope.split(":") for scope in scopes)
    )


@dataclass(frozen=True)
class TenantScope:
    """Somebody of a cloud: a project, an account of a domain, or a domain with all below it.

    A project counts before an account, and that before the domain alone.
    """

    cloud_id: str
    domain_path: str = ""
    """``ROOT/customers/acme``."""
    domain_id: str = ""
    """Of the same domain, where it is known: it stays when the domain gets another name.  Then the
    path is only what people read."""
    account: str = ""
    """Name of one account in the domain; what projects own is not the account's."""
    project_id: str = ""
    account_id: str = ""
    """Of that account, where it is known: another one may get its name later."""

    def __post_init__(self) -> None:
        """Refuse what would cover a whole cloud by what is missing."""
        if not (self.domain_path or self.domain_id or self.project_id):
            raise Rejected(
                "a tenant of a cloud is a domain, an account of a domain, or a project",
                hint="give a domain or a project",
            )
        if self.account_id and not self.account:
            raise Rejected("an account's id goes with its name", hint="give the account too")

    def same_owner(self, other: TenantScope) -> bool:
        """Tell whether both are one project, one account, or one domain with all below it.

        By ids: a name is compared only where neither side has the id.  So who has the name of
        somebody that was is not taken for him.
        """
        if self.cloud_id != other.cloud_id:
            return False
        if self.project_id or other.project_id:
            return self.project_id == other.project_id
        if self.domain_id or other.domain_id:
            if self.domain_id != other.domain_id:
                return False
        elif self.domain_path != other.domain_path:
            return False
        if self.account_id or other.account_id:
            return self.account_id == other.account_id
        return self.account == other.account

    def covers(self, cloud: CloudFacts) -> bool:
        """Tell whether an instance belongs to it, as the catalogue's conditions do."""
        if cloud.cloud_id != self.cloud_id:
            return False
        if self.project_id:
            return cloud.project_id == self.project_id
        # By its id where that is known: another domain may have got its name since.
        itself = (
            cloud.domain_id == self.domain_id
            if self.domain_id
            else cloud.domain == self.domain_path
        )
        if self.account:
            return itself and not cloud.project_id and self._is_account_of(cloud)
        return itself or self._is_above(cloud)

    def _is_account_of(self, cloud: CloudFacts) -> bool:
        """Compare ids; what an account without one has is told by its name."""
        if self.account_id and cloud.account_id:
            return cloud.account_id == self.account_id
        return cloud.account == self.account

    def _is_above(self, cloud: CloudFacts) -> bool:
        """Tell whether an instance is in a domain below: by the tree, not by a path that was."""
        if self.domain_id:
            return f"/{self.domain_id}/" in cloud.above
        return bool(self.domain_path) and cloud.domain.startswith(f"{self.domain_path}/")


@dataclass(frozen=True)
class Grant:
    """The instances of a tenant."""

    instances: tuple[str, ...] = ()
    """UUIDs."""
    names: tuple[str, ...] = ()
    """Patterns, with ``*`` for any letters and ``?`` for one; case matters."""
    tenants: tuple[TenantScope, ...] = ()
    """All that these own in their clouds, also what a cloud has no longer."""

    def covers(self, uuid: str, name: str, cloud: Optional[CloudFacts] = None) -> bool:
        """Tell whether an instance is among them, as the catalogue's conditions do."""
        return (
            uuid in self.instances
            or any(_fits(pattern, name) for pattern in self.names)
            or (cloud is not None and any(scope.covers(cloud) for scope in self.tenants))
        )


def _fits(pattern: str, name: str) -> bool:
    """Compare with a pattern that has no sets, other than those of a shell."""
    letters = {"*": ".*", "?": "."}
    wanted = "".join(letters.get(letter) or re.escape(letter) for letter in pattern)
    return re.fullmatch(wanted, name, re.DOTALL) is not None


CLOUD_USER = "cloud:"
"""Begins the names of users that came by their keys of a cloud; nobody else's has a colon."""


@dataclass(frozen=True)
class User:
    """Somebody who asks."""

    name: str
    role: Role
    created_at: datetime
    disabled: bool = False
    grant: Grant = Grant()
    """Only for the role ``tenant``."""

    @property
    def home(self) -> Optional[TenantScope]:
        """Give the account of a cloud that it is; none where it did not come by a cloud."""
        if not self.name.startswith(CLOUD_USER) or not self.grant.tenants:
            return None
        return self.grant.tenants[0]

    @property
    def called(self) -> str:
        """Give what people call it: the name of one that came by a cloud is made of ids."""
        home = self.home
        return self.name if home is None else f"{home.domain_path}/{home.account}"


@dataclass(frozen=True)
class Token:
    """What a user shows instead of a password; its secret part is not kept."""

    id: str
    user: str
    name: str
    created_at: datetime
    role: Optional[Role] = None
    """What it may do at most, where that is less than its user."""
    scopes: tuple[str, ...] = ()
    """``<area>:read`` or ``<area>:write``; none: all that the role may."""
    expires_at: Optional[datetime] = None
    last_used_at: Optional[datetime] = None


class Outcome(str, Enum):
    """How something that is in the audit log ended."""

    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True)
class AuditNote:
    """Something that somebody did, or was kept from doing."""

    who: str
    action: str
    subject: str = ""
    outcome: Outcome = Outcome.DONE
    origin: str = ""
    """The address that it came from."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Never a secret."""


@dataclass(frozen=True)
class AuditEntry:
    """A note, as it stands in the audit log."""

    id: int
    at: datetime
    who: str
    origin: str
    action: str
    subject: str
    outcome: Outcome
    detail: Mapping[str, Any]
