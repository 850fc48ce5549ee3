"""Where a restore over an agent goes: a pool, a machine's disks, or volumes that somebody names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from sendense.model.machine import Machine, PowerState, SourceKind
from sendense.model.point import RecoveryPoint
from sendense.model.restoring import (
    DiskRestore,
    Occupant,
    RestorePlan,
    VolumePlace,
    plan_in_place,
    plan_new_files,
    plan_onto_volumes,
)
from sendense.model.selection import select_disks
from sendense.model.survey import Survey
from sendense.targets.domainxml import Identity


@dataclass(frozen=True)
class ToPool:
    """New files in a pool of the host, and a machine around them."""

    pool: str
    """Directory; one of the agent's pools."""
    identity: Identity | None = None
    image_format: str | None = None
    define: bool = False
    start: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of the new files, by the identity of their disks; those without one get one here."""
    allow_larger: ClassVar[bool] = True
    nvram: ClassVar[bool] = False


@dataclass(frozen=True)
class OntoMachine:
    """The disks of a machine of the host that is off."""

    survey: Survey | None = None
    """As the agent sees it; none where libvirt has forgotten the machine, as it does with
    CloudStack's when they stop: then the places are those of the point."""
    allow_larger: bool = False
    start: bool = False
    nvram: bool = True
    """Whether the machine gets the point's UEFI variables too, where it has such."""


@dataclass(frozen=True)
class OntoVolumes:
    """Volumes that the control plane knows, of a machine that is off.

    They may be those of another machine than the point's: one disk for another instance, or
    fresh volumes of a new one.
    """

    machine: str
    """UUID of the machine whose volumes these are, which is held and has to stay off; of a volume
    that belongs to none, the volume's own."""
    places: Mapping[str, VolumePlace]
    """Where a disk of the point goes, by its identity, target, serial or path.  Disks without a
    place are left out."""
    name: str = ""
    """Of the machine, for people."""
    allow_larger: bool = False
    nvram: bool = False
    """Whether the machine gets the point's UEFI variables too: it is UEFI, and all of its disks
    that matter to its firmware are the point's."""
    start: ClassVar[bool] = False
    """Whoever knows the volumes starts it."""


RemoteDestination = ToPool | OntoMachine | OntoVolumes


def plan_remote_restore(
    point: RecoveryPoint,
    destination: RemoteDestination,
    *,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> RestorePlan:
    """Decide where each disk goes, or refuse; changes nothing."""
    disks = select_disks(
        tuple(image.disk for image in point.disks), include=include, exclude=exclude
    )
    chosen = tuple(image for image in point.disks if image.disk in disks)
    if isinstance(destination, ToPool):
        plan = plan_new_files(
            point, chosen, folder=destination.pool, image_format=destination.image_format
        )
        return replace(plan, disks=tuple(_named(point, item, destination) for item in plan.disks))
    if isinstance(destination, OntoVolumes):
        return plan_onto_volumes(
            point,
            chosen,
            places=destination.places,
            machine=_owner(destination),
            allow_larger=destination.allow_larger,
        )
    machine, occupants = _occupants(point, destination.survey)
    return plan_in_place(
        point,
        chosen,
        machine=machine,
        occupants=occupants,
        allow_larger=destination.allow_larger,
    )


def _named(point: RecoveryPoint, item: DiskRestore, destination: ToPool) -> DiskRestore:
    """Name a file so that it meets no other in a pool that many machines share."""
    place = item.destination
    disk = item.image.disk
    name = destination.names.get(disk.identity)
    name = name or f"{point.machine.uuid}-{disk.target}-{point.id}.{place.format}"
    path = f"{destination.pool.rstrip('/')}/{name}"
    return replace(item, destination=replace(place, path=path))


def _owner(destination: OntoVolumes) -> Machine:
    uuid = destination.machine
    return Machine(uuid, destination.name or uuid, PowerState.STOPPED, False, (), 0, 0)


def _occupants(point: RecoveryPoint, survey: Survey | None) -> tuple[Machine, list[Occupant]]:
    if survey is None:
        # The point tells how the machine was when it was taken.  What libvirt has forgotten is off;
        # the agent looks again, and watches it.
        off = replace(point.machine, power=PowerState.STOPPED)
        return off, [Occupant(image.disk, image.size) for image in point.disks]
    found = [
        Occupant(seen.disk, seen.size, seen.bitmaps)
        for seen in survey.disks
        if seen.disk.kind is not SourceKind.NETWORK
    ]
    return survey.machine, found
