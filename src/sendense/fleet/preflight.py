"""What a host is like before anything on it is touched, and what that means for a deployment.

The facts are read by the hand; the findings are judged from them, as a value that can be shown.
A finding that is a problem stops the deployment, and says what mends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sendense import clock
from sendense.errors import Rejected
from sendense.fleet.ssh import RemoteHand
from sendense.model.finding import Finding, Level
from sendense.units import MIB, format_size

HOME_NEEDS = 64 * MIB
"""For two versions of the agent."""
STATE_NEEDS = 16 * MIB
SCRATCH_COMFORT = 10 * 1024 * MIB
FOLDERS = {"/opt": HOME_NEEDS, "/var/lib": STATE_NEEDS}
SCRATCH = "/var/lib/libvirt/qemu"
SKEW_WARNING_S = 5.0
SKEW_MOST_S = 60.0
"""The agent refuses tickets by its own clock."""
LIBVIRT_INCREMENTAL = 7_006_000
QEMU_INCREMENTAL = 6_001_000
LIBVIRT_SINCE = 7_000_000

_MODULES = {"libvirt": "python3-libvirt", "yaml": ("python3-yaml", "python3-pyyaml")}
_PROGRAMS = {
    "qemu-img": ("qemu-utils", "qemu-img"),
    "qemu-nbd": ("qemu-utils", "qemu-img"),
    "ssh": ("openssh-client", "openssh-clients"),
    "ssh-keygen": ("openssh-client", "openssh"),
    "setpriv": ("util-linux", "util-linux"),
    "systemctl": ("systemd", "systemd"),
}
"""What the agent needs of the distribution; packages of Debian's family, and of Red Hat's."""


@dataclass(frozen=True)
class Preflight:
    """One host, looked at."""

    address: str
    host: str
    """Its own name."""
    system: str
    findings: tuple[Finding, ...]
    packages: tuple[str, ...]
    """Of the distribution that are missing."""
    tool: str
    """``apt-get`` or ``dnf``."""
    pools: tuple[str, ...]
    """Directories with disks."""
    current: str
    """The agent's version that is there; empty: none."""
    active: bool
    unfinished: bool
    """An earlier deployment died; it is undone first."""
    incremental: bool

    @property
    def ready(self) -> bool:
        """Whether a deployment may begin."""
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What stops it."""
        return tuple(item for item in self.findings if item.level is Level.PROBLEM)

    def require(self) -> None:
        """Refuse to go on where something stops it."""
        if self.ready:
            return
        first = self.problems[0]
        more = f", and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
        raise Rejected(f"{self.address} is not ready: {first.message}{more}", hint=first.fix)


def examine(hand: RemoteHand, gateway: tuple[str, int] | None = None) -> Preflight:
    """Look at a host; changes nothing."""
    before = clock.now()
    facts = hand.ask(
        "facts",
        programs=list(_PROGRAMS),
        modules=list(_MODULES),
        folders=[*FOLDERS, SCRATCH],
        gateway=list(gateway) if gateway else None,
    )
    after = clock.now()
    return judge(hand.access.address, facts, before + (after - before) / 2)


def judge(address: str, facts: Mapping[str, Any], now: datetime) -> Preflight:
    """Say what the facts of a host mean; ``now`` is our time when they were read."""
    system = facts["os"]
    family = 1 if _is_red_hat(system) else 0
    packages = _missing_packages(facts, family)
    there = facts["installed"]
    findings = [
        *_judge_system(facts),
        *_judge_packages(packages),
        *_judge_libvirt(facts["libvirt"]),
        *_judge_room(facts["free"]),
        _judge_clock(facts["now"] - now.timestamp()),
        *_judge_confinement(facts),
        *_judge_gateway(facts["gateway"]),
        *_judge_installed(there),
    ]
    versions = facts["libvirt"]
    return Preflight(
        address=address,
        host=facts["host"],
        system=system.get("PRETTY_NAME", "unknown"),
        findings=tuple(findings),
        packages=packages,
        tool=("apt-get", "dnf")[family],
        pools=tuple(facts["pools"]),
        current=there["current"],
        active=there["active"],
        unfinished=there["unfinished"],
        incremental=_is_incremental(versions),
    )


def _is_red_hat(system: Mapping[str, str]) -> bool:
    names = {system.get("ID", ""), *system.get("ID_LIKE", "").split()}
    return bool(names & {"rhel", "fedora", "centos"})


def _missing_packages(facts: Mapping[str, Any], family: int) -> tuple[str, ...]:
    wanted = [_MODULES[name] for name in _MODULES if name not in facts["modules"]]
    wanted += [_PROGRAMS[name] for name in _PROGRAMS if name not in facts["programs"]]
    names = [name if isinstance(name, str) else name[family] for name in wanted]
    return tuple(dict.fromkeys(names))


def _judge_system(facts: Mapping[str, Any]) -> Iterator[Finding]:
    name = facts["os"].get("PRETTY_NAME", "an unknown system")
    python = ".".join(str(part) for part in facts["python"])
    yield Finding("system", Level.OK, f"{name}, Python {python}, systemd {facts['systemd']}")
    if not facts["root"]:
        message = "the user is not root there, and sudo does not make them"
        yield Finding("rights", Level.PROBLEM, message, "give another user, or allow sudo")


def _judge_packages(missing: tuple[str, ...]) -> Iterator[Finding]:
    if missing:
        yield Finding("packages", Level.WARNING, f"will be installed: {', '.join(missing)}")
    else:
        yield Finding("packages", Level.OK, "all that is needed is there")


def _judge_libvirt(versions: list[int] | None) -> Iterator[Finding]:
    if versions is None:
        yield Finding(
            "libvirt",
            Level.PROBLEM,
            "libvirt does not answer, or its Python module is missing",
            "systemctl enable --now libvirtd.socket || systemctl enable --now virtqemud.socket",
        )
        return
    both = f"libvirt {_dotted(versions[0])} with QEMU {_dotted(versions[1])}"
    if versions[0] < LIBVIRT_SINCE:
        yield Finding("libvirt", Level.PROBLEM, f"{both} is too old", "upgrade to libvirt 7.0")
        return
    yield Finding("libvirt", Level.OK, both)
    if not _is_incremental(versions):
        message = f"{both} cannot back up machines that run: only those that are off, and in full"
        fix = f"upgrade to libvirt {_dotted(LIBVIRT_INCREMENTAL)} and QEMU 6.1 or newer"
        yield Finding("incremental", Level.WARNING, message, fix)


def _is_incremental(versions: list[int] | None) -> bool:
    return bool(versions and versions[0] >= LIBVIRT_INCREMENTAL and versions[1] >= QEMU_INCREMENTAL)


def _judge_room(free: Mapping[str, int]) -> Iterator[Finding]:
    for folder, needed in FOLDERS.items():
        if free[folder] < needed:
            message = f"{format_size(free[folder])} are free in {folder}"
            fix = f"free {format_size(needed)} there"
            yield Finding("room", Level.PROBLEM, message, fix)
    scratch = free[SCRATCH]
    message = f"{format_size(scratch)} are free for scratch in {SCRATCH}"
    if scratch < SCRATCH_COMFORT:
        message += ": a guest that writes a lot may end its backup"
        fix = "set scratch_dir to a larger local disk"
        yield Finding("scratch", Level.WARNING, message, fix)
    else:
        yield Finding("scratch", Level.OK, message)


def _judge_clock(ahead_s: float) -> Finding:
    fix = "have both set their clocks by NTP"
    if abs(ahead_s) <= SKEW_WARNING_S:
        return Finding("clock", Level.OK, "the same as here")
    message = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if abs(ahead_s) <= SKEW_MOST_S:
        return Finding("clock", Level.WARNING, message, fix)
    message += ": its agent would refuse every ticket"
    return Finding("clock", Level.PROBLEM, message, fix)


def _judge_confinement(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["selinux"] == "1":
        message = "SELinux is enforcing: its label for our directories is checked after the install"
        yield Finding("selinux", Level.WARNING, message, "sendense doctor")
    elif facts["apparmor"] == "Y":
        message = "AppArmor is on: if it confines QEMU, it has to let it use our directories"
        yield Finding("apparmor", Level.WARNING, message, "sendense doctor")
    else:
        yield Finding("confinement", Level.OK, "QEMU is not confined")


def _judge_gateway(answer: str | None) -> Iterator[Finding]:
    if answer is None:
        return
    if answer:
        message = f"the gateway cannot be reached from there: {answer}"
        fix = "let the host connect to it; hosts dial out, and nothing needs to come in"
        yield Finding("gateway", Level.PROBLEM, message, fix)
    else:
        yield Finding("gateway", Level.OK, "can be reached from there")


def _judge_installed(there: Mapping[str, Any]) -> Iterator[Finding]:
    if there["unfinished"]:
        message = "an earlier deployment did not end: what it did is taken back first"
        yield Finding("agent", Level.WARNING, message)
    if there["current"]:
        state = "runs" if there["active"] else "does not run"
        yield Finding("agent", Level.OK, f"version {there['current']} {state}")


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
