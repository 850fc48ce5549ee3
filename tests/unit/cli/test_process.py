"""The program as a process: signals, and a reader of its output that goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.stage import document_of

ROOT = Path(__file__).parents[3]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.cli.program", *arguments, "-r", "mem"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_cleanly_and_a_second_waits(number):
    with start("verify", "p1", "--json") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "verifying\n"
        process.send_signal(number)
        assert "stopping" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines() == [
        "still taking back what this run did; please wait",
        "all taken back",
    ]
    assert document_of(out)["error"]["code"] == "cancelled"


def test_a_reader_that_goes_away():
    with start("points", "list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # Before anything was written: how much a pipe takes differs between kernels.
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=20)
    assert process.returncode == 141
    assert err == ""
