"""The settings of the agent: the section ``kvm_agent`` of its YAML file, as frozen values.

``docs/agent.md`` lists them all.  The names of ``dirty_bitmap``, ``nbd_export`` and
``performance`` are part of the product.
"""

from __future__ import annotations

# `setting` makes the fields of the dataclasses, as `field` does.
# ruff: noqa: RUF009
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Optional

import yaml

from sendense.agent import settings_file as read
from sendense.agent.settings_file import Wrong, setting
from sendense.agent.window import Window, parse_window
from sendense.capture.session import HostSettings
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.model.secret import Secret
from sendense.units import GIB, KIB, MIB, TIB

ROOT = "kvm_agent"
DEFAULT_FILE = Path("/etc/sendense/sendense-capture.yaml")

TRANSPORTS = ("ssh", "tls", "local")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9:._-]{1,253}")
_HOST_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,}( .*)?")
_PORTS = re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})")
_SECRET_LEAST = 32
_SECRET_MOST = 4096


@dataclass(frozen=True)
class PortRange:
    """Ports of the host, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"{self.first}-{self.last}"

    def __len__(self) -> int:
        """Count them."""
        return self.last - self.first + 1


def _port_range(_cursor: read.Cursor, node: yaml.Node) -> PortRange:
    match = _PORTS.fullmatch(str(node.value))
    found = PortRange(int(match.group(1)), int(match.group(2))) if match else None
    if found is None or not 1024 <= found.first <= found.last <= 65535:
        raise Wrong(f"{node.value!r} is no range of ports above 1023: write 10800-10900")
    return found


def _window(_cursor: read.Cursor, node: yaml.Node) -> Window:
    try:
        return parse_window(str(node.value))
    except Rejected as error:
        raise Wrong(f"{error.message}: {error.hint}") from None


def _only_persistent(cursor: read.Cursor, node: yaml.Node) -> bool:
    if not read.flag(cursor, node):
        raise Wrong(
            "only true is possible: a bitmap that a stop of the guest loses would make every "
            "backup after it a full"
        )
    return True


@dataclass(frozen=True)
class DirtyBitmap:
    """How changes are tracked."""

    granularity: int = setting(
        read.size(512, MIB, power_of_2=True),
        65536,
        about="bytes that one bit of a new dirty bitmap stands for, a power of 2, where the "
        "control plane does not say",
    )
    persistent: bool = setting(
        _only_persistent,
        True,
        about="bitmaps survive a stop of the guest; nothing else is possible",
    )
    max_bitmaps_per_vm: int = setting(
        read.number(1, 100), 3, about="own bitmaps that a disk may hold; the oldest go first"
    )


@dataclass(frozen=True)
class NbdExport:
    """How disks are offered to workers."""

    block_size: int = setting(
        read.size(64 * KIB, 32 * MIB, power_of_2=True),
        1 << 20,
        about="bytes that workers are told to ask for in one request",
    )
    max_concurrent_exports: int = setting(
        read.number(1, 1000), 10, about="disks that are read and written at once on this host"
    )
    port_range: PortRange = setting(
        _port_range,
        PortRange(10800, 10900),
        about="ports of the gate with the transport tls: one for each export",
        live=False,
    )


@dataclass(frozen=True)
class Performance:
    """What backups may take of the host."""

    max_concurrent_vms: int = setting(
        read.number(1, 1000), 10, about="machines that are captured or restored at once"
    )
    bandwidth_limit_mbps: int = setting(
        read.number(0, 1_000_000, "megabits per second"),
        1000,
        about="megabits per second for all exports of this host together; 0: no limit",
    )
    backup_window: Optional[Window] = setting(
        read.or_none(_window),
        None,
        about="hours of the host's local time in which captures begin, as 22:00-06:00; "
        "restores begin at any time",
    )

    @property
    def bytes_per_s(self) -> int:
        """Give the limit as the gate takes it; 0: none."""
        return self.bandwidth_limit_mbps * 1_000_000 // 8


@dataclass(frozen=True)
class Gateway:
    """The gateway of the control plane, which the agent's tunnels lead to."""

    host: str = setting(
        read.text("a name or an address", pattern=_HOST), about="name or address", live=False
    )
    host_keys: tuple[str, ...] = setting(
        read.list_of(read.text("a key as in a .pub file", pattern=_HOST_KEY)),
        about="public keys of the gateway, as in a .pub file; no other is accepted",
        live=False,
    )
    api_port: int = setting(
        read.number(1, 65535),
        about="port of the gateway's loopback that leads to this agent's API",
        live=False,
    )
    gate_ports: tuple[int, ...] = setting(
        read.list_of(read.number(1, 65535)),
        (),
        about="ports of the gateway's loopback that lead to this agent's gate: one for each "
        "data tunnel",
        live=False,
    )
    forward_address: str = setting(
        read.text("an address", pattern=_HOST),
        "127.0.0.1",
        about="address of the gateway that these ports are on",
        live=False,
    )
    port: int = setting(read.number(1, 65535), 443, about="port of the gateway", live=False)
    user: str = setting(
        read.text("an account", pattern=_ID),
        "sendense-tunnel",
        about="account on the gateway",
        live=False,
    )
    key_file: Path = setting(
        read.path,
        Path("/etc/sendense/tunnel.key"),
        about="this host's private key for the gateway",
        live=False,
    )


