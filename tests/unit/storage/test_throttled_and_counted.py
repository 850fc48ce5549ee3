"""Limits and counts in front of a store."""

from __future__ import annotations

import pytest

from sendense.errors import NotFound, Unavailable
from sendense.storage.counting import Count, Counters, Counting
from sendense.storage.local import LocalStore
from sendense.storage.retrying import Patience, Retrying
from sendense.storage.throttled import Throttled
from sendense.transfer.throttle import UNLIMITED, Throttle
from tests.support.faulty_store import Fault, FaultyStore, in_turn

MIB = 1 << 20


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def limit(time, rate):
    return Throttle(rate, monotonic=time.monotonic, sleep=time.sleep)


def test_writing_and_reading_have_limits_of_their_own(tmp_path):
    time = Time()
    store = Throttled(LocalStore(tmp_path), upload=limit(time, MIB), download=limit(time, 2 * MIB))
    store.put("a", [bytes(MIB)] * 8)
    assert 7 < time.now < 8.1
    begun = time.now
    store.get("a")
    store.read_into("a", 0, memoryview(bytearray(8 * MIB)))
    assert 7 < time.now - begun < 8.1


def test_one_limit_may_hold_for_many(tmp_path):
    time = Time()
    shared = limit(time, MIB)
    for number in range(4):
        store = Throttled(LocalStore(tmp_path), upload=shared, download=UNLIMITED)
        store.put(f"a{number}", bytes(2 * MIB))
    assert 7 < time.now < 8.1


def test_what_was_asked_is_counted(tmp_path):
    counters = Counters()
    store = Counting(LocalStore(tmp_path), counters)
    store.put("a", [b"12", b"345"])
    store.get("a")
    store.read_into("a", 1, memoryview(bytearray(3)))
    store.info("a")
    list(store.list(""))
    store.delete(["a", "b"])
    with pytest.raises(NotFound):
        store.get("a")
    assert counters.all() == {
        "delete": Count(1),
        "get": Count(2, 5),
        "info": Count(1),
        "list": Count(1),
        "put": Count(1, 5),
        "read_into": Count(1, 3),
    }
    assert counters["never"] == Count()


def test_each_attempt_is_counted(tmp_path):
    counters = Counters()
    faulty = FaultyStore(LocalStore(tmp_path), in_turn(Fault.REFUSED, Fault.LATE))
    patience = Patience(8, 60.0, sleep=lambda _: None)
    Retrying(Counting(faulty, counters), patience).put("a", b"12345")
    assert counters["put"] == Count(3, 15)
    with pytest.raises(Unavailable):
        Counting(FaultyStore(faulty, in_turn(Fault.REFUSED)), counters).info("a")
    assert counters["info"] == Count(1)
