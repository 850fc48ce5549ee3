"""One disk of a restore, through the gate of the agent that serves its place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sendense import clock, steps
from sendense.errors import Damaged, Rejected, SendenseError
from sendense.model.export import DiskExport
from sendense.model.progress import ProgressListener
from sendense.model.restoring import DiskRestore
from sendense.repository.protocol import PointReader
from sendense.targets.changed import ChangedBytes, write_changed
from sendense.targets.nbd import ExportDisk
from sendense.targets.readback import ensure_source_reads_back
from sendense.transfer.copy import Pump
from sendense.transfer.meter import Meter
from sendense.transfer.throttle import Throttle
from sendense.workflows.restore import DiskRestored

log = logging.getLogger(__name__)

_CONNECTIONS = 4
"""One for each data tunnel, where the server lets several write."""
_BEAT_S = 1.0


@dataclass(frozen=True)
class WritingTerms:
    """How disks are written, and who is told."""

    throttle: Throttle
    stall_s: float
    listener: ProgressListener
    beat: Callable[[], None]
    """Called about every second; raises where the run must end."""
    explain: Callable[[], None]
    """Called when something went wrong; raises where somebody knows better why."""
    changed_only: bool = False
    verify: bool = False


def ensure_fits(item: DiskRestore, export: DiskExport, *, allow_larger: bool) -> None:
    """Refuse a place that is smaller than its disk, and a larger one unless that was said."""
    size, path, target = item.image.size, item.destination.path, item.image.disk.target
    if export.size < size:
        raise Rejected(
            f"disk {target}: {path} has {export.size} bytes, the disk {size}",
            hint="give it a larger destination, or restore it to a new file",
            disk=target,
        )
    if export.size > size and not allow_larger:
        raise Rejected(
            f"disk {target}: {path} has {export.size} bytes, the disk has {size}",
            hint="if it was enlarged since, say --allow-larger: the rest will read as zero",
            disk=target,
        )


def write_disk(
    item: DiskRestore, export: DiskExport, reader: PointReader, terms: WritingTerms
) -> DiskRestored:
    """Write one disk, make it durable, and read it back where that is wished."""
    image, began = item.image, clock.monotonic()
    with ExportDisk(
        export,
        # What is behind the disk's end is compared too, where only what differs is written.
        export.size if terms.changed_only else image.size,
        connections=_CONNECTIONS,
        stall_s=terms.stall_s,
        on_wait=terms.beat,
    ) as target:
        try:
            write = _write_changed if terms.changed_only else _write_all
            done = write(item, target, reader, terms)
            target.settle()
            steps.reached("remote-disk-written")
            if terms.verify:
                _read_back(item, target, reader, terms)
        except SendenseError:
            terms.explain()
            raise
    log.info("disk %s restored to %s", image.disk.target, item.destination.path)
    return DiskRestored(
        target=image.disk.target,
        path=item.destination.path,
        data_bytes=done.data_bytes,
        zero_bytes=done.zero_bytes,
        seconds=clock.monotonic() - began,
        read_back=terms.verify,
        compared_bytes=done.read_bytes,
    )


def write_firmware(export: DiskExport, content: bytes, stall_s: float) -> None:
    """Write UEFI variables, and read them back: they are small."""
    with ExportDisk(export, len(content), stall_s=stall_s) as target:
        target.write(0, content)
        target.settle()
        if target.source().read(0, len(content)) != content:
            raise Damaged("the UEFI variables read back differently from what was written")


def _write_all(
    item: DiskRestore, target: ExportDisk, reader: PointReader, terms: WritingTerms
) -> ChangedBytes:
    meter = _meter(item, terms)
    pump = Pump(target, meter, terms.throttle, terms.beat, zeroes_count=True)
    for chunk in reader.disk(item.image.disk.identity).chunks():
        pump.deliver(chunk)
    meter.finish()
    return ChangedBytes(0, pump.data_bytes, pump.zero_bytes)


def _write_changed(
    item: DiskRestore, target: ExportDisk, reader: PointReader, terms: WritingTerms
) -> ChangedBytes:
    meter = _meter(item, terms)
    beat = _Paced(terms.beat)

    def step(done: int, moved: int) -> None:
        terms.throttle.take(moved, check=terms.beat)
        meter.add(done)
        beat()
        steps.reached("remote-range-settled")

    chunks = reader.disk(item.image.disk.identity).chunks()
    found = write_changed(target, chunks, size=item.image.size, on_step=step)
    meter.finish()
    return found


def _read_back(
    item: DiskRestore, target: ExportDisk, reader: PointReader, terms: WritingTerms
) -> None:
    """Hold what the place holds now against the repository, whose every byte has its hash."""
    ensure_source_reads_back(
        item,
        reader.disk(item.image.disk.identity).chunks(),
        target.source(),
        path=item.destination.path,
        listener=terms.listener,
        check=_Paced(terms.beat),
    )


def _meter(item: DiskRestore, terms: WritingTerms) -> Meter:
    image = item.image
    return Meter(terms.listener, phase="restore", subject=image.disk.target, total=image.size)


class _Paced:
    """Passes a call on about every second."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._called_at = clock.monotonic()

    def __call__(self) -> None:
        if clock.monotonic() - self._called_at >= _BEAT_S:
            self._called_at = clock.monotonic()
            self._call()
