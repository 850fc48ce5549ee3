"""The gateway's own life: whose it is, what it leaves, what it keeps to."""

from __future__ import annotations

import pwd
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from sendense.agent.tunnel_ssh import TunnelSettings, known_hosts
from sendense.errors import Unavailable
from sendense.fleet import gateway as gateway_module
from sendense.fleet import gateway_sockets
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import AgentKey, GatewaySettings
from sendense.fleet.gateway_sessions import end_all, processes_of, sockets_of
from sendense_lab.ports import free_port
from tests.integration.gateway.site import (
    Host,
    alive,
    connected,
    gateway_of,
    is_open,
    new_host,
    new_key,
    session_pids,
    tunnels_of,
    until,
)

OWN = """
import os, pwd, sys
from pathlib import Path
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import AgentKey, GatewaySettings

folder, port, account, public, listens = sys.argv[1:]
if account:
    entry = pwd.getpwnam(account)
    os.setgroups([]), os.setgid(entry.pw_gid), os.setuid(entry.pw_uid)
gateway = Gateway(GatewaySettings(Path(folder), port=int(port), addresses=("127.0.0.1",)))
gateway.set_keys([AgentKey("host1", public, int(listens), ())])
gateway.start()
print(gateway.pid, *gateway.host_keys(), sep="\\n", flush=True)
sys.stdin.read()
gateway.stop()
"""


@contextmanager
def own_process(folder, host, account=""):
    """Run a gateway in a process of its own; gives it with the server's process and its keys."""
    words = [
        sys.executable, "-c", OWN, str(folder), str(host.settings.port), account,
        host.key.public_key, str(host.key.control_port),
    ]  # fmt: skip
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        try:
            yield it, int(it.stdout.readline()), [it.stdout.readline() for _ in range(2)]
        finally:
            it.kill()


def host_without_gateway(place, account="sshd", **options):
    """Make a host for a gateway that is yet to come."""
    private, public = new_key(place, "host1")
    settings = TunnelSettings(
        "127.0.0.1", free_port(), account, str(private), str(place / "pinned"),
        "/nowhere", free_port(), **options,
    )  # fmt: skip
    return Host(AgentKey("host1", public, settings.control_port, ()), settings)


def pin(host, keys):
    Path(host.settings.known_hosts).write_text(
        known_hosts("127.0.0.1", host.settings.port, [key.strip() for key in keys])
    )


def test_a_control_plane_that_is_killed_takes_its_gateway_along(place):
    place.chmod(0o755)
    host = host_without_gateway(place)
    with own_process(place / "gateway", host) as (process, server, keys):
        pin(host, keys)
        with tunnels_of(host) as tunnels:
            process.kill()
            until(lambda: not alive(server))
            # The session lives on, until the next gateway begins with a clean table.
            left = [pid for pid, _ in processes_of(place.resolve() / "gateway/sshd.log")]
            assert left
            with own_process(place / "gateway", host) as (_, _, again):
                assert again == keys
                assert not any(map(alive, left))
                until(lambda: connected(tunnels))
    end_all(place.resolve() / "gateway/sshd.log")


def test_a_gateway_of_a_plain_user(place):
    place.chmod(0o777)
    host = host_without_gateway(place, "daemon")
    with own_process(place / "gateway", host, "daemon") as (_, server, keys):
        assert Path(f"/proc/{server}").stat().st_uid == pwd.getpwnam("daemon").pw_uid
        pin(host, keys)
        with tunnels_of(host):
            assert is_open(host.key.control_port)
    end_all(place.resolve() / "gateway/sshd.log")


def test_a_privileged_port_is_bound_without_being_root(place):
    place.chmod(0o755)
    port = next(port for port in range(1023, 600, -1) if not is_open(port))
    gateway = Gateway(GatewaySettings(place / "gateway", port=port, addresses=("127.0.0.1",)))
    gateway.start()
    try:
        assert Path(f"/proc/{gateway.pid}").stat().st_uid != 0
    finally:
        gateway.stop()
    assert not is_open(port)


def test_a_port_that_another_gateway_has_is_no_start(place, monkeypatch):
    place.chmod(0o755)
    port = free_port()
    at = ("127.0.0.1",)
    first = Gateway(GatewaySettings(place / "first", port=port, addresses=at))
    second = Gateway(GatewaySettings(place / "second", port=port, addresses=at))
    first.start()
    try:
        monkeypatch.setattr(gateway_module, "_START_S", 6.0)
        # What answers on the port is an SSH server, though not this one's.
        with pytest.raises(Unavailable, match="Address already in use"):
            second.start()
        assert first.healthy()
    finally:
        second.stop()
        first.stop()


def test_small_requests_do_not_wait_and_dead_peers_do_not_last(place):
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        with tunnels_of(host):
            until(lambda: gateway._sessions)
            (pid,) = session_pids(gateway, host.key.control_port)
            mine = {f"socket:[{inode}]" for inode in sockets_of(peers=list(gateway._sessions))}
            numbers = [
                int(entry.name)
                for entry in Path(f"/proc/{pid}/fd").iterdir()
                if str(entry.readlink()) in mine
            ]
            with gateway_sockets._borrowed(pid, numbers[0]) as wire:
                assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000


def test_the_log_does_not_grow_for_ever(place, monkeypatch):
    monkeypatch.setattr("sendense.fleet.gateway._LOG_MOST", 3000)
    with gateway_of(place) as gateway:
        host = new_host(place, gateway, data=0)
        gateway.set_keys([host.key])
        for _ in range(20):
            assert gateway.healthy()
        with tunnels_of(host):
            until(lambda: gateway._log_file.stat().st_size < 3000)
            until(lambda: gateway._sessions)
