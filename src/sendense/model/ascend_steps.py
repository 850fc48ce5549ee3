"""The steps of a restore into CloudStack, as values: each says for people what it will do.

Steps name what exists by CloudStack's ids.  What a step makes has no id yet, so later steps name it
by what it was: a volume by the id that it had in the point (``source``), and the new instance by
:data:`NEW`.  Whoever carries the plan out keeps a map from these to the ids that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union, get_args

from sendense.errors import Rejected
from sendense.model.cloud import Owner
from sendense.model.coding import decode, encode
from sendense.units import format_size

NEW = "new"
"""Stands for the id of the instance that the plan makes."""
MARKER = "sendense-restore"
"""Tag of an instance that is being restored: whoever sees it should not start it."""


@dataclass(frozen=True)
class StopInstance:
    """Stop an instance, and wait until it is Stopped; nothing where it is already."""

    instance_id: str
    name: str = ""
    """The instance's, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"stop {_instance(self.instance_id, self.name)}"


@dataclass(frozen=True)
class StartInstance:
    """Start an instance."""

    instance_id: str
    name: str = ""
    """The instance's, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"start {_instance(self.instance_id, self.name)}"


@dataclass(frozen=True)
class SafetyPoint:
    """Back the instance up as it is, so that the restore can be undone."""

    instance_id: str
    volume_ids: tuple[str, ...]

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"back up {len(self.volume_ids)} disk(s) as they are now, so that it can be undone"


@dataclass(frozen=True)
class TagInstance:
    """Set tags."""

    instance_id: str
    tags: Mapping[str, str]
    name: str = ""
    """The instance's, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"tag {_instance(self.instance_id, self.name)}: {', '.join(sorted(self.tags))}"


@dataclass(frozen=True)
class UntagInstance:
    """Take tags away."""

    instance_id: str
    keys: tuple[str, ...]
    name: str = ""
    """The instance's, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"take the tag {', '.join(self.keys)} off {_instance(self.instance_id, self.name)}"


@dataclass(frozen=True)
class WriteDisk:
    """Write a disk of the point over a volume's own file, with the instance off."""

    source: str
    """Volume in the point."""
    volume_id: str
    """The volume that is overwritten; empty: the one that the plan made for ``source``."""
    pool_id: str
    path: str
    """On the host; empty: where the cloud says the new volume lies."""
    size: int
    """Bytes of the disk in the point; what the volume has beyond reads as zero."""
    label: str = ""
    """The volume's name, for people."""
    format: str = "qcow2"
    """Of the file there; CloudStack makes qcow2 in pools of files."""
    instance_id: str = ""
    """Whose disk it has to be when it is written; empty in plans of before: not written."""
    owner: Optional[Owner] = None
    """Whose the instance and the volume have to be then."""

    @property
    def words(self) -> str:
        """Say it for people."""
        where = self.path or "the file of the new volume"
        return f"write {_disk(self)} to {where}: only what differs"


@dataclass(frozen=True)
class NewFile:
    """Write a disk of the point to a new file in a pool: standalone, without a backing file."""

    source: str
    pool_id: str
    name: str
    """The file's name in the pool."""
    path: str
    size: int
    label: str = ""
    """The volume's name, for people."""
    reason: str = ""
    """Why that pool."""
    format: str = "qcow2"

    @property
    def words(self) -> str:
        """Say it for people."""
        why = f" ({self.reason})" if self.reason else ""
        return f"write {_disk(self)} to the new file {self.path}{why}"


@dataclass(frozen=True)
class ImportVolume:
    """Make a file of a pool a volume of the cloud (``importVolume``)."""

    source: str
    pool_id: str
    file_name: str
    name: str
    owner: Owner
    offering_id: str = ""
    """Disk offering; empty: CloudStack's own for imports."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"import {self.file_name} as volume {self.name} of {self.owner.words}"


@dataclass(frozen=True)
class CreateVolume:
    """Have CloudStack make a data volume; its file comes with the first attachment."""

    source: str
    name: str
    offering_id: str
    size_gib: int
    """0: the offering has a fixed size."""
    zone_id: str
    owner: Owner

    @property
    def words(self) -> str:
        """Say it for people."""
        size = f" of {self.size_gib} GiB" if self.size_gib else ""
        return f"create volume {self.name}{size} for {self.owner.words}"


@dataclass(frozen=True)
class AttachVolume:
    """Attach the volume that the plan made for ``source``."""

    source: str
    instance_id: str
    device_id: Optional[int]
    """0: as root. None: CloudStack chooses."""
    label: str = ""
    """The volume's name, for people."""
    name: str = ""
    """The instance's, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        where = {None: "as a data disk", 0: "as root disk"}.get(
            self.device_id, f"as device {self.device_id}"
        )
        return f"attach {self.label or 'it'} to {_instance(self.instance_id, self.name)} {where}"


@dataclass(frozen=True)
class DetachRoot:
    """Detach the root volume that CloudStack made of the template; it stays as a volume."""

    instance_id: str

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"detach the template's root disk from {_instance(self.instance_id)}"


@dataclass(frozen=True)
class WantedNic:
    """A network card of the instance to be."""

    network_id: str
    mac: str = ""
    ip: str = ""
    """MAC and IP are CloudStack's choice where they are empty."""
    is_default: bool = False
    secondary_ips: tuple[str, ...] = ()
    """Those that it can have again; they are added when the instance is there."""


