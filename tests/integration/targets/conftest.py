"""A storage that is soon full, and block devices."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.integration.transfer.servers import MIB, run


@pytest.fixture
def small_storage(tmp_path):
    """Give a file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
    yield folder
    run("umount", folder)


@pytest.fixture(params=[512, 4096])
def loop_device(tmp_path, request):
    """Give a block device of 16 MiB whose old content is not zero, and its backing file."""
    backing = tmp_path / "device.raw"
    backing.write_bytes(b"\xee" * (16 * MIB))
    found = subprocess.run(
        ["losetup", "-f", "--show", "-b", str(request.param), str(backing)],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(f"no loop devices here: {found.stderr.strip()}")
    yield found.stdout.strip(), backing
    run("losetup", "-d", found.stdout.strip())
