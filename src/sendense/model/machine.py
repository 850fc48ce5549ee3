"""A virtual machine as a host shows it: one domain and its disks.

The identity of a machine is its UUID, which outlives names and hosts.  The
identity of a disk is its serial where it has one (CloudStack sets it from the
volume's UUID), else its path: never its position, because a target such as
``vda`` moves when disks are attached and detached.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class PowerState(str, Enum):
    """Whether a guest runs, as far as a capture cares."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class SourceKind(str, Enum):
    """Where a disk's bytes live on the host."""

    FILE = "file"
    BLOCK = "block"
    NETWORK = "network"


@dataclass(frozen=True)
class Disk:
    """One disk device of a machine, as its domain XML describes it."""

    target: str
    """The guest-side device name of libvirt, ``vda``."""
    path: str
    """File or block device on the host; for a network disk, its name there."""
    format: str
    """``qcow2`` or ``raw``: the format of the topmost image."""
    kind: SourceKind
    serial: Optional[str] = None
    bus: str = "virtio"
    read_only: bool = False
    shareable: bool = False

    @property
    def identity(self) -> str:
        """Give the name that stays when targets move: serial, else path."""
        return f"serial:{self.serial}" if self.serial else f"path:{self.path}"

    @property
    def holds_bitmaps(self) -> bool:
        """Tell whether a persistent dirty bitmap can live in this image."""
        return self.format == "qcow2" and self.kind is not SourceKind.NETWORK


@dataclass(frozen=True)
class NetworkCard:
    """One network card: what a restore needs to give the guest the same one."""

    mac: str
    model: str
    source: str


@dataclass(frozen=True)
class Machine:
    """One domain on one host, with what a restore needs to shape it again."""

    uuid: str
    name: str
    power: PowerState
    persistent: bool
    """Whether libvirt keeps the definition when the guest is off; CloudStack's are not."""
    disks: tuple[Disk, ...]
    """Hard disks only: cdroms and floppies are shape, not data."""
    vcpus: int
    memory_bytes: int
    cards: tuple[NetworkCard, ...] = ()
    nvram: Optional[str] = None
    """Path of the UEFI variable store on the host."""
    agent_channel: bool = False
    """Whether the domain has a QEMU guest agent channel."""
    tpm: bool = False
    """Whether it has an emulated TPM, whose state no capture can save."""
