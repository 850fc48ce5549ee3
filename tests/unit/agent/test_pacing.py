"""Limits hold over any stretch of time, and change while bytes flow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sendense.agent.pacing import Bucket


class Clock:
    """A time that only moves when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(
    rate=st.integers(1, 1 << 34),
    counts=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=50),
    pauses=st.lists(st.floats(0, 5), min_size=50, max_size=50),
)
def test_no_more_passes_than_the_rate_allows(rate, counts, pauses):
    clock = Clock()
    bucket = Bucket(rate, monotonic=clock)
    begun: float | None = None
    passed = 0
    for count, pause in zip(counts, pauses, strict=False):
        clock.now += pause
        begun = clock.now if begun is None else begun
        clock.now += bucket.charge(count)
        passed += count
    assert begun is not None
    assert passed <= rate * (clock.now - begun + 0.25) * (1 + 1e-9) + 1


def test_without_a_rate_nobody_waits():
    bucket = Bucket(0)
    assert bucket.charge(1 << 40) == 0
    assert bucket.piece == 1 << 20


def test_debts_are_paid_at_the_new_rate():
    clock = Clock()
    bucket = Bucket(100, monotonic=clock)
    clock.now = 10
    assert bucket.charge(1025) == 10
    bucket.set_rate(1000)
    assert bucket.charge(0) == 1
    bucket.set_rate(0)
    assert bucket.charge(1 << 30) == 0
    bucket.set_rate(50)
    assert bucket.bytes_per_s == 50
    assert bucket.charge(0) == 0


def test_slow_rates_flow_in_small_pieces():
    assert Bucket(1000).piece == 16 * 1024
    assert Bucket(1 << 20).piece == (1 << 20) // 10
    assert Bucket(1 << 40).piece == 1 << 20
