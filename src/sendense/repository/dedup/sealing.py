"""Sealed objects: small objects that only a holder of the ring can read or make.

::

    "SNDS" (4) | version (u8) | kind (u8) | epoch (u16) | nonce (12) | ciphertext and tag

An object opens only under the name, of the kind and in the repository it was sealed for: all
three are authenticated with it.  So a thief of the store can neither change one nor put one in
the place of another.  Inside is one zstd frame.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sendense.errors import Damaged, NotAllowed, Unsupported
from sendense.repository.dedup import canonical_json
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.keys import KeyRing
from sendense.units import KIB, MIB

MOST: Final = 256 * MIB
"""What an object may hold, where the caller does not say."""

_HEAD: Final = struct.Struct("<4sBBH")
_OVERHEAD: Final = _HEAD.size + fmt.NONCE_BYTES + fmt.TAG_BYTES
_LEVEL: Final = 3
_DENSEST: Final = 32 * KIB
"""No byte of a zstd frame stands for more: a block of 4 bytes gives at most 128 KiB."""
_EMPTY_FRAME: Final = 24
"""Bytes that a frame of nothing has at most."""


def seal(ring: KeyRing, name: str, kind: SealedKind, payload: bytes) -> bytes:
    """Give the bytes to store under ``name``, sealed with the newest epoch."""
    if len(payload) > MOST:
        raise ValueError(f"{name} would be larger than any reader takes")
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(payload)
    nonce = secrets.token_bytes(fmt.NONCE_BYTES)
    return _sealed(ring, name, _head(kind, ring.newest_epoch), nonce, frame)


def unseal(ring: KeyRing, name: str, kind: SealedKind, data: bytes, *, most: int = MOST) -> bytes:
    """Give what was sealed under ``name``; more than ``most`` bytes are not taken.

    :class:`~sendense.errors.Damaged` where it is not what was stored,
    :class:`~sendense.errors.Unsupported` where a newer version wrote it, and
    :class:`~sendense.errors.NotAllowed` where the ring does not hold its epoch.
    """
    if len(data) < _OVERHEAD or data[:4] != fmt.SEALED_MAGIC:
        raise Damaged(f"{name} is no sealed object, or is cut", file=name)
    _, version, stored_kind, epoch = _HEAD.unpack_from(data)
    if version > fmt.VERSION:
        raise Unsupported(
            f"{name} was written by a newer version (format {version})",
            hint="use that version of sendense, or a later one",
            file=name,
        )
    if version < 1 or stored_kind != kind or epoch == 0:
        raise Damaged(f"{name} is not what its name says", file=name)
    head, nonce = data[: _HEAD.size], data[_HEAD.size : _HEAD.size + fmt.NONCE_BYTES]
    cipher = AESGCM(_sealing_key(ring, name, epoch))
    try:
        frame = cipher.decrypt(nonce, data[len(head) + len(nonce) :], _bound(ring, name, head))
    except InvalidTag:
        raise Damaged(
            f"{name} is not what was stored under this name, or not of this repository",
            hint="run 'sendense repo check': it says what is affected",
            file=name,
        ) from None
    return _expand(frame, name, most)


def seal_json(ring: KeyRing, name: str, kind: SealedKind, content: Content) -> bytes:
    """Seal a JSON document."""
    return seal(ring, name, kind, canonical_json.encode(content))


def unseal_json(
    ring: KeyRing, name: str, kind: SealedKind, data: bytes, *, most: int = MOST
) -> Content:
    """Give the JSON document that was sealed under ``name``."""
    return canonical_json.decode(unseal(ring, name, kind, data, most=most), name)


def _sealed(ring: KeyRing, name: str, head: bytes, nonce: bytes, frame: bytes) -> bytes:
    epoch = _HEAD.unpack(head)[3]
    cipher = AESGCM(ring.sealing_key(epoch))
    return head + nonce + cipher.encrypt(nonce, frame, _bound(ring, name, head))


def _head(kind: SealedKind, epoch: int) -> bytes:
    return _HEAD.pack(fmt.SEALED_MAGIC, fmt.VERSION, kind, epoch)


def _sealing_key(ring: KeyRing, name: str, epoch: int) -> bytes:
    try:
        return ring.sealing_key(epoch)
    except NotAllowed as error:
        facts = {**error.data, "file": name}
        raise NotAllowed(f"{name}: {error.message}", hint=error.hint, **facts) from None


def _bound(ring: KeyRing, name: str, head: bytes) -> bytes:
    """Give the authenticated data: where the object belongs."""
    return b"\0".join((ring.repository_id.encode(), name.encode(), head))


def _expand(frame: bytes, name: str, most: int) -> bytes:
    """Give what a frame holds, without taking more memory than it can honestly fill."""
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= min(most, len(frame) * _DENSEST):
            raise Damaged(f"{name} states an impossible length", file=name, length=size, most=most)
        if size == 0:  # the library does not look at what follows
            return _expand_empty(frame, name)
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Damaged(f"{name} does not expand", file=name) from None


def _expand_empty(frame: bytes, name: str) -> bytes:
    expander = zstandard.ZstdDecompressor().decompressobj()
    right = len(frame) <= _EMPTY_FRAME and frame.startswith(zstandard.FRAME_HEADER)
    if not right or expander.decompress(frame) or not expander.eof or expander.unused_data:
        raise Damaged(f"{name} does not expand", file=name)
    return b""
