"""Reading the clusters of one image: those of QEMU too, and damage as damage."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.errors import Damaged
from sendense.formats.qcow2_reader import Qcow2Reader
from sendense.formats.qcow2_writer import Qcow2Writer
from sendense.units import KIB, MIB
from tests.support.memory_folder import memory_folder


def read(path, offset, length):
    with Qcow2Reader(path) as reader:
        target = bytearray(length)
        reader.read(reader.locate(offset, length), memoryview(target))
        return bytes(target)


@pytest.mark.parametrize("options", [[], ["-c"], ["-c", "-o", "compression_type=zstd"]])
def test_images_that_qemu_made(tmp_path, options):
    random = Random(1)
    content = random.randbytes(MIB) + b"text" * (MIB // 4) + bytes(MIB) + random.randbytes(512)
    (tmp_path / "raw").write_bytes(content)
    image = tmp_path / "image.qcow2"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options]
    subprocess.run([*command, tmp_path / "raw", image], check=True)
    assert read(image, 0, len(content)) == content
    for _ in range(50):
        start = random.randrange(len(content))
        length = random.randrange(len(content) - start)
        assert read(image, start, length) == content[start : start + length]


@pytest.mark.parametrize("level", [None, 1])
def test_a_cut_image(tmp_path, level):
    writer = Qcow2Writer(tmp_path / "image.qcow2", MIB, compression_level=level)
    content = b"some text " * (MIB // 10) + b"123456"
    writer.write(0, content)
    writer.close()
    whole = writer.path.read_bytes()
    for length in range(0, len(whole), len(whole) // 37):
        writer.path.write_bytes(whole[:length])
        try:
            # Refcounts, which stand at the end, are not needed to read.
            assert read(writer.path, 0, MIB) == content
            assert length > len(whole) // 2
        except Damaged as error:
            assert str(writer.path) in str(error)  # noqa: PT017


@pytest.fixture(scope="module")
def images():
    with memory_folder() as folder:
        for level in (None, 1):
            writer = Qcow2Writer(
                folder / f"{level}.qcow2", 64 * KIB, cluster_size=512, compression_level=level
            )
            for start in range(0, 64 * KIB, 1024):
                writer.write(start, b"abcdefgh" * 64)
            writer.close()
        yield folder


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    level=st.sampled_from([None, 1]),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=20),
)
def test_flipped_bytes_are_read_or_are_damage(images, level, changes):
    """Only the hashes can tell that bytes are wrong; here nothing else may happen."""
    data = bytearray((images / f"{level}.qcow2").read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path = images / "flipped"
    path.write_bytes(data)
    with suppress(Damaged):
        assert len(read(path, 0, 64 * KIB)) == 64 * KIB
