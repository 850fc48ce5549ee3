"""The plan of an instance that is made again: the third aim of :mod:`sendense.model.ascend`."""

from __future__ import annotations

from typing import Optional

from sendense.model.ascend import AscendPlan, AscendRequest, CloudView, Quota, RefusalCode, Way
from sendense.model.ascend_ladder import Climb, climb, missing_calls
from sendense.model.ascend_pools import check_file_names
from sendense.model.ascend_shape import (
    Findings,
    cards_in_order,
    check_made_volumes,
    check_new_volumes,
    create_volume,
    disk_offering,
    gib_of,
    import_offering,
    lost_addresses,
    shape_of,
)
from sendense.model.ascend_steps import (
    MARKER,
    NEW,
    AddAddress,
    AttachVolume,
    DeployFromTemplate,
    DeployFromVolume,
    DetachRoot,
    ImportInstance,
    ImportVolume,
    Shape,
    StartInstance,
    Step,
    StopInstance,
    TagInstance,
    UntagInstance,
    VerifyDisk,
    WriteDisk,
)
from sendense.model.cloud import CloudVolume
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.places import DISKS, ISO_DEVICE
from sendense.units import GIB, format_size


def plan_recreate(
    manifest: CloudManifest,
    view: CloudView,
    request: AscendRequest,
    volumes: tuple[CloudVolume, ...],
    found: Findings,
) -> AscendPlan:
    """Plan a new instance of these disks of the point."""
    _check_root(volumes, found)
    shape = shape_of(manifest, view, request, found)
    found_way = climb(manifest, view, request, volumes)
    found.refusals += found_way.refusals
    _check_quota(shape, manifest, volumes, view.quota, found_way, found)
    check_new_volumes(volumes, view, request, found)
    found.refusals += check_file_names(volumes, request)
    if found_way.way is not None and not found_way.imports_data:
        check_made_volumes(view, shape.zone_id, found)
    _check_extras(manifest, view, volumes, found)
    starts = manifest.instance.running if request.start is None else request.start
    if starts:
        found.refusals += missing_calls(view, ["startVirtualMachine"])
    _warn_of_way(manifest, found_way, volumes, found)
    if found_way.way is Way.IMPORT_VM:
        _warn_of_cards(shape, view, found)
    steps = [] if found.refusals else _Steps(view, request, shape, found_way, found).of(volumes)
    if not found.refusals:
        steps += _addresses(shape, view, found_way)
        steps += _last_steps(manifest, view, starts, found)
    return AscendPlan(
        request,
        found_way.way,
        found_way.why,
        () if found.refusals else tuple(steps),
        found_way.not_taken,
        tuple(dict.fromkeys((*found.warnings, *found_way.files.warnings))),
        tuple(dict.fromkeys(found.refusals)),
    )


def _check_root(volumes: tuple[CloudVolume, ...], found: Findings) -> None:
    roots = [volume for volume in volumes if volume.kind == "ROOT"]
    if len(roots) != 1:
        found.refuse(
            RefusalCode.NO_VOLUME,
            f"an instance is made of one root disk, and {len(roots)} are chosen",
            "choose a point that holds the root disk, or restore the disks one by one",
        )


def _check_quota(
    shape: Shape,
    manifest: CloudManifest,
    volumes: tuple[CloudVolume, ...],
    quota: Quota,
    found_way: Climb,
    found: Findings,
) -> None:
    was = manifest.instance
    extra = 1 if found_way.way is Way.DEPLOY_AND_SWAP_ROOT else 0
    template = found_way.template.size if extra and found_way.template is not None else 0
    disk_bytes = sum(volume.size for volume in volumes) + template
    needs = (
        ("instances", quota.instances, 1, str),
        ("volumes", quota.volumes, len(volumes) + extra, str),
        ("CPUs", quota.cpus, was.cpus, str),
        ("memory", quota.memory_bytes, was.memory_bytes, format_size),
        ("primary storage", quota.primary_bytes, disk_bytes, format_size),
    )
    for what, left, needed, words in needs:
        if left is not None and left < needed:
            found.refuse(
                RefusalCode.QUOTA,
                f"{shape.owner.words} has {words(left)} left of its limit of {what},"
                f" and {words(needed)} is needed",
                f"raise its limit of {what}, or free some",
            )


