"""Signals: the first cancels, the second does not break the cleaning up."""

from __future__ import annotations

import os
import signal

import pytest

from sendense.cli.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_cancels_and_the_second_waits(number):
    said: list[str] = []
    cleaned: list[str] = []
    before = signal.getsignal(number)

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append("all of it")

    with Interrupts(said.append) as interrupts, pytest.raises(KeyboardInterrupt):
        work()
    assert cleaned == ["all of it"]
    assert interrupts.cancelled
    assert "stopping" in said[0]
    assert len(said) == 3
    assert all("still taking back" in line for line in said[1:])
    assert signal.getsignal(number) is before


def test_a_hang_up_under_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda text: None) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupts.cancelled
    finally:
        signal.signal(signal.SIGHUP, before)
