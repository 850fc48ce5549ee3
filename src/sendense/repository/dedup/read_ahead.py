"""Who reads a disk in order, so that what comes next is there when it is asked for.

A client that copies a disk has many requests under way at once, on several connections, each of
which is at another place.  So there are several streams, and in each of them requests come
jumbled: one belongs to a stream that is near it.  A client that jumps about also comes near
some stream now and then; reading ahead for it would fetch a hundred times what it wants.  So a
stream counts only after it has read much.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sendense.units import MIB

_STREAMS = 16
_NEAR = 4 * MIB
"""How far from its end a request still belongs to a stream."""
_PROVEN = MIB
"""Bytes that a stream has read when it counts."""
_AHEAD = 8 * MIB


@dataclass
class _Stream:
    position: int
    """The end of what was asked for."""
    read: int


class Streams:
    """The streams of one disk; for many threads."""

    def __init__(self) -> None:
        """Know none yet."""
        self._streams: list[_Stream] = []
        self._lock = threading.Lock()

    def note(self, offset: int, end: int) -> tuple[int, int] | None:
        """Take note of a request; gives the range to read ahead, if it is part of a stream."""
        with self._lock:
            stream = self._near(offset)
            stream.position = max(stream.position, end)
            stream.read += end - offset
            if stream.read < _PROVEN:
                return None
            return stream.position, stream.position + _AHEAD

    def _near(self, offset: int) -> _Stream:
        """Find the stream of a request, or begin one in the place of the oldest."""
        for index, stream in enumerate(self._streams):
            if abs(offset - stream.position) <= _NEAR:
                # The latest is looked at first, and goes last.
                self._streams.insert(0, self._streams.pop(index))
                return stream
        begun = _Stream(offset, 0)
        self._streams.insert(0, begun)
        del self._streams[_STREAMS:]
        return begun
