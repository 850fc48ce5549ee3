"""Whoever leaves a disk hangs up, also in the middle of an answer that nobody reads."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sendense.errors import Unavailable
from sendense.model.export import DiskExport
from sendense.targets.nbd import ExportDisk
from sendense.transfer.source import ReadOptions, open_source
from tests.integration.transfer.servers import qemu_nbd

SIZE = 64 << 20


class Broken(Exception):
    """What ends the reading."""


def connections_to(socket: str) -> int:
    """Count the connections that a server has, by what the kernel shows of its socket."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    connected = "03"
    return sum(
        line.endswith(f" {socket}") and line.split()[5] == connected for line in lines
    )  # fmt: skip


def until_none(socket: str) -> None:
    deadline = time.monotonic() + 90
    while connections_to(socket):
        assert time.monotonic() < deadline, "a connection is still open"
        time.sleep(0.02)


@pytest.fixture
def export(tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(SIZE))
    with qemu_nbd(image, SIZE, shared=8, image_format="raw") as served:
        yield served


def broken_off(export: DiskExport, kept: list[BaseException]) -> None:
    options = ReadOptions(connections=2, in_flight=4, request_bytes=8 << 20)
    try:
        with open_source(export, options) as source:
            buffer = memoryview(bytearray(SIZE))
            source.submit_read(buffer, 0)
            raise Broken  # noqa: TRY301 - what is shown here
    except Broken as error:
        # A test, a future or a log keeps what was raised, and with it every frame below.
        kept.append(error)


def test_a_reader_that_breaks_off_hangs_up(export):
    kept: list[BaseException] = []
    for _ in range(5):
        broken_off(export, kept)
    until_none(export.socket)
    assert len(kept) == 5


def test_a_reader_that_is_refused_hangs_up(export):
    other = DiskExport(export.target, export.socket, export.name, SIZE - 512)
    with pytest.raises(Unavailable) as refused, open_source(other, ReadOptions()):
        pass
    # Not when nothing refers to it any more: here something does.
    assert refused.value.__traceback__ is not None
    until_none(export.socket)


def test_a_writer_that_is_refused_hangs_up(export):
    other = DiskExport(export.target, export.socket, export.name, SIZE - 512)
    with pytest.raises(Unavailable) as refused:
        ExportDisk(other, SIZE - 512)
    assert refused.value.__traceback__ is not None
    until_none(export.socket)
