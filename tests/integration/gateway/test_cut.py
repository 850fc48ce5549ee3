"""A host whose network is cut: packets go nowhere, and nobody says so.

The host's tunnels run in a network of their own, at the other end of a virtual cable that is
pulled out.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from sendense.errors import Stalled, Unavailable
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import GatewaySettings
from sendense.transfer.source import ReadOptions, open_source
from sendense_lab.ports import free_port
from tests.integration.gateway.site import (
    MIB,
    behind,
    gate_to,
    is_open,
    new_host,
    read_all,
    until,
)
from tests.integration.transfer.servers import run

TUNNELS = """
import json, sys
from sendense.agent.tunnel import Tunnels
from sendense.agent.tunnel_ssh import TunnelSettings

options = json.loads(sys.argv[1])
tunnels = Tunnels(TunnelSettings(**{**options, "data_ports": tuple(options["data_ports"])}))
tunnels.start()
for line in sys.stdin:
    print(json.dumps([[item.name, item.connected_since is not None, item.trouble]
                      for item in tunnels.states()]), flush=True)
tunnels.stop()
"""


class Cable:
    """Two ends of a virtual cable: one here, one in a network of its own."""

    def __init__(self, word: str) -> None:
        self.name = f"sg{word}"
        self.far = f"sf{word}"
        octet = 1 + int(word, 16) % 250
        self.here, self.there = f"198.18.{octet}.1", f"198.18.{octet}.2"

    def lay(self) -> None:
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", self.far)
        run("ip", "link", "set", self.far, "netns", self.name)
        run("ip", "addr", "add", f"{self.here}/30", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        for words in (
            ("addr", "add", f"{self.there}/30", "dev", self.far),
            ("link", "set", self.far, "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", self.name, *words)

    def pull(self) -> None:
        """Drop what goes either way, in silence: the ends stay up, as at a broken switch."""
        run("ip", "neigh", "replace", self.there, "lladdr", "02:00:00:00:00:01", "dev", self.name)
        far = ("neigh", "replace", self.here, "lladdr", "02:00:00:00:00:02", "dev", self.far)
        run("ip", "-n", self.name, *far)

    def plug(self) -> None:
        """Let packets pass again."""
        run("ip", "neigh", "flush", "dev", self.name, "nud", "permanent")
        run("ip", "neigh", "flush", "dev", self.name)
        run("ip", "-n", self.name, "neigh", "flush", "dev", self.far, "nud", "permanent")
        run("ip", "-n", self.name, "neigh", "flush", "dev", self.far)

    def remove(self) -> None:
        for words in (("link", "del", self.name), ("netns", "del", self.name)):
            subprocess.run(["ip", *words], check=False, capture_output=True)


@pytest.fixture
def cable():
    """Give a cable to a network of its own."""
    made = Cable(secrets.token_hex(2))
    try:
        made.lay()
        yield made
    finally:
        made.remove()


@contextmanager
def far_tunnels(cable, settings):
    """Run tunnels at the far end; gives a function that asks how they are."""
    command = [
        "setpriv", "--pdeathsig", "KILL", "--", "ip", "netns", "exec", cable.name,
        sys.executable, "-c", TUNNELS, json.dumps(asdict(settings)),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask():
            print("?", file=process.stdin, flush=True)
            assert process.stdout is not None
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def up(ask):
    return all(state[1] for state in ask())


def test_a_cut_is_a_stall_both_ends_notice_and_it_mends_by_itself(place, disk, cable):
    image, content = disk
    place.chmod(0o755)
    path = place / "gate.sock"
    gateway = Gateway(
        GatewaySettings(
            place / "gateway", port=free_port(), addresses=(cable.here,),
            alive_interval_s=1, alive_count=5,
        )
    )  # fmt: skip
    gateway.start()
    try:
        with gate_to(image, len(content), host=str(path)):
            host = new_host(place, gateway, data=2, gate=str(path))
            gateway.set_keys([host.key])
            pinned = place / "host1.known_hosts"
            pinned.write_text(pinned.read_text().replace("127.0.0.1", cable.here))
            far = replace(host.settings, host=cable.here, alive_interval_s=1, alive_count=5)
            with far_tunnels(cable, far) as ask:
                until(lambda: up(ask))
                export = behind(len(content), *host.data_ports)
                with open_source(export, ReadOptions(connections=2, stall_s=4.0)) as source:
                    source.read(0, MIB)
                    cable.pull()
                    begun = time.monotonic()
                    with pytest.raises((Stalled, Unavailable)):
                        source.read(4 * MIB, 16 * MIB)
                    assert time.monotonic() - begun < 30
                # Somebody keeps asking, as the control plane does: it must not last for that.
                until(lambda: knocked(host.key.ports))
                until(lambda: not any(state[1] for state in ask()))
                cable.plug()
                until(lambda: up(ask))
                assert read_all(export, connections=2) == content
    finally:
        gateway.stop()


def knocked(ports):
    """Try all ports once; tell whether none is open any more."""
    for port in ports:
        with socket.socket() as wire:
            wire.settimeout(0.2)
            with contextlib.suppress(OSError):
                wire.connect(("127.0.0.1", port))
                wire.sendall(b"?")
    return not any(map(is_open, ports))
