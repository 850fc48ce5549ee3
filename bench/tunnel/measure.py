"""Our reader against nbdcopy, over 1, 2 and 4 tunnels and over TLS."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Better, Figure, Goal
from bench.timing import GIB, BenchFailed, Cost, children_s, middle, rates, take_turns
from bench.tunnel.site import EXPORT, SECRET, Running, Site, child, until
from sendense.fleet.gateway_sessions import sockets_of
from sendense.model import export as exports
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.secret import Secret
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense.units import MIB
from sendense_lab.ports import free_port

_GOAL = Goal(0.9, of_ratio=True)
_MEMORY = Goal(256)
PEER = "nbdcopy"


@dataclass(frozen=True)
class TunnelPlan:
    """How much is measured."""

    rounds: int = 5
    data: int = GIB


QUICK = TunnelPlan(rounds=1, data=64 * MIB)


def measure_tunnel(plan: TunnelPlan, memory: Path) -> Iterator[Figure]:
    """Measure every transport."""
    with (
        TemporaryDirectory(prefix="sendense-bench-", dir=memory) as folder,
        ExitStack() as stack,
    ):
        raw = Path(folder) / "disk.raw"
        with raw.open("wb") as stream:
            for _ in range(plan.data // (4 * MIB)):
                stream.write(os.urandom(4 * MIB))
        site = Site(Path(folder), raw, stack)
        yield from _gate(site, plan)
        for count in (1, 2, 4):
            yield from _ssh(site, plan, count)
        yield from _tls(site, plan)


def _gate(site: Site, plan: TunnelPlan) -> Iterator[Figure]:
    """The gate alone: what it takes beside QEMU's socket itself."""
    direct = DiskExport("disk", str(site.socket), EXPORT, plan.data)
    with site.host() as host:
        through = _behind(plan.data, [host.port])
        used = _processor_s(host.pid)
        runs = take_turns(
            {"ours": lambda: _read(through, 2), "direct": lambda: _read(direct, 2)},
            rounds=plan.rounds,
        )
        spent = (_processor_s(host.pid) - used) / plan.rounds * GIB / plan.data
    yield _speed("gate alone", runs["ours"], runs["direct"], plan, "unix socket", None)
    yield Figure("gate alone, its processor time per GiB", "s", Better.LOWER, spent)


def _ssh(site: Site, plan: TunnelPlan, count: int) -> Iterator[Figure]:
    """Through so many tunnels, into the gate's unix socket."""
    gate = str(site.folder / f"gate{count}.sock")
    settings = site.tunnel(gate, count)
    with (
        site.host(gate=gate, tunnel=settings) as host,
        site.plain_tunnels(count) as ports,
    ):
        export = _behind(plan.data, settings.data_ports)
        _require_equal(export, site.raw)
        uris = [f"nbd://127.0.0.1:{port}/{EXPORT}" for port in ports]
        runs = take_turns(
            {"ours": lambda: _read(export, max(2, count)), "peer": lambda: _nbdcopy(uris)},
            rounds=plan.rounds,
        )
        yield _speed(f"ssh, {_connections(count)}", runs["ours"], runs["peer"], plan, PEER, _GOAL)
        if count == 4:
            yield from _memory(host)


def _tls(site: Site, plan: TunnelPlan) -> Iterator[Figure]:
    """Over TLS: ours into the gate, the peer into QEMU's own."""
    with ExitStack() as stack:
        host = stack.enter_context(site.host(tls=True))
        port = free_port()
        credentials = (
            f"tls-creds-x509,id=tls,endpoint=server,dir={site.server_files},verify-peer=yes"
        )
        words = ["qemu-nbd", "-r", "-t", "-e32", "-x", EXPORT, "-b", "127.0.0.1", "-p", port,
                 "--object", credentials, "--tls-creds", "tls", "-f", "raw", site.raw]  # fmt: skip
        server = stack.enter_context(child(words))
        stack.callback(server.terminate)
        until(lambda: bool(sockets_of(ports=[port])), "qemu-nbd under TLS")
        export = _behind(plan.data, [host.port], certificates=str(site.worker_files))
        _require_equal(export, site.raw)
        uri = f"nbds://127.0.0.1:{port}/{EXPORT}?tls-certificates={site.worker_files}"
        runs = take_turns(
            {"ours": lambda: _read(export, 2), "peer": lambda: _nbdcopy([uri])}, rounds=plan.rounds
        )
        yield _speed("tls", runs["ours"], runs["peer"], plan, PEER, _GOAL)
        yield from _memory(host, "tls")


