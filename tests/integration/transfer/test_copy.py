"""Whole disks through real servers: the content arrives, whatever the server is like."""

from __future__ import annotations

import random
import socket
import threading
from dataclasses import replace

import pytest

from sendense.errors import Cancelled, Damaged, Stalled, Unavailable
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense.transfer.extents import flagged_ranges, stored_pieces
from sendense.transfer.source import open_source
from tests.integration.transfer.servers import MIB, nbdkit, qemu_nbd, run, server
from tests.integration.transfer.sinks import MemorySink

KIB = 1024
FULL = Method.EVERYTHING


def content_of(size: int, seed: int = 1) -> bytes:
    """Give a disk of data and zeroes in runs of odd lengths."""
    source = random.Random(seed)
    parts, position = [], 0
    while position < size:
        length = min(source.choice((512, 4096, 65536, 200_000, 1 << 20)), size - position)
        parts.append(source.randbytes(length) if source.random() < 0.6 else bytes(length))
        position += length
    return b"".join(parts)


def image_of(folder, content, *options):
    """Write content into a qcow2 image."""
    raw, image = folder / "disk.raw", folder / "disk.qcow2"
    raw.write_bytes(content)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, image)
    return image


@pytest.mark.parametrize(
    ("options", "block_size"),
    [
        (CopyOptions(), 65536),
        (CopyOptions(connections=1, in_flight=1, request_bytes=64 * KIB), 65536),
        (CopyOptions(connections=2, in_flight=3, request_bytes=MIB), 4096),
        (CopyOptions(connections=3, in_flight=2, request_bytes=1000), 512),
    ],
)
def test_a_full_from_qemu(tmp_path, options, block_size):
    content = content_of(12 * MIB + 512)
    sink = MemorySink(len(content), block_size=block_size)
    with qemu_nbd(image_of(tmp_path, content), len(content)) as export:
        result = copy_disk(export, sink, method=FULL, options=options)
    assert sink.content == content
    assert result.data_bytes + result.zero_bytes == len(content)
    assert result.read_bytes == sum(length for _, length, zero in sink.named if not zero)


def test_a_server_that_takes_one_client_is_read_over_one_connection(tmp_path):
    content = content_of(2 * MIB)
    sink = MemorySink(len(content))
    with qemu_nbd(image_of(tmp_path, content), len(content), shared=1) as export:
        copy_disk(export, sink, method=FULL, options=CopyOptions(connect_s=0.5))
    assert sink.content == content


def test_a_server_without_extents_is_all_data(tmp_path):
    content = content_of(3 * MIB)
    (tmp_path / "disk.raw").write_bytes(content)
    sink = MemorySink(len(content))
    with nbdkit(
        tmp_path, len(content), "--filter=noextents", "file", tmp_path / "disk.raw"
    ) as export:
        result = copy_disk(export, sink, method=FULL)
    assert sink.content == content
    assert result.zero_bytes == 0


def test_a_server_with_plain_replies_is_all_data(tmp_path):
    content = content_of(3 * MIB)
    (tmp_path / "disk.raw").write_bytes(content)
    sink = MemorySink(len(content))
    with nbdkit(tmp_path, len(content), "--no-sr", "file", tmp_path / "disk.raw") as export:
        result = copy_disk(export, sink, method=FULL)
    assert sink.content == content
    assert result.zero_bytes == 0


@pytest.mark.parametrize("size", [1, 511, 65536, 65537, 3 * MIB + 1000])
def test_odd_sizes(tmp_path, size):
    content = random.Random(size).randbytes(size)
    (tmp_path / "disk.raw").write_bytes(content)
    sink = MemorySink(size)
    with nbdkit(tmp_path, size, "file", tmp_path / "disk.raw") as export:
        copy_disk(export, sink, method=FULL)
    assert sink.content == content


@pytest.mark.parametrize("block_size", [512, 65536])
def test_a_server_that_insists_on_its_block_sizes(tmp_path, block_size):
    content = content_of(2 * MIB)
    (tmp_path / "disk.raw").write_bytes(content)
    sink = MemorySink(len(content), block_size=block_size)
    policy = [
        "--filter=blocksize-policy", "file", tmp_path / "disk.raw", "blocksize-error-policy=error",
        "blocksize-minimum=4096", "blocksize-preferred=16384", "blocksize-maximum=32768",
    ]  # fmt: skip
    with nbdkit(tmp_path, len(content), *policy) as export:
        copy_disk(export, sink, method=FULL)
    assert sink.content == content


