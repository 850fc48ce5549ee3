"""Nodes: the tree that says where the blocks of a disk are.

A **leaf** stands for 64 blocks (4 MiB of a disk), an **inner node** for 64 nodes of the
level below.  A node is its bytes: its id is their keyed hash, so two writers that say
the same must write the same.  Encoding therefore has one result, and decoding takes
only what encoding gives; all else is :class:`~sendense.errors.Damaged`.

A leaf names each chunk once, in the order of first use, and each block by its place
in one of them::

    leaf    version | 0 | present (u64) | chunks (u8) | ids | (number, block, digest) ...
    inner   version | level | present (u64) | ids

Zeroes are not there: a block, a subtree, or a whole disk.  So a node says something
about at least one block.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from heapq import nsmallest
from typing import NamedTuple, TypeVar

from sendense.errors import Damaged, Unsupported
from sendense.repository.dedup import format as fmt

VERSION = 1
LARGEST_NODE = 11 + fmt.LEAF_BLOCKS * (fmt.ID_BYTES + 2 + fmt.ID_BYTES)
"""Bytes of a leaf whose blocks lie in as many chunks."""

_HEAD = struct.Struct("<BBQ")
_LEAF_HEAD = struct.Struct("<BBQB")
_FIRST_EIGHT = struct.Struct("<Q24x")

T = TypeVar("T")


class Slot(NamedTuple):
    """Where one block of a disk is."""

    chunk: bytes
    """The id of the chunk."""
    block: int
    """The number of the block in the chunk."""
    digest: bytes
    """Of the block.  Equal to ``chunk`` when the chunk is this block alone."""


# --- the shape of a tree ---


def leaf_count(size: int) -> int:
    """Give the number of leaves of a disk of ``size`` bytes, those of zeroes included."""
    return -(-size // fmt.LEAF_BYTES)


def height(size: int) -> int:
    """Give the level of the root of a disk of ``size`` bytes."""
    level, reach = 0, 1
    while reach < leaf_count(size):
        level, reach = level + 1, reach * fmt.FAN_OUT
    if level > fmt.MAX_LEVEL:
        raise Unsupported(f"a disk of {size} bytes is larger than a repository can hold", size=size)
    return level


def hooks_of(slots: Sequence[Slot | None]) -> tuple[int, ...]:
    """Give the hooks of a leaf: they find it again by the content of a few of its blocks."""
    digests = {slot.digest for slot in slots if slot is not None}
    return tuple(_FIRST_EIGHT.unpack(digest)[0] for digest in nsmallest(fmt.HOOKS, digests))


# --- leaves ---


def encode_leaf(slots: Sequence[Slot | None]) -> bytes:
    """Give the bytes of a leaf; slots that are missing at the end are zeroes."""
    if len(slots) > fmt.LEAF_BLOCKS:
        raise ValueError(f"a leaf of {len(slots)} blocks")
    present, bit = 0, 1
    numbers: dict[bytes, int] = {}
    fields: list[int | bytes] = []
    for slot in slots:
        if slot is not None:
            chunk, block, digest = slot
            own = chunk == digest
            number = fmt.OWN_CHUNK if own else numbers.setdefault(chunk, len(numbers))
            if len(digest) != fmt.ID_BYTES or not 0 <= block < (1 if own else fmt.CHUNK_BLOCKS):
                raise ValueError(f"no block of a chunk: {slot}")
            fields += number, block, digest
            present |= bit
        bit <<= 1
    ids = b"".join(numbers)
    if not present or len(ids) != len(numbers) * fmt.ID_BYTES:
        raise ValueError("a leaf without blocks, or with an id of another length")
    head = _LEAF_HEAD.pack(VERSION, 0, present, len(numbers))
    return head + ids + _slots_of(len(fields) // 3).pack(*fields)


def decode_leaf(data: bytes) -> list[Slot | None]:
    """Give the 64 slots of a leaf; ``None`` is a block of zeroes."""
    if node_level(data) != 0 or len(data) < _LEAF_HEAD.size:
        raise _damaged("it is no leaf")
    present, chunks = _LEAF_HEAD.unpack_from(data)[2:]
    body = _LEAF_HEAD.size + chunks * fmt.ID_BYTES
    layout = _slots_of(present.bit_count())
    if not present or chunks > fmt.LEAF_BLOCKS or len(data) != body + layout.size:
        raise _damaged("its length is not what it says")
    ids = [data[at : at + fmt.ID_BYTES] for at in range(_LEAF_HEAD.size, body, fmt.ID_BYTES)]
    fields = layout.unpack_from(data, body)
    numbers, blocks, digests = fields[0::3], fields[1::3], fields[2::3]
    used = dict.fromkeys(numbers)
    used.pop(fmt.OWN_CHUNK, None)
    if list(used) != list(range(chunks)) or len(set(ids)) != chunks:
        raise _damaged("its chunks are not in the order of their use")
    if max(blocks) >= fmt.CHUNK_BLOCKS:
        raise _damaged("a block is in no chunk")
    found: list[Slot | None] = []
    for number, block, digest in zip(numbers, blocks, digests, strict=True):
        if number == fmt.OWN_CHUNK:
            if block:
                raise _damaged("a chunk of one block has more")
            found.append(Slot(digest, 0, digest))
        else:
            chunk = ids[number]
            if chunk == digest:
                raise _damaged("a chunk of one block is listed")
            found.append(Slot(chunk, block, digest))
    return _spread(present, found)


# --- inner nodes ---


def encode_inner(level: int, children: Sequence[bytes | None]) -> bytes:
    """Give the bytes of an inner node; children that are missing at the end are zeroes."""
    if len(children) > fmt.FAN_OUT or not 1 <= level <= fmt.MAX_LEVEL:
        raise ValueError(f"an inner node of level {level} with {len(children)} children")
    ids = [child for child in children if child is not None]
    if not ids or any(len(child) != fmt.ID_BYTES for child in ids):
        raise ValueError("an inner node without children, or with an id of another length")
    present = sum(1 << place for place, child in enumerate(children) if child is not None)
    return _HEAD.pack(VERSION, level, present) + b"".join(ids)


def decode_inner(data: bytes) -> tuple[int, list[bytes | None]]:
    """Give the level of an inner node and its 64 children; ``None`` is a subtree of zeroes."""
    level = node_level(data)
    if level == 0 or len(data) < _HEAD.size:
        raise _damaged("it is no inner node")
    present = _HEAD.unpack_from(data)[2]
    if not present or len(data) != _HEAD.size + present.bit_count() * fmt.ID_BYTES:
        raise _damaged("its length is not what it says")
    ids = [data[at : at + fmt.ID_BYTES] for at in range(_HEAD.size, len(data), fmt.ID_BYTES)]
    return level, _spread(present, ids)


def node_level(data: bytes) -> int:
    """Give the level of a node: 0 is a leaf."""
    if len(data) < 2 or data[0] == 0 or (data[0] <= VERSION and data[1] > fmt.MAX_LEVEL):
        raise _damaged("it is none")
    if data[0] > VERSION:
        raise Unsupported(
            f"a node of this repository has version {data[0]}, which a newer program wrote",
            version=data[0],
        )
    return data[1]


# --- inside ---


@lru_cache(maxsize=fmt.LEAF_BLOCKS + 1)
def _slots_of(count: int) -> struct.Struct:
    """Give the layout of ``count`` slots: chunk number, block in the chunk, digest."""
    return struct.Struct("<" + "BB32s" * count)


def _spread(present: int, found: Sequence[T]) -> list[T | None]:
    """Put what was found in its places: bit n of ``present`` is place n."""
    if len(found) == fmt.FAN_OUT:
        return [*found]
    rest = iter(found)
    return [next(rest) if present >> place & 1 else None for place in range(fmt.FAN_OUT)]


def _damaged(why: str) -> Damaged:
    return Damaged(f"a node of the repository cannot be right: {why}", reason=why)
