"""Which way a lost instance comes back: the best that this cloud, this key and this point allow.

===================== ========== ====================================== =======================
way                   CloudStack what decides                           what is lost
===================== ========== ====================================== =======================
import-and-deploy     4.21       importVolume; deploy takes ``volumeid`` nothing but the template
deploy-and-swap-root  4.19.1     importVolume; a template               nothing
import-vm             4.19       importVm; a pool of NFS or local files MACs, further cards
deploy-and-overwrite  all        a template                             starts the template once
===================== ========== ====================================== =======================

Features decide and never the version's number.  ``import-vm`` comes before ``deploy-and-overwrite``
only where the instance has no second card to lose.  Each way that is better than the chosen one is
named with what is in its way; where none can be gone, these are the refusals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from sendense.model.ascend import AscendRequest, CloudView, Refusal, RefusalCode, Way, WayNotTaken
from sendense.model.ascend_pools import (
    INSTANCE_POOLS,
    FilePlans,
    PoolChooser,
    importable_pools,
)
from sendense.model.ascend_shape import disk_offering, template_of
from sendense.model.cloud import CloudTemplate, CloudVolume
from sendense.model.cloud_manifest import CloudManifest

_NEEDED = {
    Way.IMPORT_AND_DEPLOY: ("importVolume", "deployVirtualMachine"),
    Way.DEPLOY_AND_SWAP_ROOT: (
        "importVolume", "deployVirtualMachine", "detachVolume", "attachVolume",
    ),
    Way.IMPORT_VM: ("importVm",),
    Way.DEPLOY_AND_OVERWRITE: (
        "deployVirtualMachine", "stopVirtualMachine", "startVirtualMachine",
    ),
}  # fmt: skip

_WHY = {
    Way.IMPORT_AND_DEPLOY: "the disks are imported and the instance is deployed around its own"
    " root: nothing else is ever started",
    Way.DEPLOY_AND_SWAP_ROOT: "the instance is deployed from its template with its networks and"
    " MACs, and the imported root takes the place of the template's",
    Way.IMPORT_VM: "CloudStack makes an instance of the root disk's file",
    Way.DEPLOY_AND_OVERWRITE: "an instance deployed from the template is stopped and its disks are"
    " written over, which every version can",
}


@dataclass(frozen=True)
class Climb:
    """The way found, with what it needs."""

    way: Optional[Way]
    why: str = ""
    not_taken: tuple[WayNotTaken, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    files: FilePlans = field(default_factory=lambda: FilePlans({}))
    """Of the volumes that become new files."""
    template: Optional[CloudTemplate] = None
    imports_data: bool = True
    """Data disks are imported; else created, attached and written over."""


def climb(
    manifest: CloudManifest,
    view: CloudView,
    request: AscendRequest,
    volumes: tuple[CloudVolume, ...],
) -> Climb:
    """Choose the way for an instance of these volumes, of which one is the root."""
    not_taken: list[WayNotTaken] = []
    refusals: list[Refusal] = []
    for way in _order(manifest):
        found = _try(way, manifest, view, request, volumes)
        if not found.refusals:
            return Climb(
                way, _WHY[way], tuple(not_taken), (), found.files, found.template,
                found.imports_data,
            )  # fmt: skip
        reasons = "; ".join(refusal.reason for refusal in found.refusals)
        not_taken.append(WayNotTaken(way, reasons))
        refusals += found.refusals
    return Climb(None, "", tuple(not_taken), tuple(dict.fromkeys(refusals)))


def _order(manifest: CloudManifest) -> tuple[Way, ...]:
    last = (Way.IMPORT_VM, Way.DEPLOY_AND_OVERWRITE)
    one_card = len(manifest.instance.nics) <= 1
    return (
        Way.IMPORT_AND_DEPLOY,
        Way.DEPLOY_AND_SWAP_ROOT,
        *(last if one_card else reversed(last)),
    )


def _try(
    way: Way,
    manifest: CloudManifest,
    view: CloudView,
    request: AscendRequest,
    volumes: tuple[CloudVolume, ...],
) -> Climb:
    """Give what is in the way of one way, and what it would use."""
    zone_id = request.zone_id or manifest.instance.zone_id
    imports_data = way is not Way.DEPLOY_AND_OVERWRITE and view.may("importVolume")
    refusals = _missing_calls(way, view, volumes, imports_data)
    template = None
    if way in (Way.DEPLOY_AND_SWAP_ROOT, Way.DEPLOY_AND_OVERWRITE):
        template = template_of(manifest, view, request, zone_id)
        if template is None:
            refusals.append(_no_template(manifest, request))
    data = [volume for volume in volumes if volume.kind != "ROOT"]
    if not imports_data:
        refusals += [
            no_disk_offering(volume)
            for volume in data
            if disk_offering(volume, view, request, zone_id) is None
        ]
    files = FilePlans({})
    if way is Way.DEPLOY_AND_OVERWRITE:
        refusals += no_choice_of_pool(request)
    else:
        kinds = importable_pools(view.features)
        if way is Way.IMPORT_VM:
            kinds &= INSTANCE_POOLS
        chooser = PoolChooser(view, request, zone_id=zone_id, kinds=kinds)
        files = chooser.place(volumes if imports_data else [v for v in volumes if v not in data])
        refusals += files.refusals
    return Climb(
        way,
        refusals=tuple(refusals),
        files=files,
        template=template,
        imports_data=imports_data,
    )


def _missing_calls(
    way: Way, view: CloudView, volumes: tuple[CloudVolume, ...], imports_data: bool
) -> list[Refusal]:
    needed = list(_NEEDED[way])
    if len(volumes) > 1:
        needed += ["attachVolume"] if imports_data else ["createVolume", "attachVolume"]
    refusals = missing_calls(view, needed)
    deploys = view.may("deployVirtualMachine")
    if (
        way is Way.IMPORT_AND_DEPLOY
        and deploys
        and not view.takes("deployVirtualMachine", "volumeid")
    ):
        refusals.append(
            Refusal(
                RefusalCode.NO_API,
                "this CloudStack cannot deploy around a volume (4.21 and later can)",
                "update CloudStack, or let another way be gone",
            )
        )
    return refusals


def missing_calls(view: CloudView, needed: list[str]) -> list[Refusal]:
    """Give the calls that are needed, and that this cloud or this key does not have."""
    return [
        Refusal(
            RefusalCode.NO_API,
            f"{api} is not there: the key may not call it, or this CloudStack has none",
            f"allow {api} in the role of the key for restores",
        )
        for api in dict.fromkeys(needed)
        if not view.may(api)
    ]


def _no_template(manifest: CloudManifest, request: AscendRequest) -> Refusal:
    was = manifest.instance
    return Refusal(
        RefusalCode.TEMPLATE,
        f"template {request.template_id or was.template or was.template_id or 'of then'}"
        " is not there, or not ready in the zone",
        "name a KVM template of the zone with the same kind of system and boot;"
        " its content is replaced",
    )


def no_choice_of_pool(request: AscendRequest) -> list[Refusal]:
    """Refuse a pool that was asked for where CloudStack chooses it."""
    if not request.pool_id:
        return []
    return [
        Refusal(
            RefusalCode.POOL,
            f"pool {request.pool_id} was asked for, but CloudStack itself chooses it here",
            "leave the choice of the pool to CloudStack",
        )
    ]


def no_disk_offering(volume: CloudVolume) -> Refusal:
    """Refuse a data disk that no disk offering takes."""
    wanted = volume.offering or volume.offering_id or "of then"
    return Refusal(
        RefusalCode.DISK_OFFERING,
        f"volume {volume.name}: disk offering {wanted} is not there, not for this zone,"
        f" or smaller than {volume.size} bytes",
        "name a disk offering of custom size",
    )
