"""Tenants: whose instances are kept apart, where their points go, and how much they may store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from sendense.errors import Rejected
from sendense.model.access import TenantScope
from sendense.model.cloud import CloudFacts
from sendense.units import format_size


@dataclass(frozen=True)
class Tenant:
    """Somebody of a cloud, and what is agreed with it."""

    id: str
    name: str
    scope: TenantScope
    repository_id: Optional[str] = None
    """Where its points go, under a key of its own; none: where policies say."""
    quota_bytes: Optional[int] = None
    """What its points may store at most; none: any number."""

    def __post_init__(self) -> None:
        """Refuse what can never be meant."""
        if self.quota_bytes is not None and self.quota_bytes < 0:
            raise Rejected("a quota cannot be negative")


@dataclass(frozen=True)
class Destination:
    """Where the points of an instance go, and why."""

    repository_id: str
    tenant: Optional[Tenant] = None
    """Whose own repository it is; none: nobody's, it is the one that was asked for."""

    @property
    def said(self) -> dict[str, str]:
        """Give what a job says of it: nothing where there is nothing special."""
        if self.tenant is None:
            return {}
        return {"repository_because": f"it is the repository of the tenant {self.tenant.name}"}


def destination(
    tenants: Iterable[Tenant], cloud: Optional[CloudFacts], otherwise: str
) -> Destination:
    """Give where the points of an instance go: to the closest of its tenants' own repositories.

    So what a tenant owns lies under its own key, whichever policy takes it and whoever asks.
    """
    having = (tenant for tenant in tenants if tenant.repository_id is not None)
    owner = None if cloud is None else closest(having, cloud)
    if owner is None or owner.repository_id is None:
        return Destination(otherwise)
    return Destination(owner.repository_id, owner)


WARN_FROM = 0.9
"""Of a quota."""


@dataclass(frozen=True)
class Usage:
    """What a tenant stores."""

    tenant: Tenant
    stored_bytes: int

    @property
    def left_bytes(self) -> Optional[int]:
        """Give how much more may be stored; none: any number."""
        quota = self.tenant.quota_bytes
        return None if quota is None else max(0, quota - self.stored_bytes)

    @property
    def full(self) -> bool:
        """Tell whether nothing more may be stored."""
        quota = self.tenant.quota_bytes
        return quota is not None and self.stored_bytes >= quota

    @property
    def nearly_full(self) -> bool:
        """Tell whether it is time to say so."""
        quota = self.tenant.quota_bytes
        return quota is not None and self.stored_bytes >= WARN_FROM * quota

    @property
    def words(self) -> str:
        """Say both numbers."""
        quota = format_size(self.tenant.quota_bytes or 0)
        return (
            f"the tenant {self.tenant.name} stores {format_size(self.stored_bytes)} "
            f"({self.stored_bytes} bytes) of its quota of {quota} ({self.tenant.quota_bytes} bytes)"
        )


def closest(tenants: Iterable[Tenant], cloud: CloudFacts) -> Optional[Tenant]:
    """Give the tenant that is the closest to an instance's owner, of those that it belongs to.

    A project or an account is closer than a domain, and a domain closer than the one above it.
    """
    fitting = [tenant for tenant in tenants if tenant.scope.covers(cloud)]
    return max(
        fitting, key=lambda tenant: (*_closeness(tenant.scope, cloud), tenant.id), default=None
    )


def _closeness(scope: TenantScope, cloud: CloudFacts) -> tuple[bool, bool, int]:
    return (
        bool(scope.project_id or scope.account),
        bool(scope.domain_id) and scope.domain_id == cloud.domain_id,
        _depth(scope, cloud),
    )


def _depth(scope: TenantScope, cloud: CloudFacts) -> int:
    """Tell how far below the root a domain is, by the tree where its id is known."""
    if scope.domain_id:
        above, found, _ = cloud.above.partition(f"/{scope.domain_id}/")
        return above.count("/") if found else max(0, cloud.above.count("/") - 1)
    return scope.domain_path.count("/")