def _check_extras(
    manifest: CloudManifest, view: CloudView, volumes: tuple[CloudVolume, ...], found: Findings
) -> None:
    was = manifest.instance
    chosen = {volume.id for volume in volumes}
    left = [each.name for each in was.volumes if each.kind in DISKS and each.id not in chosen]
    if left:
        found.warn(f"not restored, because not chosen or not in the point: {', '.join(left)}")
    if was.tags and not view.may("createTags"):
        found.warn("the key may not tag: the instance's tags will be missing")
    if view.instance is not None and view.instance.state == "Destroyed":
        found.warn("the old instance can still be recovered in CloudStack, and restored in place")
    if was.boot_type.upper() == "UEFI":
        found.warn("UEFI variables do not come along: it boots as its disks say by themselves")
    found.warn("the instance and its disks get new ids, and the disks new serials")


def _warn_of_way(
    manifest: CloudManifest,
    found_way: Climb,
    volumes: tuple[CloudVolume, ...],
    found: Findings,
) -> None:
    was, way, template = manifest.instance, found_way.way, found_way.template
    if way is Way.IMPORT_VM:
        found.warn(
            "the network card gets a new MAC and IP; template, user data, keypairs and groups are"
            " not kept"
        )
        if len(was.nics) > 1:
            others = ", ".join(nic.network for nic in cards_in_order(was)[1:])
            found.warn(f"only the default network card is made; add the others: {others}")
    if way is Way.IMPORT_AND_DEPLOY and was.template_id:
        found.warn("CloudStack shows no template for it any more, so it cannot be reinstalled")
    if way is Way.DEPLOY_AND_SWAP_ROOT:
        found.warn("the template's own root disk is left as a detached volume: delete it")
    if way is Way.DEPLOY_AND_OVERWRITE:
        found.warn("the template is started once in the instance's networks before it is replaced")
        root = volumes[0].size if volumes else 0
        made = max(gib_of(root) * GIB, template.size if template is not None else 0)
        if made > root:
            found.warn(f"the root disk becomes {format_size(made - root)} larger")
    if template is not None and was.os_type_id and template.os_type_id not in ("", was.os_type_id):
        found.warn(f"template {template.name} is of another guest system than {was.os_type}")


def _warn_of_cards(shape: Shape, view: CloudView, found: Findings) -> None:
    """Say what goes with the cards that an import does not make."""
    names = _network_names(view)
    for nic in shape.nics[1:]:
        if nic.secondary_ips:
            lost_addresses(
                nic.secondary_ips,
                names.get(nic.network_id, nic.network_id),
                "only the default network card is made",
                found,
            )


