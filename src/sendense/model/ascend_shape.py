"""What a re-created instance will look like in the cloud as it is now, and what it lacks for that.

Everything that the point remembers by an id is looked up: what is there is taken, what was mapped
is taken instead, and what is missing is a refusal that says what to map or to change.  Small things
(keypairs, groups) that are missing do not stop a restore; they are warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from sendense.model.ascend import (
    AscendPlan,
    AscendRequest,
    CloudView,
    Refusal,
    RefusalCode,
    Way,
)
from sendense.model.ascend_steps import CreateVolume, Shape, WantedNic
from sendense.model.cloud import (
    CloudInstance,
    CloudNetwork,
    CloudNic,
    CloudOffering,
    CloudTemplate,
    CloudVolume,
    Owner,
)
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.places import FILE_POOLS
from sendense.units import GIB, format_size, round_up

GONE_STATES = frozenset({"Destroyed", "Expunging", "Error"})
_HOST_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass
class Findings:
    """Refusals and warnings, as they are found."""

    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, code: RefusalCode, reason: str, hint: str) -> None:
        """Note one thing that has to be changed."""
        self.refusals.append(Refusal(code, reason, hint))

    def warn(self, words: str) -> None:
        """Note one thing that will not be as it was."""
        self.warnings.append(words)


def shape_of(
    manifest: CloudManifest, view: CloudView, request: AscendRequest, found: Findings
) -> Shape:
    """Give the instance to be; what is missing is noted in ``found``."""
    was = manifest.instance
    zone_id = request.zone_id or was.zone_id
    if not any(zone.id == zone_id for zone in view.zones):
        names = _some(f"{zone.name} ({zone.id})" for zone in view.zones)
        found.refuse(RefusalCode.ZONE, f"there is no zone {zone_id}", f"choose a zone: {names}")
    owner = request.owner or was.owner
    _check_owner(owner, view, found)
    name = _name(was, view, request, found)
    offering = _service_offering(was, view, request, zone_id, found)
    sized = offering is not None and offering.customized
    extras = view.extras
    return Shape(
        name=name,
        display_name=request.name or was.display_name,
        zone_id=zone_id,
        owner=owner,
        offering_id=offering.id if offering is not None else "",
        nics=_nics(was, view, request, zone_id, found),
        cpus=was.cpus if sized else 0,
        cpu_mhz=was.cpu_mhz if sized else 0,
        memory_bytes=was.memory_bytes if sized else 0,
        boot_type=was.boot_type,
        boot_mode=was.boot_mode,
        os_type_id=was.os_type_id if view.cloud_id == manifest.cloud_id else "",
        affinity_group_ids=_kept(
            "affinity group", was.affinity_group_ids, extras.affinity_groups, found
        ),
        security_group_ids=_kept(
            "security group", was.security_group_ids, extras.security_groups, found
        ),
        keypairs=_kept("SSH keypair", was.keypairs, extras.keypairs, found),
        user_data_id="".join(
            _kept("user data", tuple(filter(None, [was.user_data_id])), extras.user_data, found)
        ),
        group=was.group,
        with_secrets=_with_secrets(manifest, owner, view, request, found),
    )


def _with_secrets(
    manifest: CloudManifest, owner: Owner, view: CloudView, request: AscendRequest, found: Findings
) -> bool:
    """Tell whether details and user data are given: they may hold passwords of who had them."""
    if manifest.sealed is None:
        return False
    same_cloud = view.cloud_id == manifest.cloud_id
    if same_cloud and owner.is_same(manifest.instance.owner):
        return True
    where = owner.words if same_cloud else f"{owner.words} in another cloud"
    if request.with_secrets:
        found.warn(f"details and user data, which may hold passwords, are given to {where}")
        return True
    found.warn(
        f"details and user data, which may hold passwords, are not given to {where}; ask for them"
        " (with secrets) if they may have them"
    )
    return False


def _name(was: CloudInstance, view: CloudView, request: AscendRequest, found: Findings) -> str:
    name = request.name or was.name
    there = view.instance is not None and view.instance.state not in GONE_STATES
    if there and not request.name:
        found.refuse(
            RefusalCode.STILL_THERE,
            f"instance {was.shown_name} is still there",
            "restore it in place, or give the copy a new name",
        )
    elif name in view.taken_names:
        found.refuse(
            RefusalCode.NAME,
            f"the owner has an instance named {name} already",
            "give another name; an instance that is Destroyed keeps its name until it is expunged",
        )
    if request.name and not _HOST_NAME.fullmatch(request.name):
        found.refuse(
            RefusalCode.NAME,
            f"{request.name!r} is no name for an instance",
            "use up to 63 letters, digits and hyphens, a letter first",
        )
    return name


def _check_owner(owner: Owner, view: CloudView, found: Findings) -> None:
    states: Iterable[str]
    if owner.project_id:
        states = [item.state for item in view.projects if item.id == owner.project_id]
    else:
        states = [
            item.state
            for item in view.accounts
            if (item.domain_id, item.name) == (owner.domain_id, owner.account)
        ]
    if not states:
        found.refuse(
            RefusalCode.OWNER,
            f"there is no {owner.words}",
            "create it again, or name another account or project",
        )
    elif not any(state.lower() in ("", "enabled", "active") for state in states):
        found.refuse(
            RefusalCode.OWNER, f"{owner.words} is {states[0]}", "enable it, or name another"
        )


def _service_offering(
    was: CloudInstance,
    view: CloudView,
    request: AscendRequest,
    zone_id: str,
    found: Findings,
) -> Optional[CloudOffering]:
    wanted = request.offering_id or was.offering_id
    usable = [item for item in view.service_offerings if _usable(item, zone_id)]
    offering = next((item for item in usable if item.id == wanted), None)
    if offering is None:
        found.refuse(
            RefusalCode.SERVICE_OFFERING,
            f"service offering {was.offering or wanted} is not there, or not for this zone",
            f"name another: {_some(f'{item.name} ({item.id})' for item in usable)}",
        )
        return None
    now = (offering.cpus, offering.memory_bytes)
    if not offering.customized and now != (was.cpus, was.memory_bytes):
        found.warn(
            f"offering {offering.name} gives {now[0]} CPUs and {format_size(now[1])}; it had"
            f" {was.cpus} and {format_size(was.memory_bytes)}"
        )
    return offering


def _usable(offering: CloudOffering, zone_id: str) -> bool:
    if offering.zone_ids and zone_id not in offering.zone_ids:
        return False
    return offering.state.lower() in ("", "active")


def cards_in_order(was: CloudInstance) -> list[CloudNic]:
    """Give the cards of an instance, the default one first."""
    return sorted(was.nics, key=lambda nic: (not nic.is_default, nic.device_id, nic.id))


def _nics(
    was: CloudInstance,
    view: CloudView,
    request: AscendRequest,
    zone_id: str,
    found: Findings,
) -> tuple[WantedNic, ...]:
    networks = {item.id: item for item in view.networks if item.zone_id == zone_id}
    nics = []
    for nic in cards_in_order(was):
        network = networks.get(request.networks.get(nic.network_id, nic.network_id))
        if network is None:
            names = _some(f"{item.name} ({item.id})" for item in networks.values())
            found.refuse(
                RefusalCode.NETWORK,
                f"network {nic.network or nic.network_id} is not in the zone",
                f"name a network instead of {nic.network_id}: {names}",
            )
            continue
        nics.append(_nic(nic, network, view, found))
    return tuple(nics)


def _nic(nic: CloudNic, network: CloudNetwork, view: CloudView, found: Findings) -> WantedNic:
    secondary = _secondary_ips(nic, network, view, found)
    if view.instance is not None:
        # As long as CloudStack has the old instance, its cards hold their addresses.
        found.warn(f"the card in {network.name} gets a new MAC and IP: {nic.mac} is still in use")
        return WantedNic(network.id, is_default=nic.is_default)
    same = network.id == nic.network_id
    if nic.ip and not same:
        found.warn(f"the card in {network.name} gets a new IP: {nic.ip} was of {nic.network}")
    return WantedNic(network.id, nic.mac, nic.ip if same else "", nic.is_default, secondary)


def _secondary_ips(
    nic: CloudNic, network: CloudNetwork, view: CloudView, found: Findings
) -> tuple[str, ...]:
    """Give the secondary addresses that a card can have again; of the others it is said why not."""
    taken = tuple(ip for ip in nic.secondary_ips if (network.id, ip) in view.taken_addresses)
    free = tuple(ip for ip in nic.secondary_ips if ip not in taken)
    hindrance = ""
    if view.instance is not None:
        hindrance = "CloudStack still has the old instance, which holds them"
    elif network.id != nic.network_id:
        hindrance = f"they were of {nic.network or nic.network_id}"
    elif not view.may("addIpToNic"):
        hindrance = "the key may not call addIpToNic"
    if hindrance and nic.secondary_ips:
        lost_addresses(nic.secondary_ips, network.name, hindrance, found)
        return ()
    if taken:
        lost_addresses(taken, network.name, "another instance has them now", found)
    return free


def lost_addresses(ips: tuple[str, ...], network: str, hindrance: str, found: Findings) -> None:
    """Say which secondary addresses of a card in a network, by its name, are lost, and why."""
    found.warn(
        f"secondary addresses of the card in {network} are not restored"
        f" ({', '.join(ips)}): {hindrance}"
    )


def _kept(
    what: str, wanted: tuple[str, ...], there: frozenset[str], found: Findings
) -> tuple[str, ...]:
    missing = [item for item in wanted if item not in there]
    if missing:
        found.warn(f"{what} is not there any more, and left out: {', '.join(missing)}")
    return tuple(item for item in wanted if item in there)


def template_of(
    manifest: CloudManifest, view: CloudView, request: AscendRequest, zone_id: str
) -> Optional[CloudTemplate]:
    """Give the template to deploy from, if it can be used in the zone."""
    wanted = request.template_id or manifest.instance.template_id
    for template in view.templates:
        fits = template.zone_id in ("", zone_id) and template.hypervisor in ("", "KVM")
        if template.id == wanted and template.ready and fits:
            return template
    return None


def gib_of(size: int) -> int:
    """Give the whole GiB that CloudStack makes for a size."""
    return round_up(size, GIB) // GIB


def disk_offering(
    volume: CloudVolume, view: CloudView, request: AscendRequest, zone_id: str
) -> Optional[CloudOffering]:
    """Give the disk offering that a volume is made with, if there is one that fits its size."""
    named = request.disk_offerings
    wanted = named.get(volume.id) or named.get(volume.offering_id) or volume.offering_id
    for offering in view.disk_offerings:
        if offering.id == wanted and _usable(offering, zone_id):
            fits = offering.customized or offering.disk_bytes >= volume.size
            return offering if fits else None
    return None


def import_offering(
    volume: CloudVolume, view: CloudView, request: AscendRequest, zone_id: str, found: Findings
) -> str:
    """Give the disk offering that a file is imported with; empty: CloudStack's own for imports."""
    offering = disk_offering(volume, view, request, zone_id)
    if offering is not None and (offering.customized or offering.disk_bytes == volume.size):
        return offering.id
    found.warn(
        f"volume {volume.name} gets CloudStack's disk offering for imports,"
        f" not {volume.offering or 'its own'}"
    )
    return ""


