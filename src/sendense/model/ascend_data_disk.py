"""The plan of one disk that becomes a new data volume: the second aim of restores into a cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from sendense.model.ascend import (
    AscendPlan,
    AscendRequest,
    CloudView,
    RefusalCode,
    Way,
)
from sendense.model.ascend_ladder import missing_calls, no_choice_of_pool, no_disk_offering
from sendense.model.ascend_pools import (
    FilePlans,
    PoolChooser,
    check_file_names,
    importable_pools,
)
from sendense.model.ascend_shape import (
    Findings,
    check_made_volumes,
    check_new_volumes,
    check_steady,
    create_volume,
    disk_offering,
    import_offering,
    refused_plan,
    warn_of_owner,
)
from sendense.model.ascend_steps import (
    AttachVolume,
    ImportVolume,
    StartInstance,
    Step,
    StopInstance,
    VerifyDisk,
    WriteDisk,
)
from sendense.model.cloud import CloudInstance, CloudVolume
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.places import ISO_DEVICE
from sendense.units import format_size

_WHY_IMPORT = "the disk is written to a new file and imported, so the instance may go on running"
_WHY_CREATE = (
    "CloudStack makes a volume, which is written over with the instance off, because no file can"
    " be imported here"
)


def plan_data_disk(
    manifest: CloudManifest,
    view: CloudView,
    request: AscendRequest,
    volumes: tuple[CloudVolume, ...],
    found: Findings,
) -> AscendPlan:
    target = view.target if request.instance_id else view.instance
    if len(volumes) != 1:
        found.refuse(RefusalCode.REQUEST, "one disk is restored at a time", "name one volume")
    if target is None:
        found.refuse(
            RefusalCode.NOT_THERE,
            f"instance {request.instance_id or manifest.instance.shown_name} is not in the cloud",
            "name an instance that is there",
        )
    if target is None or len(volumes) != 1:
        return AscendPlan(request, None, refusals=tuple(found.refusals))
    _check_attachable(target, view, found)
    warn_of_owner(manifest, target, found)
    volume = volumes[0]
    _check_quota(target, volume, view, found)
    check_new_volumes(volumes, view, request, found)
    found.refusals += check_file_names(volumes, request)
    files = _import_for(target, volume, view, request)
    if not files.refusals:
        found.warnings += files.warnings
        steps, why = _steps_import(target, volume, files, view, request, found), _WHY_IMPORT
    else:
        found.refusals += no_choice_of_pool(request)
        steps = _steps_create(target, volume, view, request, found)
        why = f"{_WHY_CREATE} ({'; '.join(each.reason for each in files.refusals)})"
    if found.refusals:
        return refused_plan(request, Way.NEW_DATA_VOLUME, found)
    return AscendPlan(
        request, Way.NEW_DATA_VOLUME, why, tuple(steps), warnings=tuple(found.warnings)
    )


def _check_attachable(target: CloudInstance, view: CloudView, found: Findings) -> None:
    check_steady(target, found)
    if target.memory_snapshots or target.disk_snapshots:
        found.refuse(
            RefusalCode.SNAPSHOTS,
            f"{target.shown_name} has VM snapshots, and CloudStack attaches nothing meanwhile",
            "delete its VM snapshots",
        )
    if target.backup_offering and not view.attach_beside_backup:
        found.refuse(
            RefusalCode.BACKUP_OFFERING,
            f"{target.shown_name} is on the backup offering {target.backup_offering},"
            " and CloudStack attaches nothing to such",
            "take it off the offering, or set backup.enable.attach.detach.of.volumes",
        )
    if any(each.kind == "ROOT" and each.state == "Allocated" for each in target.volumes):
        found.refuse(
            RefusalCode.VOLUME_NOT_READY,
            f"{target.shown_name} was never started, so CloudStack makes no volumes for it",
            "start it once",
        )
    found.refusals += missing_calls(view, ["attachVolume"])


def _check_quota(
    target: CloudInstance, volume: CloudVolume, view: CloudView, found: Findings
) -> None:
    quota, owner = view.quota, target.owner.words
    if quota.volumes is not None and quota.volumes < 1:
        found.refuse(
            RefusalCode.QUOTA,
            f"{owner} may have no further volume",
            "raise its limit of volumes, or delete one",
        )
    if quota.primary_bytes is not None and quota.primary_bytes < volume.size:
        found.refuse(
            RefusalCode.QUOTA,
            f"{owner} has {format_size(quota.primary_bytes)} left of its limit of primary"
            f" storage, and {format_size(volume.size)} is needed",
            "raise its limit of primary storage, or free some",
        )


def _import_for(
    target: CloudInstance, volume: CloudVolume, view: CloudView, request: AscendRequest
) -> FilePlans:
    """Give where the new file goes, or why no file can be imported for that instance."""
    missing = missing_calls(view, ["importVolume"])
    if missing:
        return FilePlans({}, tuple(missing))
    root = next((each for each in target.volumes if each.kind == "ROOT"), None)
    pool = view.pool(root.pool_id) if root is not None else None
    chooser = PoolChooser(
        view,
        request,
        zone_id=target.zone_id,
        kinds=importable_pools(view.features),
        cluster_id=pool.cluster_id if pool is not None and pool.scope != "ZONE" else "",
    )
    return chooser.place([volume])


def free_device(target: CloudInstance, wanted: Optional[int]) -> Optional[int]:
    """Give the device id a volume had if it is free, else leave it to CloudStack."""
    taken = {each.device_id for each in target.volumes}
    usable = wanted is not None and wanted > 0 and wanted != ISO_DEVICE
    return wanted if usable and wanted not in taken else None


def _attach(target: CloudInstance, volume: CloudVolume) -> AttachVolume:
    device = free_device(target, volume.device_id)
    return AttachVolume(volume.id, target.id, device, volume.name, target.shown_name)


def _steps_import(
    target: CloudInstance,
    volume: CloudVolume,
    files: FilePlans,
    view: CloudView,
    request: AscendRequest,
    found: Findings,
) -> list[Step]:
    file = files.places[volume.id]
    offering = import_offering(volume, view, request, target.zone_id, found)
    name = request.name or volume.name
    return [
        *file.steps(volume),
        ImportVolume(volume.id, file.pool.id, file.name, name, target.owner, offering),
        _attach(target, volume),
    ]


def _steps_create(
    target: CloudInstance,
    volume: CloudVolume,
    view: CloudView,
    request: AscendRequest,
    found: Findings,
) -> list[Step]:
    needed = ["createVolume"]
    needed += ["stopVirtualMachine", "startVirtualMachine"] if target.running else []
    found.refusals += missing_calls(view, needed)
    offering = disk_offering(volume, view, request, target.zone_id)
    if offering is None:
        found.refusals.append(no_disk_offering(volume))
        return []
    check_made_volumes(view, target.zone_id, found)
    create = create_volume(volume, offering, target.zone_id, target.owner, found)
    steps: list[Step] = [replace(create, name=request.name or volume.name)]
    steps += [StopInstance(target.id, target.shown_name)] if target.running else []
    steps += [
        _attach(target, volume),
        WriteDisk(
            volume.id,
            "",
            "",
            "",
            volume.size,
            volume.name,
            instance_id=target.id,
            owner=target.owner,
        ),
        VerifyDisk(volume.id, volume.size, volume.name),
    ]
    return steps + ([StartInstance(target.id, target.shown_name)] if target.running else [])
