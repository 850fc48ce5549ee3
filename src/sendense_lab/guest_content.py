"""The content of the guest's files, as a pure function.

The guest's shell script (`guest_files/lab`, function `content`) and this module make the same
bytes from (seed, number, size). So a test may compare a file that was taken out of a backup with
what it must be, without asking the guest.

The bytes are windows of one pool of random bytes: they do not compress, and since windows start
at any byte, two files share no aligned block, so that deduplication cannot hide a missing write.
"""

from __future__ import annotations

import random

POOL_SIZE = 1 << 20
HEADER_SIZE = 512


def pool() -> bytes:
    """The random bytes that are put into the guest's initial file system."""
    return random.Random("sendense-lab").randbytes(POOL_SIZE)


def file_content(seed: int, number: int, kib: int) -> bytes:
    """What `lab write DISK COUNT KIB SEED` puts into the file `f<seed>-<number>`."""
    size = kib * 1024
    source = pool()
    offset = (seed * 7919 + number * 104729) % POOL_SIZE
    parts = [f"sendense-lab seed={seed} number={number} kib={kib}".encode().ljust(HEADER_SIZE)]
    left = size - HEADER_SIZE
    while left > 0:
        window = source[offset:]
        parts.append(window)
        left -= len(window)
        offset = (offset + 4099) % POOL_SIZE
    return b"".join(parts)[:size]
