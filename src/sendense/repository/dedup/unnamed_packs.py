"""Packs that no index object names, read by their own directories.

Every pack ends with its directory, so an index can be lost without a loss of data.  Readers and
checks look here when a record is in no pack that they know: an index object may be damaged or
gone.  *Writers and the collection of garbage never do.*  Most such packs are what
a writer that died has left, or one that lives is about to name; nobody may newly refer
to them.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from sendense.errors import Damaged, NotAllowed, NotFound, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.ahead import ahead
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.packs import (
    HEADER_BYTES,
    TRAILER_BYTES,
    PackCipher,
    parse_header,
    parse_trailer,
    read_directory,
)
from sendense.repository.dedup.parts import Parts
from sendense.storage.store import ObjectInfo
from sendense.units import KIB

log = logging.getLogger(__name__)

_NAME = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{30})")
_TAIL = 64 * KIB
"""Bytes at the end of a pack that hold all of most directories."""


def pack_id(name: str) -> str | None:
    """Give the id of a pack by the name of its object; none where that is no pack's."""
    match = _NAME.fullmatch(name)
    return match[2] if match else None


def pack_name(pack: str) -> str:
    """Give the name of a pack's object."""
    return f"{fmt.PACKS}{pack[:2]}/{pack}"


def unnamed(parts: Parts, index: LocalIndex) -> Iterator[ObjectInfo]:
    """List the packs that ``index`` does not know."""
    known = {summary.head.id for summary in index.packs()}
    for item in parts.store.list(fmt.PACKS):
        found = pack_id(item.name)
        if found is not None and found not in known:
            yield item


def read_tail(parts: Parts, name: str, size: int) -> bytes:
    """Give the end of a pack: its directory and trailer, perhaps with something before them."""
    length = min(size, _TAIL)
    tail = _read(parts, name, size - length, length)
    stored, _ = parse_trailer(tail)
    needed = stored + TRAILER_BYTES
    if needed > size:
        raise Damaged(f"the directory of {name} is larger than the pack", file=name)
    return tail if needed <= length else _read(parts, name, size - needed, needed)


def read_pack(parts: Parts, item: ObjectInfo) -> PackRecord:
    """Read what a pack says of itself: its header and its directory."""
    try:
        return _read_pack(parts, item)
    except Damaged as error:
        raise Damaged(f"{item.name}: {error.message}", file=item.name) from error


def _read_pack(parts: Parts, item: ObjectInfo) -> PackRecord:
    head = parse_header(_read(parts, item.name, 0, min(item.size, HEADER_BYTES)))
    if head.name != item.name:
        raise Damaged(f"it is the pack {head.id}, under another's name")
    tail = read_tail(parts, item.name, item.size)
    entries = read_directory(PackCipher(parts.ring, head), head, item.size, tail)
    return PackRecord(head, item.size, tuple(entries))


def read_packs(
    parts: Parts,
    items: Iterable[ObjectInfo],
    refused: Callable[[ObjectInfo, Exception], None] = lambda item, error: None,
) -> Iterator[PackRecord]:
    """Read what packs say of themselves, several at once; those that cannot be read are left out.

    ``refused`` is called with each of these.
    """

    def look(item: ObjectInfo) -> PackRecord | None:
        try:
            return read_pack(parts, item)
        except NotFound:
            return None  # removed since it was listed
        except (Damaged, NotAllowed, Unsupported) as error:
            log.warning("a pack that no index object names cannot be read: %s", error)
            refused(item, error)
            return None

    for record in ahead(look, items, threads=max(1, min(8, parts.store.traits.parallel))):
        if record is not None:
            yield record


def _read(parts: Parts, name: str, offset: int, length: int) -> bytes:
    data = bytearray(length)
    parts.store.read_into(name, offset, memoryview(data))
    return bytes(data)


class Rescue:
    """An index of the packs that no index object names, made when it is first asked for."""

    def __init__(self, parts: Parts) -> None:
        """Look into the store of ``parts``."""
        self._parts = parts
        self._lock = threading.Lock()
        self._index: LocalIndex | None = None

    @property
    def made(self) -> LocalIndex | None:
        """Give the index if it was asked for before."""
        return self._index

    def index(self) -> LocalIndex:
        """Give the index."""
        with self._lock:
            if self._index is None:
                self._index = self._make()
            return self._index

    def _make(self) -> LocalIndex:
        log.warning(
            "a record is in no pack of the index: packs that it does not name are looked through"
        )
        made = LocalIndex()
        for record in read_packs(self._parts, unnamed(self._parts, self._parts.index)):
            made.add_own(record)
        return made

    def close(self) -> None:
        """Give the index back."""
        with self._lock:
            made, self._index = self._index, None
        if made is not None:
            made.close()
