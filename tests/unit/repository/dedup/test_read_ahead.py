"""Who reads in order is noticed, and who jumps about is not taken for it."""

from __future__ import annotations

import random

from sendense.repository.dedup.read_ahead import Streams
from sendense.units import KIB, MIB

STEP = 256 * KIB


def test_a_stream_counts_when_it_has_read_much():
    streams = Streams()
    told = [streams.note(at, at + STEP) for at in range(0, 2 * MIB, STEP)]
    assert told[:3] == [None] * 3
    assert told[3] == (MIB, 9 * MIB)
    assert told[-1] == (2 * MIB, 10 * MIB)


def test_requests_of_a_stream_come_jumbled():
    streams = Streams()
    order = list(range(0, 4 * MIB, STEP))
    random.Random(1).shuffle(order)
    told = [streams.note(at, at + STEP) for at in order]
    assert told[-1] == (4 * MIB, 12 * MIB)


def test_several_streams_at_once():
    streams = Streams()
    bases = [number * 128 * MIB for number in range(4)]
    told = [
        streams.note(base + at, base + at + STEP) for at in range(0, MIB, STEP) for base in bases
    ]
    assert told[-4:] == [(base + MIB, base + 9 * MIB) for base in bases]


def test_jumps_are_no_stream():
    streams = Streams()
    rng = random.Random(2)
    places = [rng.randrange(1 << 40) for _ in range(5000)]
    assert not any(streams.note(place, place + 4 * KIB) for place in places)
