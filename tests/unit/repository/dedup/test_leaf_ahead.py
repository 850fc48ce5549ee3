"""Leaves that come in early wait for those before them, in so many buffers and no more."""

from __future__ import annotations

import threading

import pytest

from sendense.repository.dedup.leaf_ahead import Filled, LeafAhead, Wanted

PATIENCE_S = 20.0
ITEMS = [Wanted(number, bytes([number]), range(1)) for number in range(12)]


def unlocated(error, _number):
    return error


@pytest.mark.parametrize("early", [0, 3])
def test_a_late_leaf_holds_up_the_others_only_so_far(early):
    threads = 2
    ready = threading.Semaphore(0)
    buffers = set()

    def read(leaf, buffer, _wanted):
        buffers.add(id(buffer))
        buffer[0] = leaf[0]
        if leaf[0]:
            ready.release()
        else:
            for _ in range(threads + early):
                assert ready.acquire(timeout=PATIENCE_S)
        return [0]

    ahead = LeafAhead(read, unlocated, threads=threads, early=early)
    found = [
        (filled.item.number, filled.view[0])
        for filled in ahead.run(ITEMS)
        if isinstance(filled, Filled)
    ]
    assert found == [(item.number, item.number) for item in ITEMS]
    assert len(buffers) <= threads + early + 1
