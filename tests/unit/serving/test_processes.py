"""Only the very process is ended, never one that got its number."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from sendense.serving.processes import find_process

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_again(child):
    found = find_process(child.pid)
    assert found is not None
    assert found.alive
    assert find_process(child.pid) == found
    me = find_process(os.getpid())
    assert me is not None
    assert me.started <= found.started


def test_one_that_ends_when_asked(child):
    found = find_process(child.pid)
    assert found is not None
    assert found.end(within_s=10)
    assert child.wait(10) == -signal.SIGTERM
    assert not found.alive
    assert found.end(within_s=10)
    assert find_process(child.pid) is None


def test_one_that_does_not():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        found = find_process(stubborn.pid)
        assert found is not None
        assert not found.end(within_s=0.2)
        assert stubborn.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_another_one_with_its_number_is_left_alone(child, change):
    found = find_process(child.pid)
    assert found is not None
    other = dataclasses.replace(found, **change)
    assert not other.alive
    assert other.end(within_s=1)
    assert child.poll() is None
