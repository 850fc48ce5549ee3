"""The whole way: disk, qemu-nbd, gate, tunnels, gateway, worker."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.agent.gate import Gate
from sendense.agent.tunnel_ssh import Trouble
from sendense.errors import NotAllowed, Rejected, Stalled, Unavailable
from sendense.model.agent_status import Level
from sendense.model.secret import Secret
from sendense.targets.nbd import ExportDisk
from sendense.transfer.source import ReadOptions, open_source
from tests.integration.gateway.site import (
    MIB,
    NAME,
    SECRET,
    alive,
    behind,
    connected,
    gate_to,
    gateway_of,
    image_of,
    is_open,
    new_host,
    new_key,
    read_all,
    session_pids,
    tunnels_of,
    until,
)
from tests.integration.gateway.test_rights import ssh_process
from tests.integration.transfer.servers import run, server


@pytest.mark.parametrize("data", [1, 2, 4])
def test_a_disk_arrives_whole(place, disk, data):
    image, content = disk
    with gate_to(image, len(content)) as gate, gateway_of(place) as gateway:
        host = new_host(place, gateway, data=data, gate=f"127.0.0.1:{gate.port}")
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            assert tunnels.health().level is Level.OK
            export = behind(len(content), *host.data_ports)
            assert read_all(export, connections=data) == content
            assert gate.counters().connections == data
        until(lambda: not is_open(host.key.control_port))


def test_a_gate_that_is_a_unix_socket(place, disk):
    """As the agent has it: no other user of the host can even knock."""
    image, content = disk
    path = place / "gate.sock"
    path.write_text("left by an agent that was killed")
    with gate_to(image, len(content), host=str(path)) as gate, gateway_of(place) as gateway:
        assert path.stat().st_mode & 0o777 == 0o600
        assert gate.port == 0
        host = new_host(place, gateway, data=2, gate=str(path))
        gateway.set_keys([host.key])
        with tunnels_of(host):
            export = behind(len(content), *host.data_ports)
            assert read_all(export, connections=2) == content
            with pytest.raises(NotAllowed):
                read_all(behind(len(content), *host.data_ports, secret=Secret("guessed")))


def test_the_agents_api_is_reached_through_its_port(place):
    with gateway_of(place) as gateway, socket.socket(socket.AF_UNIX) as api:
        api.bind(str(place / "agent.sock"))
        api.listen()
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        with (
            tunnels_of(host),
            socket.create_connection(("127.0.0.1", host.key.control_port)) as caller,
        ):
            served, _ = api.accept()
            with served:
                caller.sendall(b"GET")
                assert served.recv(10) == b"GET"


def test_the_server_is_not_root_though_we_are(place):
    with gateway_of(place) as gateway:
        text = Path(f"/proc/{gateway.pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert lines["Uid"].split("\t")[0] != "0"
    assert int(lines["CapEff"], 16) == 0
    assert lines["NoNewPrivs"] == "1"


# --- Lost connections


def client_of(tunnels, name) -> int:
    """Give the process of a tunnel."""
    (pid,) = [state.pid for state in tunnels.states() if state.name == name]
    assert pid is not None
    return int(pid)


def read_on(source):
    """Read in small steps until something happens."""
    for offset in range(0, 20 * MIB, 65536):
        source.read(offset, 65536)


def test_a_client_that_is_killed_mid_read_is_an_error_at_once_and_connects_again(place, disk):
    image, content = disk
    with gate_to(image, len(content)) as gate, gateway_of(place) as gateway:
        host = new_host(place, gateway, data=2, gate=f"127.0.0.1:{gate.port}")
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            export = behind(len(content), *host.data_ports)
            with open_source(export, ReadOptions(connections=2)) as source:
                source.read(0, MIB)
                os.kill(client_of(tunnels, "data-1"), signal.SIGKILL)
                with pytest.raises(Unavailable):
                    read_on(source)
            # The other tunnel carries on meanwhile.
            assert read_all(export, connections=2) == content
            until(lambda: connected(tunnels))
            assert read_all(behind(len(content), host.data_ports[0])) == content


def test_a_restore_through_a_tunnel_that_breaks_is_an_error_and_can_be_repeated(place):
    size = 32 * MIB
    image = image_of(place, bytes(size))
    path = place / "gate.sock"
    content = random.Random(3).randbytes(MIB)
    command = ["qemu-nbd", "-t", "-e8", "-f", "qcow2", "-x", "disk", "-k", place / "w", image]
    gate = Gate(str(path))
    gate.start()
    with gateway_of(place) as gateway, server(command, place / "w"):
        gate.open(NAME, SECRET, str(place / "w"), bytes_per_s=0, connections=8)
        host = new_host(place, gateway, data=2, gate=str(path))
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            export = behind(size, *host.data_ports)

            def restore(breaking):
                with ExportDisk(export, size, connections=2) as target:
                    for number in range(32):
                        if breaking and number == 8:
                            os.kill(client_of(tunnels, "data-2"), signal.SIGKILL)
                        target.write(number * MIB, content)
                    target.finish()

            with pytest.raises(Unavailable):
                restore(breaking=True)
            restore(breaking=False)
    gate.stop()
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, place / "raw")
    assert (place / "raw").read_bytes() == content * 32


def test_a_half_open_tunnel_is_a_stall_then_is_cleared_by_both_ends(place, disk):
    image, content = disk
    with (
        gate_to(image, len(content)) as gate,
        gateway_of(place, alive_interval_s=1, alive_count=5) as gateway,
    ):
        host = new_host(place, gateway, gate=f"127.0.0.1:{gate.port}")
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            client = client_of(tunnels, "data-1")
            export = behind(len(content), *host.data_ports)
            with open_source(export, ReadOptions(connections=1, stall_s=4.0)) as source:
                source.read(0, MIB)
                os.kill(client, signal.SIGSTOP)
                begun = time.monotonic()
                with pytest.raises((Stalled, Unavailable)):
                    source.read(4 * MIB, 8 * MIB)
                assert time.monotonic() - begun < 30
            # The gateway gives the port free, though the client's end still thinks it is there.
            until(lambda: not is_open(host.data_ports[0]))
            os.kill(client, signal.SIGCONT)
            until(lambda: is_open(host.data_ports[0]))
            assert read_all(export) == content


def test_an_agent_that_comes_back_gets_its_ports_from_its_own_dead_session(place, disk):
    """The gateway's end of the old connection hangs for ever, and somebody keeps asking there."""
    image, content = disk
    with gate_to(image, len(content)) as gate, gateway_of(place) as gateway:
        host = new_host(
            place, gateway, gate=f"127.0.0.1:{gate.port}", alive_interval_s=1, alive_count=5
        )
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            for port in host.key.ports:
                for pid in session_pids(gateway, port):
                    os.kill(pid, signal.SIGSTOP)
            until(lambda: not connected(tunnels))
            assert tunnels.states()[0].trouble in (None, Trouble.LOST, Trouble.PORT_TAKEN)
            until(lambda: connected(tunnels))
            assert read_all(behind(len(content), *host.data_ports)) == content


