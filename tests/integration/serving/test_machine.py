"""A machine starts from a disk that is served, and writes to it."""

from __future__ import annotations

import subprocess
import time

import pytest

from sendense.units import MIB
from tests.integration.serving.site import VDA, connected, uri
from tests.support.points import BLOCK, Write, data, store

SECTOR = 512
# Writes itself to the second sector through the BIOS, and then "booted" to the serial port.
BOOT_CODE = bytes.fromhex(
    "31c0 8ed8 8ec0"  # ds = es = 0
    "bb007c b90200 ba8000 b80103 cd13"  # write a sector from 0:7c00 to sector 2 of disk 80
    "baf803 be257c ac 84c0 7403 ee ebf8"  # each byte of the text to port 3f8
    "f4 ebfd"  # halt
)
BOOT_SECTOR = (BOOT_CODE + b"booted\n\0").ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.vm
def test_a_machine_starts_from_it(dedup):
    chunks = (data(0, BOOT_SECTOR.ljust(BLOCK, b"\0")),)
    store(dedup.repository, "p1", Write(VDA, 8 * MIB, chunks))
    before = dedup.objects()
    said = dedup.folder / "serial"
    with dedup.served("p1", overlay_dir=dedup.overlays) as server:
        drive = f"file={uri(server)},format=raw,if=virtio"
        command = ["qemu-system-x86_64", "-accel", "tcg", "-m", "32", "-nodefaults"]
        command += ["-display", "none", "-serial", f"file:{said}", "-drive", drive]
        with subprocess.Popen(command) as machine:
            try:
                end = time.monotonic() + 200
                while b"booted" not in (said.read_bytes() if said.exists() else b""):
                    assert machine.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.05)
            finally:
                machine.kill()
        with connected(uri(server)) as client:
            assert client.pread(SECTOR, SECTOR) == BOOT_SECTOR
    with dedup.served("p1") as server, connected(uri(server)) as client:
        assert client.pread(SECTOR, SECTOR) == bytes(SECTOR)
    assert dedup.objects() == before