class _Steps:
    """Puts the steps of one way in order."""

    def __init__(
        self,
        view: CloudView,
        request: AscendRequest,
        shape: Shape,
        found_way: Climb,
        found: Findings,
    ) -> None:
        self._view = view
        self._request = request
        self._shape = shape
        self._way = found_way
        self._found = found

    def of(self, volumes: tuple[CloudVolume, ...]) -> list[Step]:
        """Give the steps up to an instance that is off and has all its disks."""
        root, data = volumes[0], volumes[1:]
        if self._way.way is Way.IMPORT_VM:
            return self._import_vm(root, data)
        if self._way.way is Way.DEPLOY_AND_OVERWRITE:
            return self._overwrite(root, data)
        steps = [step for volume in volumes for step in self._imported(volume)]
        if self._way.way is Way.IMPORT_AND_DEPLOY:
            steps.append(DeployFromVolume(root.id, self._shape))
        else:
            steps.append(self._template(root, start=False))
            steps += [DetachRoot(NEW), AttachVolume(root.id, NEW, 0, root.name)]
        return steps + self._attached(data)

    def _imported(self, volume: CloudVolume) -> list[Step]:
        file = self._way.files.places[volume.id]
        shape, offering = self._shape, ""
        if volume.kind != "ROOT":
            offering = import_offering(
                volume, self._view, self._request, shape.zone_id, self._found
            )
        step = ImportVolume(volume.id, file.pool.id, file.name, volume.name, shape.owner, offering)
        return [*file.steps(volume), step]

    def _template(self, root: CloudVolume, *, start: bool) -> DeployFromTemplate:
        template = self._way.template
        wanted = gib_of(root.size) if start else 0
        fixed = template is not None and template.size >= root.size
        return DeployFromTemplate(
            template.id if template is not None else "",
            self._shape,
            start,
            0 if fixed else wanted,
        )

    def _attached(self, data: tuple[CloudVolume, ...]) -> list[Step]:
        """Attach in the order of devices, each where it was if that can be."""
        taken: set[Optional[int]] = {0, ISO_DEVICE, None}
        steps: list[Step] = []
        for volume in data:
            device = volume.device_id
            wanted = None if device in taken else device
            steps.append(AttachVolume(volume.id, NEW, wanted, volume.name))
            taken.add(device)
        return steps

    def _import_vm(self, root: CloudVolume, data: tuple[CloudVolume, ...]) -> list[Step]:
        file = self._way.files.places[root.id]
        steps = file.steps(root)
        steps.append(ImportInstance(root.id, file.pool.id, file.name, self._shape))
        if self._way.imports_data:
            steps += [step for volume in data for step in self._imported(volume)]
            return steps + self._attached(data)
        return steps + self._created(data) + self._attached(data) + self._written(data)

    def _overwrite(self, root: CloudVolume, data: tuple[CloudVolume, ...]) -> list[Step]:
        tags = self._view.may("createTags") and self._view.may("deleteTags")
        steps: list[Step] = [self._template(root, start=True), StopInstance(NEW)]
        steps += [TagInstance(NEW, {MARKER: "running"})] if tags else []
        steps += self._created(data) + self._attached(data) + self._written((root, *data))
        return steps + ([UntagInstance(NEW, (MARKER,))] if tags else [])

    def _written(self, volumes: tuple[CloudVolume, ...]) -> list[Step]:
        writes: list[Step] = [
            WriteDisk(
                each.id, "", "", "", each.size, each.name,
                instance_id=NEW, owner=self._shape.owner,
            )
            for each in volumes
        ]  # fmt: skip
        return writes + [VerifyDisk(each.id, each.size, each.name) for each in volumes]

    def _created(self, data: tuple[CloudVolume, ...]) -> list[Step]:
        steps: list[Step] = []
        for volume in data:
            zone_id, owner = self._shape.zone_id, self._shape.owner
            offering = disk_offering(volume, self._view, self._request, zone_id)
            if offering is not None:  # the ladder has refused it else
                steps.append(create_volume(volume, offering, zone_id, owner, self._found))
        return steps


def _addresses(shape: Shape, view: CloudView, found_way: Climb) -> list[Step]:
    """Give cards their secondary addresses again, before the guest asks for them."""
    names = _network_names(view)
    made = shape.nics[:1] if found_way.way is Way.IMPORT_VM else shape.nics
    return [
        AddAddress(NEW, nic.network_id, ip, names.get(nic.network_id, ""))
        for nic in made
        for ip in nic.secondary_ips
    ]


def _network_names(view: CloudView) -> dict[str, str]:
    return {network.id: network.name for network in view.networks}


def _last_steps(
    manifest: CloudManifest, view: CloudView, starts: bool, found: Findings
) -> list[Step]:
    steps: list[Step] = []
    tags = {key: value for key, value in manifest.instance.tags.items() if key != MARKER}
    if tags and view.may("createTags"):
        steps.append(TagInstance(NEW, tags))
    if starts:
        steps.append(StartInstance(NEW))
    else:
        found.warn("it is left off in the end")
    return steps
