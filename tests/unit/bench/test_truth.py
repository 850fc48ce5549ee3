"""The check behind every speed: it has to fail on one wrong byte."""

from __future__ import annotations

import random

import pytest

from bench.timing import BenchFailed
from bench.truth import require_equal


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.raw"
    path.write_bytes(random.Random(1).randbytes(1 << 20))
    return path


def test_the_same_bytes_pass(source, tmp_path):
    copy = tmp_path / "copy.raw"
    copy.write_bytes(source.read_bytes())
    require_equal(copy, source, result_format="raw")


@pytest.mark.parametrize("at", [0, 1 << 19, (1 << 20) - 1])
def test_one_wrong_byte_ends_the_bench(source, tmp_path, at):
    data = bytearray(source.read_bytes())
    data[at] ^= 1
    copy = tmp_path / "copy.raw"
    copy.write_bytes(data)
    with pytest.raises(BenchFailed, match="is not what the source holds"):
        require_equal(copy, source, result_format="raw")


def test_a_result_that_cannot_be_read_ends_the_bench(source, tmp_path):
    with pytest.raises(BenchFailed):
        require_equal(tmp_path / "absent.qcow2", source, result_format="qcow2")
