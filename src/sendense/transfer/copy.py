"""One disk from its NBD export into a sink: the inner loop of every backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sendense import clock
from sendense.errors import SendenseError
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.progress import ProgressListener, silent
from sendense.model.stream import BlockSink, Chunk, RoomySink, deliver
from sendense.transfer.extents import stored_pieces
from sendense.transfer.meter import Meter
from sendense.transfer.reader import read_pieces
from sendense.transfer.source import ReadOptions, open_source
from sendense.transfer.throttle import UNLIMITED, Throttle
from sendense.units import MIB

_CHECK_BYTES = 64 * MIB
_CHECK_S = 1.0


@dataclass(frozen=True)
class CopyOptions(ReadOptions):
    """How a disk is copied."""

    throttle: Throttle = UNLIMITED
    expected_bytes: int | None = None
    """How much data there is to read, as far as the plan could tell; for the progress only."""
    phase: str = "backup"


@dataclass(frozen=True)
class CopyResult:
    """What was read of a disk, and how."""

    read_bytes: int
    """Bytes of data that came from the server."""
    data_bytes: int
    """Bytes handed to the sink as data."""
    zero_bytes: int
    """Bytes stated to be zero."""
    seconds: float


def copy_disk(
    export: DiskExport,
    sink: BlockSink,
    *,
    method: Method,
    options: CopyOptions | None = None,
    listener: ProgressListener = silent,
    check: Callable[[], None] = lambda: None,
) -> CopyResult:
    """Copy what ``method`` says of a disk into ``sink``, in order.

    ``check`` is called about every second and every 64 MiB, and raises where
    the run must end.  It is also asked first when the transfer fails, because
    it knows the cause (the guest was switched off) where the connection shows
    only the effect (the server went away).
    """
    options = options or CopyOptions()
    expected = options.expected_bytes
    if expected is None:
        expected = 0 if method is Method.BITMAP else export.size
    meter = Meter(listener, phase=options.phase, subject=export.target, total=expected)
    pump = Pump(sink, meter, options.throttle, check)
    dirty = method is Method.BITMAP
    # The pieces of an incremental are small and far apart: not worth a sink's room for each.
    room = sink.room if isinstance(sink, RoomySink) and not dirty else None
    try:
        with open_source(export, options, dirty=dirty, on_wait=check) as source:
            pieces = stored_pieces(source, method=method, block_size=sink.block_size)
            for chunk in read_pieces(source, pieces, block_size=sink.block_size, room=room):
                pump.deliver(chunk)
    except SendenseError:
        check()
        raise
    meter.finish()
    return CopyResult(
        read_bytes=pump.data_bytes,
        data_bytes=pump.data_bytes,
        zero_bytes=pump.zero_bytes,
        seconds=meter.seconds,
    )


class Pump:
    """Hands chunks to a sink at the allowed rate, and looks up from time to time."""

    def __init__(
        self,
        sink: BlockSink,
        meter: Meter,
        throttle: Throttle,
        check: Callable[[], None],
        *,
        zeroes_count: bool = False,
    ) -> None:
        """Deliver to ``sink``; with ``zeroes_count`` zeroes are progress as well."""
        self._sink = sink
        self._meter = meter
        self._throttle = throttle
        self._check = check
        self._zeroes_count = zeroes_count
        self._unchecked = 0
        self._checked_at = clock.monotonic()
        self.data_bytes = 0
        self.zero_bytes = 0

    def deliver(self, chunk: Chunk) -> None:
        """Pass one chunk on."""
        if chunk.data is None:
            self.zero_bytes += chunk.length
        else:
            self.data_bytes += chunk.length
            self._unchecked += chunk.length
            self._throttle.take(chunk.length, check=self._check)
        if self._unchecked >= _CHECK_BYTES or clock.monotonic() - self._checked_at >= _CHECK_S:
            self._check()
            self._unchecked = 0
            self._checked_at = clock.monotonic()
        deliver(chunk, self._sink)
        if chunk.data is not None or self._zeroes_count:
            self._meter.add(chunk.length)
