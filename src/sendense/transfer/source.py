"""A disk offered for reading: its extents and its bytes, over some connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sendense.errors import Busy, Unavailable
from sendense.model.export import DiskExport
from sendense.model.extents import Status
from sendense.transfer import link, pipeline
from sendense.transfer.pipeline import Pipeline
from sendense.units import KIB, round_down, round_up

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """How hard a source is read; the product of the first three bounds the memory."""

    connections: int = 2
    """At most; one where the server does not promise that several see the same disk.
    Stay far below the 100 that QEMU's server takes for all disks of a machine together."""
    in_flight: int = 4
    """Requests under way on each connection."""
    request_bytes: int = 512 * KIB
    """Few and large, as each request costs two changes of threads; but not too many bytes, as
    they should still be in the processor's cache when they are hashed.  Into a repository in
    memory, medians of 11 for 2 GiB: 2 x 4 x 512 KiB 1.5 s, 2 x 4 x 1 MiB 2.0 s,
    2 x 16 x 256 KiB 2.1 s, with 1.6, 1.5 and 1.8 s of our processor time."""
    stall_s: float = 120.0
    """Without one answer for this long the read is given up."""
    connect_s: float = 15.0


class Source:
    """An open export; its methods are called from one thread."""

    def __init__(
        self, export: DiskExport, terms: link.Terms, pipe: Pipeline, options: ReadOptions
    ) -> None:
        """Take over the open connections."""
        self.export = export
        self.terms = terms
        self.pipe = pipe
        self.options = options

    @property
    def size(self) -> int:
        """Give the size of the disk in bytes."""
        return self.terms.size

    def status(self, start: int, length: int, *, dirty: bool) -> tuple[list[Status], list[Status]]:
        """Ask which parts of a range read as zero, and which are dirty.

        The server may answer for less than the range, or for more.  Without
        ``dirty`` the second list is empty.  A server without allocation
        information has data everywhere.
        """
        answers: dict[str, list[Status]] = {}

        def take(context: str, entries: list[int]) -> None:
            runs = answers.setdefault(context, [])
            runs.extend(map(Status, entries[::2], entries[1::2]))

        if self.terms.contexts:
            command = pipeline.block_status(start, length, take)
            self.pipe.wait(self.pipe.submit(command, urgent=True))
        allocation = self._answer(answers, link.ALLOCATION, length)
        if not dirty:
            return allocation, []
        if self.export.dirty_context is None:
            raise Unavailable(f"the export of {self.export.target} has no dirty bitmap")
        return allocation, self._answer(answers, self.export.dirty_context, None)

    def _answer(
        self, answers: dict[str, list[Status]], context: str, default: int | None
    ) -> list[Status]:
        """Give one context's answer; where the server has no such context, ``default`` of data."""
        if context not in self.terms.contexts and default is not None:
            return [Status(default, 0)]
        if not answers.get(context):
            raise Unavailable(
                f"the NBD server of {self.export.target} did not answer about {context}",
                hint="nothing was stored; run the backup again",
            )
        return answers[context]

    def aligned(self, start: int, end: int) -> tuple[int, int]:
        """Widen a range to what the server lets a request begin and end at."""
        minimum = self.terms.minimum
        return round_down(start, minimum), min(round_up(end, minimum), self.size)

    def read(self, offset: int, length: int) -> memoryview:
        """Read one range and wait for it."""
        start, end = self.aligned(offset, offset + length)
        buffer = memoryview(bytearray(end - start))
        for command in self.submit_read(buffer, start):
            self.pipe.wait(command)
        return buffer[offset - start : offset - start + length]

    def submit_read(self, buffer: memoryview, start: int) -> list[pipeline.Command]:
        """Ask for an aligned range, in as many requests as the server's maximum makes it."""
        most = self.terms.maximum
        return [
            self.pipe.submit(pipeline.read(buffer[at : at + most], start + at))
            for at in range(0, len(buffer), most)
        ]


@contextmanager
def open_source(
    export: DiskExport,
    options: ReadOptions,
    *,
    dirty: bool = False,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[Source]:
    """Connect to an export; with ``dirty`` its dirty bitmap must be there.

    ``on_wait`` is called about every second while the server keeps us waiting,
    and may raise.
    """
    wished = [link.ALLOCATION]
    if dirty:
        if export.dirty_context is None:
            raise Unavailable(f"the export of {export.target} offers no dirty bitmap")
        wished.append(export.dirty_context)
    handles = [link.connect(export, contexts=wished, connect_s=options.connect_s)]
    with link.closed_on_failure(handles):
        terms = link.terms(handles[0], export, contexts=wished)
        if dirty and export.dirty_context not in terms.contexts:
            # To go on would mean "nothing is dirty", and a point that misses changes.
            raise Unavailable(
                f"the NBD server of {export.target} does not offer {export.dirty_context}",
                hint="nothing was stored; the next run decides anew how to read this disk",
            )
        _open_more(handles, export, options, terms, wished)
    _log.debug("%s: %d connections, %s", export.target, len(handles), terms)
    pipe = Pipeline(
        handles,
        target=export.target,
        depth=options.in_flight,
        stall_s=options.stall_s,
        on_wait=on_wait,
    )
    with pipe:
        yield Source(export, terms, pipe, options)


def _open_more(
    handles: list[Any],
    export: DiskExport,
    options: ReadOptions,
    terms: link.Terms,
    wished: list[str],
) -> None:
    """Open the further connections; a server that takes no more of them is used with what it has.

    qemu-nbd promises multi-conn for a read-only export, but takes one client
    unless ``--shared`` says otherwise; the second is left waiting.
    """
    if not terms.several:
        return
    # They read and ask for extents alike, so all of them need the contexts.
    for number in range(1, options.connections):
        try:
            handle = link.connect(
                export,
                contexts=wished,
                connect_s=min(options.connect_s, _EXTRA_CONNECT_S),
                number=number,
            )
        except (Unavailable, Busy) as error:
            _log.info("%s: reads over %d connections: %s", export.target, len(handles), error)
            break
        handles.append(handle)
        if link.terms(handle, export, contexts=wished) != terms:
            raise Unavailable(f"the connections to the export of {export.target} differ")


_EXTRA_CONNECT_S = 5.0
