"""Restore: disks of a point to new files, to block devices, or in place.

New files appear complete or not at all::

    lock the directory -> write parts -> (read back) -> names for all -> NVRAM -> domain.xml

A place that exists is overwritten, which cannot be taken back; so::

    image unused? -> our stale bitmaps off -> mark "half restored" -> write -> flush
    -> (read back) -> next disk ... -> NVRAM -> all complete -> mark off

Every byte comes verified out of the repository.  Whatever goes wrong is an
exception; there is no success with remarks.  The caller holds the machine's claim
(``capture.journal``) around a restore in place.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sendense import clock, steps
from sendense.capture import images
from sendense.errors import Busy, Cancelled, NotFound, Rejected, SendenseError
from sendense.model.machine import Machine, PowerState, SourceKind
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.model.restoring import (
    DestinationKind,
    DiskRestore,
    Occupant,
    RestorePlan,
    plan_devices,
    plan_in_place,
    plan_new_files,
)
from sendense.model.selection import select_disks
from sendense.model.survey import is_own
from sendense.repository.protocol import PointReader, Repository
from sendense.targets import staging
from sendense.targets.blockdevice import BlockDevice
from sendense.targets.domainxml import Identity, RestoredDisk, ShapedDomain, shape_domain
from sendense.targets.marks import Marks
from sendense.targets.nbd import NbdDisk
from sendense.targets.newfile import new_file
from sendense.targets.readback import ensure_reads_back
from sendense.targets.target import Target
from sendense.transfer.copy import Pump
from sendense.transfer.meter import Meter
from sendense.transfer.throttle import UNLIMITED, Throttle

log = logging.getLogger(__name__)

DOMAIN_XML = "domain.xml"
NVRAM = "nvram.fd"
"""Attachments of a point, and files beside restored disks."""


@dataclass(frozen=True)
class ToFolder:
    """New files in a directory."""

    folder: Path
    image_format: str | None = None
    """``qcow2`` or ``raw``; none keeps each disk's own."""
    overwrite: bool = False


@dataclass(frozen=True)
class ToDevices:
    """Existing block devices."""

    mapping: Mapping[str, str]
    """From a disk's target, serial or path to a device."""
    allow_larger: bool = False
    machines: tuple[Machine, ...] = ()
    """Those of this host: QEMU opens a device in a way that does not keep us out."""


@dataclass(frozen=True)
class InPlace:
    """The disks of a machine that is off."""

    machine: Machine
    allow_larger: bool = False


Destination = ToFolder | ToDevices | InPlace


