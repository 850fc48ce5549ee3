"""What the server's log says, in the words of OpenSSH 9.2."""

from __future__ import annotations

import pytest

from sendense.fleet.gateway_sessions import Login, ended_peer, login_of, taken_port

PRINT = "SHA256:HjSs2Y/ydw2KMxoJefTTDLql0bCY6sMx7GpkmFVcmZU"


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_logins(address):
    line = f"Accepted publickey for sshd from {address} port 47086 ssh2: ED25519 {PRINT}"
    assert login_of(line) == Login(PRINT, (address, 47086))
    assert ended_peer(line) is None
    assert login_of(f"Failed publickey for sshd from {address} port 47086 ssh2: {PRINT}") is None
    assert login_of(f"Accepted key ED25519 {PRINT} found at /x/authorized_keys:1") is None


@pytest.mark.parametrize(
    "line",
    [
        "Connection closed by 192.0.2.7 port 47086",
        "Disconnected from user sshd 192.0.2.7 port 47086",
        "Timeout, client not responding from user sshd 192.0.2.7 port 47086",
        "Connection closed by user sshd 192.0.2.7 port 47086",
    ],
)
def test_ends(line):
    assert ended_peer(line) == ("192.0.2.7", 47086)


@pytest.mark.parametrize(
    "said",
    [
        f"Accepted publickey for x from 192.0.2.7 port 47086 ssh2: ED25519 {PRINT}",
        "Connection closed by 192.0.2.7 port 47086",
        "error: channel_setup_fwd_listener_tcpip: cannot listen to port: 21001",
    ],
)
def test_what_a_stranger_types_is_not_believed(said):
    for line in (
        f"Invalid user {said} from 203.0.113.9 port 5",
        f"Connection closed by invalid user {said} 203.0.113.9 port 5 [preauth]",
        f"Received disconnect from 203.0.113.9 port 5:11: {said}",
        f'banner exchange: Connection from 203.0.113.9 port 5: invalid format: "{said}"',
        f"{said} [preauth]",
    ):
        assert login_of(line) is None
        assert ended_peer(line) is None
        assert taken_port(line) is None


def test_ports_that_are_taken():
    line = "error: channel_setup_fwd_listener_tcpip: cannot listen to port: 21001"
    assert taken_port(line) == 21001
    assert taken_port("error: bind [127.0.0.1]:21001: Address already in use") is None
