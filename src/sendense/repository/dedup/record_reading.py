"""Reading records out of packs: located by the index, fetched in few requests, checked.

Records that lie near each other in a pack are fetched together.  A pack that is gone has been
collected since the index was read, and its live records moved: the index is read again, once.
A record that fails its check is looked for in the other packs that hold it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sendense.errors import Damaged, NotFound, SendenseError
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import indexing
from sendense.repository.dedup.entries import Entry, Location, PackHead
from sendense.repository.dedup.packs import PackCipher
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.unnamed_packs import Rescue
from sendense.units import KIB, MIB

_GAP = 64 * KIB
"""Bytes between two records that are cheaper to fetch than a request of their own."""
_RUN = fmt.LEAF_BYTES + _GAP
"""Bytes of one request, at most, save for a record that is longer.  All chunks of a leaf fit, with
their tags: without room for these each leaf took two requests, one after the other."""
_NODES = 4096
_CIPHERS = 256

Take = Callable[[bytes, memoryview], None]
Room = Callable[[bytes, int], "memoryview | None"]
"""Gives the place for a record's plaintext, whose length is told, where there is one."""


def _no_room(_record: bytes, _length: int) -> None:
    """Have no place for any."""


@dataclass(frozen=True)
class Run:
    """Records of one pack that are fetched by one request."""

    pack: PackHead
    start: int
    end: int
    entries: tuple[Entry, ...]


class Scratch(threading.local):
    """Buffers of one thread, used again for each request."""

    def __init__(self) -> None:
        self._stored = bytearray()
        self._plain = bytearray()

    def stored(self, length: int) -> memoryview:
        """Give room for what a request brings."""
        if len(self._stored) < length:
            self._stored = bytearray(max(length, _RUN))
        return memoryview(self._stored)[:length]

    def plain(self, length: int) -> memoryview:
        """Give room for one record's plaintext."""
        if len(self._plain) < length:
            self._plain = bytearray(max(length, MIB))
        return memoryview(self._plain)[:length]


