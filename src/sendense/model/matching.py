"""Which machine of a host is which instance of a cloud, and which disk is which volume.

A machine is an instance by its UUID.  The name that libvirt shows is a check and no key: the same
name with another UUID is a doubt.  A disk is a volume by the serial that CloudStack sets, by the
volume's UUID in the file's name, or by the path that the API gives, in this order of trust.  The
order of disks and their targets say nothing: both move when disks are attached and detached.

All clues have to agree.  Where they do not, or two fit, there is no pair but a :class:`Doubt`,
which names the reason.  A wrong pair would put one customer's bytes into another's disk.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional, Union

from sendense.errors import Conflict, NotFound, Rejected
from sendense.model.cloud import CloudInstance, CloudPool, CloudVolume
from sendense.model.machine import Disk, Machine
from sendense.model.places import FILE_POOLS, Place, disks_of, place_of

_SYSTEM_MACHINE = re.compile(r"[rsv]-\d+-[^-\s+]+")
"""The whole name; its end is the setting ``instance.name``, which has no hyphen, blank or plus."""
_PARKED = "DUMMY-VM-"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SERIAL = re.compile(r"[0-9a-f]{20}")


class Verdict(str, Enum):
    """What a machine of a host is to a cloud."""

    MATCHED = "matched"
    IGNORED = "ignored"
    """CloudStack's own: a system VM, or a machine it makes for a moment."""
    UNKNOWN = "unknown"
    """No cloud shows it."""
    DOUBTFUL = "doubtful"


@dataclass(frozen=True)
class InstanceMatch:
    """The instance that a machine is, if it is one."""

    verdict: Verdict
    reason: str
    instance: Optional[CloudInstance] = None
    """With ``matched`` only."""
    warning: str = ""
    """What is odd, and does not make it another one."""


def is_clouds_own(name: str) -> bool:
    """Tell whether a machine's name is one that CloudStack gives to machines of its own."""
    return _SYSTEM_MACHINE.fullmatch(name) is not None or name.startswith(_PARKED)


class InstanceIndex:
    """Instances by what machines are looked up with; made once for many machines."""

    def __init__(self, instances: Iterable[CloudInstance]) -> None:
        """Keep instances of one or more clouds."""
        self._by_id: dict[str, list[CloudInstance]] = {}
        self._by_name: dict[str, list[CloudInstance]] = {}
        for instance in instances:
            self._by_id.setdefault(instance.id.lower(), []).append(instance)
            if instance.domain_name:
                self._by_name.setdefault(instance.domain_name, []).append(instance)

    def match(self, machine: Machine) -> InstanceMatch:
        """Tell which instance a machine is."""
        same = self._by_id.get(machine.uuid.lower(), [])
        named = self._by_name.get(machine.name, [])
        if len(same) > 1:
            return _doubt(f"{len(same)} clouds show an instance with the UUID {machine.uuid}")
        if same:
            return _same_uuid(machine, same[0], named)
        if named:
            other = named[0]
            return _doubt(
                f"{machine.name} is the name of instance {other.shown_name} ({other.id}),"
                f" but the machine's UUID is {machine.uuid}"
            )
        if is_clouds_own(machine.name):
            return InstanceMatch(Verdict.IGNORED, f"{machine.name} is CloudStack's own machine")
        return InstanceMatch(Verdict.UNKNOWN, f"no cloud shows an instance {machine.uuid}")


def _doubt(reason: str) -> InstanceMatch:
    return InstanceMatch(Verdict.DOUBTFUL, reason)


def _same_uuid(
    machine: Machine, instance: CloudInstance, named: list[CloudInstance]
) -> InstanceMatch:
    if instance.domain_name in ("", machine.name):
        return InstanceMatch(Verdict.MATCHED, f"same UUID {machine.uuid}", instance)
    if named:
        return _doubt(
            f"the UUID is that of instance {instance.shown_name}, but the name {machine.name}"
            f" is that of instance {named[0].shown_name} ({named[0].id})"
        )
    return InstanceMatch(
        Verdict.MATCHED,
        f"same UUID {machine.uuid}",
        instance,
        f"the host names it {machine.name}, the cloud {instance.domain_name}",
    )


class Clue(str, Enum):
    """What tells that a disk is a volume; the strongest first."""

    SERIAL = "serial"
    NAME = "name"
    """The volume's UUID is in the file's name."""
    PATH = "path"
    """The API says that the volume lies there."""


class DoubtKind(str, Enum):
    """Why there is no pair."""

    TWO_VOLUMES = "two-volumes"
    """More than one volume fits a disk."""
    TWO_DISKS = "two-disks"
    """More than one disk fits a volume."""
    CONTRADICTION = "contradiction"
    """The serial says one thing, name or path another."""
    OF_ANOTHER = "of-another-instance"
    SIZE = "size"


@dataclass(frozen=True)
class DiskPair:
    """One disk that is one volume, and why."""

    volume: CloudVolume
    disk: Disk
    by: Clue
    """The strongest clue."""
    reason: str


