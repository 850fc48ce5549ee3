"""Peaks of a process and of its children."""

from __future__ import annotations

import sys

import pytest

from bench.memory import watch_memory
from bench.timing import BenchFailed

MIB = 1 << 20
HOLD = "import time; held = b'x' * ({mib} << 20); time.sleep(1.5)"


def test_the_peak_of_the_process_itself():
    peaks = watch_memory([sys.executable, "-c", HOLD.format(mib=64)])
    assert 64 * MIB < peaks.own < 128 * MIB
    assert peaks.children == {}


def test_a_child_counts_for_itself():
    child = HOLD.format(mib=48)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    peaks = watch_memory([sys.executable, "-c", parent])
    assert peaks.own < 48 * MIB
    assert 48 * MIB < max(peaks.children.values()) < 96 * MIB


def test_a_command_that_fails_has_no_peak():
    with pytest.raises(BenchFailed, match="no luck"):
        watch_memory([sys.executable, "-c", "raise SystemExit('no luck')"])