def _behind(size: int, ports: Sequence[int], *, certificates: str | None = None) -> DiskExport:
    addresses = tuple(("127.0.0.1", port) for port in ports)
    gate = exports.Gate(addresses, EXPORT, Secret(SECRET), certificates)
    return DiskExport("disk", "", EXPORT, size, gate=gate)


class _Nowhere:
    """Throws away what it is given."""

    block_size = 65536

    def write(self, offset: int, data: object) -> None:
        """Forget it."""

    def zero(self, offset: int, length: int) -> None:
        """Forget it."""


class _Comparing(_Nowhere):
    """Holds what it is given against the disk."""

    def __init__(self, raw: mmap.mmap) -> None:
        self._raw = raw
        self.seen = 0

    def write(self, offset: int, data: object) -> None:
        view = memoryview(data)  # type: ignore[arg-type]
        if view != memoryview(self._raw)[offset : offset + len(view)]:
            raise BenchFailed(f"another content at {offset}")
        self.seen += len(view)


def _require_equal(export: DiskExport, raw: Path) -> None:
    with raw.open("rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        sink = _Comparing(content)
        copy_disk(export, sink, method=Method.EVERYTHING, options=CopyOptions(connections=4))
    if sink.seen != export.size:
        raise BenchFailed(f"{sink.seen} bytes of {export.size} arrived")


def _read(export: DiskExport, connections: int) -> Cost:
    options = CopyOptions(connections=connections)
    began, used = time.perf_counter(), time.process_time()
    copy_disk(export, _Nowhere(), method=Method.EVERYTHING, options=options)
    return Cost(time.perf_counter() - began, time.process_time() - used)


def _nbdcopy(uris: Sequence[str]) -> Cost:
    """Copy all shares at once into nothing."""
    before, began = children_s(), time.perf_counter()
    running = [
        subprocess.Popen(["nbdcopy", uri, "null:"], stderr=subprocess.PIPE, text=True)
        for uri in uris
    ]
    for process in running:
        _, complaint = process.communicate()
        if process.returncode != 0:
            raise BenchFailed(f"nbdcopy: {complaint.strip()}")
    return Cost(time.perf_counter() - began, children_s() - before)


def _speed(
    name: str,
    ours: Sequence[Cost],
    theirs: Sequence[Cost],
    plan: TunnelPlan,
    peer: str,
    goal: Goal | None,
) -> Figure:
    own, other = rates(ours, plan.data), rates(theirs, plan.data)
    return Figure(
        f"read through {name}" if goal else name, "GiB/s", Better.HIGHER, middle(own) or 0.0,
        middle(other), peer, goal, own, other,
    )  # fmt: skip


def _memory(host: Running, suffix: str = "ssh, 4 connections") -> Iterator[Figure]:
    """The peaks of the host's process and of its ssh clients together."""
    name = f"memory, gate and tunnels, {suffix}"
    yield Figure(name, "MiB", Better.LOWER, _peak(host.pid) / MIB, goal=_MEMORY)
    clients = [
        int(word)
        for task in Path(f"/proc/{host.pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]
    if clients:
        largest = max(map(_peak, clients))
        yield Figure("memory, one ssh client", "MiB", Better.LOWER, largest / MIB)


def _peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def _processor_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"
