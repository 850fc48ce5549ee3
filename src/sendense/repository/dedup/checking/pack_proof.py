"""Reading one pack through: every byte of it is something, and is what it should be.

The header names the pack.  Each record opens under its place and id, expands to its
length, and *is* its id: a chunk by the digests of its blocks, a node by its bytes.  The
directory at the end says the same as the index.  Between them nothing is left over.

A record that fails is read once more by itself before that is believed.  What is wrong with the
pack as a whole does not end the reading of its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sendense.errors import Damaged, SendenseError, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.entries import Entry, PackHead
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.identity import chunk_id, digest_blocks, node_id
from sendense.repository.dedup.nodes import decode_inner, decode_leaf, hooks_of, node_level
from sendense.repository.dedup.packs import (
    HEADER_BYTES,
    PackCipher,
    parse_header,
    read_directory,
    tail_length,
)
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.unnamed_packs import read_tail
from sendense.units import MIB

RUN = 8 * MIB
"""Bytes of one request, at most: a few large ones are what a remote store serves best."""

Take = Callable[[Entry, memoryview], None]
"""Gets a record that is whole, as it is stored."""


@dataclass(frozen=True)
class PackTask:
    """A pack that is to be read through."""

    head: PackHead
    size: int
    """As the index says."""
    entries: Sequence[Entry]
    """As the index says."""


@dataclass
class PackProof:
    """What the reading of a pack has shown."""

    task: PackTask
    bad: dict[bytes, str] = field(default_factory=dict)
    """Records that are not what they should be, and why."""
    wrong: list[tuple[What, str]] = field(default_factory=list)
    """What is wrong with the pack as a whole."""
    directory: list[Entry] | None = None
    """What its own directory says, where that can be read."""
    failure: SendenseError | None = None
    """Why nothing can be said of it: the store did not give it."""

    @property
    def good(self) -> bool:
        """Tell whether every byte is right."""
        return not self.bad and not self.wrong and self.failure is None


class Room:
    """Buffers of one thread, used again for each pack."""

    def __init__(self) -> None:
        """Take the memory."""
        self.stored = memoryview(bytearray(HEADER_BYTES + RUN))
        self.plain = memoryview(bytearray(fmt.WINDOW_BYTES))


def prove(
    parts: Parts,
    task: PackTask,
    room: Room,
    *,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda size: None,
    take: Take = lambda entry, stored: None,
) -> PackProof:
    """Read a pack through.

    ``check`` is asked between requests and may raise; ``progress`` is told the bytes of each.
    ``take`` gets each record that is whole, with its bytes as stored, valid during the call.

    NotFound and Unavailable are the caller's.
    """
    proof = PackProof(task)
    _Proving(parts, proof, room, take).run(check, progress)
    return proof


class _Proving:
    """The reading of one pack."""

    def __init__(self, parts: Parts, proof: PackProof, room: Room, take: Take) -> None:
        self._parts = parts
        self._proof = proof
        self._room = room
        self._take = take
        self._task = proof.task
        self._entries = sorted(proof.task.entries, key=lambda entry: entry.offset)
        self._cipher = PackCipher(parts.ring, proof.task.head)

    def run(self, check: Callable[[], None], progress: Callable[[int], None]) -> None:
        self._end()
        covered = HEADER_BYTES
        for run in _runs(self._entries):
            check()
            start, end = run[0].offset, run[-1].offset + run[-1].stored
            if start == HEADER_BYTES:
                start = 0
            self._run(start, end, run)
            if run[0].offset != covered:
                self._wrong(What.PACK_DIRECTORY, f"nothing is said of its bytes from {covered}")
            covered = end
            progress(end - start)
        if not self._entries or self._entries[0].offset != HEADER_BYTES:
            self._header(self._read(0, min(self._task.size, HEADER_BYTES)))
        if covered + tail_length(self._entries) != self._task.size:
            self._wrong(What.PACK_DIRECTORY, f"nothing is said of its bytes from {covered}")
        progress(self._task.size - covered)

    def _wrong(self, what: What, why: str) -> None:
        name = self._task.head.name
        self._proof.wrong.append((what, why if name in why else f"{name}: {why}"))

    def _read(self, start: int, end: int) -> memoryview | None:
        target = self._room.stored[: end - start]
        try:
            self._parts.store.read_into(self._task.head.name, start, target)
        except Damaged:
            return None
        return target

    # --- header and directory ---

    def _header(self, data: memoryview | None) -> None:
        try:
            found = None if data is None else parse_header(bytes(data[:HEADER_BYTES]))
        except (Damaged, Unsupported):
            found = None
        if found != self._task.head:
            self._wrong(What.PACK_HEADER, "its header is not what was written")

    def _end(self) -> None:
        task = self._task
        try:
            tail = read_tail(self._parts, task.head.name, task.size)
            found = read_directory(self._cipher, task.head, task.size, tail)
        except Damaged as error:
            self._wrong(What.PACK_DIRECTORY, error.message)
            return
        self._proof.directory = found
        if found != self._entries:
            self._wrong(What.PACK_CONTRADICTED, "its directory says other than the index")

    # --- records ---

    def _run(self, start: int, end: int, run: Sequence[Entry]) -> None:
        data = self._read(start, end)
        if start == 0:
            self._header(data if data is not None else self._read(0, HEADER_BYTES))
        suspects = []
        for entry in run:
            place = entry.offset - start
            stored = None if data is None else data[place : place + entry.stored]
            if stored is None or self._fault(entry, stored) is not None:
                suspects.append(entry)
        for entry in suspects:
            stored = self._read(entry.offset, entry.offset + entry.stored)
            why = "it is cut off" if stored is None else self._fault(entry, stored)
            if why is not None:
                self._proof.bad[entry.id] = why

    def _fault(self, entry: Entry, stored: memoryview) -> str | None:
        """Say what is wrong with a record; one that is whole is handed on."""
        plain = self._room.plain[: entry.length]
        try:
            self._cipher.read_into(entry, stored, plain)
            right = self._is_right(entry, plain)
        except (Damaged, Unsupported) as error:
            return error.message
        if not right:
            return f"record {entry.id.hex()} is not what its id says"
        self._take(entry, stored)
        return None

    def _is_right(self, entry: Entry, plain: memoryview) -> bool:
        ring = self._parts.ring
        if self._task.head.kind is PackKind.DATA:
            digests = digest_blocks(ring.block_key, plain)
            known = [digest for digest in digests if digest is not None]
            return len(known) == len(digests) and chunk_id(ring.chunk_key, known) == entry.id
        data = bytes(plain)
        if node_id(ring.node_key, data) != entry.id:
            return False
        if node_level(data) == 0:
            return hooks_of(decode_leaf(data)) == entry.hooks
        decode_inner(data)
        return not entry.hooks


def _runs(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Give records in rows that lie side by side, each not longer than a request."""
    run: list[Entry] = []
    for entry in entries:
        if run:
            beside = entry.offset == run[-1].offset + run[-1].stored
            fits = entry.offset + entry.stored - run[0].offset <= RUN
            if not beside or not fits:
                yield run
                run = []
        run.append(entry)
    if run:
        yield run
