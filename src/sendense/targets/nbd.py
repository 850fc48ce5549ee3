"""A disk restored in place: into the QCOW2 or raw image of a stopped machine.

QEMU itself writes the image, so whatever its layout (a template behind it,
compressed clusters, extended L2) stays sound, and its lock keeps a starting
machine out.  Zeroes are NBD zero requests: QCOW2 makes them zero clusters, which
hide the template's data; raw makes them holes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sendense.model.stream import Buffer
from sendense.targets.qemunbd import QemuNbd
from sendense.targets.target import Target
from sendense.transfer import link, pipeline
from sendense.transfer.pipeline import Command, Pipeline
from sendense.units import GIB, MIB

_DEPTH = 16
_WINDOW_BYTES = 16 * MIB
"""Bytes on their way to the image."""


class NbdDisk(Target):
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
        self._size = size
        self._capacity = capacity
        self._stall_s = stall_s
        self._under_way: deque[tuple[Command, int]] = deque()
        self._under_way_bytes = 0
        self._pipe: Pipeline | None = None
        self._server = QemuNbd(path, image_format=image_format, writable=True)
        try:
            export = self._server.export(path, capacity)
            handle = link.connect(export, connect_s=min(stall_s, 15.0))
            self._terms = link.terms(handle, export)
            self._pipe = Pipeline(
                [handle], target=path, depth=_DEPTH, stall_s=stall_s, on_wait=on_wait
            )
        except BaseException:
            self.abort()
            raise

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

    def finish(self) -> None:
        """Wait for all of it, flush, and wait until QEMU has closed the image."""
        self.zero(self._size, self._capacity - self._size)
        pipe = self._open_pipe()
        while self._under_way:
            self._settle()
        pipe.wait(pipe.submit(pipeline.flush()))
        pipe.close()
        self._pipe = None
        self._server.end(within_s=self._stall_s)
        self.abort()

    def abort(self) -> None:
        """End the child; the image keeps what was written to it."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._server.__exit__()

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
