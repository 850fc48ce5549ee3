"""Disks as raw files: what is in them, and changes to them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbd

from bench.dedup.points import GRANULE
from bench.dedup.servers import bitmap_server
from bench.timing import BenchFailed
from sendense.units import MIB

_PIECE = 4 * MIB
_PROGRAMS = (Path("/usr/lib"), Path("/usr/bin"))


def random_disk(path: Path, size: int) -> None:
    """Make a disk that cannot be compressed."""
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))


def mixed_disk(path: Path, size: int) -> None:
    """Make a disk of programs, zeroes and what cannot be compressed, a third each, by turns.

    Of the zeroes every second piece is written, and the others are holes.
    """
    programs = program_bytes(_PROGRAMS, _PIECE)
    with path.open("wb") as file:
        for number, start in enumerate(range(0, size, _PIECE)):
            length = min(_PIECE, size - start)
            kind = number % 3
            if kind == 0:
                file.write(next(programs)[:length])
            elif kind == 1:
                file.write(os.urandom(length))
            elif number % 2:
                file.write(bytes(length))
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate(size)


def program_bytes(folders: Sequence[Path], length: int) -> Iterator[bytes]:
    """Give the content of the files below some folders, one after the other, in pieces."""
    held = bytearray()
    for path in _files(folders):
        try:
            held += path.read_bytes()
        except OSError:
            continue
        while len(held) >= length:
            yield bytes(held[:length])
            del held[:length]
    raise BenchFailed(f"there is too little in {', '.join(map(str, folders))} to fill the disk")


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                path = Path(place) / name
                if not path.is_symlink() and path.is_file():
                    yield path


def choose_granules(size: int, count: int, seed: int) -> list[int]:
    """Choose granules of a disk at random."""
    return sorted(random.Random(seed).sample(range(size // GRANULE), count))


def change_behind_bitmap(image: Path, granules: Sequence[int]) -> None:
    """Write new random content to granules, so that the bitmap of an image takes note of it."""
    with bitmap_server(image, writable=True) as export:
        handle = nbd.NBD()
        handle.set_export_name(export.name)
        handle.connect_unix(export.socket)
        for granule in granules:
            handle.pwrite(os.urandom(GRANULE), granule * GRANULE)
        handle.flush()
        handle.shutdown()


def touched_bytes(granules: Sequence[int], chunk: int) -> int:
    """Give what a design with chunks of a fixed size would store again for these granules."""
    per = chunk // GRANULE
    return len({granule // per for granule in granules}) * chunk
