"""A worker's way to a disk, made of the real parts: qemu-nbd, gates, tunnels, a gateway."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sendense.agent.gate import Gate
from sendense.agent.tunnel import Tunnels
from sendense.agent.tunnel_ssh import TunnelSettings, known_hosts
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import AgentKey, GatewaySettings
from sendense.fleet.gateway_sessions import processes_of, sockets_of
from sendense.model import export as exports
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.secret import Secret
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense_lab.ports import free_port
from tests.integration.transfer.servers import qemu_nbd, run
from tests.integration.transfer.sinks import MemorySink

MIB = 1 << 20
SECRET = Secret("a-secret-of-the-capture")
NAME = "capture-1.vda"


def content_of(source: random.Random, size: int) -> bytes:
    """Give a disk of data and zeroes in runs of odd lengths."""
    parts, position = [], 0
    while position < size:
        length = min(source.choice((512, 4096, 65536, 200_000, 1 << 20)), size - position)
        parts.append(source.randbytes(length) if source.random() < 0.7 else bytes(length))
        position += length
    return b"".join(parts)


def image_of(folder: Path, content: bytes) -> Path:
    """Write content into a QCOW2 image."""
    raw, image = folder / "disk.raw", folder / "disk.qcow2"
    raw.write_bytes(content)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    raw.unlink()
    return image


def gates_processor_time(over_s: float) -> float:
    """Give the processor time that the threads of all gates use in a while, in seconds.

    Not that of the process: what other tests left may be busy in it.
    """
    before = _gates_used()
    time.sleep(over_s)
    return _gates_used() - before


def _gates_used() -> float:
    ticks = 0
    for thread in threading.enumerate():
        if thread.name.startswith("gate"):
            with suppress(OSError):  # it ended since
                stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
                user, system = stat.rpartition(")")[2].split()[11:13]
                ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def gate_to(image: Path, size: int, *, connections: int = 8, **options) -> Iterator[Gate]:
    """Serve an image behind a started gate, under ``NAME`` and ``SECRET``."""
    with qemu_nbd(image, size, shared=16) as export:
        first = free_port()
        gate = Gate(ports=(first, first + 20), **options)
        gate.start()
        try:
            gate.open(NAME, SECRET, export.socket, bytes_per_s=0, connections=connections)
            yield gate
        finally:
            gate.stop()


def behind(size: int, *ports: int, secret: Secret = SECRET, name: str = NAME, **tls) -> DiskExport:
    """Describe the disk behind the gate that these ports lead to."""
    addresses = tuple(("127.0.0.1", port) for port in ports)
    gate = exports.Gate(addresses, name, secret, **tls)
    return DiskExport("vda", "", "disk", size, gate=gate)


def read_all(export: DiskExport, **options) -> bytes:
    """Read a disk the way a backup does."""
    sink = MemorySink(export.size)
    copy_disk(export, sink, method=Method.EVERYTHING, options=CopyOptions(**options))
    return bytes(sink.content)


@contextmanager
def gateway_of(folder: Path, **settings) -> Iterator[Gateway]:
    """Run a gateway on a free port of the loopback."""
    # Its account has to reach its folder.
    folder.chmod(0o755)
    gateway = Gateway(
        GatewaySettings(folder / "gateway", port=free_port(), addresses=("127.0.0.1",), **settings)
    )
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def new_key(folder: Path, name: str) -> tuple[Path, str]:
    """Make a key pair; gives the private file and the public text."""
    path = folder / name
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
    return path, path.with_suffix(".pub").read_text()


@dataclass(frozen=True)
class Host:
    """A KVM host as the gateway sees it: its key, its ports, its settings."""

    key: AgentKey
    settings: TunnelSettings

    @property
    def data_ports(self) -> tuple[int, ...]:
        return self.key.data_ports


def new_host(
    folder: Path,
    gateway: Gateway,
    name: str = "host1",
    *,
    data: int = 1,
    gate: str = "127.0.0.1:9",
    account: str = "sshd",
    **options,
) -> Host:
    """Make a host's key and pin the gateway's; the key is not registered yet."""
    private, public = new_key(folder, name)
    port = gateway.settings.port
    pinned = folder / f"{name}.known_hosts"
    pinned.write_text(known_hosts("127.0.0.1", port, gateway.host_keys()))
    ports = [free_port() for _ in range(1 + data)]
    settings = TunnelSettings(
        "127.0.0.1", port, account, str(private), str(pinned),
        control_socket=str(folder / "agent.sock"), control_port=ports[0],
        data_ports=tuple(ports[1:]), gate=gate, **options,
    )  # fmt: skip
    return Host(AgentKey(name, public, ports[0], tuple(ports[1:])), settings)


@contextmanager
def tunnels_of(host: Host, *, wait: bool = True) -> Iterator[Tunnels]:
    """Run a host's tunnels."""
    tunnels = Tunnels(host.settings)
    tunnels.start()
    try:
        if wait:
            until(lambda: connected(tunnels))
        yield tunnels
    finally:
        tunnels.stop()


def connected(tunnels: Tunnels) -> bool:
    """Tell whether all tunnels are up."""
    return all(state.connected_since is not None for state in tunnels.states())


def until(condition, *, within_s: float = 90.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)


def is_open(port: int) -> bool:
    """Tell whether somebody listens on a port; without a connection, which would be traffic."""
    return bool(sockets_of(ports=[port]))


def session_pids(gateway: Gateway, port: int) -> list[int]:
    """Find the processes that listen on a port."""
    sockets = sockets_of(ports=[port])
    return [pid for pid, held in processes_of(gateway._log_file) if held & sockets]


def alive(pid: int) -> bool:
    """Tell whether a process lives; one that nobody asked for its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
