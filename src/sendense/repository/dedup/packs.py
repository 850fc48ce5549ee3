"""Packs: many records in one object, each encrypted on its own.

A pack is written from front to back and never changed::

    header | record | record | ... | directory | trailer

The header names the pack, and from it comes the pack's key.  A record is a chunk or a
node under AES-256-GCM: its place in the pack is its nonce, and what the directory says
of it is authenticated with it.  So a record that was moved, swapped or described
wrongly does not open.  The directory is encrypted too; the trailer says where it begins.

Everything read here comes from a store that may lie: lengths are bounded before memory
is taken, and what no writer makes is :class:`~sendense.errors.Damaged`.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sendense.errors import Damaged, Unsupported
from sendense.model.stream import Buffer
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, PackHead
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.nodes import LARGEST_NODE

VERSION = 1
LARGEST_PACK = (1 << 32) - 1
LARGEST_DIRECTORY = 1 << 20
"""Entries."""

_HEADER = struct.Struct("<4sBBH16s")
_TRAILER = struct.Struct("<II4s")
_NONCE = struct.Struct("<Q4x")
_RECORD_DATA = struct.Struct("<32sIB")
_ENTRY = struct.Struct("<32sIIIBB")
_HOOKS = [struct.Struct(f"<{count}Q") for count in range(fmt.HOOKS + 1)]

HEADER_BYTES = _HEADER.size
TRAILER_BYTES = _TRAILER.size


class PackKeys(Protocol):
    """What of the key ring a pack needs."""

    def pack_key(self, header: bytes, epoch: int) -> bytes:
        """Give the key of the pack with this header."""


# --- headers and trailers ---


def new_pack_head(kind: PackKind, epoch: int) -> PackHead:
    """Give the head of a new pack, with a random id."""
    return PackHead(os.urandom(fmt.PACK_ID_BYTES).hex(), kind, epoch)


def header_bytes(head: PackHead) -> bytes:
    """Give the first bytes of a pack."""
    return _HEADER.pack(fmt.PACK_MAGIC, VERSION, head.kind, head.epoch, bytes.fromhex(head.id))


def parse_header(data: bytes) -> PackHead:
    """Read the first bytes of a pack; what stands behind them is not looked at."""
    if len(data) < HEADER_BYTES:
        raise Damaged("a pack is cut off in its header", length=len(data))
    magic, version, kind, epoch, identity = _HEADER.unpack_from(data)
    if magic != fmt.PACK_MAGIC:
        raise Damaged("an object in the place of a pack is none")
    if version > VERSION:
        raise Unsupported(
            f"pack {identity.hex()} has version {version}, which a newer program wrote",
            pack=identity.hex(),
            version=version,
        )
    return checked_head(identity, version and kind, epoch)


def checked_head(identity: bytes, kind: int, epoch: int) -> PackHead:
    """Give a head of numbers that were read."""
    if kind not in (PackKind.DATA, PackKind.META) or epoch < 1:
        raise Damaged(f"the head of pack {identity.hex()} contradicts itself", pack=identity.hex())
    return PackHead(identity.hex(), PackKind(kind), epoch)


def parse_trailer(data: bytes) -> tuple[int, int]:
    """Read the last bytes of a pack: the stored length of its directory, and its entries."""
    if len(data) < TRAILER_BYTES:
        raise Damaged("a pack is cut off in its trailer", length=len(data))
    stored, count, magic = _TRAILER.unpack(data[-TRAILER_BYTES:])
    if magic != fmt.PACK_END:
        raise Damaged("a pack has no trailer: it was cut off")
    plain = stored - fmt.TAG_BYTES
    most = _ENTRY.size + 8 * fmt.HOOKS
    if count > LARGEST_DIRECTORY or not count * _ENTRY.size <= plain <= count * most:
        raise Damaged("the trailer of a pack contradicts itself", entries=count, directory=stored)
    return stored, count


# --- records ---


class PackCipher:
    """The key of one pack, at work.  May be used by several threads."""

    def __init__(self, ring: PackKeys, head: PackHead) -> None:
        """Derive the key of the pack."""
        self.head = head
        self._aead = AESGCM(ring.pack_key(header_bytes(head), head.epoch))

    def encrypt_into(self, entry: Entry, data: Buffer, pack: memoryview) -> None:
        """Encrypt a record to its place in ``pack``: a buffer that begins where the pack does.

        ``data`` is the plaintext, or its zstd frame.  A place is used once: it is the nonce.
        """
        if entry.stored != len(data) + fmt.TAG_BYTES:
            raise ValueError(f"a record of {len(data)} bytes does not take {entry.stored}")
        place = pack[entry.offset : entry.offset + entry.stored]
        self._aead.encrypt_into(_NONCE.pack(entry.offset), data, _about(entry), place)

    def decrypt_into(self, entry: Entry, stored: Buffer, target: memoryview) -> None:
        """Decrypt a record to the beginning of ``target``, without decompressing it."""
        plain = entry.stored - fmt.TAG_BYTES
        if len(stored) != entry.stored or plain < 0:
            raise self._damaged(entry, "is cut off")
        try:
            self._aead.decrypt_into(
                _NONCE.pack(entry.offset), stored, _about(entry), target[:plain]
            )
        except InvalidTag:
            raise self._damaged(entry, "fails its authentication") from None

    def read_into(self, entry: Entry, stored: Buffer, target: memoryview) -> None:
        """Decrypt and decompress a record to the beginning of ``target``.

        ``target`` has room for ``entry.length`` bytes, and nothing is written behind them.
        After an error its content is of no use.
        """
        plain = entry.stored - fmt.TAG_BYTES
        if not entry.compressed:
            if plain != entry.length:
                raise self._damaged(entry, "has another length than its directory says")
            self.decrypt_into(entry, stored, target)
            return
        frame = _THREAD.frame(plain)
        self.decrypt_into(entry, stored, frame)
        try:
            filled = _decompress_into(frame, target[: entry.length])
        except zstandard.ZstdError as error:
            raise self._damaged(entry, f"cannot be decompressed: {error}") from error
        if not filled:
            raise self._damaged(entry, "has another length than its directory says")

    def seal_directory(self, plain: bytes) -> bytes:
        """Encrypt the directory."""
        return self._aead.encrypt(fmt.DIRECTORY_NONCE, plain, fmt.DIRECTORY_DATA)

    def open_directory(self, stored: Buffer) -> bytes:
        """Decrypt the directory."""
        try:
            return self._aead.decrypt(fmt.DIRECTORY_NONCE, stored, fmt.DIRECTORY_DATA)
        except InvalidTag:
            raise Damaged(
                f"the directory of pack {self.head.id} fails its authentication", pack=self.head.id
            ) from None

    def _damaged(self, entry: Entry, what: str) -> Damaged:
        """Give the error of a record that is bad."""
        return Damaged(
            f"record {entry.id.hex()} at {entry.offset} of pack {self.head.id} {what}",
            pack=self.head.id,
            offset=entry.offset,
            id=entry.id.hex(),
        )


def _about(entry: Entry) -> bytes:
    """Give what is authenticated with a record."""
    return _RECORD_DATA.pack(entry.id, entry.length, entry.compressed)


class _Thread(threading.local):
    """What a thread needs to decompress, used again for each record."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=fmt.WINDOW_BYTES)
        self._frame = bytearray()

    def frame(self, length: int) -> memoryview:
        """Give room for a frame."""
        if len(self._frame) < length:
            self._frame = bytearray(max(length, LARGEST_NODE))
        return memoryview(self._frame)[: max(0, length)]


