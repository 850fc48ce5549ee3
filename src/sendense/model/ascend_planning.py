"""Makes the plan of a restore into CloudStack; see :mod:`sendense.model.ascend`.

The three aims are planned by one function each.  Each looks at everything before it answers, so
that a refused plan names all that has to be changed and not the first thing only.
"""

from __future__ import annotations

from typing import Optional

from sendense.model.ascend import (
    Aim,
    AscendPlan,
    AscendRequest,
    CloudView,
    RefusalCode,
    Way,
)
from sendense.model.ascend_data_disk import plan_data_disk
from sendense.model.ascend_instance import plan_recreate
from sendense.model.ascend_ladder import missing_calls
from sendense.model.ascend_shape import (
    Findings,
    check_steady,
    refused_plan,
    warn_of_owner,
)
from sendense.model.ascend_steps import (
    MARKER,
    SafetyPoint,
    StartInstance,
    Step,
    StopInstance,
    TagInstance,
    UntagInstance,
    VerifyDisk,
    WriteDisk,
)
from sendense.model.cloud import CloudInstance, CloudVolume
from sendense.model.cloud_manifest import CloudManifest, ManifestDisk
from sendense.model.places import DISKS, NoPlace, place_of


def plan_ascent(
    manifest: CloudManifest, view: CloudView, request: AscendRequest, strays: tuple[str, ...] = ()
) -> AscendPlan:
    """Plan a restore; ``strays`` are targets of the point's disks that no volume is known to be."""
    found = Findings()
    volumes = _chosen(manifest, request, found)
    if strays and volumes and request.aim is Aim.IN_PLACE and not request.volumes:
        _refuse_part(strays, volumes, found)
    if request.aim is Aim.RECREATE:
        return plan_recreate(manifest, view, request, volumes, found)
    if request.aim is Aim.DATA_DISK:
        return plan_data_disk(manifest, view, request, volumes, found)
    return _plan_in_place(manifest, view, request, volumes, found)


def _chosen(
    manifest: CloudManifest, request: AscendRequest, found: Findings
) -> tuple[CloudVolume, ...]:
    """Give the volumes to restore, the root first, then by device."""
    held = {volume.id: volume for volume in manifest.volumes}
    unknown = [each for each in (*request.volumes, *request.onto) if each not in held]
    for volume_id in dict.fromkeys(unknown):
        names = ", ".join(f"{volume.name} ({volume.id})" for volume in held.values())
        found.refuse(
            RefusalCode.NO_VOLUME, f"the point has no volume {volume_id}", f"it has: {names}"
        )
    chosen = [held[each] for each in dict.fromkeys(request.volumes or held) if each in held]
    if not chosen and not unknown:
        found.refuse(RefusalCode.NO_VOLUME, "the point has no disks", "choose another point")
    return tuple(sorted(chosen, key=lambda each: (each.kind != "ROOT", each.device_id or 0)))


def _refuse_part(
    strays: tuple[str, ...], volumes: tuple[CloudVolume, ...], found: Findings
) -> None:
    """Refuse to put back some disks, and to start what has others of another moment, unasked."""
    names = ", ".join(f"{volume.name} ({volume.id})" for volume in volumes)
    found.refuse(
        RefusalCode.NO_VOLUME,
        f"no volume of the instance is known to be these disks of the point: {', '.join(strays)}",
        f"name the volumes to restore ({names}), or attach again what was detached",
    )


def _plan_in_place(
    manifest: CloudManifest,
    view: CloudView,
    request: AscendRequest,
    volumes: tuple[CloudVolume, ...],
    found: Findings,
) -> AscendPlan:
    instance = view.instance
    if instance is None:
        found.refuse(
            RefusalCode.NOT_THERE,
            f"instance {manifest.instance.shown_name} is not in the cloud any more",
            "restore it as a new instance",
        )
        return AscendPlan(request, None, refusals=tuple(found.refusals))
    starts = instance.running if request.start is None else request.start
    _check_stoppable(instance, view, starts, found)
    writes = [
        _write(manifest.disk_of(volume.id), volume, instance, view, request, found)
        for volume in volumes
    ]
    places = [write.path for write in writes if write is not None]
    if len(set(places)) < len(places):
        found.refuse(
            RefusalCode.REQUEST,
            "two disks of the point lead to one volume",
            "name another volume for each",
        )
    warn_of_owner(manifest, instance, found)
    _warn_in_place(manifest, instance, [write for write in writes if write], found)
    if found.refusals:
        return refused_plan(request, Way.IN_PLACE, found)
    steps = _steps_in_place(instance, view, request, [each for each in writes if each], starts)
    return AscendPlan(
        request,
        Way.IN_PLACE,
        "the instance is there: its volumes keep their ids, and its networks stay as they are",
        tuple(steps),
        warnings=tuple(found.warnings),
    )