@dataclass(frozen=True)
class Shape:
    """The instance to be, apart from its disks: what deploying and importing take."""

    name: str
    display_name: str
    zone_id: str
    owner: Owner
    offering_id: str
    nics: tuple[WantedNic, ...]
    """The default one first."""
    cpus: int = 0
    cpu_mhz: int = 0
    memory_bytes: int = 0
    """All three are 0 where the offering fixes them."""
    boot_type: str = ""
    boot_mode: str = ""
    os_type_id: str = ""
    affinity_group_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    keypairs: tuple[str, ...] = ()
    user_data_id: str = ""
    group: str = ""
    with_secrets: bool = False
    """Details and user data that the point has sealed are given too."""


@dataclass(frozen=True)
class DeployFromVolume:
    """Deploy around the volume that the plan made for ``root`` (4.21 and later); it stays off."""

    root: str
    shape: Shape

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"deploy {_shape(self.shape)} on the restored root disk, without starting it"


@dataclass(frozen=True)
class DeployFromTemplate:
    """Deploy from a template, whose root disk is replaced or overwritten afterwards."""

    template_id: str
    shape: Shape
    start: bool
    """Started, because its root disk has no file before."""
    root_gib: int = 0
    """Wanted size of the root disk; 0: the template's."""

    @property
    def words(self) -> str:
        """Say it for people."""
        how = "and start it once, so that its disk is made" if self.start else "without starting it"
        return f"deploy {_shape(self.shape)} from a template, {how}"


@dataclass(frozen=True)
class ImportInstance:
    """Make an instance of a root disk's file (``importVm``); it is off, with one network card.

    From a local pool (kind ``Filesystem``) the call also names the host that has the file.
    """

    root: str
    pool_id: str
    file_name: str
    shape: Shape

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"import {self.file_name} as {_shape(self.shape)}"


@dataclass(frozen=True)
class AddAddress:
    """Give a card a secondary address again (``addIpToNic``).

    It may be another's by then: that ends no restore, and is told in the result.
    """

    instance_id: str
    network_id: str
    """The card is the instance's only one in it."""
    ip: str
    network: str = ""
    """Its name, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"give the card in {self.network or self.network_id} the secondary address {self.ip}"


@dataclass(frozen=True)
class VerifyDisk:
    """Read a disk back and compare it with the point's hashes."""

    source: str
    size: int
    label: str = ""
    """The volume's name, for people."""

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"read {_disk(self)} back, and compare with the point"


Step = Union[
    StopInstance, StartInstance, SafetyPoint, TagInstance, UntagInstance, WriteDisk, NewFile,
    ImportVolume, CreateVolume, AttachVolume, DetachRoot, DeployFromVolume, DeployFromTemplate,
    ImportInstance, AddAddress, VerifyDisk,
]  # fmt: skip


_KINDS: Mapping[str, type[Step]] = {kind.__name__: kind for kind in get_args(Step)}


def step_to_json(step: Step) -> dict[str, Any]:
    """Give a step as JSON values, so that a restore can go on after a break."""
    return {"step": type(step).__name__, **encode(step)}


def step_from_json(content: Mapping[str, Any]) -> Step:
    """Give the step that JSON values stand for."""
    name = content.get("step")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Rejected(
            f"there is no step {name!r}", hint="finish it with the version that began it"
        )
    found: Step = decode(kind, dict(content))
    return found


def _instance(instance_id: str, name: str = "") -> str:
    return "the new instance" if instance_id == NEW else name or f"instance {instance_id}"


def _disk(step: Union[WriteDisk, NewFile, VerifyDisk]) -> str:
    size = format_size(step.size)
    return f"{step.label} ({size})" if step.label else size


def _shape(shape: Shape) -> str:
    return f"{shape.display_name or shape.name} for {shape.owner.words}"
