"""Looks at a machine right before a capture: one pass, and nothing is changed.

A running machine is asked through libvirt and QEMU's monitor, because what
``qemu-img`` sees of an image in use is old (a bitmap made in this session is
not in the file at all, libvirt.md F2.2).  A stopped one is read by ``qemu-img``
*without* reading past locks: an image that somebody uses makes the survey fail
with *busy*, because what it said would not be true a moment later.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import libvirt
import libvirt_qemu

from sendense.capture import bitmaps, images
from sendense.capture.connection import errors
from sendense.capture.domains import machine_of
from sendense.capture.domainxml import (
    DomainDisk,
    parse_disks,
    parse_document,
)
from sendense.errors import SendenseError, Unsupported
from sendense.model.machine import Disk, Machine, SourceKind
from sendense.model.survey import DiskSurvey, Survey

log = logging.getLogger(__name__)

_LIBVIRT_SINCE = 7_006_000
_QEMU_SINCE = (6, 1)
"""The pair that first offers incremental backup; CloudStack demands the same for its own.
Debian 11 (7.0 and 5.2) answers "incremental backup is not supported yet"."""

_QUERY_VERSION = '{"execute": "query-version"}'

_BACKUP = 9
_OPERATIONS = {
    1: "start", 2: "save", 3: "restore", 4: "migration in", 5: "migration out",
    6: "snapshot", 7: "snapshot revert", 8: "dump", 9: "backup", 10: "snapshot delete",
}  # fmt: skip
"""virDomainJobOperation, by number: older bindings lack the newer names."""

_NO_SUCH_JOB = (libvirt.VIR_ERR_OPERATION_INVALID, 104)
"""The domain is off, or runs no backup (VIR_ERR_NO_DOMAIN_BACKUP)."""


@dataclass(frozen=True)
class ActiveJob:
    """A job that libvirt runs on a domain, and that keeps other work off it."""

    operation: str
    """In libvirt's words: ``backup``, ``migration out``."""
    socket: Optional[str] = None
    """Of a backup in pull mode: the NBD socket, which tells whose job it is."""

    @property
    def is_backup(self) -> bool:
        """Tell whether this is a backup job."""
        return self.operation == _OPERATIONS[_BACKUP]

    def __str__(self) -> str:
        """Describe it for people."""
        return f"{self.operation} on {self.socket}" if self.socket else self.operation


def survey_running(domain: libvirt.virDomain) -> Survey:
    """Look at a machine whose QEMU runs, or is paused."""
    machine = machine_of(domain)
    with errors(f"surveying {machine.name}"):
        xml = domain.XMLDesc(0)
        # The XML does not resolve volumes of pools; the machine does.
        found = {item.disk.target: item for item in parse_disks(xml)}
        nodes = {
            images.plain_path(path): node for path, node in bitmaps.query_images(domain).items()
        }
        allocated = _allocated_bytes(domain)
        disks = tuple(
            _survey_disk(domain, disk, found.get(disk.target), nodes, allocated)
            for disk in machine.disks
        )
        return Survey(
            machine=machine,
            disks=disks,
            checkpoints=checkpoint_names(domain),
            incremental=incremental_supported(domain),
        )


def survey_stopped(machine: Machine, *, incremental: Optional[bool] = None) -> Survey:
    """Look at a machine that is off, by its images; :class:`Busy` where one is in use.

    ``incremental`` says whether this host's libvirt could go on with a bitmap once the
    machine runs again; where it is not told, qemu-img's own ability decides.
    """
    able = images.bitmaps_supported() if incremental is None else incremental
    return Survey(
        machine=machine,
        disks=tuple(_survey_image(disk) for disk in machine.disks),
        checkpoints=(),
        incremental=able,
    )


def active_job(domain: libvirt.virDomain) -> Optional[ActiveJob]:
    """Describe the job that libvirt runs on the domain, if there is one."""
    with errors("looking for jobs"):
        try:
            stats = domain.jobStats(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in _NO_SUCH_JOB:
                return None
            raise
        if not stats.get("type"):
            return None
        number = int(stats.get("operation", 0))
        operation = _OPERATIONS.get(number, f"operation {number}")
        return ActiveJob(operation, _job_socket(domain) if number == _BACKUP else None)


def incremental_supported(domain: libvirt.virDomain) -> bool:
    """Tell whether checkpoints and incremental backup work for this running domain.

    By what runs, not by the domain capabilities of the host: those describe the
    *installed* QEMU, which after an upgrade is not the one that this guest still
    runs in.  Asking for them also took 3.4-4.1 s a time where QEMU's user may not
    open /dev/kvm, since libvirt then probes QEMU anew for each answer.
    """
    if domain.connect().getLibVersion() < _LIBVIRT_SINCE:
        return False
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, _QUERY_VERSION, 0))
    version = answer["return"]["qemu"]
    return (int(version["major"]), int(version["minor"])) >= _QEMU_SINCE


