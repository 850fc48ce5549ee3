"""What every target promises.

::

    with target:              nothing is visible yet
        write / zero ...      ascending, as a BlockSink
        target.finish()       complete and durable; raises if anything is in doubt
        target.publish()      under its final name

Leaving the ``with`` block before :meth:`Target.publish` aborts: a new file is
removed; a device or an image that was written in place stays half written, and
it is the caller who remembers that (:mod:`sendense.workflows.restore`).
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import Self

from sendense.errors import Busy, Damaged, NotAllowed, NotFound, OutOfSpace, SendenseError
from sendense.model.stream import Buffer
from sendense.units import KIB

BLOCK = 64 * KIB
"""Offsets and lengths of what is written, save at the disk's end."""


class Target(ABC):
    """A disk being restored; used by one thread."""

    block_size: int = BLOCK

    def __enter__(self) -> Self:
        """Begin; the constructor opened it already."""
        return self

    def __exit__(self, *_details: object) -> None:
        """Give up what was not published."""
        self.abort()

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""

    @abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zero, whatever lies under it."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the disk and make it durable; ranges never named must not be relied on."""

    def publish(self) -> None:  # noqa: B027 - most targets have their name from the start
        """Make it visible under its final name, where it has not had that from the start."""

    @abstractmethod
    def abort(self) -> None:
        """Give it up and free everything; does nothing after :meth:`publish`."""


_KINDS: dict[int, type[SendenseError]] = {
    errno.ENOSPC: OutOfSpace,
    errno.EDQUOT: OutOfSpace,
    errno.EFBIG: OutOfSpace,
    errno.EACCES: NotAllowed,
    errno.EPERM: NotAllowed,
    errno.EROFS: NotAllowed,
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.EBUSY: Busy,
    errno.ETXTBSY: Busy,
    errno.EIO: Damaged,
}


def failure(what: str, place: object, error: OSError) -> SendenseError:
    """Turn the operating system's refusal into what the caller should do about it."""
    kind = _KINDS.get(error.errno or 0, SendenseError)
    return kind(f"cannot {what} {place}: {error.strerror or error}", path=place)