_THREAD = _Thread()


def _decompress_into(frame: memoryview, target: memoryview) -> bool:
    """Fill ``target`` with exactly what a frame holds, and tell whether that is the same."""
    if zstandard.frame_content_size(frame) != len(target):
        return False
    with _THREAD.decompressor.stream_reader(frame) as reader:
        # The second read finds the frame's end, or that it is not there.
        return reader.readinto(target) == len(target) and not reader.read(1)


# --- directories ---


def encode_directory(entries: Sequence[Entry]) -> bytes:
    """Give entries as a directory has them, unencrypted."""
    parts = []
    for entry in entries:
        hooks = entry.hooks
        if len(entry.id) != fmt.ID_BYTES:
            raise ValueError(f"{entry.id.hex()} is no id")
        parts.append(
            _ENTRY.pack(
                entry.id, entry.offset, entry.stored, entry.length, entry.compressed, len(hooks)
            )
        )
        if hooks:
            parts.append(_HOOKS[len(hooks)].pack(*hooks))
    return b"".join(parts)


def decode_directory(data: Buffer, count: int) -> list[Entry]:
    """Read ``count`` entries that fill ``data``; whether a pack can hold them is not looked at."""
    entries, end = decode_entries(data, 0, count)
    if end != len(data):
        raise Damaged("a directory is longer than its entries", entries=count, length=len(data))
    return entries