EXTENTS = [(0, 1000, ""), (1000, 70000, "hole,zero"), (71000, 333, ""), (71333, 200000, "zero"),
           (271333, 5, "hole"), (271338, 776238 + 1000, "hole,zero")]  # fmt: skip


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_extents_of_odd_lengths(tmp_path, one_at_a_time):
    size = EXTENTS[-1][0] + EXTENTS[-1][1]
    content = bytearray(random.Random(3).randbytes(size))
    for start, length, kind in EXTENTS:
        if "zero" in kind:
            content[start : start + length] = bytes(length)
    (tmp_path / "disk.raw").write_bytes(content)
    answer = "\n".join(f"{start} {length} {kind}" for start, length, kind in EXTENTS) + "\n"
    (tmp_path / "extents").write_text(answer)
    show = f"cat {tmp_path}/extents"
    if one_at_a_time:
        # Only the extent that the question begins in, and cut to half of what is left of it.
        show = (
            "awk -v at=$4 '$1 <= at && at < $1 + $2 "
            "{ left = $1 + $2 - at; if (left > 1) left = int(left / 2); print at, left, $3 }' "
            f"{tmp_path}/extents"
        )
    plugin = [
        "eval", f"get_size=echo {size}", "can_extents=exit 0", f"extents={show}",
        f"pread=dd if={tmp_path}/disk.raw iflag=skip_bytes,count_bytes skip=$4 count=$3"
        " status=none",
    ]  # fmt: skip
    sink = MemorySink(size, block_size=512)
    with nbdkit(tmp_path, size, *plugin) as export:
        result = copy_disk(export, sink, method=FULL)
    assert sink.content == content
    assert result.zero_bytes > 900_000
    if not one_at_a_time:
        with (
            nbdkit(tmp_path, size, *plugin) as export,
            open_source(export, CopyOptions()) as source,
        ):
            small = list(flagged_ranges(source, dirty=False, window=4096))
        assert sum(item.length for item in small if item.zero) == 70000 + 200000 + 777238


def test_terabytes_of_holes_cost_nothing(tmp_path):
    size = 8 << 40
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", tmp_path / "disk", size)
    with (
        qemu_nbd(tmp_path / "disk", size) as export,
        open_source(export, CopyOptions()) as source,
    ):
        pieces = list(stored_pieces(source, method=FULL, block_size=65536))
    assert [(piece.start, piece.length, piece.zero) for piece in pieces] == [(0, size, True)]


# --- what goes wrong ---


def test_a_read_error_names_the_offset(tmp_path):
    plugin = [
        "eval", f"get_size=echo {8 * MIB}",
        f"pread=[ $4 -ge {5 * MIB} ] && {{ echo EIO broken >&2; exit 1; }}; head -c $3 /dev/zero",
    ]  # fmt: skip
    sink = MemorySink(8 * MIB)
    with nbdkit(tmp_path, 8 * MIB, *plugin) as export, pytest.raises(Damaged) as caught:
        copy_disk(export, sink, method=FULL)
    assert caught.value.data["offset"] == 5 * MIB
    assert sum(length for _, length, _ in sink.named) == 5 * MIB


def test_a_server_that_stops_answering_is_a_stall(tmp_path):
    with (
        nbdkit(tmp_path, MIB, "--filter=delay", "pattern", MIB, "rdelay=30") as export,
        pytest.raises(Stalled, match="vda"),
    ):
        copy_disk(export, MemorySink(MIB), method=FULL, options=CopyOptions(stall_s=0.4))


def test_slow_is_no_stall(tmp_path):
    sink = MemorySink(MIB)
    options = CopyOptions(stall_s=2.0, connections=1, in_flight=1, request_bytes=128 * KIB)
    with nbdkit(tmp_path, MIB, "--filter=delay", "pattern", MIB, "rdelay=400ms") as export:
        copy_disk(export, sink, method=FULL, options=options)
    assert len(sink.named) == 8


def test_a_server_that_never_greets_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mute"))
        listener.listen()
        export = DiskExport("vda", str(tmp_path / "mute"), "disk", MIB)
        with pytest.raises(Unavailable, match="did not answer"):
            copy_disk(export, MemorySink(MIB), method=FULL, options=CopyOptions(connect_s=0.2))


def test_no_server_another_export_another_size(tmp_path):
    content = content_of(MIB)
    with qemu_nbd(image_of(tmp_path, content), MIB) as export:
        for wrong in (
            replace(export, socket=str(tmp_path / "none")),
            replace(export, name="vdz"),
            replace(export, size=2 * MIB),
        ):
            with pytest.raises(Unavailable):
                copy_disk(wrong, MemorySink(wrong.size), method=FULL)


class Breaker(MemorySink):
    """Does something when the first data comes."""

    def __init__(self, size, act):
        super().__init__(size)
        self._act = act

    def write(self, offset, data):
        super().write(offset, data)
        self._act()


def test_a_server_that_dies_on_the_way(tmp_path):
    place = tmp_path / "s"
    command = ["nbdkit", "-f", "-U", place, "pattern", 256 * MIB]
    with server(command, place) as process:
        export = DiskExport("vda", str(place), "", 256 * MIB)
        with pytest.raises(Unavailable):
            copy_disk(export, Breaker(256 * MIB, process.kill), method=FULL)


def test_the_cause_is_told_not_the_effect(tmp_path):
    place = tmp_path / "s"
    with server(["nbdkit", "-f", "-U", place, "pattern", 256 * MIB], place) as process:

        def check():
            if process.poll() is not None:
                raise Cancelled("the guest was switched off")

        def end():
            process.kill()
            process.wait()

        export = DiskExport("vda", str(place), "", 256 * MIB)
        with pytest.raises(Cancelled, match="switched off"):
            copy_disk(export, Breaker(256 * MIB, end), method=FULL, check=check)


def test_a_stop_ends_all_threads_at_once(tmp_path):
    before = set(threading.enumerate())
    calls = iter(range(3))

    def check():
        if next(calls, None) is None:
            raise Cancelled("enough")

    with nbdkit(tmp_path, 4 << 30, "pattern", 4 << 30) as export, pytest.raises(Cancelled):
        copy_disk(export, NullSink(), method=FULL, check=check)
    assert set(threading.enumerate()) <= before  # those of before may end meanwhile


class NullSink:
    """Takes everything."""

    block_size = 65536

    def write(self, offset, data):
        pass

    def zero(self, offset, length):
        pass
