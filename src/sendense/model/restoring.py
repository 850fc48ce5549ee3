"""Where each disk of a point goes in a restore, and why: a plan, before anything is touched.

Three kinds of destination: new files in a directory, block devices that the
operator named, and the disks of a stopped machine, overwritten in place.

A restore in place destroys what is there, so a disk is matched with its
destination by what it *is*, never by its position: targets such as ``vda`` move
when disks are attached and detached (a CloudStack issue restored volumes in the
wrong order).  In order: the same serial; the same path; the same volume UUID as
the file's name.  Whatever leaves a doubt (no match, two, another size or format, a
machine that is not off) is :class:`~sendense.errors.Rejected`, naming the disk.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from sendense.errors import NotFound, Rejected
from sendense.model.machine import Disk, Machine, PowerState
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.selection import matches
from sendense.model.survey import Bitmap, is_own

FORMATS = ("qcow2", "raw")
"""What a new file can be."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class DestinationKind(str, Enum):
    """What a disk is restored to."""

    NEW_FILE = "new-file"
    BLOCK_DEVICE = "block-device"
    IN_PLACE = "in-place"


@dataclass(frozen=True)
class DiskDestination:
    """Where one disk goes."""

    kind: DestinationKind
    path: str
    format: str
    capacity: int
    """Bytes it has room for; what is behind the disk's end will read as zero."""
    stale_bitmaps: tuple[str, ...] = ()
    """Our bitmaps in the image: they track another timeline, and go before the first write."""


@dataclass(frozen=True)
class DiskRestore:
    """One disk of the plan."""

    image: DiskImage
    destination: DiskDestination
    reason: str
    """Why this destination is the disk's."""


@dataclass(frozen=True)
class LeftOut:
    """A disk of the point that this restore does not touch."""

    image: DiskImage
    reason: str


@dataclass(frozen=True)
class RestorePlan:
    """All that a restore will do."""

    point: RecoveryPoint
    disks: tuple[DiskRestore, ...]
    left_out: tuple[LeftOut, ...] = ()
    folder: Optional[str] = None
    """The directory of new files."""
    overwrite: bool = False
    """Whether new files may replace files of the same name."""
    machine: Optional[Machine] = None
    """Whose disks are overwritten in place."""

    @property
    def size(self) -> int:
        """Give the virtual size of all disks to restore."""
        return sum(item.image.size for item in self.disks)


@dataclass(frozen=True)
class Occupant:
    """A disk of the machine that is restored in place, as it was found."""

    disk: Disk
    size: int
    """Virtual size in bytes."""
    bitmaps: tuple[Bitmap, ...] = ()


@dataclass(frozen=True)
class VolumePlace:
    """A volume as whoever made it knows it."""

    path: str
    format: str
    """``qcow2`` or ``raw``."""
    size: int
    """Virtual size in bytes."""


def plan_new_files(
    point: RecoveryPoint,
    images: Iterable[DiskImage],
    *,
    folder: str,
    image_format: Optional[str] = None,
    overwrite: bool = False,
) -> RestorePlan:
    """Plan new files ``<folder>/<target>.<format>``; each keeps its format unless one is named."""
    chosen = tuple(images)
    items = tuple(_new_file(image, folder, image_format or image.disk.format) for image in chosen)
    return RestorePlan(point, items, _others(point, chosen), folder=folder, overwrite=overwrite)


def _new_file(image: DiskImage, folder: str, image_format: str) -> DiskRestore:
    target = image.disk.target
    if image_format not in FORMATS:
        raise Rejected(
            f"disk {target} cannot be restored as {image_format!r}",
            hint=f"choose one of {', '.join(FORMATS)}",
        )
    if not _SAFE_NAME.fullmatch(target):
        # It comes out of a stored XML: it must not lead out of the directory.
        raise Rejected(f"{target!r} is no name for a file")
    path = posixpath.join(folder, f"{target}.{image_format}")
    return DiskRestore(
        image,
        DiskDestination(DestinationKind.NEW_FILE, path, image_format, image.size),
        "a new file",
    )


