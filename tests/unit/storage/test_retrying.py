"""What is tried again, how often, how long, and what an unknown outcome means."""

from __future__ import annotations

import random
import secrets

import pytest

from sendense.errors import (
    AlreadyExists,
    Damaged,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Stalled,
    Unavailable,
)
from sendense.storage.retrying import Patience, Retrying
from sendense.storage.urls import open_store
from sendense.storage.wrapper import innermost
from tests.support.faulty_store import Fault, FaultyStore, in_turn


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def patience(attempts=8, seconds=300.0, draw=lambda _, high: high):
    time = Time()
    return Patience(attempts, seconds, sleep=time.sleep, monotonic=time.monotonic, draw=draw), time


def failing(times, kind=Unavailable):
    calls: list[int] = []

    def action(failures):
        calls.append(failures)
        if len(calls) <= times:
            raise kind("no")
        return "done"

    return action, calls


@pytest.mark.parametrize("kind", [Unavailable, Stalled])
def test_what_may_pass_is_tried_again(kind):
    tries, time = patience()
    action, calls = failing(3, kind)
    assert tries.try_out("it", action) == "done"
    assert calls == [0, 1, 2, 3]
    assert time.slept == [0.4, 0.8, 1.6]


@pytest.mark.parametrize("kind", [NotFound, NotAllowed, AlreadyExists, Damaged, OutOfSpace])
def test_what_does_not_pass_is_not(kind):
    tries, time = patience()
    action, calls = failing(1, kind)
    with pytest.raises(kind):
        tries.try_out("it", action)
    assert calls == [0]
    assert time.slept == []


def test_attempts_are_bounded():
    tries, time = patience(attempts=4)
    action, calls = failing(99)
    with pytest.raises(Unavailable):
        tries.try_out("it", action)
    assert len(calls) == 4
    assert len(time.slept) == 3


def test_time_is_bounded():
    tries, time = patience(attempts=1000, seconds=100.0)
    action, _ = failing(999)
    with pytest.raises(Unavailable):
        tries.try_out("it", action)
    assert 60 < time.now <= 100


def test_waiting_is_spread_and_never_long():
    source = random.Random(1)
    tries, time = patience(attempts=200, seconds=1e9, draw=source.uniform)
    action, _ = failing(150)
    tries.try_out("it", action)
    assert all(0 <= wait <= 30 for wait in time.slept)
    late = time.slept[20:]
    assert min(late) < 5
    assert max(late) > 25


def stores(*faults):
    inner = innermost(open_store(f"memory:{secrets.token_hex(8)}"))
    tries, _ = patience()
    return Retrying(FaultyStore(inner, in_turn(*faults)), tries), inner


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_creation_whose_answer_was_lost_is_ours(content):
    store, inner = stores(Fault.LATE)
    store.put("a", [content], create=True)
    assert inner.get("a") == content


def test_a_creation_of_somebody_else_is_not():
    store, inner = stores(Fault.REFUSED)
    inner.put("a", b"your")
    with pytest.raises(AlreadyExists):
        store.put("a", b"mine", create=True)
    assert inner.get("a") == b"your"


def test_half_an_object_is_not_ours():
    store, _ = stores(Fault.TORN)
    with pytest.raises(AlreadyExists):
        store.put("a", b"mine", create=True)


def test_without_a_failure_the_same_content_is_somebody_elses():
    store, inner = stores()
    inner.put("a", b"mine")
    with pytest.raises(AlreadyExists):
        store.put("a", b"mine", create=True)


def test_half_an_object_is_written_over():
    store, inner = stores(Fault.TORN, Fault.LATE, Fault.REFUSED)
    store.put("a", b"all of it")
    assert inner.get("a") == b"all of it"


def test_half_a_read_is_read_again():
    store, inner = stores(Fault.TORN)
    inner.put("a", b"0123456789")
    target = bytearray(10)
    store.read_into("a", 0, memoryview(target))
    assert target == b"0123456789"


def test_half_a_listing_is_listed_again():
    store, inner = stores(Fault.LATE)
    for name in "abcd":
        inner.put(name, b"x")
    assert [item.name for item in store.list("")] == ["a", "b", "c", "d"]


def test_half_a_removal_is_finished():
    store, inner = stores(Fault.TORN)
    for name in "abcd":
        inner.put(name, b"x")
    store.delete(["a", "b", "c", "d"])
    assert list(inner.list("")) == []


def test_a_stale_listing_is_given_as_it_is():
    inner = innermost(open_store(f"memory:{secrets.token_hex(8)}"))
    faulty = FaultyStore(inner, in_turn(*[Fault.NONE] * 4, Fault.STALE), lag=2)
    faulty.put("old", b"x")
    faulty.put("kept", b"x")
    faulty.put("new", b"x")
    faulty.delete(["old"])
    assert sorted(item.name for item in faulty.list("")) == ["kept", "old"]
    assert sorted(item.name for item in faulty.list("")) == ["kept", "new"]
