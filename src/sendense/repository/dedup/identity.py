"""Identity: what names a block, a chunk and a node.

Every name is a keyed BLAKE3 under a key of the repository.  Equal content has an
equal name inside one repository, and names tell nothing to who does not hold the
keys.  A chunk of one block is named by the block's digest, so that a block which
comes alone is known without a second computation.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from sendense.repository.dedup import format as fmt

_ZEROES = bytearray(fmt.BLOCK)
"""Never written to.  A bytearray: only its comparison runs at the speed of memory."""


def digest_blocks(key: bytes, data: memoryview) -> list[bytes | None]:
    """Give the digest of each block of ``data``; ``None`` for a block of zeroes.

    ``data`` begins at a block's start.  Where it ends inside a block, the disk ends:
    the block is filled up with zeroes.
    """
    data = data.cast("B") if data.format != "B" else data
    empty = blake3(key=key)
    digests: list[bytes | None] = []
    for start in range(0, len(data), fmt.BLOCK):
        block = data[start : start + fmt.BLOCK]
        missing = fmt.BLOCK - len(block)
        # On the left side: a memoryview there compares byte by byte.
        if (_ZEROES[missing:] if missing else _ZEROES) == block:
            digests.append(None)
            continue
        hasher = empty.copy()
        hasher.update(block)
        if missing:
            hasher.update(bytes(missing))
        digests.append(hasher.digest())
    return digests


def chunk_id(chunk_key: bytes, digests: Sequence[bytes]) -> bytes:
    """Give the id of the chunk that holds the blocks with these digests, in this order."""
    if not 1 <= len(digests) <= fmt.CHUNK_BLOCKS:
        raise ValueError(f"a chunk of {len(digests)} blocks")
    if len(digests) == 1:
        return digests[0]
    return blake3(b"".join(digests), key=chunk_key).digest()


def node_id(node_key: bytes, data: bytes) -> bytes:
    """Give the id of a node by its bytes."""
    return blake3(data, key=node_key).digest()
