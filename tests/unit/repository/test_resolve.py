"""Merging layers gives, for every byte, the newest layer that states it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from sendense.repository.chain.resolve import Segment, resolve

SIZE = 60


class Range(NamedTuple):
    start: int
    end: int
    zero: bool


@st.composite
def layer(draw):
    """Ascending ranges that do not overlap."""
    borders = sorted(draw(st.lists(st.integers(0, SIZE), max_size=10, unique=True)))
    return [
        Range(start, end, draw(st.booleans()))
        for start, end in zip(borders[::2], borders[1::2], strict=False)
    ]


def owner(layers, byte):
    for index, ranges in enumerate(layers):
        for item in ranges:
            if item.start <= byte < item.end:
                return index, item.zero
    return None, True


@given(st.lists(layer(), max_size=5), st.integers(0, SIZE), st.integers(0, SIZE))
def test_every_byte_has_its_owner(layers, start, end):
    segments = list(resolve(layers, start=start, end=end))
    position = start
    for segment in segments:
        assert segment.start == position < segment.end
        position = segment.end
        for byte in range(segment.start, segment.end):
            assert (segment.layer, segment.zero) == owner(layers, byte)
    assert position == max(start, end) or not segments
    for left, right in pairwise(segments):
        assert (left.layer, left.zero) != (right.layer, right.zero)


def test_nothing_is_stated():
    assert list(resolve([], start=0, end=5)) == [Segment(0, 5, None, True)]
    assert list(resolve([[]], start=5, end=5)) == []


def test_a_year_of_daily_points():
    """The work grows with the runs, not with runs times layers."""
    layers = [[Range(number, number + 1, False)] for number in range(365)]
    segments = list(resolve([*layers, [Range(0, 365, False)]], start=0, end=400))
    assert [segment.layer for segment in segments] == [*range(365), None]
