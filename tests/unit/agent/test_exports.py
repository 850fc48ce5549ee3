"""The exports of one work at a real gate: they share what its ticket allows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense.agent.counting import PlainMetrics
from sendense.agent.exports import OpenExports, inside_pool
from sendense.agent.gate import Gate
from sendense.agent.ledger import Ledger
from sendense.agent.settings import AgentSettings
from sendense.agent.work import Means
from sendense.capture.host import Host
from sendense.model.agent_status import GateExport
from sendense.model.export import DiskExport
from sendense.model.ticket import Limits


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """Stand for QEMU: takes connections and keeps them."""
    path = tmp_path / "qemu.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    taken: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                taken.append(listener.accept()[0])
        except OSError:
            return

    thread = threading.Thread(target=accept)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()
    for wire in taken:
        wire.close()


def means(folder: Path, gate: Gate, transport: str = "ssh") -> Means:
    settings = AgentSettings("h1", transport=transport)
    return Means(lambda: settings, Host(settings.host()), Ledger(folder), gate, PlainMetrics())


def enter(gate: Gate, export: GateExport) -> tuple[socket.socket, bytes]:
    wire = socket.create_connection(("127.0.0.1", gate.port), timeout=20)
    wire.sendall(f"SENDENSE/1 {export.name} {export.secret}\n".encode())
    return wire, wire.recv(100)


def test_the_connections_of_a_ticket_are_for_all_its_exports(tmp_path, server):
    gate = Gate("127.0.0.1", (20000, 29999))
    gate.start()
    disks = [DiskExport(name, str(server), name, 1) for name in ("vda", "vdb")]
    with OpenExports("w1", means(tmp_path, gate), Limits(connections=2)) as exports:
        one, two = exports.open(disks)
        assert one.secret != two.secret
        first, said = enter(gate, one)
        assert said == b"OK\n"
        second, said = enter(gate, one)
        assert said == b"OK\n"
        third, said = enter(gate, two)
        assert said == b"NO busy\n"
        wrong, said = enter(gate, GateExport("vda", one.name, two.secret, "vda", 1))
        assert said == b"NO not-allowed\n"
    # The gate is closed with the block.
    assert first.recv(1) == b""
    late, said = enter(gate, two)
    assert said == b"NO not-allowed\n"
    for wire in (first, second, third, wrong, late):
        wire.close()
    gate.stop()


def test_a_worker_on_the_host_gets_the_socket(tmp_path, server):
    gate = Gate()
    with OpenExports("w1", means(tmp_path, gate, "local"), Limits()) as exports:
        (export,) = exports.open([DiskExport("vda", str(server), "vda", 1)])
    assert export.socket == str(server)
    assert gate.counters().exports == 0


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("pool/disk", True),
        ("pool/deep/disk", True),
        ("pool", False),
        ("pool/../disk", False),
        ("other/disk", False),
        ("pool2/disk", False),
        ("pool/link/disk", False),
        ("alias/disk", True),
    ],
)
def test_inside_a_pool(tmp_path, path, inside):
    for folder in ("pool", "pool2", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pool/link").symlink_to(tmp_path / "other")
    (tmp_path / "alias").symlink_to(tmp_path / "pool")
    assert inside_pool(tmp_path / path, [tmp_path / "pool"]) is inside
