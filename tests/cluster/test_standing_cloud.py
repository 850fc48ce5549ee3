"""The cloud to play with: it says how to reach it, and leaves nothing when it is told to end."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cloud_caller import CloudCaller


@pytest.mark.parametrize("kind", ["paper", "hosts"])
def test_it_answers_and_ends(kind: str):
    root = Path(f"/srv/sendense-lab-standing-{os.getpid()}")
    argv = [sys.executable, "-m", "sendense_lab.simulator", "--instances", "3"]
    if kind == "hosts":
        argv += ["--cluster", "--root", str(root), "--host", "kvm1=bookworm"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as cloud:
        try:
            for section in sections(cloud):
                caller = CloudCaller(section["endpoint"], section["key"], section["secret"])
                rows = caller.rows("listVirtualMachines", listall="true")
                assert len(rows) == (3 if kind == "paper" else 1)
        finally:
            cloud.send_signal(signal.SIGINT)
            cloud.communicate()
    assert cloud.returncode == 0
    assert not root.exists()


def sections(cloud: subprocess.Popen[str]) -> list[configparser.SectionProxy]:
    """What it says of itself by the time that it is ready."""
    assert cloud.stdout is not None
    said = ""
    for line in cloud.stdout:
        if "Ctrl-C" in line:
            break
        said += line
    read = configparser.ConfigParser()
    read.read_string(said)
    assert read.sections()
    return [read[name] for name in read.sections()]
