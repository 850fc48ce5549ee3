"""A disk restored in place: into the QCOW2 or raw image of a stopped machine, here or on a host.

QEMU itself writes the image, so whatever its layout (a template behind it,
compressed clusters, extended L2) stays sound, and its lock keeps a starting
machine out.  Zeroes are NBD zero requests: QCOW2 makes them zero clusters, which
hide the template's data; raw makes them holes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from sendense.errors import Busy, Unavailable
from sendense.model.export import DiskExport
from sendense.model.stream import Buffer
from sendense.targets.qemunbd import QemuNbd
from sendense.targets.target import Target
from sendense.transfer import link, pipeline
from sendense.transfer.pipeline import Command, Pipeline
from sendense.transfer.source import ReadOptions, Source
from sendense.units import GIB, MIB

_log = logging.getLogger(__name__)

_DEPTH = 16
_WINDOW_BYTES = 16 * MIB
"""Bytes on their way to the image."""
_READS_IN_FLIGHT = 4
"""For each connection, where the image is read too."""
_CONTEXTS = (link.ALLOCATION,)
"""So that what reads as zero need not be read."""


class ExportDisk(Target):
    """A disk that somebody else serves for writing: an agent, behind its gate."""

    def __init__(
        self,
        export: DiskExport,
        size: int,
        *,
        connections: int = 1,
        stall_s: float = 120.0,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect to an export that holds a disk of ``size``; what is beyond is made zero.

        Several connections are used where the server says that they see the same disk.
        """
        self._export = export
        self._stall_s = stall_s
        self._size = size
        self._capacity = export.size
        self._under_way: deque[tuple[Command, int]] = deque()
        self._under_way_bytes = 0
        self._pipe: Pipeline | None = None
        connect_s = min(stall_s, 15.0)
        handles = [link.connect(export, contexts=_CONTEXTS, connect_s=connect_s)]
        with link.closed_on_failure(handles):
            self._terms = link.terms(handles[0], export, contexts=_CONTEXTS)
            if self._terms.several:
                handles += _more(export, connections - 1, connect_s)
        self._pipe = Pipeline(
            handles, target=export.target, depth=_DEPTH, stall_s=stall_s, on_wait=on_wait
        )

    def write(self, offset: int, data: Buffer) -> None:
        """Send ``data`` on its way; an error may show at a later call."""
        most = self._terms.maximum
        for start in range(0, len(data), most):
            # A copy, because the caller may use its buffer again as soon as this returns.
            piece = bytes(memoryview(data)[start : start + most])
            self._submit(pipeline.write(piece, offset + start), len(piece))

    def zero(self, offset: int, length: int) -> None:
        """Send zeroes on their way."""
        end = offset + length
        for start in range(offset, end, GIB):
            self._submit(pipeline.zero(start, min(GIB, end - start)), 0)

    def source(self) -> Source:
        """Give what the export holds for reading, over the same connections.

        What was written is read as written once :meth:`settle` has returned.
        """
        options = ReadOptions(in_flight=_READS_IN_FLIGHT, stall_s=self._stall_s)
        return Source(self._export, self._terms, self._open_pipe(), options)

    def finish(self) -> None:
        """Wait for all of it, and flush."""
        self.settle()
        self._close()

    def settle(self) -> None:
        """Wait for all of it, and flush; the connections stay."""
        self.zero(self._size, self._capacity - self._size)
        pipe = self._open_pipe()
        while self._under_way:
            self._settle()
        # With several connections the server's promise covers this too: a flush on one of them
        # makes durable what was written on all.
        pipe.wait(pipe.submit(pipeline.flush()))

    def abort(self) -> None:
        """Disconnect; the image keeps what was written to it."""
        self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _submit(self, command: Command, length: int) -> None:
        while self._under_way_bytes > _WINDOW_BYTES or len(self._under_way) >= 4 * _DEPTH:
            self._settle()
        self._open_pipe().submit(command)
        self._under_way.append((command, length))
        self._under_way_bytes += length

    def _settle(self) -> None:
        """Wait for the oldest command."""
        command, length = self._under_way.popleft()
        self._open_pipe().wait(command)
        self._under_way_bytes -= length

    def _open_pipe(self) -> Pipeline:
        if self._pipe is None:
            raise ValueError("the target is closed already")
        return self._pipe


class NbdDisk(ExportDisk):
    """An existing image, written through a ``qemu-nbd`` of our own."""

    def __init__(
        self,
        path: str,
        size: int,
        *,
        image_format: str,
        capacity: int,
        stall_s: float = 120.0,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the image of ``capacity`` bytes for a disk of ``size``."""
        self._server = QemuNbd(path, image_format=image_format, writable=True)
        try:
            export = self._server.export(path, capacity)
            super().__init__(export, size, stall_s=stall_s, on_wait=on_wait)
        except BaseException:
            self._server.__exit__()
            raise

    def finish(self) -> None:
        """Wait for all of it, flush, and wait until QEMU has closed the image."""
        super().finish()
        self._server.end(within_s=self._stall_s)
        self.abort()

    def abort(self) -> None:
        """End the child; the image keeps what was written to it."""
        super().abort()
        self._server.__exit__()


def _more(export: DiskExport, count: int, connect_s: float) -> list[Any]:
    """Open further connections; with fewer it is only slower."""
    handles: list[Any] = []
    for number in range(1, count + 1):
        try:
            handles.append(
                link.connect(export, contexts=_CONTEXTS, connect_s=connect_s, number=number)
            )
        except (Unavailable, Busy) as error:
            _log.info("%s: written over %d connections: %s", export.target, number, error)
            break
    return handles
