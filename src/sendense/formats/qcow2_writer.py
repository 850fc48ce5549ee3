"""Writing a QCOW2 image in one pass, while the data streams by.

Data comes with ascending offsets, so everything can be appended in the order it
comes, and nothing has to be read or changed again::

    [ header ] data data L2 data data refcounts data L2 ... L1 refcounts refcount-table
        ^ written last, behind an fsync of all the rest

* One L2 table is open at a time: when the data passes its end it is complete and
  is appended.  One block of refcounts likewise.  So memory does not grow with
  the disk: for 16 TiB and 64 KiB clusters it stays below 1 MiB.
* A run of clusters is one ``pwrite`` and one slice assignment; no Python runs per
  byte, and none per cluster.
* A process that dies leaves a file without a magic: no tool takes it for an image.
* Ranges that are never named are the backing file's, or zero without one.
  ``zero`` hides the backing file with explicit zero clusters.

``qemu-img create`` and ``qemu-io`` would do the same through a process and a
socket, twice as slow and with no say in when the header appears.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from sendense.errors import Unsupported
from sendense.formats.qcow2 import (
    COMPRESSION_DEFLATE,
    COMPRESSION_ZSTD,
    FLAG_COMPRESSED,
    FLAG_COPIED,
    FLAG_ZERO,
    INCOMPATIBLE_COMPRESSION,
    MAXIMUM_CLUSTER_BITS,
    MAXIMUM_L1_BYTES,
    MINIMUM_CLUSTER_BITS,
    Backing,
    Header,
    l1_entries_for,
)
from sendense.formats.qcow2_compression import Compressor, Packed, Result
from sendense.formats.qcow2_space import Space, write_all
from sendense.model.stream import Buffer

DEFAULT_CLUSTER_SIZE = 65536
SECTOR = 512


class Qcow2Writer:
    """One image under way; a :class:`~sendense.model.stream.BlockSink`.

    ``close`` makes the image real and durable; ``abort`` removes it.  Without
    either the file stays, and is no image.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        *,
        cluster_size: int = DEFAULT_CLUSTER_SIZE,
        backing: Backing | None = None,
        compression_level: int | None = None,
    ) -> None:
        """Create ``path``, which must not exist, for a disk of ``size`` bytes."""
        bits = cluster_size.bit_length() - 1
        if cluster_size != 1 << bits or not MINIMUM_CLUSTER_BITS <= bits <= MAXIMUM_CLUSTER_BITS:
            raise Unsupported(f"a QCOW2 cluster cannot be {cluster_size} bytes")
        if size % SECTOR:
            raise Unsupported(f"QEMU's disks are whole sectors of {SECTOR} bytes, not {size} bytes")
        if l1_entries_for(size, cluster_size) * 8 > MAXIMUM_L1_BYTES:
            raise Unsupported(
                f"a disk of {size} bytes needs larger QCOW2 clusters than {cluster_size} bytes"
            )
        self.path = path
        self.size = size
        self.block_size = cluster_size
        self._bits = bits
        self._backing = backing
        self._position = 0
        self._l1 = array("Q")
        self._table = array("Q")
        self._table_index = -1
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._space = Space(self._fd, cluster_size)
        self._compressor = (
            None if compression_level is None else Compressor(cluster_size, compression_level)
        )

    # --- BlockSink ---

    def write(self, offset: int, data: Buffer) -> None:
        """Append ``data`` and map it at ``offset``."""
        length = len(data)
        self._advance(offset, length)
        if length == 0:
            return
        if self._compressor is None:
            self._put(offset >> self._bits, data)
        else:
            self._take(self._compressor.data(offset >> self._bits, data))

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zero whatever the backing file holds."""
        self._advance(offset, length)
        if self._backing is None or length == 0:
            return
        clusters = -(-length // self.block_size)
        if self._compressor is None:
            self._map_zeroes(offset >> self._bits, clusters)
        else:
            self._take(self._compressor.zero(offset >> self._bits, clusters))

    # --- the end ---

    def close(self) -> None:
        """Complete the image: metadata, fsync, header, fsync."""
        if self._compressor is not None:
            self._take(self._compressor.rest())
            self._compressor.stop()
        l1_offset = self._space.append_table(self._complete_map())
        table_offset, table_clusters = self._space.finish()
        header = Header(
            size=self.size,
            cluster_bits=self._bits,
            backing=self._backing,
            l1_entries=l1_entries_for(self.size, self.block_size),
            l1_offset=l1_offset,
            refcount_table_offset=table_offset,
            refcount_table_clusters=table_clusters,
            incompatible=0 if self._compressor is None else INCOMPATIBLE_COMPRESSION,
            compression=COMPRESSION_DEFLATE if self._compressor is None else COMPRESSION_ZSTD,
        ).to_bytes()
        os.fsync(self._fd)
        write_all(self._fd, header, 0)
        os.fsync(self._fd)
        self._release()

    def abort(self) -> None:
        """Remove the file; nothing to do after ``close``."""
        if self._fd < 0:
            return
        if self._compressor is not None:
            self._compressor.stop()
        self._release()
        self.path.unlink(missing_ok=True)

    def _release(self) -> None:
        os.close(self._fd)
        self._fd = -1

    # --- inside ---

    def _advance(self, offset: int, length: int) -> None:
        """Hold the caller to whole clusters in ascending order."""
        end = offset + length
        if not self._position <= offset <= end <= self.size:
            raise ValueError(f"{offset}+{length} does not follow {self._position} in {self.size}")
        if offset % self.block_size or (end % self.block_size and end != self.size):
            raise ValueError(f"{offset}+{length} is not made of whole clusters")
        self._position = end

    def _put(self, cluster: int, data: Buffer) -> None:
        """Append plain clusters.  A last one that is cut by the disk's end is padded by a hole."""
        size = self.block_size
        count = -(-len(data) // size)
        place = self._space.allocate(count)
        write_all(self._fd, data, place)
        first = place | FLAG_COPIED
        self._point(cluster, array("Q", range(first, first + count * size, size)))

    def _take(self, results: Iterator[Result]) -> None:
        """Store what the compressor gives back, in the order it was given."""
        for cluster, content in results:
            if isinstance(content, int):
                self._map_zeroes(cluster, content)
            else:
                self._put_packed(cluster, content)

    def _put_packed(self, cluster: int, packed: Packed) -> None:
        for blob, plain in packed:
            if blob is None:
                self._put(cluster, plain)
            else:
                place = self._space.pack(len(blob))
                write_all(self._fd, blob, place)
                more_sectors = (place % 512 + len(blob) - 1) // 512
                entry = FLAG_COMPRESSED | more_sectors << (70 - self._bits) | place
                self._point(cluster, array("Q", [entry]))
            cluster += 1

    def _map_zeroes(self, cluster: int, count: int) -> None:
        """Map zero clusters, a table's worth at a time: a range may be terabytes."""
        step = self.block_size // 8
        zeroes = array("Q", [FLAG_ZERO]) * min(step, count)
        for done in range(0, count, step):
            self._point(cluster + done, zeroes[: count - done])

    def _point(self, cluster: int, entries: array[int]) -> None:
        """Map guest clusters; append each L2 table that the data has passed."""
        per_table = self.block_size // 8
        done = 0
        while done < len(entries):
            index, slot = divmod(cluster + done, per_table)
            if index != self._table_index:
                self._append_open_table()
                self._table_index = index
                self._table = array("Q", bytes(self.block_size))
            taken = min(len(entries) - done, per_table - slot)
            self._table[slot : slot + taken] = entries[done : done + taken]
            done += taken

    def _append_open_table(self) -> None:
        if self._table_index < 0:
            return
        self._l1.extend(array("Q", bytes(8 * (self._table_index - len(self._l1)))))
        self._l1.append(self._space.append_table(self._table) | FLAG_COPIED)
        self._table_index = -1

    def _complete_map(self) -> array[int]:
        """Append the last L2 table and give the whole L1 table."""
        self._append_open_table()
        missing = l1_entries_for(self.size, self.block_size) - len(self._l1)
        self._l1.extend(array("Q", bytes(8 * missing)))
        return self._l1