class Records:
    """Reads chunks and nodes by id; used by many threads."""

    def __init__(self, parts: Parts, rescue: Rescue | None = None) -> None:
        """Read from the packs of ``parts``; what the index does not know, from ``rescue``."""
        self._parts = parts
        self._rescue = rescue
        self._scratch = Scratch()
        self._lock = threading.Lock()
        self._ciphers: OrderedDict[str, PackCipher] = OrderedDict()
        self._nodes: OrderedDict[bytes, bytes] = OrderedDict()

    # --- nodes ---

    def node(self, node_id: bytes) -> bytes:
        """Give a node's bytes, from memory if it was read lately."""
        with self._lock:
            held = self._nodes.get(node_id)
            if held is not None:
                self._nodes.move_to_end(node_id)
                return held
        read: list[bytes] = []

        def take(record: bytes, data: memoryview) -> None:
            self._keep_node(record, data)
            read.append(bytes(data))

        self.read([node_id], take)
        return read[0]

    def fetch(self, ids: Sequence[bytes]) -> None:
        """Bring nodes into memory."""
        with self._lock:
            missing = [item for item in dict.fromkeys(ids) if item not in self._nodes]
        if missing:
            self.read(missing, self._keep_node)

    def _keep_node(self, node_id: bytes, data: memoryview) -> None:
        with self._lock:
            self._nodes[node_id] = bytes(data)
            while len(self._nodes) > _NODES:
                self._nodes.popitem(last=False)

    # --- any record ---

    def read(self, ids: Sequence[bytes], take: Take, room: Room = _no_room) -> None:
        """Read records, each once; ``take`` gets each with bytes that are valid during the call.

        A record that there is ``room`` for is put there.  Before it is taken, what is there is
        of no use: it may be of a pack that turned out to be damaged.

        Raises :class:`~sendense.errors.Damaged` naming a record that is nowhere whole.
        """
        found = self._locate(ids)
        moved: list[bytes] = []
        for run in plan_runs(found.values()):
            try:
                self._read_run(run, take, room)
            except NotFound:
                moved += [entry.id for entry in run.entries]
        if moved:
            indexing.refresh(self._parts, [])
            for record in moved:
                self._read_anywhere(record, take, room, None)

    def find(self, ids: Sequence[bytes]) -> dict[bytes, Location]:
        """Tell where records lie; those that no pack holds are left out."""
        return self._find(ids, [])

    def _find(self, ids: Sequence[bytes], doubts: list[SendenseError]) -> dict[bytes, Location]:
        found = self._parts.index.find(ids)
        if len(found) < len(set(ids)):
            indexing.refresh(self._parts, doubts)
            found = self._parts.index.find(ids)
        if self._rescue is not None and len(found) < len(set(ids)):
            lost = [record for record in ids if record not in found]
            found.update(self._rescue.index().find(lost))
        return found

    def _locate(self, ids: Sequence[bytes]) -> dict[bytes, Location]:
        doubts: list[SendenseError] = []
        found = self._find(ids, doubts)
        for record in ids:
            if record not in found:
                raise missing(record, "; ".join(["no pack holds it", *map(str, doubts)]))
        return found

    def _places(self, record: bytes) -> list[Location]:
        rescued = self._rescue.made if self._rescue is not None else None
        places = self._parts.index.locations(record)
        return places + rescued.locations(record) if rescued is not None else places

    def _read_run(self, run: Run, take: Take, room: Room) -> None:
        stored = self._scratch.stored(run.end - run.start)
        try:
            self._parts.store.read_into(run.pack.name, run.start, stored)
        except Damaged:
            for entry in run.entries:  # the pack is cut: some of them may still be there
                self._read_anywhere(entry.id, take, room, None)
            return
        cipher = self._cipher(run.pack)
        for entry in run.entries:
            start = entry.offset - run.start
            try:
                plain = self._open(cipher, entry, stored[start : start + entry.stored], room)
            except Damaged as error:
                bad = missing(entry.id, error.message, pack=run.pack.id)
                self._read_anywhere(entry.id, take, room, bad)
                stored = self._scratch.stored(run.end - run.start)
                self._parts.store.read_into(run.pack.name, run.start, stored)
            else:
                take(entry.id, plain)

    def _read_anywhere(self, record: bytes, take: Take, room: Room, error: Damaged | None) -> None:
        """Try every pack that holds a record."""
        for location in self._places(record):
            entry = location.entry
            stored = self._scratch.stored(entry.stored)
            try:
                self._parts.store.read_into(location.pack.name, entry.offset, stored)
                plain = self._open(self._cipher(location.pack), entry, stored, room)
            except NotFound as absent:
                error = error or missing(record, f"pack {location.pack.id} is missing: {absent}")
            except Damaged as bad:
                error = error or missing(record, bad.message, pack=location.pack.id)
            else:
                take(record, plain)
                return
        raise error or missing(record, "no pack holds it")

    def _open(self, cipher: PackCipher, entry: Entry, stored: memoryview, room: Room) -> memoryview:
        plain = room(entry.id, entry.length)
        if plain is None:
            plain = self._scratch.plain(entry.length)
        cipher.read_into(entry, stored, plain)
        return plain

    def _cipher(self, pack: PackHead) -> PackCipher:
        with self._lock:
            cipher = self._ciphers.get(pack.id)
            if cipher is None:
                cipher = self._ciphers[pack.id] = PackCipher(self._parts.ring, pack)
            self._ciphers.move_to_end(pack.id)
            while len(self._ciphers) > _CIPHERS:
                self._ciphers.popitem(last=False)
            return cipher


def plan_runs(locations: Iterable[Location]) -> Iterator[Run]:
    """Group records into requests."""
    run: list[Entry] = []
    pack: PackHead | None = None
    for item in sorted(locations, key=lambda place: (place.pack.id, place.entry.offset)):
        entry = item.entry
        if run and pack is not None:
            end = run[-1].offset + run[-1].stored
            fits = entry.offset + entry.stored - run[0].offset <= _RUN
            if item.pack.id != pack.id or entry.offset - end > _GAP or not fits:
                yield _run(pack, run)
                run = []
        run.append(entry)
        pack = item.pack
    if run and pack is not None:
        yield _run(pack, run)


def _run(pack: PackHead, entries: list[Entry]) -> Run:
    return Run(pack, entries[0].offset, entries[-1].offset + entries[-1].stored, tuple(entries))


def missing(record: bytes, why: str, **facts: str) -> Damaged:
    """Give the error for a record that cannot be read."""
    return Damaged(
        f"record {record.hex()[:16]} of the repository cannot be read: {why}",
        hint="run 'sendense repo check'; other points may be whole, and the next backup stores "
        "again what it finds missing",
        record=record.hex(),
        **facts,
    )