def plan_restore(
    point: RecoveryPoint,
    destination: Destination,
    *,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> RestorePlan:
    """Decide where each disk goes, or refuse; looks at the host, changes nothing."""
    disks = select_disks(
        tuple(image.disk for image in point.disks), include=include, exclude=exclude
    )
    chosen = tuple(image for image in point.disks if image.disk in disks)
    if isinstance(destination, ToFolder):
        return _plan_folder(point, chosen, destination)
    if isinstance(destination, ToDevices):
        _refuse_devices(destination)
        return plan_devices(
            point,
            chosen,
            mapping=destination.mapping,
            capacities={
                device: images.block_device_size(device) for device in destination.mapping.values()
            },
            allow_larger=destination.allow_larger,
        )
    return plan_in_place(
        point,
        chosen,
        machine=destination.machine,
        occupants=_occupants(destination.machine),
        allow_larger=destination.allow_larger,
    )


def _plan_folder(
    point: RecoveryPoint, chosen: tuple[DiskImage, ...], destination: ToFolder
) -> RestorePlan:
    plan = plan_new_files(
        point,
        chosen,
        # The paths end up in a domain XML, which has no working directory.
        folder=str(destination.folder.absolute()),
        image_format=destination.image_format,
        overwrite=destination.overwrite,
    )
    if not plan.overwrite:
        for item in plan.disks:
            staging.ensure_absent(Path(item.destination.path))
        for name in _files_beside(point):
            staging.ensure_absent(destination.folder / name)
    return plan


def _refuse_devices(destination: ToDevices) -> None:
    """Refuse what is no block device, and one that a machine runs on."""
    used = {
        number: f"disk {disk.target} of {machine.name}"
        for machine in destination.machines
        if machine.power is not PowerState.STOPPED
        for disk in machine.disks
        if (number := _device_number(disk.path)) is not None
    }
    for device in destination.mapping.values():
        if not Path(device).exists():
            raise NotFound(f"there is no device {device}")
        number = _device_number(device)
        if number is None:
            raise Rejected(f"{device} is no block device", hint="to files, restore with --output")
        if number in used:
            raise Busy(
                f"{device} is {used[number]}, which runs",
                hint="stop the machine first, or name another device",
                device=device,
            )


def _device_number(path: str) -> int | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return facts.st_rdev if stat.S_ISBLK(facts.st_mode) else None


def _files_beside(point: RecoveryPoint) -> tuple[str, ...]:
    return tuple(item.name for item in point.attachments if item.name in (DOMAIN_XML, NVRAM))


def _occupants(machine: Machine) -> list[Occupant]:
    """Look at the images of a machine that is off; one that is in use raises Busy."""
    if machine.power is not PowerState.STOPPED:
        raise Rejected(
            f"{machine.name} is running",
            hint="stop it first, or restore to new files with --output",
        )
    found = []
    for disk in machine.disks:
        if disk.kind is SourceKind.NETWORK:
            continue
        try:
            top = images.image_chain(disk.path, disk.format)[0]
        except NotFound:
            # Only a disk of the point needs its image, and then it is missed by name.
            log.warning("disk %s of %s has no image %s", disk.target, machine.name, disk.path)
            continue
        found.append(Occupant(disk, top.size, top.bitmaps))
    return found


class DomainStarter(Protocol):
    """Starts machines on this host; ``capture`` provides it."""

    def start(self, domain: ShapedDomain) -> None:
        """Start the machine, defining it first where that is its kind."""


@dataclass(frozen=True)
class RestoreOptions:
    """How a restore is carried out."""

    state_dir: Path = Path("/var/lib/sendense")
    throttle: Throttle = UNLIMITED
    read_back: bool = False
    """Read every restored disk again and compare it with the point."""
    identity: Identity | None = None
    """Who the machine is afterwards; by default who it was."""
    stall_s: float = 120.0
    again: str = ""
    """The command that repeats it: what a person needs who finds disks half restored."""


@dataclass(frozen=True)
class DiskRestored:
    """What was done for one disk."""

    target: str
    path: str
    data_bytes: int
    zero_bytes: int
    seconds: float
    read_back: bool
    compared_bytes: int = 0
    """What was read of the place to write only what differs; ``data_bytes`` and ``zero_bytes``
    are then what differed."""


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did."""

    plan: RestorePlan
    disks: tuple[DiskRestored, ...]
    domain: ShapedDomain | None
    """The machine around the disks; none where the point holds no domain XML."""
    files: tuple[str, ...]
    """What was written beside disks: NVRAM and domain XML."""
    started: bool
    seconds: float


def run_restore(
    plan: RestorePlan,
    repository: Repository,
    *,
    options: RestoreOptions | None = None,
    listener: ProgressListener = silent,
    check: Callable[[], None] = lambda: None,
    starter: DomainStarter | None = None,
) -> RestoreResult:
    """Carry out a plan; with ``starter`` the machine is started at the end.

    ``check`` is called about every second, and raises to stop.
    """
    began = clock.monotonic()
    if starter is not None and DOMAIN_XML not in _files_beside(plan.point):
        raise Rejected("the point holds no domain.xml, so no machine can be started from it")
    with repository.open(plan.point.id) as reader:
        run = _Run(plan, reader, options or RestoreOptions(), listener, check)
        disks = run.new_files() if plan.folder is not None else run.in_place()
    if starter is not None and run.domain is not None:
        starter.start(run.domain)
        steps.reached("restored-machine-started")
    return RestoreResult(
        plan=plan,
        disks=disks,
        domain=run.domain,
        files=tuple(run.files),
        started=starter is not None,
        seconds=clock.monotonic() - began,
    )


@dataclass
class _Run:
    """One restore under way."""

    plan: RestorePlan
    reader: PointReader
    options: RestoreOptions
    listener: ProgressListener
    check: Callable[[], None]
    domain: ShapedDomain | None = None
    files: list[str] = field(default_factory=list)

    def new_files(self) -> tuple[DiskRestored, ...]:
        """Write all disks, then give all of them their names, the domain XML last."""
        folder = Path(self.plan.folder or ".")
        with ExitStack() as stack:
            stack.enter_context(staging.locked_folder(folder))
            targets, done = [], []
            for item in self.plan.disks:
                path = Path(item.destination.path)
                target = new_file(
                    path,
                    item.image.size,
                    image_format=item.destination.format,
                    overwrite=self.plan.overwrite,
                )
                targets.append(stack.enter_context(target))
                done.append(self._write(item, target, readable_at=str(staging.part_of(path))))
                steps.reached("disk-restored")
            for target in targets:
                target.publish()
                steps.reached("disk-published")
            nvram = folder / NVRAM if NVRAM in _files_beside(self.plan.point) else None
            if nvram is not None:
                self._put(nvram, self.reader.attachment(NVRAM))
            self._shape(None if nvram is None else str(nvram))
            if self.domain is not None:
                self._put(folder / DOMAIN_XML, self.domain.xml.encode())
        return tuple(done)

    def in_place(self) -> tuple[DiskRestored, ...]:
        """Overwrite devices or images, under marks that say so until all are complete."""
        for item in self.plan.disks:
            _prepare(item)
        marks = Marks(self.options.state_dir, self.plan, again=self.options.again)
        done: list[DiskRestored] = []
        with ExitStack() as stack:
            # All are opened before one is written: a disk that cannot be had leaves the others
            # untouched, and a machine that is started meanwhile finds its disks locked.
            targets = [stack.enter_context(self._open(item)) for item in self.plan.disks]
            marks.begin()
            stack.enter_context(self._telling())
            steps.reached("restore-marked")
            for item, target in zip(self.plan.disks, targets, strict=True):
                path = item.destination.path
                marks.note(path, "writing")
                done.append(self._write(item, target, readable_at=path))
                marks.note(path, "written")
                steps.reached("disk-restored")
        with self._telling():
            nvram = self.plan.machine.nvram if self.plan.machine is not None else None
            if nvram is not None and NVRAM in _files_beside(self.plan.point):
                staging.replace_content(Path(nvram), self.reader.attachment(NVRAM))
                self.files.append(nvram)
            self._shape(None)
            marks.clear()
        steps.reached("restore-unmarked")
        return tuple(done)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say of whatever breaks it off that nothing was taken back: it cannot be."""
        hint = "the disks are half restored: repeat it before the machine is started"
        if self.options.again:
            hint = f"{hint}: {self.options.again}"
        try:
            yield
        except KeyboardInterrupt as error:
            raise Cancelled("the restore was stopped in the middle", hint=hint) from error
        except SendenseError as error:
            error.hint = f"{error.hint}; {hint}" if error.hint else hint
            raise

    def _open(self, item: DiskRestore) -> Target:
        place = item.destination
        if _is_block(item) and place.format == "raw":
            return BlockDevice(
                Path(place.path), item.image.size, allow_larger=place.capacity > item.image.size
            )
        return NbdDisk(
            place.path,
            item.image.size,
            image_format=place.format,
            capacity=place.capacity,
            stall_s=self.options.stall_s,
            on_wait=self.check,
        )

    def _write(self, item: DiskRestore, target: Target, *, readable_at: str) -> DiskRestored:
        """Write one disk, make it durable, and read it back if that is wished."""
        image = item.image
        disk = self.reader.disk(image.disk.identity)
        meter = Meter(self.listener, phase="restore", subject=image.disk.target, total=image.size)
        pump = Pump(target, meter, self.options.throttle, self.check, zeroes_count=True)
        try:
            for chunk in disk.chunks():
                pump.deliver(chunk)
            target.finish()
        except SendenseError:
            # Who stops a run knows why; a target that was ended by it shows only the effect.
            self.check()
            raise
        meter.finish()
        if self.options.read_back:
            ensure_reads_back(
                item,
                self.reader.disk(image.disk.identity).chunks(),
                path=readable_at,
                listener=self.listener,
                check=self.check,
            )
        log.info("disk %s restored to %s", image.disk.target, item.destination.path)
        return DiskRestored(
            target=image.disk.target,
            path=item.destination.path,
            data_bytes=pump.data_bytes,
            zero_bytes=pump.zero_bytes,
            seconds=meter.seconds,
            read_back=self.options.read_back,
        )

    def _shape(self, nvram: str | None) -> None:
        """Shape the machine around the disks, if the point knows it."""
        if DOMAIN_XML not in _files_beside(self.plan.point):
            return
        placed = {
            item.image.disk.target: RestoredDisk(
                item.destination.path, item.destination.format, block=_is_block(item)
            )
            for item in self.plan.disks
        }
        self.domain = shape_domain(
            self.reader.attachment(DOMAIN_XML).decode(),
            placed,
            identity=self.options.identity,
            nvram=nvram,
        )

    def _put(self, path: Path, content: bytes) -> None:
        staging.write_file(path, content, overwrite=self.plan.overwrite)
        self.files.append(str(path))


def _prepare(item: DiskRestore) -> None:
    """Refuse an image that is in use, and take our bitmaps off it.

    They track the timeline that ends here; the next backup of the disk is a full.
    """
    place = item.destination
    if place.kind is not DestinationKind.IN_PLACE:
        return
    top = images.image_chain(place.path, place.format)[0]
    for bitmap in top.bitmaps:
        if is_own(bitmap.name):
            images.remove_bitmap(place.path, bitmap.name)


def _is_block(item: DiskRestore) -> bool:
    return Path(item.destination.path).is_block_device()
