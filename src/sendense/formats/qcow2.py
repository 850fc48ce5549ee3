"""The header of a QCOW2 image (version 3): the fields, their bytes and their bounds.

QEMU's ``docs/interop/qcow2.txt`` is the specification.  What matters here::

    cluster 0   header | extensions | backing file name
    L1 table    one entry per L2 table
    L2 table    one cluster of entries; each maps one guest cluster to
                    a place in the file      (data)
                    a place, bit 62 set      (compressed data)
                    bit 0 alone              (reads as zero, hides the backing file)
                    0                        (the backing file's, or zero)
    refcounts   how often each cluster of the file is used; 16 bits wide

All numbers are big-endian.  A file whose first cluster is not written yet has no
magic and is no image: :mod:`sendense.formats.qcow2_writer` writes the header last.

This module refuses what it does not know: encryption, external data files,
extended L2 entries.  A header is input that may have been forged (the name of
the backing file makes QEMU open that file), so every field is bounded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

from sendense.errors import Damaged, Unsupported

MAGIC = b"QFI\xfb"
VERSION = 3
HEADER_LENGTH = 112
_FIELDS = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_EXTENSION = struct.Struct(">II")
_EXTENSION_END = 0
_EXTENSION_BACKING_FORMAT = 0xE2792ACA

MINIMUM_CLUSTER_BITS = 9
MAXIMUM_CLUSTER_BITS = 21
MAXIMUM_L1_BYTES = 32 << 20
"""QEMU opens no image with a larger L1 table."""
MAXIMUM_BACKING_NAME = 1023

INCOMPATIBLE_DIRTY = 1
INCOMPATIBLE_CORRUPT = 2
INCOMPATIBLE_COMPRESSION = 8
_KNOWN_INCOMPATIBLE = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION

COMPRESSION_DEFLATE = 0
COMPRESSION_ZSTD = 1

FLAG_COPIED = 1 << 63
"""The cluster or table that an entry points to is used once."""
FLAG_COMPRESSED = 1 << 62
FLAG_ZERO = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

_LARGEST_HEADER = 1 << MAXIMUM_CLUSTER_BITS


@dataclass(frozen=True)
class Backing:
    """The image under this one, as its header names it."""

    name: str
    """Relative to the directory of the image itself, where it does not begin with a slash."""
    format: str | None


@dataclass(frozen=True)
class Header:
    """What the first cluster of an image says."""

    size: int
    """Virtual size in bytes."""
    cluster_bits: int
    backing: Backing | None
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    incompatible: int = 0
    compression: int = COMPRESSION_DEFLATE
    snapshots: int = 0
    refcount_order: int = 4

    @property
    def cluster_size(self) -> int:
        """Give the bytes of one cluster."""
        return 1 << self.cluster_bits

    def to_bytes(self) -> bytes:
        """Give the bytes of the first cluster, up to the end of what is used of it."""
        extensions = b""
        name = b""
        if self.backing is not None:
            name = self.backing.name.encode()
            if self.backing.format is not None:
                extensions += _extension(_EXTENSION_BACKING_FORMAT, self.backing.format.encode())
        extensions += _EXTENSION.pack(_EXTENSION_END, 0)
        end = HEADER_LENGTH + len(extensions)
        if end + len(name) > self.cluster_size or len(name) > MAXIMUM_BACKING_NAME:
            raise Unsupported(f"the name of the backing file is too long: {len(name)} bytes")
        fields = _FIELDS.pack(
            MAGIC, VERSION, end if name else 0, len(name), self.cluster_bits, self.size,
            0, self.l1_entries, self.l1_offset,
            self.refcount_table_offset, self.refcount_table_clusters,
            self.snapshots, 0, self.incompatible, 0, 0, self.refcount_order, HEADER_LENGTH,
        )  # fmt: skip
        return fields + bytes([self.compression]) + bytes(7) + extensions + name


def l1_entries_for(size: int, cluster_size: int) -> int:
    """Give how many L2 tables an image of ``size`` bytes can have; at least one."""
    return max(1, -(-size // (cluster_size * (cluster_size // 8))))


def read_header(path: Path) -> Header:
    """Read the header of an image; :class:`~sendense.errors.Damaged` names the file."""
    with path.open("rb") as file:
        return parse_header(file.read(_LARGEST_HEADER), str(path))


def parse_header(data: bytes, name: str) -> Header:
    """Read a header out of the first bytes of an image; ``name`` is for the error."""
    if len(data) < HEADER_LENGTH or data[:4] != MAGIC:
        raise Damaged(f"{name} is no QCOW2 image", file=name)
    fields = _FIELDS.unpack_from(data)
    version, length = fields[1], fields[17]
    if version != VERSION:
        raise Damaged(f"{name} is a QCOW2 image of version {version}, not 3", file=name)
    header = Header(
        size=fields[5],
        cluster_bits=fields[4],
        backing=None,
        l1_entries=fields[7],
        l1_offset=fields[8],
        refcount_table_offset=fields[9],
        refcount_table_clusters=fields[10],
        snapshots=fields[11],
        incompatible=fields[13],
        refcount_order=fields[16],
        compression=data[104] if length > 104 else COMPRESSION_DEFLATE,
    )
    _check(header, name, encryption=fields[6], length=length)
    first_cluster = data[: header.cluster_size]
    backing = _parse_backing(first_cluster, name, place=(fields[2], fields[3]), length=length)
    return replace(header, backing=backing)


def _check(header: Header, name: str, *, encryption: int, length: int) -> None:
    """Refuse what cannot be, and what is never written here."""
    if not MINIMUM_CLUSTER_BITS <= header.cluster_bits <= MAXIMUM_CLUSTER_BITS:
        raise Damaged(f"the header of {name} has an impossible cluster size", file=name)
    wrong = (
        header.size > 1 << 62,
        header.l1_entries * 8 > MAXIMUM_L1_BYTES,
        header.size > 0 and header.l1_entries < l1_entries_for(header.size, header.cluster_size),
        header.l1_offset % header.cluster_size != 0 or header.l1_offset > OFFSET_MASK,
        header.refcount_order > 6,
        not 104 <= length <= header.cluster_size,
        header.compression not in (COMPRESSION_DEFLATE, COMPRESSION_ZSTD),
    )
    if any(wrong):
        raise Damaged(f"the header of {name} contradicts itself", file=name)
    if encryption or header.incompatible & ~_KNOWN_INCOMPATIBLE:
        raise Damaged(
            f"{name} uses QCOW2 features that are never written here",
            file=name,
            incompatible=header.incompatible,
            encryption=encryption,
        )


def _parse_backing(
    data: bytes, file: str, *, place: tuple[int, int], length: int
) -> Backing | None:
    """Read the backing file's name at ``place`` and its format behind the fields."""
    offset, size = place
    if offset == 0:
        return None
    if not 0 < size <= MAXIMUM_BACKING_NAME or not length <= offset <= len(data) - size:
        raise Damaged(f"the header of {file} places its backing file's name wrongly", file=file)
    try:
        form = _find_extension(data[length:offset], _EXTENSION_BACKING_FORMAT)
        return Backing(
            data[offset : offset + size].decode(), None if form is None else form.decode()
        )
    except UnicodeDecodeError as error:
        raise Damaged(f"the backing file's name in {file} is no text", file=file) from error
    except struct.error as error:
        raise Damaged(f"a header extension of {file} is cut off", file=file) from error


def _find_extension(data: bytes, wanted: int) -> bytes | None:
    """Give the content of one header extension; ``struct.error`` where they are cut off."""
    position = 0
    while position < len(data):
        kind, size = _EXTENSION.unpack_from(data, position)
        position += _EXTENSION.size
        if kind == _EXTENSION_END:
            break
        if kind == wanted:
            return struct.unpack_from(f"{size}s", data, position)[0]  # type: ignore[no-any-return]
        position += -(-size // 8) * 8
    return None


def _extension(kind: int, content: bytes) -> bytes:
    return _EXTENSION.pack(kind, len(content)) + content + bytes(-len(content) % 8)