def decode_entries(data: Buffer, start: int, count: int) -> tuple[list[Entry], int]:
    """Read ``count`` entries from ``start`` on; give them, and where they end."""
    if count > LARGEST_DIRECTORY or start + count * _ENTRY.size > len(data):
        raise Damaged("a directory is cut off", entries=count, length=len(data))
    entries = []
    place = start
    try:
        for _ in range(count):
            record, offset, stored, length, compressed, hooked = _ENTRY.unpack_from(data, place)
            place += _ENTRY.size
            hooks: tuple[int, ...] = ()
            if hooked:
                hooks = _HOOKS[hooked].unpack_from(data, place)
                place += 8 * hooked
            if compressed > 1:
                raise Damaged("a directory names an unknown compression", compression=compressed)
            entries.append(Entry(record, offset, stored, length, bool(compressed), hooks))
    except (struct.error, IndexError):
        raise Damaged("a directory is cut off", entries=count, length=len(data)) from None
    return entries, place


def check_entries(head: PackHead, size: int, entries: Sequence[Entry]) -> None:
    """Refuse a directory that no writer makes, so that nothing below needs to doubt it."""
    hooks = sum(len(entry.hooks) for entry in entries)
    end = size - tail_length(entries)
    wrong = ""
    if size > LARGEST_PACK or end < HEADER_BYTES or len(entries) > LARGEST_DIRECTORY:
        wrong = "is larger than the pack"
    elif entries and (entries[0].offset < HEADER_BYTES or _end(entries[-1]) > end):
        wrong = "names records outside of the pack"
    elif any(_end(one) > other.offset for one, other in pairwise(entries)):
        wrong = "names records that overlap or are out of order"
    elif len({entry.id for entry in entries}) != len(entries):
        wrong = "names a record twice"
    elif head.kind is PackKind.DATA and hooks:
        wrong = "has hooks of chunks"
    elif not all(map(_is_chunk if head.kind is PackKind.DATA else _is_node, entries)):
        wrong = "names a record of an impossible length"
    if wrong:
        raise Damaged(f"the directory of pack {head.id} {wrong}", pack=head.id, size=size)


def _end(entry: Entry) -> int:
    return entry.offset + entry.stored


def _is_chunk(entry: Entry) -> bool:
    blocks, rest = divmod(entry.length, fmt.BLOCK)
    return rest == 0 and 1 <= blocks <= fmt.CHUNK_BLOCKS and _is_record(entry)


def _is_node(entry: Entry) -> bool:
    return 0 < entry.length <= LARGEST_NODE and _is_record(entry)


def _is_record(entry: Entry) -> bool:
    """A frame is stored only where it is shorter."""
    plain = entry.stored - fmt.TAG_BYTES
    return 0 < plain < entry.length if entry.compressed else plain == entry.length


def tail_length(entries: Sequence[Entry]) -> int:
    """Tell how many bytes stand behind the records of a pack."""
    hooks = sum(len(entry.hooks) for entry in entries)
    return len(entries) * _ENTRY.size + 8 * hooks + fmt.TAG_BYTES + TRAILER_BYTES


def tail_bytes(cipher: PackCipher, entries: Sequence[Entry]) -> bytes:
    """Give what stands behind the records of a pack: the directory and the trailer."""
    directory = cipher.seal_directory(encode_directory(entries))
    return directory + _TRAILER.pack(len(directory), len(entries), fmt.PACK_END)


def read_directory(cipher: PackCipher, head: PackHead, size: int, tail: Buffer) -> list[Entry]:
    """Read the directory of a pack of ``size`` bytes from its last bytes.

    ``tail`` holds at least what :func:`parse_trailer` says, and the trailer; it may hold more.
    """
    stored, count = parse_trailer(bytes(tail[-TRAILER_BYTES:]))
    if stored + TRAILER_BYTES + HEADER_BYTES > size:
        raise Damaged(f"the directory of pack {head.id} is larger than the pack", pack=head.id)
    start = len(tail) - TRAILER_BYTES - stored
    if start < 0:
        raise ValueError(f"{len(tail)} bytes are not the directory of {stored}")
    plain = cipher.open_directory(tail[start : start + stored])
    entries = decode_directory(plain, count)
    check_entries(head, size, entries)
    return entries
