"""What ssh is told, and what its words mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.agent.tunnel import TunnelState, health_of
from sendense.agent.tunnel_ssh import (
    Trouble,
    TunnelSettings,
    command,
    forwards,
    graver,
    is_connected,
    known_hosts,
    pause_s,
    plain_words,
    trouble_of,
)
from sendense.clock import now
from sendense.model.agent_status import Level

SETTINGS = TunnelSettings(
    "gateway.example", 443, "sshd", "/etc/key", "/etc/pinned", "/run/agent.sock", 21001,
    (21002, 21003), "/run/gate.sock",
)  # fmt: skip


def test_a_tunnel_for_the_api_and_one_for_each_way_of_the_data():
    assert [item.argument for item in forwards(SETTINGS)] == [
        "127.0.0.1:21001:/run/agent.sock",
        "127.0.0.1:21002:/run/gate.sock",
        "127.0.0.1:21003:/run/gate.sock",
    ]
    over_six = forwards(replace(SETTINGS, listen="::1", data_ports=()))
    assert [item.argument for item in over_six] == ["[::1]:21001:/run/agent.sock"]


def test_nothing_is_left_to_the_hosts_configuration():
    words = command(SETTINGS, forwards(SETTINGS)[0])
    assert words[:5] == ["setpriv", "--pdeathsig", "KILL", "--", "ssh"]
    assert words[5:7] == ["-F", "none"]
    for option in (
        "StrictHostKeyChecking=yes", "UserKnownHostsFile=/etc/pinned", "IdentitiesOnly=yes",
        "GlobalKnownHostsFile=/dev/null", "BatchMode=yes", "ExitOnForwardFailure=yes",
        "ForwardAgent=no", "IdentityAgent=none", "ControlPath=none",
    ):  # fmt: skip
        assert option in words
    assert words[-2:] == ["--", "gateway.example"]


def test_the_pinned_keys_are_for_this_gateway_only():
    assert known_hosts("g", 22, ["ssh-ed25519 A"]) == "g ssh-ed25519 A\n"
    assert known_hosts("g", 443, ["a A", "b B"]) == "[g]:443 a A\n[g]:443 b B\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("sshd@g: Permission denied (publickey).", Trouble.REFUSED_KEY),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", Trouble.HOST_KEY_CHANGED),
        ("Host key verification failed.", Trouble.HOST_KEY_CHANGED),
        (
            "No ED25519 host key is known for [g]:443 and you have requested strict checking.",
            Trouble.HOST_KEY_CHANGED,
        ),
        ("Error: remote port forwarding failed for listen port 21001", Trouble.PORT_TAKEN),
        ("ssh: connect to host g port 443: Connection refused", Trouble.UNREACHABLE),
        ("ssh: connect to host g port 443: No route to host", Trouble.UNREACHABLE),
        (
            "ssh: Could not resolve hostname g: Name or service not known",
            Trouble.UNREACHABLE,
        ),
        ("Timeout, server g not responding.", Trouble.LOST),
        ("Connection to g closed by remote host.", Trouble.LOST),
        ("kex_exchange_identification: read: Connection reset by peer", Trouble.LOST),
        ("client_loop: send disconnect: Broken pipe", Trouble.LOST),
        ('Load key "/etc/key": invalid format', Trouble.KEY_UNUSABLE),
        ("Permissions 0644 for '/etc/key' are too open.", Trouble.KEY_UNUSABLE),
        ("command-line: line 0: Bad configuration option: x", Trouble.CLIENT),
        ("debug1: Connection refused", None),
        ("Warning: something else", None),
    ],
)
def test_words_of_ssh(line, kind):
    assert trouble_of(line) is kind


def test_the_cause_counts_not_what_follows_from_it():
    assert graver(Trouble.LOST, Trouble.PORT_TAKEN) is Trouble.PORT_TAKEN
    assert graver(None, Trouble.LOST) is Trouble.LOST
    assert graver(None, None) is None
    line = "debug1: remote forward success for: listen 127.0.0.1:21001, connect /x:-2"
    assert is_connected(line)


def test_every_trouble_is_told_with_what_to_do():
    for kind in Trouble:
        message, hint = plain_words(kind)
        assert message
        assert hint


def test_pauses_grow_and_differ():
    assert [pause_s(None, n, 0.999999) for n in (1, 2, 3, 7, 50)] == pytest.approx(
        [1, 2, 4, 60, 60], rel=1e-3
    )
    assert pause_s(None, 3, 0.0) == 2
    assert pause_s(Trouble.PORT_TAKEN, 30, 0.999999) == pytest.approx(10)


def test_health():
    up = TunnelState("control", 1, connected_since=now())
    data = TunnelState("data-1", 2, connected_since=now())
    down = TunnelState("data-1", 2, failures=3, message="the gateway cannot be reached", hint="see")
    assert health_of((up, data)).level is Level.OK
    partly = health_of((up, down))
    assert partly.level is Level.WARNING
    assert partly.message == "1 of 2 tunnels are down: the gateway cannot be reached"
    assert partly.hint == "see"
    assert health_of((TunnelState("control", 1), data)).level is Level.FAILED
