"""The clocks that everything asks."""

from __future__ import annotations

import time

from sendense import clock


def test_the_clock_that_goes_on_while_suspended():
    before = clock.boottime()
    # It began with the other one, and has never stood still.
    assert before >= clock.monotonic() - 1
    assert clock.boottime() >= before


def test_where_there_is_no_such_clock(monkeypatch):
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    before = time.monotonic()
    assert before <= clock.boottime() <= time.monotonic()
