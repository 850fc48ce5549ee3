"""A header is read as it was written; any other bytes are damage, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged, Unsupported
from sendense.formats.qcow2 import MAGIC, Backing, Header, parse_header
from sendense.formats.qcow2_reader import Qcow2Reader

HEADER = Header(
    size=1 << 30,
    cluster_bits=16,
    backing=Backing("../p1/vda.qcow2", "qcow2"),
    l1_entries=2,
    l1_offset=1 << 16,
    refcount_table_offset=1 << 17,
    refcount_table_clusters=1,
    incompatible=8,
    compression=1,
)
BYTES = HEADER.to_bytes()


def parse(data):
    """Parse what any bytes are; give none for damage."""
    try:
        return parse_header(data, "image")
    except Damaged:
        return None


def test_a_header_is_read_as_it_was_written():
    assert parse(BYTES) == HEADER
    assert parse(BYTES.ljust(1 << 16, b"\0")) == HEADER


@given(st.binary(max_size=600))
def test_any_bytes(data):
    parse(data)


@given(st.binary(max_size=600))
def test_any_bytes_behind_the_magic(data):
    parse(MAGIC + (3).to_bytes(4, "big") + data)


@given(st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), max_size=8))
def test_any_bytes_changed(changes):
    data = bytearray(BYTES)
    for place, value in changes:
        data[place] = value
    parse(bytes(data))


@given(st.integers(0, len(BYTES) - 1))
def test_cut_anywhere(length):
    header = parse(BYTES[:length])
    assert header is None or header.backing != HEADER.backing or header == HEADER


@pytest.mark.parametrize(
    ("place", "value"),
    [(4, 1), (7, 2), (23, 8), (23, 22), (32, 1), (36, 255), (46, 1), (72, 1), (79, 4), (104, 9)],
)
def test_what_is_never_written_here_is_refused(place, value):
    data = bytearray(BYTES)
    data[place] = value
    assert parse(bytes(data)) is None


def test_a_name_that_does_not_fit():
    with pytest.raises(Unsupported):
        Header(
            **{**HEADER.__dict__, "cluster_bits": 9, "backing": Backing("x" * 500, "raw")}
        ).to_bytes()


def test_a_missing_image_is_damage(tmp_path):
    with pytest.raises(Damaged, match="missing"):
        Qcow2Reader(tmp_path / "image.qcow2")
