"""Index objects: the directories of some packs, so that nobody reads every pack.

An index object is sealed; this is what is inside.  It holds for each pack its id, kind,
epoch, size, number of entries, and the entries as the pack's own directory has them.
A pack may be in several index objects while one replaces another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sendense.errors import Damaged
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.packs import (
    check_entries,
    checked_head,
    decode_entries,
    encode_directory,
)

_PACK = struct.Struct("<16sBHQI")


def encode_index(packs: Sequence[PackRecord]) -> bytes:
    """Give the content of an index object, to be sealed."""
    parts = []
    for pack in packs:
        head = pack.head
        fields = bytes.fromhex(head.id), head.kind, head.epoch, pack.size, len(pack.entries)
        parts.append(_PACK.pack(*fields))
        parts.append(encode_directory(pack.entries))
    return b"".join(parts)


def decode_index(payload: bytes) -> list[PackRecord]:
    """Read the content of an index object."""
    packs: dict[str, PackRecord] = {}
    place = 0
    while place < len(payload):
        if place + _PACK.size > len(payload):
            raise Damaged("an index object is cut off", length=len(payload))
        identity, kind, epoch, size, count = _PACK.unpack_from(payload, place)
        head = checked_head(identity, kind, epoch)
        entries, place = decode_entries(payload, place + _PACK.size, count)
        check_entries(head, size, entries)
        if head.id in packs:
            raise Damaged(f"an index object names pack {head.id} twice", pack=head.id)
        packs[head.id] = PackRecord(head, size, tuple(entries))
    return list(packs.values())