@dataclass(frozen=True)
class Tls:
    """NBD over TLS, for the transport ``tls``."""

    address: str = setting(
        read.text("an address", pattern=_HOST),
        about="address of this host that workers reach",
        live=False,
    )
    certificates: Path = setting(
        read.path,
        Path("/etc/sendense/pki"),
        about="directory with ca-cert.pem, server-cert.pem and server-key.pem",
        live=False,
    )


@dataclass(frozen=True)
class AgentSettings:
    """All settings of one agent."""

    id: str = setting(
        read.text("letters, digits, '.', '_' and '-', at most 64", pattern=_ID),
        about="id of this agent, as the host was enrolled with",
        live=False,
    )
    secret_file: Path = setting(
        read.path,
        Path("/etc/sendense/agent.secret"),
        about="file with the secret that tickets are signed with; only root may read it",
        live=False,
    )
    listen: Path = setting(
        read.path,
        Path("/run/sendense/agent.sock"),
        about="unix socket of the API",
        live=False,
    )
    libvirt_uri: str = setting(
        read.text(), "qemu:///system", about="libvirt connection of the host", live=False
    )
    transport: str = setting(
        read.choice(*TRANSPORTS),
        "ssh",
        about="way of the disks' bytes: ssh, tls or local",
        live=False,
    )
    gateway: Optional[Gateway] = setting(
        read.read_section(Gateway),
        None,
        about="where the tunnels go; needed for ssh and tls",
        live=False,
    )
    tls: Optional[Tls] = setting(
        read.read_section(Tls), None, about="needed for the transport tls", live=False
    )
    pools: tuple[Path, ...] = setting(
        read.list_of(read.path),
        (),
        about="directories in which a restore may make new disks",
        shown="[]",
    )
    nvram_dir: Path = setting(
        read.path,
        Path("/var/lib/libvirt/qemu/nvram"),
        about="UEFI variables of machines that libvirt has forgotten: <uuid>.fd",
    )
    state_dir: Path = setting(
        read.path,
        Path("/var/lib/sendense"),
        about="journal of what is under way, and tickets that were used",
        live=False,
    )
    socket_dir: Path = setting(
        read.path,
        Path("/var/lib/libvirt/qemu/sendense"),
        about="NBD sockets; QEMU's user must be able to create files there",
    )
    scratch_dir: Path = setting(
        read.path,
        Path("/var/lib/libvirt/qemu/sendense"),
        about="what a guest overwrites while it is captured; local disk only",
    )
    scratch_reserve: int = setting(
        read.size(0, 1024 * TIB),
        GIB,
        about="free space in scratch_dir that captures never use up",
        shown="1G",
    )
    guest_agent_timeout: int = setting(
        read.number(1, 600, "seconds"), 10, about="seconds a guest's agent may take to answer"
    )
    lease_s: int = setting(
        read.number(5, 86400, "seconds"),
        120,
        about="seconds after which a capture that nobody asks for is parked, a restore given up",
    )
    clock_skew_s: int = setting(
        read.number(0, 3600, "seconds"),
        60,
        about="seconds that this host's clock and the control plane's may differ",
    )
    log_level: str = setting(
        read.choice("debug", "info", "warning", "error"), "info", about="what is logged"
    )
    dirty_bitmap: DirtyBitmap = setting(
        read.read_section(DirtyBitmap), DirtyBitmap(), about="how changes are tracked"
    )
    nbd_export: NbdExport = setting(
        read.read_section(NbdExport), NbdExport(), about="how disks are offered to workers"
    )
    performance: Performance = setting(
        read.read_section(Performance), Performance(), about="what backups may take of the host"
    )

    def host(self) -> HostSettings:
        """Give what the captures need to know of them."""
        return HostSettings(
            uri=self.libvirt_uri,
            socket_dir=str(self.socket_dir),
            scratch_dir=str(self.scratch_dir),
            state_dir=str(self.state_dir),
            scratch_reserve_bytes=self.scratch_reserve,
            agent_timeout_s=self.guest_agent_timeout,
            max_bitmaps_per_vm=self.dirty_bitmap.max_bitmaps_per_vm,
        )


