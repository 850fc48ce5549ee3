"""The least that a key has to be allowed, why, and the commands that make such a role.

CloudStack shows hosts, paths and instance names only to accounts of type Admin, and lets a role
of that type be cut down by rules.  Rules are tried in order and the first that fits decides; where
none fits, what the type may do counts.  So a role has to end with a rule that denies the rest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sendense.cloudstack.features import Features
from sendense.errors import Rejected


@dataclass(frozen=True)
class Permission:
    """One command, and what it is for."""

    api: str
    why: str
    optional: bool = False
    """Without it something is not shown or not possible; the reason says what."""


def _need(api: str, why: str) -> Permission:
    return Permission(api, why)


def _may(api: str, why: str) -> Permission:
    return Permission(api, why, optional=True)


READ: Final = (
    _need("listApis", "tells what this version and this key can do"),
    _need("listCapabilities", "tells the version, and why a key is refused"),
    _need("listZones", "zones of instances, for rules and restores"),
    _need("listHosts", "hosts to deploy agents to, and where an instance runs"),
    _need("listStoragePools", "where volumes lie, and what kind of storage it is"),
    _need("listDomains", "owners of instances, for rules and tenants"),
    _need("listAccounts", "owners of instances, for rules and tenants"),
    _need("listProjects", "owners of instances, for rules and tenants"),
    _need("listVirtualMachines", "the instances"),
    _need("listVolumes", "their volumes"),
    _need("listVMSnapshot", "snapshots with memory, which bitmaps would break"),
    _need("listNetworks", "networks that a restored instance needs"),
    _need("listServiceOfferings", "offerings that a restored instance needs"),
    _need("listDiskOfferings", "offerings that a restored volume needs"),
    _need("listTemplates", "templates that a restored instance can be made from"),
    _need("listAsyncJobs", "jobs that work on an instance before it is read"),
    _need("queryAsyncJobResult", "how a job goes"),
    _may("listEvents", "changes are found sooner"),
    _may("listClusters", "clusters are named"),
    _may("listPods", "pods are named"),
    _may("listNics", "secondary addresses of an instance"),
    _may("listSnapshots", "volume snapshots, which hinder some restores"),
    _may("listOsTypes", "the kind of guest of a restored instance"),
    _may("listIsos", "the ISO that is attached"),
    _may("listAffinityGroups", "affinity groups of a restored instance"),
    _may("listSecurityGroups", "security groups of a restored instance"),
    _may("listSSHKeyPairs", "SSH keys of a restored instance"),
    _may("listUserData", "registered user data of a restored instance"),
    _may("listTags", "tags of volumes"),
    _may("listBackupOfferings", "CloudStack's own backups of an instance"),
)
"""What discovery and backups need.  Nothing of it changes anything."""

RESTORE: Final = (
    _need("startVirtualMachine", "start what was restored"),
    _need("stopVirtualMachine", "stop what is restored in place"),
    _need("deployVirtualMachine", "make a lost instance anew"),
    _need("updateVirtualMachine", "its name, details and user data"),
    _need("createVolume", "a volume to restore onto"),
    _need("attachVolume", "attach what was restored"),
    _need("detachVolume", "replace a root volume"),
    _need("createTags", "tags, and the mark of a restore that goes on"),
    _need("deleteTags", "take the mark off again"),
    _may("updateVolume", "name a new volume as its owner knows it"),
    _may("addIpToNic", "secondary addresses of a restored instance"),
    _may("importVolume", "take a restored file as a volume (4.19.1 and newer)"),
    _may("listVolumesForImport", "see that a restored file can be taken"),
    _may("importVm", "take a restored root disk as an instance (4.19 and newer)"),
    _may("assignVirtualMachine", "give a restored instance to its owner"),
    _may("migrateVolume", "move a restored volume to its pool"),
    _may("registerTemplate", "clone to another zone or cloud"),
    _may("getUploadParamsForVolume", "upload where no host can write"),
)
"""What restores need beside it; best given to a second key that only restores use."""

WEBHOOKS: Final = (
    _need("listWebhooks", "find our own"),
    _need("createWebhook", "be told of changes at once"),
    _need("updateWebhook", "change its address or its secret"),
    _need("deleteWebhook", "take it away when the cloud is removed"),
)
"""What being told of changes needs, from 4.20 on."""


@dataclass(frozen=True)
class Missing:
    """A command that is not there for the key."""

    permission: Permission
    known_since: str = ""

    @property
    def words(self) -> str:
        """Say it to a person."""
        since = f"; CloudStack has it since {self.known_since}" if self.known_since else ""
        return f"{self.permission.api}: {self.permission.why}{since}"


_SINCE: Final = {
    "importVm": "4.19.0",
    "importVolume": "4.19.1",
    "listVolumesForImport": "4.19.1",
    "listUserData": "4.18.0",
    "listWebhooks": "4.20.0",
    "createWebhook": "4.20.0",
    "updateWebhook": "4.20.0",
    "deleteWebhook": "4.20.0",
}


def missing(features: Features, wanted: Iterable[Permission] = READ) -> tuple[Missing, ...]:
    """Give what is wanted and not there: what is needed first."""
    lacking = [one for one in wanted if not features.has(one.api)]
    lacking.sort(key=lambda one: one.optional)
    return tuple(Missing(one, _SINCE.get(one.api, "")) for one in lacking)


def too_many(features: Features, wanted: Iterable[Permission]) -> tuple[str, ...]:
    """Give what the key may do beyond that: a key that is stolen should be worth little."""
    return tuple(sorted(features.apis - {one.api for one in wanted}))


def cloudmonkey_role(
    name: str, permissions: Iterable[Permission] = READ, *, account: str = "", domain_id: str = ""
) -> str:
    """Write the commands that make a role, for CloudMonkey; they can be run as they stand."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise Rejected("this is no name for a role", hint="letters, digits, blanks and dashes")
    rules = dict.fromkeys(one.api for one in permissions)
    lines = [
        "# Of type Admin, so that hosts and paths are shown; its rules allow only what is listed.",
        f"role=$(cmk -o json create role type=Admin name={shlex.quote(name)} filter=id"
        ' | sed -n \'s/.*"id": *"\\([^"]*\\)".*/\\1/p\')',
        ': "${role:?the role was not made}"',
        *(f'cmk create rolepermission roleid="$role" permission=allow rule={api}' for api in rules),
        "# Without this one, all that is not named above would be allowed as well.",
        "cmk create rolepermission roleid=\"$role\" permission=deny rule='*'",
    ]
    if account:
        lines += _account(account, domain_id)
    return "\n".join(lines) + "\n"


def _account(account: str, domain_id: str) -> list[str]:
    quoted = shlex.quote(account)
    where = f" domainid={shlex.quote(domain_id)}" if domain_id else ""
    return [
        "# An account with one user of that role; no password is used, only its keys.",
        f'cmk create account roleid="$role"{where} username={quoted} account={quoted} '
        f"firstname=Sendense lastname=Backup email={quoted}@localhost "
        'password="$(head -c 24 /dev/urandom | base64)"',
        "# Then make its keys with the id of the user that was shown:",
        "#   cmk register userkeys id=USER",
    ]
