"""Which ranges of a source are stored, asked for window by window.

A server may answer for less than it was asked, or run over the end; the two
contexts of one answer need not even cover the same length.  So each question
begins where the shorter of the last answers stopped, and nothing is taken for
granted that was not answered.  Windows bound the memory, and stay below the
32 bits that a length has in the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sendense.errors import Unavailable
from sendense.model import extents
from sendense.model.decision import Method
from sendense.model.extents import Flagged, Piece, Status
from sendense.transfer.source import Source
from sendense.units import GIB, round_down

WINDOW = GIB


def flagged_ranges(source: Source, *, dirty: bool, window: int = WINDOW) -> Iterator[Flagged]:
    """Walk over the whole disk: what reads as zero, and with ``dirty`` what changed."""
    position = 0
    while position < source.size:
        asked = min(window, source.size - position)
        allocation, bits = source.status(position, asked, dirty=dirty)
        covered = min(asked, _length(allocation), _length(bits) if dirty else asked)
        if position + covered < source.size:
            # The next question has to begin where the server accepts a beginning.
            covered = round_down(covered, source.terms.minimum)
        if covered <= 0:
            raise Unavailable(
                f"the NBD server of {source.export.target} says nothing about offset {position}",
                hint="nothing was stored; run the backup again",
            )
        yield from extents.merge(position, covered, allocation, bits if dirty else None)
        position += covered


def stored_pieces(source: Source, *, method: Method, block_size: int) -> Iterator[Piece]:
    """Give what is stored of a disk, in whole blocks, in order.

    Reading everything (to store or to compare it) names the whole disk, zeroes
    included; by bitmap it is what changed.
    """
    dirty = method is Method.BITMAP
    return extents.pieces(
        flagged_ranges(source, dirty=dirty), block_size=block_size, size=source.size
    )


def _length(runs: Iterable[Status]) -> int:
    return sum(run.length for run in runs)
