"""Packs that are only numbers: what index objects and the local index are made of."""

from __future__ import annotations

from random import Random

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, PackHead, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.packs import HEADER_BYTES, TRAILER_BYTES

KEY = bytes(range(32))


class FixedKeys:
    """Stands for a key ring: its secrets are known, so that its results can be written down."""

    newest_epoch = 1
    block_key = chunk_key = node_key = KEY

    def pack_key(self, header: bytes, epoch: int) -> bytes:
        """Give a key that differs by pack."""
        return header + bytes([epoch % 256] * 8)


def number_id(number: int) -> bytes:
    """Give an id by a number, spread as a hash is."""
    return Random(number).randbytes(fmt.ID_BYTES)


def head(number: int, kind: PackKind = PackKind.DATA, epoch: int = 1) -> PackHead:
    """Give the head of a pack by a number."""
    return PackHead(Random(-number - 1).randbytes(fmt.PACK_ID_BYTES).hex(), kind, epoch)


def chunk(record: bytes, offset: int, blocks: int = 1, stored: int | None = None) -> Entry:
    """Give a chunk; one with ``stored`` is compressed."""
    length = blocks * fmt.BLOCK
    plain = length + fmt.TAG_BYTES
    return Entry(record, offset, stored or plain, length, stored is not None)


def leaf(record: bytes, offset: int, hooks: tuple[int, ...] = (), length: int = 300) -> Entry:
    """Give a leaf."""
    return Entry(record, offset, length + fmt.TAG_BYTES, length, False, hooks)


def pack(
    number: int, ids: list[bytes], *, blocks: int = 1, stored: int | None = None
) -> PackRecord:
    """Give a data pack with chunks of these ids."""
    offset, entries = HEADER_BYTES, []
    for record in ids:
        entries.append(chunk(record, offset, blocks, stored))
        offset += entries[-1].stored
    return closed(head(number), entries)


def meta_pack(number: int, leaves: dict[bytes, tuple[int, ...]]) -> PackRecord:
    """Give a meta pack with leaves of these ids and hooks."""
    offset, entries = HEADER_BYTES, []
    for record, hooks in leaves.items():
        entries.append(leaf(record, offset, hooks))
        offset += entries[-1].stored
    return closed(head(number, PackKind.META), entries)


def closed(of: PackHead, entries: list[Entry]) -> PackRecord:
    """Give a pack with the size that its records and its directory take."""
    end = max((entry.offset + entry.stored for entry in entries), default=HEADER_BYTES)
    directory = sum(46 + 8 * len(entry.hooks) for entry in entries) + fmt.TAG_BYTES
    return PackRecord(of, end + directory + TRAILER_BYTES, tuple(entries))
