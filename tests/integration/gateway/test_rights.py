"""What an agent's key is good for at the gateway: its own ports, and nothing else."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.agent.tunnel_ssh import command, forwards
from sendense_lab.ports import free_port
from tests.integration.gateway.site import gateway_of, is_open, new_host, until


def ssh_words(host, *words):
    """Give ssh's command as a thief of the host's key would have it: none of our restraint."""
    settings = host.settings
    return [
        "ssh", "-F", "none", "-p", str(settings.port), "-l", settings.user, "-i", settings.key_file,
        "-o", f"UserKnownHostsFile={settings.known_hosts}", "-o", "StrictHostKeyChecking=yes",
        "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=60",
        *words,
    ]  # fmt: skip


@contextmanager
def ssh_process(host, *words):
    """Run ssh for the length of the block."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *ssh_words(host, *words), "--", "127.0.0.1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def stage(place):
    """Give a gateway with two hosts, of which the first is the thief's."""
    with gateway_of(place) as gateway:
        thief = new_host(place, gateway, "thief", data=1)
        other = new_host(place, gateway, "other", data=1)
        gateway.set_keys([thief.key, other.key])
        yield gateway, thief, other


def attempt(host, *words, then=()):
    """Run ssh to its end."""
    return subprocess.run(
        [*ssh_words(host, *words), "--", "127.0.0.1", *then],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ((), ()),
        (("-tt",), ()),
        ((), ("id",)),
        (("-T",), ("/bin/sh", "-c", "id")),
        (("-s",), ("sftp",)),
        (("-A",), ("ssh-add", "-l")),
        (("-X",), ("env",)),
        (("-Y",), ("env",)),
    ],
)
def test_no_command_of_any_kind(stage, words, then):
    _, thief, _ = stage
    result = attempt(thief, *words, then=then)
    assert result.returncode != 0
    assert "uid=" not in result.stdout
    assert result.stdout == ""


def test_no_copying_of_files(stage, place):
    _, thief, _ = stage
    settings = thief.settings
    result = subprocess.run(
        [
            "sftp", "-F", "none", "-P", str(settings.port), "-i", settings.key_file,
            "-b", "/dev/null", "-o", f"UserKnownHostsFile={settings.known_hosts}",
            f"{settings.user}@127.0.0.1",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode != 0


def test_no_port_but_its_own(stage):
    _, thief, other = stage
    for listen in (
        f"127.0.0.1:{other.key.control_port}",
        f"127.0.0.1:{other.data_ports[0]}",
        f"127.0.0.1:{free_port()}",
        "127.0.0.1:0",
        f"0.0.0.0:{free_port()}",
        f"*:{thief.key.control_port}",
        f"[::1]:{free_port()}",
    ):
        result = attempt(thief, "-N", "-R", f"{listen}:127.0.0.1:9")
        assert result.returncode == 255, listen
        assert "forwarding failed" in result.stderr, listen


def test_its_own_port_is_on_the_loopback_only(stage):
    _, thief, _ = stage
    port = thief.key.control_port
    with ssh_process(thief, "-N", "-R", f"127.0.0.1:{port}:127.0.0.1:9"):
        until(lambda: is_open(port))
        tables = [
            line.split()
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for line in Path(table).read_text().splitlines()[1:]
        ]
    local = [words[1] for words in tables if words[3] == "0A" and words[1].endswith(f":{port:04X}")]
    assert local == [f"0100007F:{port:04X}"]


def test_no_unix_socket_either_way(stage, place):
    _, thief, _ = stage
    result = attempt(thief, "-N", "-R", "/tmp/sendense-thief.sock:127.0.0.1:9")
    assert result.returncode == 255
    assert not (place / "thief.sock").exists()
    # The way in: the client takes connections, and the gateway opens nothing for them.
    inside = place / "target.sock"
    with socket.socket(socket.AF_UNIX) as target:
        target.bind(str(inside))
        target.listen()
        inside.chmod(0o777)
        assert not passes(thief, f"{inside}")


def test_no_way_into_the_gateways_network(stage):
    _, thief, _ = stage
    with socket.socket() as target:
        target.bind(("127.0.0.1", 0))
        target.listen()
        assert not passes(thief, f"127.0.0.1:{target.getsockname()[1]}")
        target.settimeout(0.2)
        with pytest.raises(TimeoutError):
            target.accept()


def passes(host, to):
    """Tell whether -L leads anywhere: whether a connection stays open."""
    port = free_port()
    with ssh_process(host, "-N", "-L", f"127.0.0.1:{port}:{to}"):
        until(lambda: is_open(port))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
            wire.settimeout(60)
            try:
                return wire.recv(1) != b""
            except ConnectionResetError:
                return False
            except TimeoutError:
                return True


def test_no_standard_input_forward_no_tunnel_device_no_proxy(stage):
    _, thief, _ = stage
    assert attempt(thief, "-W", "127.0.0.1:22").returncode != 0
    assert attempt(thief, "-N", "-w", "0:0").returncode != 0


def test_no_other_key_no_password_no_other_account(stage, place):
    gateway, thief, _ = stage
    stranger = new_host(place, gateway, "stranger", data=0)
    result = attempt(stranger, "-N")
    assert result.returncode == 255
    assert "Permission denied (publickey)" in result.stderr
    result = attempt(replace(thief, settings=replace(thief.settings, user="root")), "-N")
    assert "Permission denied (publickey)" in result.stderr


def test_what_our_own_client_asks_for_is_what_it_gets(stage):
    _, thief, _ = stage
    for forward in forwards(thief.settings):
        words = command(thief.settings, forward)
        assert not [word for word in words if "BEGIN" in word]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
            until(lambda port=forward.port: is_open(port))
            process.kill()
