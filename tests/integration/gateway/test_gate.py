"""The gate of a host: who comes in, what passes, and what ends it."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from sendense.agent.gate import LINE_MOST, Gate
from sendense.errors import AlreadyExists, Busy, NotAllowed, Rejected, Unavailable
from sendense.model.secret import Secret
from sendense.targets.nbd import ExportDisk
from sendense.transfer import link
from sendense.transfer.source import ReadOptions, open_source
from sendense_lab.ports import free_port
from tests.integration.gateway.site import (
    MIB,
    NAME,
    SECRET,
    behind,
    gate_to,
    gates_processor_time,
    image_of,
    read_all,
    until,
)
from tests.integration.transfer.servers import run, server


def say(port, data, *, patience_s=60.0):
    """Send bytes to a gate and give all that it answers until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as wire:
        wire.sendall(data)
        return hear(wire)


def hear(wire):
    """Give what comes until the other end hangs up."""
    heard = b""
    try:
        while more := wire.recv(4096):
            heard += more
    except ConnectionResetError:
        pass
    return heard


@pytest.mark.parametrize("connections", [1, 4])
def test_a_disk_arrives_whole(disk, connections):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        export = behind(len(content), gate.port)
        assert read_all(export, connections=connections) == content
        until(lambda: gate.counters().open_connections == 0)
        counted = gate.counters()
    assert counted.connections == connections
    assert counted.read_bytes > len(content) * 0.5
    assert counted.written_bytes < MIB
    assert counted.refused == 0


def test_a_disk_is_written_through_it(place):
    size = 16 * MIB
    image = image_of(place, bytes(size))
    content = os.urandom(size - MIB)
    socket_path = place / "w"
    command = ["qemu-nbd", "-t", "-e8", "-f", "qcow2", "-x", "disk", "-k", socket_path, image]
    port = free_port()
    gate = Gate(ports=(port, port + 20))
    gate.start()
    try:
        with server(command, socket_path):
            gate.open(NAME, SECRET, str(socket_path), bytes_per_s=0, connections=4)
            with ExportDisk(behind(size, gate.port), len(content), connections=3) as target:
                for offset in range(0, len(content), MIB):
                    target.write(offset, content[offset : offset + MIB])
                target.finish()
            assert gate.counters().written_bytes > len(content)
    finally:
        gate.stop()
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, place / "raw")
    assert (place / "raw").read_bytes() == content + bytes(MIB)


WRONG = [
    b"SENDENSE/1 " + NAME.encode() + b" another-secret\n",
    b"SENDENSE/1 nothing " + SECRET.reveal() + b"\n",
    b"SENDENSE/2 " + NAME.encode() + b" " + SECRET.reveal() + b"\n",
    b"SENDENSE/1 " + NAME.encode() + b"\n",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n",
    b"x" * LINE_MOST,
    b"\xff\xfe\x00 \n",
]