def load_settings(file: Path) -> AgentSettings:
    """Read the settings; all that is wrong is told by line."""
    settings = read.load(file, ROOT, AgentSettings)
    for section, needed in (("gateway", ("ssh", "tls")), ("tls", ("tls",))):
        if settings.transport in needed and getattr(settings, section) is None:
            line = _line_of(file, "transport")
            raise Rejected(
                f"{file}: line {line}: {ROOT}.{section}: the transport {settings.transport} "
                "needs this section",
                hint="docs/agent.md shows it",
                file=file,
            )
    return settings


def load_secret(settings: AgentSettings) -> Secret:
    """Read the secret that tickets are signed with."""
    file = settings.secret_file
    try:
        with file.open("rb") as opened:
            mode = file.stat().st_mode
            content = opened.read(_SECRET_MOST).strip()
    except FileNotFoundError:
        raise NotFound(f"there is no secret in {file}", hint="enrol the host again") from None
    except OSError as error:
        raise NotAllowed(f"the secret in {file} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise NotAllowed(
            f"others than its owner may use {file}", hint=f"chmod 0600 {file}", file=file
        )
    if len(content) < _SECRET_LEAST:
        raise Rejected(f"the secret in {file} is shorter than {_SECRET_LEAST} bytes")
    return Secret(content)


def needs_restart(old: AgentSettings, new: AgentSettings) -> tuple[str, ...]:
    """Name the settings that differ and cannot change while the agent runs."""
    return tuple(_fixed_changes(old, new, ""))


def keep_fixed(old: AgentSettings, new: AgentSettings) -> AgentSettings:
    """Give ``new`` with what cannot change live as it is in ``old``."""
    kept: AgentSettings = _merged(old, new)
    return kept


def _fixed_changes(old: Any, new: Any, place: str) -> list[str]:
    found: list[str] = []
    for item in fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if before == after:
            continue
        if not item.metadata["live"]:
            found.append(f"{place}{item.name}")
        elif hasattr(before, "__dataclass_fields__") and hasattr(after, "__dataclass_fields__"):
            found.extend(_fixed_changes(before, after, f"{place}{item.name}."))
    return found


def _merged(old: Any, new: Any) -> Any:
    values = {}
    for item in fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if not item.metadata.get("live", True):
            after = before
        elif item.metadata.get("read") is not None and _is_section(before):
            after = _merged(before, after)
        values[item.name] = after
    return type(old)(**values)


def _is_section(value: Any) -> bool:
    return isinstance(value, (DirtyBitmap, NbdExport, Performance))


def _line_of(file: Path, key: str) -> int:
    """Find the line of a key for a complaint about what is not there."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (number for number, line in enumerate(lines, 1) if line.strip().startswith(f"{key}:"))
    return next(found, 1)
