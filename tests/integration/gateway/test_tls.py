"""The gate under TLS: a port for each export, certificates of one authority on both sides."""

from __future__ import annotations

import os
import socket
import struct
import time
from datetime import timedelta

import pytest

from sendense import clock
from sendense.agent.gate import Gate
from sendense.agent.gate_tls import GateTls
from sendense.errors import Unavailable, Unsupported
from sendense.fleet.authority import Authority, write_worker_files
from sendense.model import export as exports
from sendense.model.export import DiskExport
from sendense.model.secret import Secret
from sendense.targets.nbd import ExportDisk
from sendense.transfer import link
from sendense.transfer.source import ReadOptions, open_source
from sendense_lab.ports import free_port
from tests.integration.gateway.site import (
    MIB,
    NAME,
    SECRET,
    gates_processor_time,
    image_of,
    read_all,
    until,
)
from tests.integration.transfer.servers import qemu_nbd, run, server

NEVER = Secret("never used")


class Tls:
    """An authority, a host's certificate and a worker's, and a gate."""

    def __init__(self, place, *, names=("127.0.0.1", "localhost")):
        self.place = place
        made = Authority.create("test")
        self.authority = Authority(made.certificate, made.key)
        agent = self.authority.issue_agent("host1", names)
        files = {
            "ca.pem": made.certificate,
            "agent.pem": agent.certificate,
            "agent.key": agent.key.reveal(),
        }
        for name, content in files.items():
            (place / name).write_bytes(content)
        self.worker = place / "worker"
        write_worker_files(self.worker, made.certificate, self.authority.issue_worker("w1"))
        paths = [str(place / name) for name in ("agent.pem", "agent.key", "ca.pem")]
        first = free_port()
        self.gate = Gate("127.0.0.1", (first, first + 20), tls=GateTls(*paths))

    def export(self, size, port, *, certificates=None, address="127.0.0.1", hostname=None):
        """Describe a disk behind the gate."""
        gate = exports.Gate(
            ((address, port),), "", NEVER, str(certificates or self.worker), hostname
        )
        return DiskExport("vda", "", "disk", size, gate=gate)


@pytest.fixture
def tls(place):
    """Give a started gate under TLS."""
    made = Tls(place)
    made.gate.start()
    yield made
    made.gate.stop()


@pytest.fixture
def served(tls, disk):
    """Give the gate's port of a disk, and the disk's content."""
    image, content = disk
    with qemu_nbd(image, len(content), shared=16) as export:
        port = tls.gate.open(NAME, SECRET, export.socket, bytes_per_s=0, connections=8)
        yield port, content


@pytest.mark.parametrize("connections", [1, 4])
def test_a_disk_arrives_whole(tls, served, connections):
    port, content = served
    assert tls.gate.port == 0
    assert read_all(tls.export(len(content), port), connections=connections) == content
    until(lambda: tls.gate.counters().open_connections == 0)
    assert tls.gate.counters().connections == connections
    assert tls.gate.counters().read_bytes > len(content) * 0.5


def test_a_disk_is_written_through_it(tls, place):
    size = 16 * MIB
    image = image_of(place, bytes(size))
    content = os.urandom(size)
    command = ["qemu-nbd", "-t", "-e8", "-f", "qcow2", "-x", "disk", "-k", place / "w", image]
    with server(command, place / "w"):
        port = tls.gate.open(NAME, SECRET, str(place / "w"), bytes_per_s=0, connections=4)
        with ExportDisk(tls.export(size, port), size, connections=3) as target:
            for offset in range(0, size, MIB):
                target.write(offset, content[offset : offset + MIB])
            target.finish()
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, place / "raw")
    assert (place / "raw").read_bytes() == content


def certificates_of(place, name, authority, trusted, **options):
    """Make a worker's folder that trusts one authority and is signed by another."""
    folder = place / name
    write_worker_files(folder, trusted, authority.issue_worker(name, **options))
    return folder