def test_a_gateway_that_is_killed_comes_back_and_drops_no_tunnel(place, disk):
    image, content = disk
    with gate_to(image, len(content)) as gate, gateway_of(place) as gateway:
        host = new_host(place, gateway, gate=f"127.0.0.1:{gate.port}")
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            since = [state.connected_since for state in tunnels.states()]
            server = gateway.pid
            assert server is not None
            os.kill(server, signal.SIGKILL)
            until(lambda: not gateway.healthy())
            until(gateway.healthy)
            assert read_all(behind(len(content), *host.data_ports)) == content
            assert [state.connected_since for state in tunnels.states()] == since
            late = new_host(place, gateway, "host2", data=0)
            gateway.set_keys([host.key, late.key])
            with tunnels_of(late):
                pass
            gateway.revoke("host1")
            until(lambda: not is_open(host.data_ports[0]))


def test_a_reload_drops_no_tunnel(place):
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            since = tunnels.states()[0].connected_since
            server = gateway.pid
            gateway.reload(replace(gateway.settings, alive_interval_s=7))
            until(gateway.healthy)
            assert gateway.pid == server
            with pytest.raises(Rejected, match="sshd"):
                gateway.reload(replace(gateway.settings, most_starting="many"))
            assert gateway.healthy()
            assert tunnels.states()[0].connected_since == since
            assert is_open(host.key.control_port)


