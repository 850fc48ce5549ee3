"""The bandwidth limit holds over time, and a stop is heard."""

from __future__ import annotations

import pytest

from sendense.errors import Cancelled
from sendense.transfer.throttle import Throttle

MIB = 1 << 20


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds <= 0.5
        self.now += seconds


def throttle(rate):
    time = Time()
    return Throttle(rate, monotonic=time.monotonic, sleep=time.sleep), time


@pytest.mark.parametrize("piece", [1000, 64 * 1024, MIB, 7 * MIB])
def test_the_average_holds_for_pieces_of_any_size(piece):
    limit, time = throttle(MIB)
    for _ in range(20):
        limit.take(piece)
    assert 20 * piece / MIB - 0.3 <= time.now - 100 <= 20 * piece / MIB + 0.1


def test_idle_time_is_not_saved_up():
    limit, time = throttle(MIB)
    time.now += 1000
    begun = time.now
    for _ in range(10):
        limit.take(MIB)
    assert time.now - begun > 9.5


@pytest.mark.parametrize("rate", [None, 0])
def test_without_a_limit_nobody_waits(rate):
    limit, time = throttle(rate)
    limit.take(1 << 60)
    assert time.now == 100


def test_a_stop_is_heard_while_waiting():
    limit, time = throttle(1)

    def check():
        if time.now > 101:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        limit.take(1000, check=check)
    assert time.now < 103
