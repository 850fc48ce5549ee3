"""Progress is told first and last, and not too often between."""

from __future__ import annotations

import pytest

from sendense import clock
from sendense.model.progress import Progress
from sendense.transfer.meter import Meter


def listener():
    """Give what a listener is told, and the listener."""
    told: list[Progress] = []

    def listen(progress):
        told.append(progress)

    return told, listen


def test_reports(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    told, listen = listener()
    meter = Meter(listen, phase="backup", subject="vda", total=1000)
    for _ in range(100):
        now[0] += 0.01
        meter.add(5)
    meter.finish()
    assert 5 <= len(told) <= 8
    assert (told[0].done, told[0].total) == (0, 1000)
    assert (told[-1].done, told[-1].total) == (500, 500)
    assert told[-1].rate == pytest.approx(500)
    assert [item.done for item in told] == sorted(item.done for item in told)


def test_the_total_grows_with_what_is_done():
    told, listen = listener()
    meter = Meter(listen, phase="backup", subject="vda", total=1)
    meter.add(10)
    meter.finish()
    assert told[-1].total == 10