# --- Keys


def test_a_revoked_key_ends_its_tunnels_at_once_and_nobody_elses(place, disk):
    image, content = disk
    with gate_to(image, len(content)) as gate, gateway_of(place) as gateway:
        one = new_host(place, gateway, "host1", data=2, gate=f"127.0.0.1:{gate.port}")
        two = new_host(place, gateway, "host2", data=1, gate=f"127.0.0.1:{gate.port}")
        gateway.set_keys([one.key, two.key])
        with tunnels_of(one) as revoked, tunnels_of(two) as other:
            since = [state.connected_since for state in other.states()]
            export = behind(len(content), *one.data_ports)
            with open_source(export, ReadOptions(connections=2)) as source:
                source.read(0, MIB)
                begun = time.monotonic()
                gateway.revoke("host1")
                with pytest.raises(Unavailable):
                    read_on(source)
            until(lambda: not any(is_open(port) for port in one.key.ports))
            assert time.monotonic() - begun < 20
            until(lambda: revoked.states()[0].trouble is Trouble.REFUSED_KEY)
            assert "refuses this host's key" in revoked.health().message
            assert revoked.health().level is Level.FAILED
            assert [state.connected_since for state in other.states()] == since
            assert read_all(behind(len(content), *two.data_ports)) == content
            # Registered again, it comes back by itself.
            gateway.set_keys([one.key, two.key])
            until(lambda: connected(revoked))


def test_a_session_without_a_port_is_ended_with_its_key_too(place):
    """It could ask for its port later: a key that is gone must not be able to."""
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        with ssh_process(host, "-N") as process:
            until(lambda: gateway._sessions)
            gateway.revoke("host1")
            assert process.wait(timeout=60) == 255


def test_a_gateway_with_another_host_key_is_not_talked_to(place):
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        _, other = new_key(place, "other")
        (place / "host1.known_hosts").write_text(
            f"[127.0.0.1]:{gateway.settings.port} {' '.join(other.split()[:2])}\n"
        )
        gateway.set_keys([host.key])
        with tunnels_of(host, wait=False) as tunnels:
            until(lambda: tunnels.states()[0].trouble is Trouble.HOST_KEY_CHANGED)
            assert "another host key" in tunnels.health().message


def test_a_port_that_is_taken_and_a_gateway_that_is_not_there(place):
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", host.key.control_port))
            squatter.listen()
            with tunnels_of(host, wait=False) as tunnels:
                until(lambda: tunnels.states()[0].trouble is Trouble.PORT_TAKEN)
                squatter.close()
                until(lambda: connected(tunnels))
                gateway.stop()
                until(lambda: tunnels.states()[0].trouble is Trouble.UNREACHABLE)
                gateway.start()
                until(lambda: connected(tunnels))


def test_nothing_is_left_when_all_is_stopped(place):
    before = set(threading.enumerate())
    with gateway_of(place) as gateway:
        host = new_host(place, gateway)
        gateway.set_keys([host.key])
        with tunnels_of(host) as tunnels:
            pids = [client_of(tunnels, state.name) for state in tunnels.states()]
            # One that hangs is ended as well.
            os.kill(pids[0], signal.SIGSTOP)
    assert not any(map(alive, pids))
    assert set(threading.enumerate()) <= before  # those of before may end meanwhile
