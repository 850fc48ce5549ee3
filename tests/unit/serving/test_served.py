"""A disk as the server sees it: what fails is an error of the client, and noted."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from sendense.errors import Damaged
from sendense.repository.extents import Extent
from sendense.repository.protocol import DiskReader
from sendense.serving.overlay import Overlay
from sendense.serving.served import Export
from sendense.serving.trouble import Troubles, read_trouble
from sendense.units import GIB
from tests.support.memory_repository import MemoryRepository
from tests.support.points import BLOCK, Write, data, disk, noise, store

VDA = disk("vda")


@pytest.fixture
def repository():
    made = MemoryRepository()
    store(made, "p1", Write(VDA, 4 * BLOCK, (data(0, noise(2 * BLOCK)),)))
    return made


@pytest.fixture
def export(repository, tmp_path):
    reader = repository.open("p1").disk(VDA.identity)
    return Export("vda", reader, None, Troubles(tmp_path, "p1"))


def test_what_is_read(export):
    assert (export.name, export.size, export.path) == ("vda", 4 * BLOCK, VDA.path)
    assert export.read(5, 100) == noise(2 * BLOCK)[5:105]
    assert list(export.extents(0, 4 * BLOCK)) == [
        Extent(0, 2 * BLOCK, zero=False),
        Extent(2 * BLOCK, 4 * BLOCK, zero=True),
    ]


def test_damage_is_noted(repository, tmp_path):
    repository.damage("p1", VDA.identity, BLOCK)
    reader = repository.open("p1").disk(VDA.identity)
    export = Export("vda", reader, None, Troubles(tmp_path, "p1"))
    with pytest.raises(OSError, match="damaged") as caught:
        export.read(BLOCK, 512)
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, Damaged)
    assert read_trouble(tmp_path).damaged[0].offset == BLOCK


def test_who_may_only_read_cannot_write(export):
    assert not export.writable
    for work in (lambda: export.write(0, memoryview(b"x")), lambda: export.zero(0, 1)):
        with pytest.raises(OSError, match="for reading") as caught:
            work()
        assert caught.value.errno == errno.EROFS


def test_who_may_write(repository, tmp_path):
    reader = repository.open("p1").disk(VDA.identity)
    overlay = Overlay(reader, tmp_path)
    export = Export("vda", reader, overlay, Troubles(tmp_path, "p1"))
    assert export.writable
    export.write(1, memoryview(b"abc"))
    export.zero(2, 1)
    assert export.read(1, 3) == b"a\0c"
    overlay.close()
    with pytest.raises(OSError, match=r".") as caught:
        export.write(0, memoryview(b"x"))
    assert caught.value.errno == errno.EBADF
    assert read_trouble(tmp_path).failed == 1


@dataclass
class Endless:
    """A disk of a tebibyte that remembers what it was asked."""

    asked: list[tuple[int, int]] = field(default_factory=list)
    image: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(size=1 << 40, disk=VDA))

    def extents(self, start, end):
        self.asked.append((start, end))
        yield Extent(start, end, zero=True)

    def read_at(self, offset, length):
        raise ZeroDivisionError


def test_one_look_goes_only_so_far(tmp_path):
    below = Endless()
    export = Export("vda", cast("DiskReader", below), None, Troubles(tmp_path, "p1"))
    list(export.extents(4096, 1 << 40))
    list(export.extents((1 << 40) - 100, 1 << 30))
    assert below.asked == [(4096, 4096 + GIB), ((1 << 40) - 100, 1 << 40)]


def test_a_bug_is_an_error_of_the_client_too(tmp_path):
    export = Export("vda", cast("DiskReader", Endless()), None, Troubles(tmp_path, "p1"))
    with pytest.raises(OSError, match=r"^") as caught:
        export.read(0, 1)
    assert caught.value.errno == errno.EIO
    assert read_trouble(tmp_path).last == "ZeroDivisionError()"