def test_whoever_is_wrong_gets_the_same_answer_and_slowly(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        begun = time.monotonic()
        answers = []
        callers = [
            threading.Thread(target=lambda line=line: answers.append(say(gate.port, line)))
            for line in WRONG
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert answers == [b"NO not-allowed\n"] * len(WRONG)
        assert time.monotonic() - begun >= 0.9
        assert gate.counters().refused == len(WRONG)
        with pytest.raises(NotAllowed, match="does not let us"):
            read_all(behind(len(content), gate.port, secret=Secret("guessed")))
        assert read_all(behind(len(content), gate.port)) == content


def test_whoever_is_silent_or_slow_is_sent_away(disk, monkeypatch):
    monkeypatch.setattr("sendense.agent.gate._LINE_S", 0.4)
    image, content = disk
    with gate_to(image, len(content)) as gate:
        assert say(gate.port, b"") == b"NO not-allowed\n"
        with socket.create_connection(("127.0.0.1", gate.port)) as wire:
            begun = time.monotonic()
            wire.settimeout(0.1)
            answer = b""
            while not answer:
                try:
                    wire.sendall(b"S")
                    answer = wire.recv(100)
                except TimeoutError:
                    assert time.monotonic() - begun < 60
        assert answer == b"NO not-allowed\n"


def test_silent_callers_do_not_keep_a_worker_out(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        crowd = [socket.create_connection(("127.0.0.1", gate.port)) for _ in range(80)]
        assert read_all(behind(len(content), gate.port)) == content
        for wire in crowd:
            wire.close()


def test_more_connections_than_allowed_are_busy(disk):
    image, content = disk
    with gate_to(image, len(content), connections=2) as gate:
        export = behind(len(content), gate.port)
        with open_source(export, ReadOptions(connections=4)) as source:
            assert source.pipe.connections == 2
            with pytest.raises(Busy):
                link.connect(export, connect_s=30)
        until(lambda: gate.counters().open_connections == 0)
        assert read_all(export) == content


def test_closing_an_export_ends_its_connections_at_once(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        export = behind(len(content), gate.port)
        with open_source(export, ReadOptions(connections=2)) as source:
            assert bytes(source.read(0, 4096)) == content[:4096]
            begun = time.monotonic()
            gate.close(NAME)
            with pytest.raises(Unavailable):
                source.read(MIB, 4096)
            assert time.monotonic() - begun < 15
        with pytest.raises(NotAllowed):
            link.connect(export, connect_s=30)


def test_a_server_that_is_gone_and_a_gate_that_is_gone(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        gate.open("other", SECRET, "/nowhere/at/all", bytes_per_s=0, connections=1)
        export = behind(len(content), gate.port, name="other")
        with pytest.raises(Unavailable, match="cannot reach the NBD server"):
            link.connect(export, connect_s=30)
        port = gate.port
    with pytest.raises(Unavailable, match="cannot reach the gate"):
        link.connect(behind(len(content), port), connect_s=30)


def test_an_address_that_is_down_is_passed_over(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        export = behind(len(content), free_port(), gate.port, free_port())
        assert read_all(export, connections=3) == content


def test_limits_of_host_and_export_hold_and_change_while_bytes_flow(disk):
    image, content = disk
    with gate_to(image, len(content), bytes_per_s=8 * MIB) as gate:
        export = behind(len(content), gate.port)
        begun = time.monotonic()
        with open_source(export, ReadOptions(connections=2)) as source:
            source.read(0, 6 * MIB)
            slow = time.monotonic() - begun
            gate.set_rate(0)
            taken = []
            for number in range(1, 4):
                begun = time.monotonic()
                source.read(number * 6 * MIB, 6 * MIB)
                taken.append(time.monotonic() - begun)
    assert slow > 0.4
    assert min(taken) < slow


def test_idle_connections_take_no_processor_time(disk):
    image, content = disk
    with gate_to(image, len(content)) as gate:
        export = behind(len(content), gate.port)
        with open_source(export, ReadOptions(connections=4)) as source:
            source.read(0, 4096)
            assert min(gates_processor_time(0.5) for _ in range(4)) < 0.05


def test_a_worker_that_vanishes_frees_its_place(disk):
    image, content = disk
    with gate_to(image, len(content), connections=1) as gate:
        wire = socket.create_connection(("127.0.0.1", gate.port))
        wire.sendall(b"SENDENSE/1 " + NAME.encode() + b" " + SECRET.reveal() + b"\n")
        assert wire.recv(3) == b"OK\n"
        wire.close()
        until(lambda: gate.counters().open_connections == 0)
        assert read_all(behind(len(content), gate.port), connections=1) == content
    until(lambda: not [item for item in threading.enumerate() if item.name.startswith("gate")])


def test_names_that_the_line_cannot_carry_are_rejected():
    gate = Gate(ports=(free_port(),) * 2)
    gate.start()
    try:
        for name, secret in (("a b", "s"), ("a", "s\n"), ("", "s"), ("a", "ü"), ("a" * 300, "s")):
            with pytest.raises(Rejected):
                gate.open(name, Secret(secret), "/x", bytes_per_s=0, connections=1)
        gate.open("a", Secret("s"), "/x", bytes_per_s=0, connections=1)
        with pytest.raises(AlreadyExists):
            gate.open("a", Secret("s"), "/x", bytes_per_s=0, connections=1)
        with pytest.raises(Unavailable, match="no port of"):
            Gate(ports=(gate.port, gate.port)).start()
    finally:
        gate.stop()