def plan_devices(
    point: RecoveryPoint,
    images: Iterable[DiskImage],
    *,
    mapping: Mapping[str, str],
    capacities: Mapping[str, int],
    allow_larger: bool = False,
) -> RestorePlan:
    """Plan block devices: ``mapping`` from a disk's target, serial or path to a device.

    ``capacities`` has the bytes of each device.  Disks without one are left out.
    """
    images = tuple(images)
    items: list[DiskRestore] = []
    for name, device in mapping.items():
        image = _named(images, name)
        _ensure_unclaimed(items, image, device)
        destination = DiskDestination(
            DestinationKind.BLOCK_DEVICE, device, "raw", capacities[device]
        )
        item = DiskRestore(image, destination, f"named for {name}")
        _ensure_same_size(item, allow_larger=allow_larger)
        items.append(item)
    if not items:
        raise Rejected("no device is named", hint="say which disk goes where: vda=/dev/...")
    return RestorePlan(point, tuple(items), _others(point, (item.image for item in items)))


def _named(images: tuple[DiskImage, ...], name: str) -> DiskImage:
    found = [image for image in images if matches(image.disk, name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(image.disk.target for image in images)
    if not found:
        raise NotFound(f"the point has no disk {name!r}", hint=f"it has: {known}")
    raise Rejected(
        f"{name!r} means {len(found)} disks of the point",
        hint="name each by its serial or its path",
    )


def plan_in_place(
    point: RecoveryPoint,
    images: Iterable[DiskImage],
    *,
    machine: Machine,
    occupants: Iterable[Occupant],
    allow_larger: bool = False,
) -> RestorePlan:
    """Plan to overwrite the disks of ``machine``, which must be off."""
    if machine.uuid != point.machine.uuid:
        raise Rejected(
            f"the point is of {point.machine.name} ({point.machine.uuid}),"
            f" not of {machine.name} ({machine.uuid})",
            hint="restore it to new files instead",
        )
    if machine.power is not PowerState.STOPPED:
        raise Rejected(
            f"{machine.name} is {machine.power.value}; its disks cannot be overwritten",
            hint="stop it first (and keep it stopped until the restore is done)",
        )
    found = tuple(occupants)
    chosen = tuple(images)
    items: list[DiskRestore] = []
    for image in chosen:
        occupant, reason = _find_occupant(image, found)
        _ensure_unclaimed(items, image, occupant.disk.path)
        item = DiskRestore(image, _in_place(image, occupant), reason)
        _ensure_same_size(item, allow_larger=allow_larger)
        items.append(item)
    return RestorePlan(point, tuple(items), _others(point, chosen), machine=machine)


def plan_onto_volumes(
    point: RecoveryPoint,
    images: Iterable[DiskImage],
    *,
    places: Mapping[str, VolumePlace],
    machine: Machine,
    allow_larger: bool = False,
) -> RestorePlan:
    """Plan to overwrite volumes that somebody names, of whichever machine.

    ``places`` is by a disk's identity, target, serial or path.  Disks without one are left out.
    """
    images = tuple(images)
    items: list[DiskRestore] = []
    for name, place in places.items():
        image = next((one for one in images if one.disk.identity == name), None)
        image = image or _named(images, name)
        if place.format not in FORMATS:
            raise Rejected(
                f"disk {image.disk.target}: {place.path} is {place.format!r}, which is none of "
                f"{', '.join(FORMATS)}",
                disk=image.disk.target,
            )
        _ensure_unclaimed(items, image, place.path)
        destination = DiskDestination(
            DestinationKind.IN_PLACE, place.path, place.format, place.size
        )
        item = DiskRestore(image, destination, f"named for {name}")
        _ensure_same_size(item, allow_larger=allow_larger)
        items.append(item)
    if not items:
        raise Rejected("no volume is named", hint="say which disk of the point goes where")
    return RestorePlan(
        point, tuple(items), _others(point, (item.image for item in items)), machine=machine
    )


def _find_occupant(image: DiskImage, occupants: tuple[Occupant, ...]) -> tuple[Occupant, str]:
    """Find the one disk of the machine that is this one."""
    wanted = image.disk
    if wanted.serial:
        same = [item for item in occupants if item.disk.serial == wanted.serial]
        if same:
            return _only(image, same, f"serial {wanted.serial}"), f"same serial {wanted.serial}"
    # A disk with another serial at the same place is another disk.
    free = [item for item in occupants if not (wanted.serial and item.disk.serial)]
    same = [item for item in free if item.disk.path == wanted.path]
    if same:
        return _only(image, same, f"path {wanted.path}"), "same path"
    volume = posixpath.basename(wanted.path)
    if _UUID.fullmatch(volume):
        same = [item for item in free if posixpath.basename(item.disk.path) == volume]
        if same:
            return _only(image, same, f"volume {volume}"), f"same volume {volume}"
    raise Rejected(
        f"no disk of the machine is {wanted.target} of the point ({wanted.identity})",
        hint="leave it out with --exclude, or restore it to a new file and attach that",
        disk=wanted.target,
    )


def _only(image: DiskImage, found: list[Occupant], what: str) -> Occupant:
    if len(found) > 1:
        targets = ", ".join(item.disk.target for item in found)
        raise Rejected(
            f"disk {image.disk.target}: more than one disk of the machine has {what}: {targets}",
            disk=image.disk.target,
        )
    return found[0]


def _in_place(image: DiskImage, occupant: Occupant) -> DiskDestination:
    """Describe the destination, if it can be overwritten at all."""
    disk = occupant.disk
    doubts = (
        (disk.read_only, "is read-only"),
        (disk.shareable, "is shared with other machines"),
        (
            image.disk.format != disk.format,
            f"is {disk.format} now, and was {image.disk.format} in the point",
        ),
    )
    for doubtful, what in doubts:
        if doubtful:
            raise Rejected(
                f"disk {image.disk.target}: its destination {disk.path} {what}",
                hint="restore it to a new file instead",
                disk=image.disk.target,
            )
    return DiskDestination(
        DestinationKind.IN_PLACE,
        disk.path,
        disk.format,
        occupant.size,
        tuple(bitmap.name for bitmap in occupant.bitmaps if is_own(bitmap.name)),
    )


def _ensure_unclaimed(items: list[DiskRestore], image: DiskImage, path: str) -> None:
    """Refuse to write one disk twice, or two disks to one place."""
    for item in items:
        if item.destination.path == path or item.image is image:
            raise Rejected(
                f"disk {image.disk.target} and disk {item.image.disk.target}"
                f" both lead to {path}, or are one disk that goes to two places",
                disk=image.disk.target,
            )


def _ensure_same_size(item: DiskRestore, *, allow_larger: bool) -> None:
    size, place = item.image.size, item.destination
    target = item.image.disk.target
    if place.capacity < size:
        raise Rejected(
            f"disk {target}: {place.path} has {place.capacity} bytes, the disk needs {size}",
            hint="give it a larger destination, or restore it to a new file",
            disk=target,
        )
    if place.capacity > size and not allow_larger:
        raise Rejected(
            f"disk {target}: {place.path} has {place.capacity} bytes, the disk has {size}",
            hint="if it was enlarged since, say --allow-larger: the rest will read as zero",
            disk=target,
        )


def _others(point: RecoveryPoint, chosen: Iterable[DiskImage]) -> tuple[LeftOut, ...]:
    taken = {image.disk.identity for image in chosen}
    return tuple(
        LeftOut(image, "not chosen") for image in point.disks if image.disk.identity not in taken
    )
