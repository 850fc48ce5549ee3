"""Clients are sent away, and only they: other connections of the process stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["unix", "tcp", "all addresses", "nobody"])
def test_who_came_in_is_shut_down(kind):
    command = [sys.executable, "-m", "tests.unit.serving.sent_away", kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