def test_only_a_worker_of_this_authority_is_let_in(tls, served, place):
    port, content = served
    trusted = tls.authority.certificate
    stranger = Authority.create("another")
    bad = {
        "another authority": certificates_of(
            place, "stranger", Authority(stranger.certificate, stranger.key), trusted
        ),
        "expired": certificates_of(
            place, "old", tls.authority, trusted, now=clock.now() - timedelta(days=30)
        ),
        "not yet": certificates_of(
            place, "young", tls.authority, trusted, now=clock.now() + timedelta(days=1)
        ),
    }
    none = place / "none"
    none.mkdir()
    (none / "ca-cert.pem").write_bytes(trusted)
    bad["none"] = none
    # A stolen host's own certificate opens no other host's disks.
    host = place / "host"
    write_worker_files(host, trusted, tls.authority.issue_agent("host2", ["127.0.0.1"]))
    bad["a host's"] = host
    for folder in bad.values():
        with pytest.raises(Unavailable):
            link.connect(tls.export(len(content), port, certificates=folder), connect_s=30)
    assert tls.gate.counters().connections == 0
    until(lambda: tls.gate.counters().refused == len(bad))
    assert read_all(tls.export(len(content), port)) == content


def test_a_worker_talks_only_to_a_host_of_its_authority_and_of_the_right_name(tls, served, place):
    port, content = served
    stranger = Authority.create("another")
    misled = certificates_of(place, "misled", tls.authority, stranger.certificate)
    with pytest.raises(Unavailable):
        link.connect(tls.export(len(content), port, certificates=misled), connect_s=30)
    # Connected to as 127.0.0.2, which its certificate does not name.
    with pytest.raises((Unavailable, Unsupported)):
        link.connect(tls.export(len(content), port, hostname="host9"), connect_s=30)
    assert read_all(tls.export(len(content), port, address="localhost")) == content
    agent = tls.authority.issue_agent("host1", ["host1.example"])
    (place / "agent.key").write_bytes(agent.key.reveal())
    (place / "agent.pem").write_bytes(agent.certificate)
    with pytest.raises(Unavailable):
        link.connect(tls.export(len(content), port), connect_s=30)


def test_nothing_is_answered_without_tls(tls, served):
    port, content = served
    plain = exports.Gate((("127.0.0.1", port),), NAME, SECRET)
    with pytest.raises(Unavailable):
        link.connect(DiskExport("vda", "", "disk", len(content), gate=plain), connect_s=30)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        greeting = wire.recv(18)
        assert greeting == b"NBDMAGICIHAVEOPT\0\3"
        wire.sendall(struct.pack(">I", 3))
        for option in (3, 6, 7, 8, 10):
            wire.sendall(struct.pack(">8sII", b"IHAVEOPT", option, 4) + b"disk")
            answer = struct.unpack(">QIII", wire.recv(20))
            assert answer == (0x0003E889045565A9, option, 0x80000005, 0)
        wire.sendall(struct.pack(">8sII", b"IHAVEOPT", 1, 4) + b"disk")
        assert wire.recv(100) == b""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\3GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 7, 1 << 30),
        b"\0\0\0\3" + (b"IHAVEOPT" + struct.pack(">II", 3, 0)) * 40,
        b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 5, 0) + b"no TLS hello at all, never",
    ],
)
def test_callers_that_do_not_get_to_tls_are_cut_off(tls, served, said, monkeypatch):
    monkeypatch.setattr("sendense.agent.gate._LINE_S", 0.5)
    port, _ = served
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(said)
        try:
            while wire.recv(1000):
                pass
        except ConnectionResetError:
            pass
    until(lambda: tls.gate.counters().refused == 1)


def test_closing_an_export_ends_its_connections_and_gives_its_port_back(tls, served):
    port, content = served
    export = tls.export(len(content), port)
    with open_source(export, ReadOptions(connections=2)) as source:
        source.read(0, MIB)
        tls.gate.close(NAME)
        with pytest.raises(Unavailable):
            source.read(2 * MIB, MIB)
    with pytest.raises(Unavailable):
        link.connect(export, connect_s=30)
    until(lambda: tls.gate.counters().open_connections == 0)
    assert tls.gate.open(NAME, SECRET, "/x", bytes_per_s=0, connections=1) == port


def test_idle_connections_take_no_processor_time(tls, served):
    port, content = served
    with open_source(tls.export(len(content), port), ReadOptions(connections=4)) as source:
        source.read(0, 4096)
        assert min(gates_processor_time(0.5) for _ in range(4)) < 0.05


def test_limits_hold(tls, served):
    port, content = served
    tls.gate.set_rate(8 * MIB)
    begun = time.monotonic()
    with open_source(tls.export(len(content), port), ReadOptions(connections=2)) as source:
        source.read(0, 6 * MIB)
    assert time.monotonic() - begun > 0.4
