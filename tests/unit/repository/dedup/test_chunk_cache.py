"""Chunks in memory: fetched once, held up to a bound, checked block by block."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sendense.errors import Damaged, Unavailable
from sendense.repository.dedup import chunk_cache
from sendense.repository.dedup.chunk_cache import ChunkCache
from sendense.repository.dedup.identity import digest_blocks
from sendense.repository.dedup.nodes import Slot
from sendense.repository.dedup.record_reading import missing
from tests.support.points import BLOCK, noise

KEY = bytes(range(32))


def _id(number):
    return bytes([number]) * 32


class Packs:
    """Chunks of one block by number; some are bad, and none comes before the gate opens."""

    def __init__(self, bad=()):
        self.bad = {_id(number) for number in bad}
        self.read_ids: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def read(self, ids, take):
        self.asked.set()
        assert self.gate.wait(10)
        for chunk in ids:
            self.read_ids.append(chunk)
            if chunk in self.bad:
                raise missing(chunk, "it is bad")
            take(chunk, memoryview(noise(BLOCK, chunk[0])))


@pytest.fixture
def packs():
    return Packs()


@pytest.fixture
def cache(packs):
    made = ChunkCache(packs, KEY, threads=2)
    yield made
    packs.gate.set()
    made.close()


def test_what_was_fetched_is_held(cache, packs):
    first = cache.get([_id(1), _id(2)])
    again = cache.get([_id(2), _id(3)])
    assert first[_id(1)].data == noise(BLOCK, 1)
    assert again[_id(2)] is first[_id(2)]
    assert packs.read_ids == [_id(1), _id(2), _id(3)]


def test_two_who_want_the_same_wait_for_one_fetch(cache, packs):
    packs.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, [_id(5)]) for _ in range(4)]
        assert packs.asked.wait(10)
        packs.gate.set()
        found = [item.result(10)[_id(5)] for item in waiting]
    assert packs.read_ids == [_id(5)]
    assert all(item is found[0] for item in found)


def test_no_more_is_held_than_allowed(packs, monkeypatch):
    monkeypatch.setattr(chunk_cache, "MOST_BYTES", 3 * BLOCK)
    cache = ChunkCache(packs, KEY, threads=2)
    for number in range(1, 10):
        cache.get([_id(number)])
    cache.get([_id(7), _id(8), _id(9)])
    assert len(packs.read_ids) == 9
    cache.get([_id(1)])
    assert len(packs.read_ids) == 10
    cache.close()


def test_a_bad_chunk_does_not_keep_others_away(cache, packs):
    packs.bad = {_id(2)}
    with pytest.raises(Damaged) as caught:
        cache.get([_id(1), _id(2), _id(3)])
    assert caught.value.data["record"] == _id(2).hex()
    count = len(packs.read_ids)
    assert set(cache.get([_id(1), _id(3)])) == {_id(1), _id(3)}
    assert len(packs.read_ids) == count
    with pytest.raises(Damaged):
        cache.get([_id(2)])


def test_nobody_waits_for_what_is_never_given(packs):
    class Silent(Packs):
        def read(self, ids, take):
            pass

    cache = ChunkCache(Silent(), KEY, threads=1)
    with pytest.raises(Damaged, match="not read"):
        cache.get([_id(1), _id(2)])
    cache.close()


def test_what_goes_wrong_inside_is_told(cache, packs, monkeypatch):
    def burst(*_):
        raise MemoryError

    monkeypatch.setattr(chunk_cache, "HeldChunk", burst)
    with pytest.raises(MemoryError):
        cache.get([_id(1)])
    monkeypatch.undo()
    assert cache.get([_id(1)])


def test_work_is_done_on_its_threads(cache, packs):
    assert cache.on_thread(lambda: threading.current_thread().name).startswith("fetch")
    with pytest.raises(ZeroDivisionError):
        cache.on_thread(lambda: 1 // 0)
    cache.close()
    with pytest.raises(Unavailable):
        cache.on_thread(lambda: 1)


def test_what_became_whole_is_given(cache, packs):
    packs.bad = {_id(2)}
    with pytest.raises(Damaged):
        cache.get([_id(2)])
    packs.bad = set()
    assert cache.get([_id(2)])[_id(2)].data == noise(BLOCK, 2)


def test_reading_ahead_is_bounded_and_told_to_who_asks(cache, packs):
    packs.gate.clear()
    assert cache.bring(lambda: [_id(1), _id(2)])
    assert not cache.bring(lambda: [_id(3)])
    assert packs.asked.wait(10)
    packs.gate.set()
    assert cache.get([_id(1)])[_id(1)].data == noise(BLOCK, 1)
    assert packs.read_ids == [_id(1), _id(2)]


def test_damage_that_is_read_ahead_is_told_to_who_asks_only(cache, packs):
    packs.bad = {_id(1)}
    assert cache.bring(lambda: [_id(1), _id(2)])
    with pytest.raises(Damaged):
        cache.get([_id(1)])

    def lost():
        raise Damaged("a leaf is lost")

    while not cache.bring(lost):
        pass
    assert cache.get([_id(2)])


def test_the_end_is_told_to_those_who_wait(packs):
    cache = ChunkCache(packs, KEY, threads=1)
    packs.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, [_id(1)])
        assert packs.asked.wait(10)
        queued = pool.submit(cache.get, [_id(2)])
        while _id(2) not in cache._coming:
            pass
        threading.Timer(0.05, packs.gate.set).start()
        cache.close()
        assert first.result(10)
        with pytest.raises(Unavailable):
            queued.result(10)
    with pytest.raises(Unavailable):
        cache.get([_id(3)])


def test_a_block_is_given_when_its_digest_is_right(cache):
    held = cache.get([_id(1)])[_id(1)]
    digest = digest_blocks(KEY, memoryview(noise(BLOCK, 1)))[0]
    assert digest is not None
    assert held.block(Slot(_id(1), 0, digest)) == noise(BLOCK, 1)
    for slot in (Slot(_id(1), 0, _id(9)), Slot(_id(1), 1, digest), Slot(_id(1), 1, _id(9))):
        with pytest.raises(Damaged):
            held.block(slot)
