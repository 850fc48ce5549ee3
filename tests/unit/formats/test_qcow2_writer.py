"""Images are what QEMU takes for images, and hold what was written."""

from __future__ import annotations

import json
import subprocess
import tracemalloc
from random import Random

import pytest

from sendense.errors import Damaged, Unsupported
from sendense.formats.qcow2 import Backing, read_header
from sendense.formats.qcow2_reader import Qcow2Reader
from sendense.formats.qcow2_writer import Qcow2Writer
from sendense.units import GIB, KIB, MIB, TIB


def qemu_img(*arguments, status=0):
    result = subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == status, result
    return result.stdout


def check(path):
    told = json.loads(qemu_img("check", "-f", "qcow2", "--output=json", path))
    assert "leaks" not in told
    assert told["check-errors"] == 0
    return told


def same(path, content):
    raw = path.with_suffix(".raw")
    raw.write_bytes(content)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", path, raw)


def read_own(path, offset, length):
    with Qcow2Reader(path) as reader:
        target = bytearray(length)
        reader.read(reader.locate(offset, length), memoryview(target))
        return bytes(target)


def fill(writer, random, model):
    """Write random runs of data, zeroes and nothing; keep the model up to date."""
    position, cluster = 0, writer.block_size
    while position < writer.size:
        length = min(random.randint(1, 20) * cluster, writer.size - position)
        kind = random.choice(["zero", "nothing", "noise", "text", "noise"])
        if kind == "zero":
            writer.zero(position, length)
            model[position : position + length] = bytes(length)
        elif kind != "nothing":
            content = random.randbytes(length) if kind == "noise" else _text(random, length)
            writer.write(position, content)
            model[position : position + length] = content
        position += length


def _text(random, length):
    return (random.randbytes(40) * (length // 40 + 1))[:length]


@pytest.mark.parametrize("level", [None, 1], ids=["plain", "compressed"])
@pytest.mark.parametrize("backed", [False, True], ids=["alone", "backed"])
@pytest.mark.parametrize("bits", range(9, 22))
def test_every_cluster_size(tmp_path, bits, backed, level):
    random = Random(bits)
    cluster = 1 << bits
    size = max(30, min(1500, 16 * MIB // cluster)) * cluster - (512 if bits > 9 else 0)
    base = random.randbytes(size // 3) if backed else b""
    model = bytearray(base.ljust(size, b"\0"))
    (tmp_path / "base").write_bytes(bytes(model))
    writer = Qcow2Writer(
        tmp_path / "image.qcow2",
        size,
        cluster_size=cluster,
        backing=Backing("base", "raw") if backed else None,
        compression_level=level,
    )
    fill(writer, random, model)
    writer.close()
    check(writer.path)
    same(writer.path, bytes(model))
    if not backed:
        assert read_own(writer.path, 0, size) == bytes(model)
    header = read_header(writer.path)
    assert (header.size, header.cluster_size) == (size, cluster)
    assert header.backing == (Backing("base", "raw") if backed else None)


@pytest.mark.parametrize("size", [0, 512, 64 * KIB, 64 * KIB + 512, GIB, 2 * TIB])
@pytest.mark.parametrize("level", [None, 1], ids=["plain", "compressed"])
def test_data_at_both_ends(tmp_path, size, level):
    path = tmp_path / "image.qcow2"
    writer = Qcow2Writer(path, size, compression_level=level)
    block = 64 * KIB
    tail = size - (size % block or min(size, block))
    if size:
        writer.write(0, b"a" * min(size, block))
    if tail:
        writer.write(tail, b"z" * (size - tail))
    writer.close()
    check(path)
    told = json.loads(qemu_img("map", "-f", "qcow2", "--output=json", path))
    assert sum(item["length"] for item in told) == size
    assert sum(item["length"] for item in told if item["data"]) in (
        min(size, 2 * block),
        min(size, block) + size - tail,
    )
    if tail:
        assert read_own(path, tail, size - tail) == b"z" * (size - tail)


def test_zeroes_hide_the_backing_file(tmp_path):
    (tmp_path / "base").write_bytes(b"x" * MIB)
    writer = Qcow2Writer(tmp_path / "image.qcow2", MIB, backing=Backing("base", "raw"))
    writer.zero(0, MIB)
    writer.close()
    check(writer.path)
    same(writer.path, bytes(MIB))
    told = json.loads(qemu_img("map", "-f", "qcow2", "--output=json", writer.path))
    assert [(item["zero"], item["depth"]) for item in told] == [(True, 0)]


@pytest.mark.parametrize("level", [None, 1], ids=["plain", "compressed"])
def test_many_tables_and_blocks_of_refcounts(tmp_path, level):
    """Clusters of 512 bytes: a table for each 32 KiB, refcounts for each 128 KiB."""
    random = Random(4)
    content = b"".join(
        random.randbytes(512 - same) + bytes(same) for same in random.choices((0, 100, 400), k=6144)
    )
    writer = Qcow2Writer(
        tmp_path / "image.qcow2", 3 * MIB, cluster_size=512, compression_level=level
    )
    for start in range(0, len(content), 100 * KIB):
        writer.write(start, content[start : start + 100 * KIB])
    writer.close()
    assert check(writer.path)["allocated-clusters"] == 3 * MIB // 512
    assert read_own(writer.path, 0, len(content)) == content
    same(writer.path, content)


def test_nothing_is_an_image_before_its_end(tmp_path):
    writer = Qcow2Writer(tmp_path / "image.qcow2", MIB)
    writer.write(0, b"a" * MIB)
    with pytest.raises(Damaged):
        read_header(writer.path)
    writer.abort()
    assert not writer.path.exists()


def test_an_existing_file_is_not_touched(tmp_path):
    (tmp_path / "image.qcow2").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        Qcow2Writer(tmp_path / "image.qcow2", MIB)
    assert (tmp_path / "image.qcow2").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("size", "cluster"), [(MIB, 1000), (MIB, 256), (MIB, 4 * MIB), (1000, 512), (TIB, 512)]
)
def test_what_qcow2_cannot_do_is_refused(tmp_path, size, cluster):
    with pytest.raises(Unsupported):
        Qcow2Writer(tmp_path / "image.qcow2", size, cluster_size=cluster)
    assert not (tmp_path / "image.qcow2").exists()


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (512, 64 * KIB), (0, 2 * MIB)])
def test_only_whole_clusters_inside_the_disk(tmp_path, offset, length):
    writer = Qcow2Writer(tmp_path / "image.qcow2", MIB)
    with pytest.raises(ValueError, match=r"whole clusters|does not follow"):
        writer.write(offset, bytes(length))
    writer.abort()


def test_offsets_ascend(tmp_path):
    writer = Qcow2Writer(tmp_path / "image.qcow2", MIB)
    writer.write(64 * KIB, bytes(64 * KIB))
    with pytest.raises(ValueError, match="does not follow"):
        writer.write(0, bytes(64 * KIB))
    writer.abort()


@pytest.mark.parametrize("level", [None, 1], ids=["plain", "compressed"])
def test_memory_does_not_grow_with_the_disk(tmp_path, level):
    block = bytes(range(256)) * 256
    (tmp_path / "base").touch()
    tracemalloc.start()
    try:
        writer = Qcow2Writer(
            tmp_path / "image.qcow2",
            16 * TIB,
            backing=Backing("base", "raw"),
            compression_level=level,
        )
        for start in range(0, 16 * TIB, 32 * GIB):
            writer.write(start, block)
            writer.zero(start + 64 * KIB, GIB)
        writer.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    check(writer.path)
