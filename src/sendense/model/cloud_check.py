"""What a look at a cloud with its keys brings: whether it answers, and what its keys may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sendense.model.cloud import Owner


class Purpose(str, Enum):
    """What a key is for."""

    READ = "read"
    """To read the inventory, each minute."""
    RESTORE = "restore"
    """To stop, start and make instances and volumes, in restores."""
    WEBHOOKS = "webhooks"
    """To be told of changes at once."""


@dataclass(frozen=True)
class MissingPermission:
    """A command of the cloud that a key may not use, or that its version does not have."""

    api: str
    why: str
    """What it is needed for."""
    optional: bool = False
    """Without it something is not shown, or not possible."""
    since: str = ""
    """The first version that has it, where not all do."""


@dataclass(frozen=True)
class PurposeCheck:
    """How fit a key is for one purpose."""

    purpose: Purpose
    own_key: bool
    """Whether the cloud has a key for this alone; else it is the one that reads."""
    missing: tuple[MissingPermission, ...] = ()
    failure: str = ""
    """Why the key could not be tried."""
    wanted: bool = True
    """Whether anybody asked for it: webhooks are wanted once one is set, and what they need is
    lacking only then."""

    @property
    def good(self) -> bool:
        """Tell whether all is there that is needed."""
        needed = [each for each in self.missing if self.wanted and not each.optional]
        return not self.failure and not needed


@dataclass(frozen=True)
class CloudCheck:
    """How a cloud answers."""

    reachable: bool
    failure: str = ""
    """Why it could not be asked."""
    hint: str = ""
    version: str = ""
    skew_s: float = 0.0
    """Seconds that its clock is ahead of ours."""
    admin: bool = False
    """Whether its answers tell hosts and paths: the account of the key is of type Admin."""
    features: Mapping[str, bool] = field(default_factory=dict)
    """What this version can do, of what restores and events make use of."""
    purposes: tuple[PurposeCheck, ...] = ()
    beyond: tuple[str, ...] = ()
    """Commands that the keys may use and need not: a stolen key should be worth little."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CloudIdentity:
    """Who somebody is in a cloud, by the keys or the password that were shown."""

    cloud_id: str
    user: str
    owner: Owner
    kind: str = ""
    """Type of the account: ``User``, ``DomainAdmin``, ``Admin``."""
    domain_admin: bool = False
    """Whether the domain and all below it are this account's to look after."""
    projects: tuple[str, ...] = ()
    """Ids of the projects that it is a member of."""
    account_id: str = ""
    """Of the account: its name may be another's later."""
