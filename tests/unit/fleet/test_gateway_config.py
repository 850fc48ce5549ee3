"""What the gateway's server is told, and the ports of each agent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import OutOfSpace, Rejected
from sendense.fleet.gateway_config import (
    AgentKey,
    AgentPorts,
    GatewaySettings,
    allocate_ports,
    authorized_keys,
    fingerprint,
    server_config,
)

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIIaDpPWHO1FskUFV6PlUZUtT9zO33kliAk8/VSOCiLse"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIIaDpPWHO1FskUFV6PlUZUtT9zO33kliAk8/VSOCiLsf"
ONE = AgentKey("host1", f"ssh-ed25519 {BLOB} root@host1", 21000, (21001, 21002))
TWO = AgentKey("host2", f"ssh-ed25519 {OTHER}", 21003, ())


@given(
    data=st.integers(0, 8),
    used=st.lists(st.lists(st.integers(100, 160), min_size=1, max_size=9), max_size=8),
)
def test_nobody_gets_a_port_that_somebody_has(data, used):
    taken = [AgentPorts(ports[0], tuple(ports[1:])) for ports in used]
    flat = {port for ports in used for port in ports}
    try:
        given_out = allocate_ports((100, 150), taken, data_connections=data)
    except OutOfSpace:
        assert len(set(range(100, 151)) - flat) < data + 1
        return
    assert len(set(given_out.all)) == data + 1
    assert not flat & set(given_out.all)
    assert all(100 <= port <= 150 for port in given_out.all)


def test_a_key_is_good_for_its_own_ports_only():
    lines = authorized_keys([ONE, TWO], "127.0.0.1").splitlines()
    assert lines == [
        'restrict,port-forwarding,permitlisten="127.0.0.1:21000",permitlisten="127.0.0.1:21001",'
        f'permitlisten="127.0.0.1:21002",command="/bin/false" ssh-ed25519 {BLOB} host1',
        'restrict,port-forwarding,permitlisten="127.0.0.1:21003",command="/bin/false"'
        f" ssh-ed25519 {OTHER} host2",
    ]
    assert 'permitlisten="[::1]:21003"' in authorized_keys([TWO], "::1")


@pytest.mark.parametrize(
    "key",
    [
        replace(TWO, control_port=21002),
        replace(TWO, public_key=ONE.public_key),
        replace(TWO, public_key="ssh-ed25519 not/base64!"),
        replace(TWO, public_key=f"ssh-rsa {BLOB}"),
        replace(TWO, public_key=f'command="/bin/sh" ssh-ed25519 {BLOB}'),
        replace(TWO, public_key=f"ssh-ed25519 {OTHER}\nssh-ed25519 {OTHER}"),
        replace(TWO, public_key="-----BEGIN OPENSSH PRIVATE KEY-----"),
        replace(TWO, public_key=""),
        replace(TWO, agent_id="host2\nssh-ed25519"),
        replace(TWO, agent_id=""),
    ],
)
def test_a_key_that_would_be_good_for_more_is_rejected(key):
    with pytest.raises(Rejected):
        authorized_keys([ONE, key], "127.0.0.1")


def test_fingerprint():
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", fingerprint(ONE.public_key))
    assert fingerprint(ONE.public_key) != fingerprint(TWO.public_key)


def test_configuration():
    settings = GatewaySettings(Path("/srv/gateway"), port=2222, addresses=("192.0.2.1",))
    lines = server_config(settings, "agents").splitlines()
    assert "Port 2222" in lines
    assert "ListenAddress 192.0.2.1" in lines
    assert "AllowUsers agents" in lines
    assert "GatewayPorts no" in lines
    assert "AllowTcpForwarding remote" in lines
    assert "AllowStreamLocalForwarding no" in lines
    assert not any(line.startswith(("Subsystem", "AcceptEnv", "Include")) for line in lines)
    words = [line.split()[0] for line in lines]
    assert len(set(words) - {"HostKey"}) == len([word for word in words if word != "HostKey"])
    elsewhere = server_config(replace(settings, forward_address="10.0.0.5"), "agents")
    assert "GatewayPorts clientspecified" in elsewhere
    older = server_config(settings, "agents", newest=False)
    assert "PerSourcePenalties" not in older