def _check_stoppable(
    instance: CloudInstance, view: CloudView, starts: bool, found: Findings
) -> None:
    check_steady(instance, found)
    needed = ["stopVirtualMachine"] if instance.state != "Stopped" else []
    needed += ["startVirtualMachine"] if starts else []
    found.refusals += missing_calls(view, needed)
    if not (view.may("createTags") and view.may("deleteTags")):
        found.warn(
            "the key may not tag: nothing tells CloudStack's users to leave it off meanwhile"
        )


def _write(
    disk: ManifestDisk,
    volume: CloudVolume,
    instance: CloudInstance,
    view: CloudView,
    request: AscendRequest,
    found: Findings,
) -> Optional[WriteDisk]:
    """Give the volume that a disk goes over, if it can be."""
    wanted = request.onto.get(volume.id, volume.id)
    now = next((each for each in instance.volumes if each.id == wanted), None)
    if now is None or now.kind not in DISKS:
        others = ", ".join(f"{each.name} ({each.id})" for each in instance.volumes)
        found.refuse(
            RefusalCode.NO_VOLUME,
            f"volume {volume.name} of the point is not the instance's any more",
            f"name the volume that it goes over ({others or 'there is none'}),"
            " or restore it as a new data disk",
        )
        return None
    _check_target(volume, now, request, found)
    place = place_of(now, view.pool(now.pool_id))
    if isinstance(place, NoPlace):
        found.refuse(RefusalCode.PATH, place.reason, place.hint)
        return None
    # Another volume than it was is taken for what CloudStack makes.
    image_format = disk.format if now.id == volume.id else "qcow2"
    return WriteDisk(
        volume.id, now.id, now.pool_id, place.path, volume.size, now.name, image_format,
        instance.id, instance.owner,
    )  # fmt: skip


def _check_target(
    volume: CloudVolume, now: CloudVolume, request: AscendRequest, found: Findings
) -> None:
    if now.state != "Ready":
        found.refuse(
            RefusalCode.VOLUME_NOT_READY,
            f"volume {now.name} is {now.state}, and not Ready",
            "wait until CloudStack is done with it",
        )
    if now.encryption:
        found.refuse(
            RefusalCode.ENCRYPTED,
            f"volume {now.name} is encrypted, and CloudStack keeps its key",
            "restore to files, or as a new instance without encryption",
        )
    if now.size < volume.size:
        found.refuse(
            RefusalCode.SIZE,
            f"volume {now.name} has {now.size} bytes, the disk of the point {volume.size}",
            "resize the volume in CloudStack, or restore it as a new data disk",
        )
    if now.size > volume.size and not request.allow_larger:
        found.refuse(
            RefusalCode.SIZE,
            f"volume {now.name} has {now.size} bytes, the disk of the point only {volume.size}",
            "allow larger volumes, if it was enlarged since: the rest will read as zero",
        )


def _warn_in_place(
    manifest: CloudManifest, instance: CloudInstance, writes: list[WriteDisk], found: Findings
) -> None:
    if instance.memory_snapshots or instance.disk_snapshots:
        found.warn("it has VM snapshots: they stay, and reverting to one undoes the restore")
    if instance.backup_offering:
        found.warn(f"CloudStack's own backup ({instance.backup_offering}) should make a full next")
    written = {write.volume_id for write in writes}
    left = [each.name for each in instance.volumes if each.kind in DISKS and each.id not in written]
    if left:
        found.warn(f"left as they are now: {', '.join(left)}")
    if manifest.instance.offering_id != instance.offering_id:
        found.warn(
            f"it stays on offering {instance.offering}; at the point it had"
            f" {manifest.instance.offering}"
        )


def _steps_in_place(
    instance: CloudInstance,
    view: CloudView,
    request: AscendRequest,
    writes: list[WriteDisk],
    starts: bool,
) -> list[Step]:
    tags = view.may("createTags") and view.may("deleteTags")
    name = instance.shown_name
    steps: list[Step] = []
    if instance.state != "Stopped":
        steps.append(StopInstance(instance.id, name))
    if tags:
        steps.append(TagInstance(instance.id, {MARKER: "running"}, name))
    if request.safety_point:
        steps.append(SafetyPoint(instance.id, tuple(write.volume_id for write in writes)))
    steps += writes
    steps += [VerifyDisk(write.source, write.size, write.label) for write in writes]
    if tags:
        steps.append(UntagInstance(instance.id, (MARKER,), name))
    if starts:
        steps.append(StartInstance(instance.id, name))
    return steps
