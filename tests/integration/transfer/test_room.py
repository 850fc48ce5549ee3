"""Reading into the room that a sink gives, through real servers."""

from __future__ import annotations

import secrets

import pytest

from sendense.errors import Damaged
from sendense.model.decision import Method
from sendense.storage.urls import open_store
from sendense.transfer.copy import CopyOptions, copy_disk
from tests.integration.transfer.servers import MIB, nbdkit, qemu_nbd
from tests.integration.transfer.sinks import MemorySink
from tests.integration.transfer.test_copy import content_of, image_of
from tests.support.dedup import dedup_repository
from tests.support.points import MACHINE_UUID, Write, disk, draft, machine, restored, spec_for

KIB = 1024
FULL = Method.EVERYTHING


class RoomySink(MemorySink):
    """Gives room in pieces of memory, two of which may be in use, and holds to the contract."""

    def __init__(self, size: int, *, piece: int, block_size: int = 65536) -> None:
        super().__init__(size, block_size=block_size)
        self._piece = piece
        self._given: list[tuple[int, memoryview]] = []
        self.most_given = 0
        self.copied = 0

    def room(self, offset, length):
        assert length > 0
        pieces = {at // self._piece for at, _ in self._given} | {offset // self._piece}
        if len(pieces) > 2:
            return None
        room = min(length, self._piece - offset % self._piece)
        self._given.append((offset, memoryview(bytearray(room))))
        self.most_given = max(self.most_given, sum(len(view) for _, view in self._given))
        return self._given[-1][1]

    def write(self, offset, data):
        if self._given:
            at, view = self._given.pop(0)
            assert at == offset
            assert view is data
        else:
            self.copied += len(data)
        super().write(offset, data)


@pytest.mark.parametrize(
    ("options", "piece", "block_size"),
    [
        (CopyOptions(), 4 * MIB, 65536),
        (CopyOptions(request_bytes=384 * KIB), MIB, 65536),
        (CopyOptions(connections=1, in_flight=1), 128 * KIB, 65536),
        (CopyOptions(connections=3, in_flight=2, request_bytes=1000), 64 * KIB, 512),
    ],
)
def test_all_of_it_arrives_where_there_is_room(tmp_path, options, piece, block_size):
    content = content_of(12 * MIB + 512)
    sink = RoomySink(len(content), piece=piece, block_size=block_size)
    with qemu_nbd(image_of(tmp_path, content), len(content)) as export:
        copy_disk(export, sink, method=FULL, options=options)
    assert sink.content == content
    assert sink.copied == 0
    most = max(options.request_bytes, block_size) + block_size
    assert sink.most_given <= options.connections * options.in_flight * most


def test_a_server_that_takes_only_large_blocks_is_read_and_copied(tmp_path):
    content = content_of(4 * MIB)
    (tmp_path / "disk.raw").write_bytes(content)
    policy = [
        "--filter=blocksize-policy", "file", tmp_path / "disk.raw", "blocksize-error-policy=error",
        "blocksize-minimum=4096", "blocksize-preferred=16384", "blocksize-maximum=32768",
    ]  # fmt: skip
    sink = RoomySink(len(content), piece=MIB, block_size=512)
    with nbdkit(tmp_path, len(content), *policy) as export:
        copy_disk(export, sink, method=FULL)
    assert sink.content == content
    assert sink.copied > 0


@pytest.mark.parametrize("size", [64 * KIB, 4 * MIB, 21 * MIB + 512])
def test_a_disk_comes_into_a_repository(tmp_path, size):
    content = content_of(size)
    repository = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    with (
        qemu_nbd(image_of(tmp_path, content), size) as export,
        repository.begin(machine(), "p1") as point,
    ):
        writer = point.disk(spec_for(repository, Write(disk(), size, ()), MACHINE_UUID))
        result = copy_disk(export, writer, method=FULL)
        writer.finish(read_bytes=result.read_bytes, sampled_blocks=0, seconds=0.0)
        point.commit(draft(machine()))
    assert restored(repository, "p1") == content
    repository.close()


def test_a_disk_that_cannot_be_read_is_begun_again(tmp_path):
    """What it held does not keep the second attempt waiting, however often it fails."""
    size = 16 * MIB
    content = content_of(size)
    plugin = [
        "eval", f"get_size=echo {size}", "can_multi_conn=exit 0",
        "pread=[ $4 -lt 10000000 ] && head -c $3 /dev/zero || { echo EIO >&2; exit 1; }",
    ]  # fmt: skip
    repository = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    with repository.begin(machine(), "p1") as point:
        spec = spec_for(repository, Write(disk(), size, ()), MACHINE_UUID)
        for _ in range(8):
            failed = point.disk(spec)
            with nbdkit(tmp_path, size, *plugin) as export, pytest.raises(Damaged):
                copy_disk(export, failed, method=FULL)
            failed.discard()
        writer = point.disk(spec)
        with qemu_nbd(image_of(tmp_path, content), size) as export:
            copy_disk(export, writer, method=FULL)
        writer.finish(read_bytes=size, sampled_blocks=0, seconds=0.0)
        point.commit(draft(machine()))
    assert restored(repository, "p1") == content
    repository.close()


class FullSink(RoomySink):
    """Breaks the contract: at some time there is no room at all."""

    def room(self, offset, length):
        return None if offset >= 8 * MIB else super().room(offset, length)


def test_a_sink_without_room_never_ends_a_disk_early(tmp_path):
    image = image_of(tmp_path, secrets.token_bytes(16 * MIB))
    with (
        qemu_nbd(image, 16 * MIB) as export,
        pytest.raises(RuntimeError, match="no memory for what comes at 8388608"),
    ):
        copy_disk(export, FullSink(16 * MIB, piece=MIB), method=FULL)