def warn_of_owner(manifest: CloudManifest, to: CloudInstance, found: Findings) -> None:
    """Warn where disks of the one become those of another."""
    if not to.owner.is_same(manifest.instance.owner):
        found.warn(
            f"{to.shown_name} is {to.owner.words}'s, who gets what was"
            f" {manifest.instance.owner.words}'s at the point"
        )


_GONE_HINT = {
    "Destroyed": "recover it in CloudStack first, or restore it as another instance",
}


def check_steady(instance: CloudInstance, found: Findings) -> None:
    """Check that an instance can be stopped, or attached to."""
    if instance.state not in ("Running", "Stopped"):
        found.refuse(
            RefusalCode.NOT_STOPPABLE,
            f"instance {instance.shown_name} is {instance.state}, and neither Running nor Stopped",
            _GONE_HINT.get(instance.state, "wait until CloudStack is done with it"),
        )


def refused_plan(request: AscendRequest, way: Way, found: Findings) -> AscendPlan:
    """Give the plan of a way that was asked for and cannot be gone."""
    return AscendPlan(
        request,
        way,
        "it is what was asked for",
        warnings=tuple(found.warnings),
        refusals=tuple(dict.fromkeys(found.refusals)),
    )


def check_new_volumes(
    volumes: tuple[CloudVolume, ...], view: CloudView, request: AscendRequest, found: Findings
) -> None:
    """Check what holds for every volume that a restore adds to the cloud."""
    encrypted = [volume.name for volume in volumes if volume.encryption]
    if encrypted and request.allow_unencrypted:
        found.warn(f"no longer encrypted: {', '.join(encrypted)}")
    elif encrypted:
        found.refuse(
            RefusalCode.ENCRYPTED,
            f"CloudStack encrypted {', '.join(encrypted)}; a restored volume would not be",
            "allow that it is not encrypted, or restore to files",
        )


