"""One tunnel as a command of OpenSSH's client, and what the client says when it fails.

Pure.  Everything that matters is said on the command line, with no configuration file read, so
that what an administrator sets for people does not change what the agent does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Trouble(str, Enum):
    """Why a tunnel is down."""

    REFUSED_KEY = "refused-key"
    HOST_KEY_CHANGED = "host-key-changed"
    PORT_TAKEN = "port-taken"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    KEY_UNUSABLE = "key-unusable"
    CLIENT = "client"
    OTHER = "other"


@dataclass(frozen=True)
class TunnelSettings:
    """How the agent reaches the gateway."""

    host: str
    port: int
    user: str
    key_file: str
    """The agent's own private key."""
    known_hosts: str
    """File with the pinned keys of the gateway, and nothing else."""
    control_socket: str
    """The agent's API on this host."""
    control_port: int
    """Its port at the gateway."""
    data_ports: tuple[int, ...] = ()
    """One tunnel each, beside the one for the API; empty under TLS."""
    gate: str = ""
    """Where the data tunnels lead to: the gate's unix socket, or ``127.0.0.1:<port>``."""
    listen: str = "127.0.0.1"
    """The gateway's address that the ports are on."""
    alive_interval_s: int = 10
    alive_count: int = 3
    connect_s: int = 15


@dataclass(frozen=True)
class Forward:
    """A port of the gateway that leads to a place on this host."""

    name: str
    listen: str
    port: int
    to: str

    @property
    def argument(self) -> str:
        """Give it as ssh's ``-R`` takes it."""
        address = f"[{self.listen}]" if ":" in self.listen else self.listen
        return f"{address}:{self.port}:{self.to}"


def forwards(settings: TunnelSettings) -> tuple[Forward, ...]:
    """Give one forward for each tunnel: the API, and the ways of the data."""
    control = Forward("control", settings.listen, settings.control_port, settings.control_socket)
    return (
        control,
        *(
            Forward(f"data-{number}", settings.listen, port, settings.gate)
            for number, port in enumerate(settings.data_ports, 1)
        ),
    )


def known_hosts(host: str, port: int, keys: Sequence[str]) -> str:
    """Give the file of pinned keys for a gateway."""
    name = host if port == 22 else f"[{host}]:{port}"
    return "".join(f"{name} {key}\n" for key in keys)


def command(settings: TunnelSettings, forward: Forward) -> list[str]:
    """Give the command of one tunnel, which lives as long as its connection and ends with us."""
    options = {
        "IdentityFile": settings.key_file,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": settings.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "ExitOnForwardFailure": "yes",
        "ServerAliveInterval": str(settings.alive_interval_s),
        "ServerAliveCountMax": str(settings.alive_count),
        "ConnectTimeout": str(settings.connect_s),
        "TCPKeepAlive": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlPath": "none",
        "PermitLocalCommand": "no",
        "Compression": "no",
        "Ciphers": _CIPHERS,
        # The line that says that the port is ours is of this level.
        "LogLevel": "DEBUG1",
    }
    words = ["setpriv", "--pdeathsig", "KILL", "--", "ssh", "-F", "none", "-N", "-T"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    words += ["-R", forward.argument, "-p", str(settings.port), "-l", settings.user]
    return [*words, "--", settings.host]


# AES-GCM is in the processor: about 0.6 GiB/s for a connection, where ChaCha20 has 0.4.
_CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
_CONNECTED = "remote forward success for:"
_WORDS = (
    (Trouble.HOST_KEY_CHANGED, ("REMOTE HOST IDENTIFICATION", "Host key verification failed",
                                "No ED25519 host key is known", "host key is known for")),
    (Trouble.REFUSED_KEY, ("Permission denied", "Too many authentication failures")),
    (Trouble.PORT_TAKEN, ("remote port forwarding failed",)),
    (Trouble.KEY_UNUSABLE, ("UNPROTECTED PRIVATE KEY", "invalid format", "error in libcrypto",
                            "no such identity", "Permissions 0")),
    (Trouble.LOST, ("not responding", "Broken pipe", "Connection reset by", "closed by remote host",
                    "kex_exchange_identification", "Connection closed by")),
    (Trouble.UNREACHABLE, ("Connection refused", "Could not resolve", "timed out", "No route",
                           "unreachable", "Name or service", "Temporary failure")),
    (Trouble.CLIENT, ("Bad configuration option", "command-line", "unknown option")),
)  # fmt: skip
_RANK = {kind: number for number, (kind, _) in enumerate(_WORDS)}
_PLAIN = {
    Trouble.REFUSED_KEY: (
        "the gateway refuses this host's key",
        "the key was revoked, or never registered: deploy the host again",
    ),
    Trouble.HOST_KEY_CHANGED: (
        "the gateway shows another host key than the one that was pinned",
        "somebody may be in between; if the gateway was set up anew, deploy the host again",
    ),
    Trouble.PORT_TAKEN: (
        "the gateway does not give this host its port",
        "an earlier connection still holds it, which ends by itself within a minute;"
        " if it lasts, the port is not this host's any more",
    ),
    Trouble.UNREACHABLE: (
        "the gateway cannot be reached",
        "see whether a firewall lets this host reach the gateway's port, and the name resolves",
    ),
    Trouble.LOST: ("the connection to the gateway was lost", "it is made again by itself"),
    Trouble.KEY_UNUSABLE: (
        "this host's own key cannot be used",
        "the file is damaged, missing or readable by others: deploy the host again",
    ),
    Trouble.CLIENT: (
        "this host's ssh does not understand what it is told",
        "it is older than OpenSSH 7.8, or its rules forbid all our ciphers",
    ),
    Trouble.OTHER: ("the tunnel ended without a reason that is known", "read the agent's log"),
}


def is_connected(line: str) -> bool:
    """Tell whether ssh says with this line that the gateway gave the port."""
    return _CONNECTED in line


def trouble_of(line: str) -> Optional[Trouble]:
    """Give what a line of ssh says of a failure; nothing in most."""
    if line.startswith("debug"):
        return None
    for kind, words in _WORDS:
        if any(word in line for word in words):
            return kind
    return None


def graver(one: Optional[Trouble], other: Optional[Trouble]) -> Optional[Trouble]:
    """Give the one of two that is nearer to the cause."""
    known = [kind for kind in (one, other) if kind is not None]
    return min(known, key=lambda kind: _RANK.get(kind, len(_RANK)), default=None)


def plain_words(kind: Trouble) -> tuple[str, str]:
    """Give a failure as a sentence and what to do."""
    return _PLAIN[kind]


def pause_s(kind: Optional[Trouble], failures: int, chance: float) -> float:
    """Choose how long to wait before the next try, ``chance`` out of [0, 1).

    Doubling up to a minute, between half and all of that, so that a fleet whose gateway was away
    does not come back in one moment.  A port that is taken gets free within the gateway's own
    time-out, and is tried more evenly.
    """
    most = 10.0 if kind is Trouble.PORT_TAKEN else 60.0
    whole = min(most, float(2 ** min(failures, 10)) / 2)
    return whole * (0.5 + chance / 2)
