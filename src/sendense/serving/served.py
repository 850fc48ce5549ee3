"""The disks of a point, as the server sees them.

Everything here runs inside nbdkit, but knows nothing of it: the callbacks are in
:mod:`~sendense.serving.plugin`.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from sendense.errors import SendenseError
from sendense.repository.extents import Extent
from sendense.repository.opening import open_repository
from sendense.repository.protocol import DiskReader
from sendense.serving.handover import Handover
from sendense.serving.overlay import Overlay
from sendense.serving.trouble import Troubles
from sendense.units import GIB

_LOG = logging.getLogger(__name__)

_MOST_LOOKED_AT = GIB
"""Of a disk, in one answer about extents: a client asks for the rest."""


class Export:
    """One disk.  What fails becomes an OSError, for that is what clients can be told."""

    def __init__(
        self, name: str, reader: DiskReader, overlay: Overlay | None, troubles: Troubles
    ) -> None:
        """Serve ``reader``, with ``overlay`` over it where clients may write."""
        self.name = name
        self.size = reader.image.size
        self.path = reader.image.disk.path
        self.writable = overlay is not None
        self._overlay = overlay
        self._disk: DiskReader | Overlay = reader if overlay is None else overlay
        self._troubles = troubles

    def read(self, offset: int, length: int) -> bytes:
        """Give a range, checked."""
        try:
            return self._disk.read_at(offset, length)
        except Exception as error:
            raise self._failed(offset, length, error) from error

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Tell what is zero, from ``offset`` on, as far as one look goes."""
        end = min(offset + min(length, _MOST_LOOKED_AT), self.size)
        try:
            return iter(list(self._disk.extents(offset, end)))
        except Exception as error:
            raise self._failed(offset, length, error) from error

    def write(self, offset: int, data: memoryview) -> None:
        """Write into the overlay."""
        try:
            self._written().write(offset, data)
        except Exception as error:
            raise self._failed(offset, len(data), error) from error

    def zero(self, offset: int, length: int) -> None:
        """Make a range zero in the overlay."""
        try:
            self._written().zero(offset, length)
        except Exception as error:
            raise self._failed(offset, length, error) from error

    def _written(self) -> Overlay:
        if self._overlay is None:
            raise OSError(errno.EROFS, "the disk is served for reading")
        return self._overlay

    def _failed(self, offset: int, length: int, error: Exception) -> OSError:
        self._troubles.note(self.name, offset, length, error)
        if isinstance(error, OSError) and error.errno:
            return OSError(error.errno, str(error))
        return OSError(errno.EIO, str(error))


class Served:
    """A point, open and held for as long as it is served."""

    def __init__(self, handover: Handover) -> None:
        """Open everything; what fails leaves nothing open."""
        with ExitStack() as stack:
            repository = open_repository(handover.url, handover.access())
            stack.callback(repository.close)
            reader = stack.enter_context(repository.open(handover.point))
            self.troubles = Troubles(handover.folder, handover.point)
            stack.callback(self.troubles.flush)
            self.exports: dict[str, Export] = {}
            for identity in handover.disks:
                disk = reader.disk(identity)
                overlay = None
                if handover.overlay_dir is not None:
                    overlay = Overlay(disk, handover.overlay_dir)
                    stack.callback(overlay.close)
                name = disk.image.disk.target
                self.exports[name] = Export(name, disk, overlay, self.troubles)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def default(self) -> str:
        """Give the name of the disk that is meant where none is named."""
        return next(iter(self.exports))

    def export(self, name: str) -> Export:
        """Give a disk by its name; a client may ask for anything."""
        found = self.exports.get(name or self.default)
        if found is None:
            raise OSError(errno.ENOENT, "there is no such disk")
        return found

    def close(self) -> None:
        """Give the point back."""
        try:
            self._stack.close()
        except SendenseError as error:
            _LOG.warning("the repository was not closed cleanly: %s", error)
