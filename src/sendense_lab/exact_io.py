"""Writes of exactly known bytes to a disk, without an operating system in the VM.

Running or paused: QEMU's own `qemu-io` monitor command, addressed to the *device* (`-d`), not to
a block node. The device's backend is where a guest's requests come in, so such a write is seen by
dirty bitmaps and passes the copy-before-write filter of a running backup job, just as a guest's.
Stopped: the same commands by the `qemu-io` program, which also keeps persistent bitmaps right.

QEMU prints the outcome of the monitor command to its own log only, so ranges are checked here
before they are used.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import libvirt
import libvirt_qemu
import nbd

from sendense_lab.commands import run, wait_until
from sendense_lab.errors import CommandFailed, LabError
from sendense_lab.live_xml import disk_elements
from sendense_lab.pool import Volume

SECTOR = 512
# qemu-io takes one buffer of the whole length.
LONGEST_REQUEST = 32 << 20


def write_command(offset: int, length: int, pattern: int) -> str:
    return f"write -P {pattern} {offset} {length}"


def discard_command(offset: int, length: int) -> str:
    return f"discard {offset} {length}"


def zero_command(offset: int, length: int, *, unmap: bool) -> str:
    return f"write -z {'-u ' if unmap else ''}{offset} {length}"


def requests(offset: int, length: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a range into requests, after checking that a guest could ask for it."""
    if offset % SECTOR or length % SECTOR or length <= 0 or offset < 0 or offset + length > size:
        raise LabError(f"range {offset}+{length} does not fit a disk of {size} bytes")
    end = offset + length
    while offset < end:
        part = min(LONGEST_REQUEST, end - offset)
        yield offset, part
        offset += part


def run_online(domain: libvirt.virDomain, target: str, command: str) -> None:
    """Carry out a qemu-io command on the disk of a running or paused domain."""
    line = f'qemu-io -d {_device(domain, target)} "{command}"'
    answer = libvirt_qemu.qemuMonitorCommand(
        domain, line, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    )
    if answer.strip():
        raise LabError(f"{line}: {answer.strip()}")


def run_offline(volume: Volume, command: str) -> None:
    """Carry out a qemu-io command on the image of a stopped VM."""
    run(["qemu-io", "-f", volume.format, "-d", "unmap", "-c", command, volume.path])


def random_bytes(seed: int, length: int) -> Iterator[bytes]:
    """Incompressible bytes in pieces, always the same for a seed."""
    source = random.Random(seed)
    while length > 0:
        part = min(8 << 20, length)
        yield source.randbytes(part)
        length -= part


def fill_offline(volume: Volume, offset: int, length: int, seed: int) -> None:
    """Write random bytes into the image of a stopped VM, chunk by chunk over NBD."""
    # One piece is made while the one before it is written: 8 s instead of 11 s for 2 GiB.
    with _served(volume) as handle, ThreadPoolExecutor(max_workers=1) as writer:
        written: Future[object] | None = None
        for part in random_bytes(seed, length):
            if written is not None:
                written.result()
            written = writer.submit(handle.pwrite, part, offset)
            offset += len(part)
        if written is not None:
            written.result()
        handle.flush()


def fill_online(
    domain: libvirt.virDomain, target: str, offset: int, length: int, seed: int, *, scratch: Path
) -> None:
    """The same on a running or paused domain; `scratch` is a folder QEMU can read."""
    source = scratch / f"fill-{target}"
    try:
        for part in random_bytes(seed, length):
            source.write_bytes(part)
            source.chmod(0o644)
            run_online(domain, target, f"write -s {source} {offset} {len(part)}")
            offset += len(part)
    finally:
        source.unlink(missing_ok=True)


def read_offline(volume: Volume, offset: int, length: int) -> bytes:
    """What a guest would read there."""
    parts = []
    with _served(volume) as handle:
        for start, part in requests(offset, length, volume.size):
            parts.append(bytes(handle.pread(part, start)))
    return b"".join(parts)


@contextmanager
def _served(volume: Volume) -> Iterator[nbd.NBD]:
    """A libnbd connection to a qemu-nbd of our own; image and bitmaps are settled afterwards."""
    with tempfile.TemporaryDirectory(prefix="lab-nbd-") as folder:
        socket = f"{folder}/nbd"
        argv = ["qemu-nbd", "-f", volume.format, "--discard=unmap", "-k", socket]
        server = subprocess.Popen([*argv, str(volume.path)], stderr=subprocess.PIPE)
        try:
            yield _connected(socket, server)
        finally:
            # qemu-nbd ends after its only client too, but this one may have died before.
            server.terminate()
            try:
                server.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                # A TERM early in its start is lost on qemu-nbd.
                server.kill()
                server.communicate()


def _connected(socket: str, server: subprocess.Popen[bytes]) -> nbd.NBD:
    handle = nbd.NBD()

    def connected() -> bool:
        nonlocal handle
        if server.poll() is not None:
            raise CommandFailed(["qemu-nbd"], server.returncode, server.stderr.read().decode())  # type: ignore[union-attr]
        if not Path(socket).exists():
            return False
        try:
            handle.connect_unix(socket)
        except nbd.Error:
            # qemu-nbd binds first and listens later; a handle that failed is of no more use.
            handle = nbd.NBD()
            return False
        return True

    wait_until(connected, "the start of qemu-nbd", timeout_s=60, interval_s=0.01)
    return handle


def _device(domain: libvirt.virDomain, target: str) -> str:
    """The QOM path of the device that is the disk's front end."""
    alias = disk_elements(domain)[target].find("alias")
    if alias is None:
        raise LabError(f"{domain.name()}: {target} has no device")
    return f"/machine/peripheral/{alias.get('name')}/virtio-backend"