@dataclass(frozen=True)
class Doubt:
    """Disks and volumes that are not paired, because the clues are not clear."""

    kind: DoubtKind
    reason: str
    targets: tuple[str, ...] = ()
    volume_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskMatch:
    """All disks of a machine against all volumes of its instance."""

    instance: CloudInstance
    machine: Machine
    pairs: tuple[DiskPair, ...]
    doubts: tuple[Doubt, ...] = ()
    extra_disks: tuple[Disk, ...] = ()
    """Disks without a clue to any volume."""
    extra_volumes: tuple[CloudVolume, ...] = ()
    """Volumes that no disk is."""

    @property
    def sure(self) -> bool:
        """Tell whether nothing contradicts; one side may still have more than the other."""
        return not self.doubts

    @property
    def complete(self) -> bool:
        """Tell whether every disk is a volume and every volume a disk."""
        return self.sure and not self.extra_disks and not self.extra_volumes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what one side has and the other lacks, for the point that is made all the same."""
        said = []
        missing = [volume for volume in self.extra_volumes if volume.state == "Ready"]
        if missing:
            names = ", ".join(f"{volume.name} ({volume.id})" for volume in missing)
            said.append(f"the host shows no disk of these volumes, which the point lacks: {names}")
        if self.extra_disks:
            names = ", ".join(f"{disk.target} ({disk.path})" for disk in self.extra_disks)
            said.append(f"no volume of the cloud is told to be these disks: {names}")
        return tuple(said)

    def pair_of(self, volume_id: str) -> DiskPair:
        """Give the pair of a volume; in doubt, and without one, that is refused."""
        for pair in self.pairs:
            if pair.volume.id == volume_id:
                return pair
        for doubt in self.doubts:
            if volume_id in doubt.volume_ids:
                raise Conflict(
                    f"which disk volume {volume_id} is cannot be told: {doubt.reason}",
                    hint="compare the machine's XML with the volumes in CloudStack",
                    volume=volume_id,
                )
        raise NotFound(
            f"no disk of {self.machine.name} is volume {volume_id}",
            hint="let the cloud be read again; the volume may have been detached",
            volume=volume_id,
        )

    def ensure_sure(self) -> None:
        """Refuse doubts."""
        if self.doubts:
            raise Conflict(
                f"the disks of {self.machine.name} do not fit its volumes: "
                + "; ".join(doubt.reason for doubt in self.doubts),
                hint="let the cloud be read again; then compare XML and volumes",
                instance=self.instance.id,
            )


def match_disks(
    machine: Machine,
    instance: CloudInstance,
    pools: Mapping[str, CloudPool],
    *,
    sizes: Optional[Mapping[str, int]] = None,
    elsewhere: Iterable[CloudVolume] = (),
    in_place: bool = False,
) -> DiskMatch:
    """Pair disks with volumes.

    ``sizes`` are the virtual sizes that the host shows, by target; ``elsewhere`` are volumes of
    other instances, so that a disk that is one of them is told from one that is unknown;
    ``in_place`` wants each disk where the cloud says that its volume lies: of a machine that is
    off, a definition of long ago may name files that are another's by now.
    """
    if machine.uuid.lower() != instance.id.lower():
        raise Rejected(f"{machine.name} ({machine.uuid}) is not instance {instance.id}")
    clues = _Clues(disks_of(instance), pools, tuple(elsewhere), in_place=in_place)
    found = [clues.judge(disk, (sizes or {}).get(disk.target)) for disk in machine.disks]
    pairs, doubts = _without_shared([item for item in found if isinstance(item, DiskPair)])
    doubts += [item for item in found if isinstance(item, Doubt)]
    extra = (disk for disk, item in zip(machine.disks, found) if item is None)
    taken = {pair.volume.id for pair in pairs}.union(*(doubt.volume_ids for doubt in doubts))
    return DiskMatch(
        instance,
        machine,
        tuple(pairs),
        tuple(doubts),
        tuple(extra),
        tuple(volume for volume in disks_of(instance) if volume.id not in taken),
    )


def _without_shared(pairs: list[DiskPair]) -> tuple[list[DiskPair], list[Doubt]]:
    """Take out the pairs of volumes that more than one disk claims to be."""
    by_volume: dict[str, list[DiskPair]] = {}
    for pair in pairs:
        by_volume.setdefault(pair.volume.id, []).append(pair)
    doubts = []
    for claims in by_volume.values():
        if len(claims) > 1:
            targets = tuple(sorted(pair.disk.target for pair in claims))
            volume = claims[0].volume
            reason = f"{', '.join(targets)} all seem to be volume {volume.name}"
            doubts.append(Doubt(DoubtKind.TWO_DISKS, reason, targets, (volume.id,)))
    return [pair for pair in pairs if len(by_volume[pair.volume.id]) == 1], doubts


class _Clues:
    """What the volumes of one instance can be told by."""

    def __init__(
        self,
        volumes: tuple[CloudVolume, ...],
        pools: Mapping[str, CloudPool],
        elsewhere: tuple[CloudVolume, ...],
        *,
        in_place: bool,
    ) -> None:
        self._in_place = in_place
        self._files = frozenset(pool.id for pool in pools.values() if pool.kind in FILE_POOLS)
        own = {volume.id for volume in volumes}
        self._own = volumes
        self._others = tuple(volume for volume in elsewhere if volume.id not in own)
        self._places = {
            volume.id: place_of(volume, pools.get(volume.pool_id))
            for volume in (*volumes, *self._others)
        }

    def judge(self, disk: Disk, size: Optional[int]) -> Union[DiskPair, Doubt, None]:
        """Give a pair, a doubt, or nothing where no clue leads anywhere."""
        found = {clue: self._found(clue, disk, self._own) for clue in Clue}
        volumes = {volume.id: volume for group in found.values() for volume in group}
        stray = [each for clue in Clue for each in self._found(clue, disk, self._others)]
        if stray:
            return Doubt(
                DoubtKind.OF_ANOTHER,
                f"{disk.target} ({disk.path}) is volume {stray[0].name} of another instance",
                (disk.target,),
                tuple(sorted(volumes)),
            )
        if not volumes:
            return None
        doubt = _doubt_of(disk, found, volumes)
        if doubt is not None:
            return doubt
        (volume,) = volumes.values()
        doubt = self._size_doubt(disk, volume, size) or self._place_doubt(disk, volume, found)
        if doubt is not None:
            return doubt
        clues = [clue for clue in Clue if found[clue]]
        return DiskPair(volume, disk, clues[0], self._words(disk, volume, clues))

    def _size_doubt(self, disk: Disk, volume: CloudVolume, size: Optional[int]) -> Optional[Doubt]:
        if size is None or not volume.size or size == volume.size:
            return None
        if size > volume.size and volume.pool_id not in self._files:
            return None  # block storage gives whole extents
        reason = f"{disk.target} has {size} bytes, volume {volume.name} has {volume.size}"
        return Doubt(DoubtKind.SIZE, reason, (disk.target,), (volume.id,))

    def _place_doubt(
        self, disk: Disk, volume: CloudVolume, found: Mapping[Clue, list[CloudVolume]]
    ) -> Optional[Doubt]:
        if not self._in_place or found[Clue.PATH]:
            return None
        place = self._places[volume.id]
        there = place.path if isinstance(place, Place) else place.reason
        reason = f"the host has {disk.target} at {disk.path}, the cloud {volume.name} at {there}"
        return Doubt(DoubtKind.CONTRADICTION, reason, (disk.target,), (volume.id,))

    def _found(self, clue: Clue, disk: Disk, volumes: Iterable[CloudVolume]) -> list[CloudVolume]:
        return [volume for volume in volumes if self._fits(clue, disk, volume)]

    def _fits(self, clue: Clue, disk: Disk, volume: CloudVolume) -> bool:
        if clue is Clue.SERIAL:
            return bool(disk.serial) and (disk.serial or "").lower() == volume.serial.lower()
        if clue is Clue.NAME:
            return volume.id.lower() in _uuids(disk)
        place = self._places[volume.id]
        return isinstance(place, Place) and place.path == disk.path

    def _words(self, disk: Disk, volume: CloudVolume, clues: list[Clue]) -> str:
        words = {
            Clue.SERIAL: f"its serial is {disk.serial}",
            Clue.NAME: "the volume's UUID is in the file's name",
            Clue.PATH: "the cloud says it lies there",
        }
        said = ", ".join(words[clue] for clue in clues)
        place = self._places[volume.id]
        if Clue.PATH not in clues and isinstance(place, Place):
            # After a snapshot or a migration the API may be late; the live machine is the truth.
            said += f" (the cloud says {place.path})"
        return f"{disk.target} is {volume.name}: {said}"


def _uuids(disk: Disk) -> frozenset[str]:
    """Give the UUIDs in a file's name; of a device, those in its path (``by-res/cs-<uuid>/0``)."""
    path = disk.path.lower()
    name = path if path.startswith("/dev/") else posixpath.basename(path)
    return frozenset(_UUID.findall(name))


def _doubt_of(
    disk: Disk, found: Mapping[Clue, list[CloudVolume]], volumes: Mapping[str, CloudVolume]
) -> Optional[Doubt]:
    ids = tuple(sorted(volumes))
    for clue, group in found.items():
        if len(group) > 1:
            names = ", ".join(volume.name for volume in group)
            reason = f"{disk.target} fits more than one volume by its {clue.value}: {names}"
            return Doubt(DoubtKind.TWO_VOLUMES, reason, (disk.target,), ids)
    if len(volumes) > 1:
        said = "; ".join(f"{clue.value}: {group[0].name}" for clue, group in found.items() if group)
        reason = f"{disk.target} is told to be several volumes ({said})"
        return Doubt(DoubtKind.CONTRADICTION, reason, (disk.target,), ids)
    if not found[Clue.SERIAL] and disk.serial and _SERIAL.fullmatch(disk.serial.lower()):
        (volume,) = volumes.values()
        reason = (
            f"{disk.target} lies where volume {volume.name} should,"
            f" but its serial {disk.serial} is of another volume"
        )
        return Doubt(DoubtKind.CONTRADICTION, reason, (disk.target,), ids)
    return None