def backup_by_versions(libvirt_version: int, qemu_version: int) -> bool:
    """Tell whether a host of these versions offers incremental backup to machines it starts."""
    qemu = (qemu_version // 1_000_000, qemu_version // 1000 % 1000)
    return libvirt_version >= _LIBVIRT_SINCE and qemu >= _QEMU_SINCE


def checkpoint_names(domain: libvirt.virDomain) -> tuple[str, ...]:
    """List the names of all checkpoints, foreign ones too."""
    try:
        found = domain.listAllCheckpoints(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ()
        raise
    return tuple(sorted(checkpoint.getName() for checkpoint in found))


def _survey_disk(
    domain: libvirt.virDomain,
    disk: Disk,
    found: Optional[DomainDisk],
    nodes: Mapping[str, bitmaps.ImageNode],
    allocated: Mapping[str, int],
) -> DiskSurvey:
    node = nodes.get(disk.path)
    if node is None and disk.holds_bitmaps:
        # Without its bitmaps the disk is read in full: slow, and right.
        log.warning("QEMU shows no image %s for disk %s", disk.path, disk.target)
    size = int(domain.blockInfo(disk.target, 0)[0])
    chain = found.chain if found is not None else None
    return DiskSurvey(
        disk=disk,
        size=size,
        allocated_bytes=allocated.get(disk.target, size),
        chain=chain or _chain_by_qemu_img(disk),
        bitmaps=() if node is None else node.bitmaps,
        memory_snapshot=False if node is None else node.memory_snapshots,
    )


def _allocated_bytes(domain: libvirt.virDomain) -> dict[str, int]:
    """Sum what the images of each disk's chain take on the storage, by target.

    With its backing files: a full reads those too.  In this mode of the call
    ``physical`` is the file's allocated blocks, and a block device's size.
    """
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING
    answer = domain.connect().domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK, flags)
    stats: dict[str, Any] = answer[0][1] if answer else {}
    sums: dict[str, int] = {}
    for number in range(int(stats.get("block.count", 0))):
        name, physical = (stats.get(f"block.{number}.{key}") for key in ("name", "physical"))
        if name is not None and physical is not None:
            sums[name] = sums.get(name, 0) + int(physical)
    return sums


def _chain_by_qemu_img(disk: Disk) -> tuple[str, ...]:
    """Read a running disk's chain from its files, where libvirt's XML has none."""
    if disk.kind is SourceKind.NETWORK:
        return (disk.path,)
    try:
        return _paths(images.image_chain(disk.path, disk.format, shared=True))
    except SendenseError as error:
        # The chain is only compared between runs: another one makes the disk full.
        log.warning("the backing chain of %s is not known: %s", disk.path, error)
        return (disk.path,)


def _survey_image(disk: Disk) -> DiskSurvey:
    if disk.kind is SourceKind.NETWORK:
        raise Unsupported(
            f"disk {disk.target} ({disk.path}) cannot be read while the machine is off: "
            "it is reached over the network, with secrets that only libvirt has",
            hint=f"back it up while it runs, or leave the disk out: --exclude {disk.target}",
            target=disk.target,
        )
    if disk.format == "raw":
        images.ensure_is_raw(disk.path)
    chain = images.image_chain(disk.path, disk.format)
    top = chain[0]
    on_device = disk.kind is SourceKind.BLOCK
    size = images.block_device_size(disk.path) if on_device and disk.format == "raw" else top.size
    return DiskSurvey(
        disk=disk,
        size=size,
        # Of a block device qemu-img counts 0 allocated bytes: it cannot know.
        allocated_bytes=size if on_device else sum(item.allocated_bytes for item in chain),
        chain=_paths(chain),
        bitmaps=top.bitmaps,
        memory_snapshot=bool(top.snapshots),
    )


def _paths(chain: Iterable[images.ImageFacts]) -> tuple[str, ...]:
    return tuple(item.path for item in chain)


def _job_socket(domain: libvirt.virDomain) -> Optional[str]:
    try:
        xml = domain.backupGetXMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NO_SUCH_JOB:
            return None  # ended in between
        raise
    server = parse_document(xml).find("server")
    return None if server is None else server.get("socket")
