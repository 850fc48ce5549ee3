"""The constants of the format, version 1: ``docs/format.md`` says what each means.

A change of any of them is a new version of the format.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sendense.units import KIB, MIB

NAME: Final = "sendense-dedup"
VERSION: Final = 1

# --- names of objects ---

HEADER: Final = "sendense-repository"
KEYS: Final = "keys/"
PACKS: Final = "packs/"
INDEX: Final = "index/"
POINTS: Final = "points/"
SEQUENCES: Final = "sequences/"
LEASES: Final = "leases/"
CONDEMNED: Final = "condemned/"
DAMAGE: Final = "damage/"
HOLDS: Final = "holds/"
CHECKED: Final = "checked/"

# --- sizes ---

BLOCK: Final = 64 * KIB
LEAF_BLOCKS: Final = 64
LEAF_BYTES: Final = LEAF_BLOCKS * BLOCK
CHUNK_BLOCKS: Final = 16
WINDOW_BYTES: Final = CHUNK_BLOCKS * BLOCK
FAN_OUT: Final = 64
MAX_LEVEL: Final = 5
"""64^5 leaves are 4 PiB."""
HOOKS: Final = 4
PACK_BYTES: Final = 32 * MIB
"""A pack is closed before it grows beyond this.  Readers take any size below 4 GiB."""

ID_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 12
PACK_ID_BYTES: Final = 16

# --- bytes ---

PACK_MAGIC: Final = b"SNDP"
PACK_END: Final = b"SNDT"
SEALED_MAGIC: Final = b"SNDS"
DIRECTORY_NONCE: Final = b"\xff" * NONCE_BYTES
DIRECTORY_DATA: Final = b"directory"
OWN_CHUNK: Final = 255
"""In a leaf: the chunk of one block whose id is the block's digest."""


class PackKind(IntEnum):
    """What a pack holds."""

    DATA = 1
    META = 2


class SealedKind(IntEnum):
    """What a sealed object is."""

    POINT = 1
    INDEX = 2
    SEQUENCE = 3
    LEASE = 4
    CONDEMNED = 5
    DAMAGE = 6
    HOLD = 7
    CHECKED = 8


# --- contexts of BLAKE3's derive_key ---

BLOCK_CONTEXT: Final = "sendense dedup v1 block digest"
CHUNK_CONTEXT: Final = "sendense dedup v1 chunk id"
NODE_CONTEXT: Final = "sendense dedup v1 node id"
TAG_CONTEXT: Final = "sendense dedup v1 machine tag"
HEADER_CONTEXT: Final = "sendense dedup v1 repository header"
PACK_CONTEXT: Final = "sendense dedup v1 pack secret"
SEALING_CONTEXT: Final = "sendense dedup v1 sealed objects"
SLOT_CONTEXT: Final = "sendense dedup v1 key slot"

# --- leases, in seconds ---

LEASE_RENEWAL_S: Final = 300
LEASE_COMMIT_S: Final = 3600
"""A point is committed only within this time after the lease was renewed."""
LEASE_EXPIRY_S: Final = 7200
"""A lease that was not renewed for this long, by the store's clock, is dead."""