def check_made_volumes(view: CloudView, zone_id: str, found: Findings) -> None:
    """Check that volumes which CloudStack places itself can be written over at all."""
    kinds = {pool.kind for pool in view.pools if (pool.zone_id, pool.state) == (zone_id, "Up")}
    if not kinds & FILE_POOLS:
        found.refuse(
            RefusalCode.POOL,
            "the zone has no pool of files that is Up, so a new volume could not be written",
            f"bring up a pool of one of these kinds: {', '.join(sorted(FILE_POOLS))}",
        )
    elif kinds - FILE_POOLS:
        found.warn(
            "CloudStack chooses the pool of a new volume: the restore ends if it is one of"
            f" {', '.join(sorted(kinds - FILE_POOLS))}, unless the offering's storage tag forbids"
        )


def create_volume(
    volume: CloudVolume, offering: CloudOffering, zone_id: str, owner: Owner, found: Findings
) -> CreateVolume:
    """Give the step that makes an empty volume for a disk; CloudStack makes whole GiB."""
    size = gib_of(volume.size) if offering.customized else 0
    made = size * GIB or offering.disk_bytes
    if made > volume.size:
        found.warn(
            f"volume {volume.name} becomes {format_size(made - volume.size)} larger; the rest"
            " reads as zero"
        )
    return CreateVolume(volume.id, volume.name, offering.id, size, zone_id, owner)


def _some(names: Iterable[str]) -> str:
    """Name the first few."""
    known = sorted(names)
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    return ", ".join(known[:5]) + more if known else "there is none"
