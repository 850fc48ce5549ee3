"""What the gateway's SSH server is told: its settings, its keys, and the ports of each agent.

Pure text.  ``docs/gateway.md`` explains each line for operators.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sendense.errors import OutOfSpace, Rejected

_KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    }
)
_AGENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway is set up."""

    folder: Path
    """Its own directory: configuration, host keys, keys of agents, log."""
    port: int = 443
    addresses: tuple[str, ...] = ()
    """Where it listens; empty: everywhere."""
    forward_address: str = "127.0.0.1"
    """Where the agents' ports appear; another address of this machine where workers on other
    machines are to reach them."""
    account: str | None = None
    """Whom the server runs as, and agents log in as.  None: whoever runs the control plane, or
    the account ``sshd`` of the distribution where that is root."""
    alive_interval_s: int = 10
    alive_count: int = 3
    """A connection that does not answer so many questions in a row is ended, and its ports are
    free again."""
    login_s: int = 20
    most_starting: str = "100:30:400"
    """Connections not logged in yet: refused at random from the first number on, always from the
    last.  A fleet of hundreds comes back at once after an outage."""


@dataclass(frozen=True)
class AgentPorts:
    """The ports that belong to one agent at the gateway."""

    control: int
    data: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """Give them in one row."""
        return (self.control, *self.data)


@dataclass(frozen=True)
class AgentKey:
    """An agent that may log in, and what it may listen on."""

    agent_id: str
    public_key: str
    """As in ``id_ed25519.pub``; the comment is ignored."""
    control_port: int
    data_ports: tuple[int, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """Give all its ports."""
        return (self.control_port, *self.data_ports)


def allocate_ports(
    span: tuple[int, int], used: Iterable[AgentPorts], *, data_connections: int
) -> AgentPorts:
    """Choose the lowest free ports of a range (both ends in it) for one more agent."""
    taken = {port for ports in used for port in ports.all}
    free = (port for port in range(span[0], span[1] + 1) if port not in taken)
    chosen = [port for port, _ in zip(free, range(1 + data_connections), strict=False)]
    if len(chosen) <= data_connections:
        raise OutOfSpace(
            f"the gateway's ports {span[0]} to {span[1]} are all given away",
            hint="widen the range in the settings of the gateway, or remove hosts that are gone",
            span=span,
        )
    return AgentPorts(chosen[0], tuple(chosen[1:]))


def key_words(public_key: str) -> tuple[str, str]:
    """Give type and base64 of a public key, or raise :class:`~sendense.errors.Rejected`."""
    words = public_key.split()
    if len(words) >= 2 and words[0] in _KEY_TYPES and "\n" not in public_key.strip():
        try:
            blob = base64.b64decode(words[1], validate=True)
        except binascii.Error:
            blob = b""
        name = words[0].encode()
        if blob.startswith(len(name).to_bytes(4, "big") + name):
            return words[0], words[1]
    raise Rejected(
        "this is no public key of OpenSSH",
        hint="it looks like: ssh-ed25519 AAAA... (the file that ends in .pub)",
    )


def fingerprint(public_key: str) -> str:
    """Give the fingerprint as the server's log has it: ``SHA256:...``."""
    blob = base64.b64decode(key_words(public_key)[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def authorized_keys(keys: Sequence[AgentKey], forward_address: str) -> str:
    """Give the file of keys; refuses ports and keys that two agents would share."""
    seen: dict[object, str] = {}
    lines = []
    for key in keys:
        if not _AGENT_ID.fullmatch(key.agent_id):
            raise Rejected(f"{key.agent_id!r} cannot be the id of an agent")
        kind, blob = key_words(key.public_key)
        for mine in (blob, *key.ports):
            if seen.setdefault(mine, key.agent_id) != key.agent_id:
                what = f"port {mine}" if isinstance(mine, int) else "key"
                raise Rejected(f"{seen[mine]} and {key.agent_id} have the same {what}")
        listens = ",".join(
            f'permitlisten="{_bracketed(forward_address)}:{port}"' for port in key.ports
        )
        # `restrict` first: whatever a later OpenSSH invents is then off as well.
        lines.append(f'restrict,port-forwarding,{listens},command="/bin/false" {kind} {blob} ')
        lines[-1] += key.agent_id
    return "\n".join(lines) + "\n"


def server_config(settings: GatewaySettings, account: str, *, newest: bool = True) -> str:
    """Give the server's configuration; nothing is left to the defaults of a distribution.

    ``newest`` adds the lines that only newer servers understand.
    """
    folder = settings.folder
    addresses = settings.addresses or ("0.0.0.0", "::")  # noqa: S104 - agents come from anywhere
    loopback = settings.forward_address in ("127.0.0.1", "::1")
    lines = [
        f"Port {settings.port}",
        *(f"ListenAddress {address}" for address in addresses),
        *(f"HostKey {folder / name}" for name in HOST_KEYS),
        f"AuthorizedKeysFile {folder / KEYS_FILE}",
        f"AllowUsers {account}",
        f"GatewayPorts {'no' if loopback else 'clientspecified'}",
        f"ClientAliveInterval {settings.alive_interval_s}",
        f"ClientAliveCountMax {settings.alive_count}",
        f"LoginGraceTime {settings.login_s}",
        f"MaxStartups {settings.most_starting}",
        *_FIXED.strip().splitlines(),
        *(_NEWEST if newest else ()),
    ]
    return "\n".join(lines) + "\n"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


HOST_KEYS = {"host_ed25519": "ed25519", "host_ecdsa": "ecdsa"}
"""File and type; the second for hosts whose rules (FIPS) know no Ed25519."""
KEYS_FILE = "authorized_keys"

# OpenSSH 9.8 shuts an address out whose connections fail: one revoked host would shut out all
# that share its address, behind one router.
_NEWEST = ("PerSourcePenalties no",)

_FIXED = """
StrictModes no
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
UsePAM no
PermitRootLogin no
AllowTcpForwarding remote
PermitOpen none
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
MaxSessions 0
ForceCommand /bin/false
MaxAuthTries 3
Compression no
UseDNS no
TCPKeepAlive yes
PrintMotd no
PidFile none
LogLevel VERBOSE
Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com
"""
