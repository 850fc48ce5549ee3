"""What a deployment will do to a host, as a value: shown first, then carried out step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from sendense.errors import Rejected
from sendense.fleet.bundle import UNIT, Bundle
from sendense.fleet.preflight import Preflight
from sendense.fleet.ssh import as_file
from sendense.model.enrolment import Enrolment
from sendense.model.fleet import Transport

ETC = "/etc/sendense"
SETTINGS = f"{ETC}/sendense-capture.yaml"
SECRET = f"{ETC}/agent.secret"
CERTIFICATES = f"{ETC}/pki"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/sendense-pools.conf"

_OURS = frozenset(("id", "secret_file", "transport", "pools", "gateway", "tls"))
"""Settings that a deployment writes itself."""
_KNOWN_POOLS = (Path("/mnt"), Path("/var/lib/libvirt/images"))
"""Directories that the unit itself opens for writing."""


class StepKind(str, Enum):
    """What a step does."""

    UNDO = "undo"
    PACKAGES = "packages"
    REMEMBER = "remember"
    INSTALL = "install"
    KEY = "key"
    ENROL = "enrol"
    SETTINGS = "settings"
    SWITCH = "switch"
    START = "start"
    WAIT = "wait"
    FORGET = "forget"


@dataclass(frozen=True)
class Step:
    """One step, and why it is taken."""

    kind: StepKind
    text: str
    reason: str


@dataclass(frozen=True)
class AgentConfig:
    """What an operator decides about an agent; the rest comes with its enrolment."""

    id: str
    pools: tuple[str, ...] | None = None
    """Directories for new disks; none given: those that the host shows."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of ``kvm_agent``, as an operator wrote them."""
    renew_key: bool = False
    """Have the host make a new key pair for its tunnels."""


@dataclass(frozen=True)
class DeploymentPlan:
    """All steps for one host."""

    preflight: Preflight
    config: AgentConfig
    bundle: Bundle
    steps: tuple[Step, ...]


def plan_deployment(preflight: Preflight, config: AgentConfig, bundle: Bundle) -> DeploymentPlan:
    """Decide what has to be done; what is there already is said, and done again all the same."""
    taken = sorted(_OURS & set(config.more))
    if taken:
        raise Rejected(
            f"these settings come from the enrolment: {', '.join(taken)}",
            hint="leave them out; they are changed where the host is registered",
        )
    steps = []
    if preflight.unfinished:
        text = "take back what an earlier deployment left"
        steps.append(Step(StepKind.UNDO, text, "it died before it was done"))
    if preflight.packages:
        text = f"{preflight.tool} install {' '.join(preflight.packages)}"
        steps.append(Step(StepKind.PACKAGES, text, "the agent needs them"))
    had = preflight.current
    reason = f"version {had} is there" if had else "a failed deployment leaves nothing"
    steps.append(Step(StepKind.REMEMBER, "note what is there, to bring it back", reason))
    reason = "it is there already" if had == bundle.name else "hosts need no internet"
    steps.append(Step(StepKind.INSTALL, f"unpack {bundle.folder}", reason))
    text = "make a key pair for the tunnels, unless there is one"
    if config.renew_key:
        text = "make a new key pair for the tunnels"
    steps.append(Step(StepKind.KEY, text, "the private key never leaves the host"))
    text = "enrol the agent: its public key, and a new secret for its tickets"
    steps.append(Step(StepKind.ENROL, text, "the control plane lets in only whom it knows"))
    steps += [
        Step(StepKind.SETTINGS, f"write {SETTINGS} and {SECRET}", "the agent reads them"),
        Step(StepKind.SWITCH, f"switch to {bundle.name}", "in one step, after its own check"),
        Step(StepKind.START, f"enable and start {UNIT}", "it runs from now on, and at each boot"),
        Step(StepKind.WAIT, "wait for its heartbeat", "only an agent that answers is deployed"),
        Step(StepKind.FORGET, "drop what was kept to undo this", "it is not needed any more"),
    ]
    return DeploymentPlan(preflight, config, bundle, tuple(steps))


def files_of(plan: DeploymentPlan, enrolment: Enrolment) -> list[list[Any]]:
    """Give the files that the host gets, as the hand takes them."""
    pools = pools_of(plan)
    files = [
        as_file(SECRET, enrolment.secret),
        as_file(SETTINGS, settings_text(plan.config, enrolment, pools)),
    ]
    if enrolment.certificate is not None:
        shown = enrolment.certificate
        files += [
            as_file(f"{CERTIFICATES}/ca-cert.pem", shown.authority),
            as_file(f"{CERTIFICATES}/server-cert.pem", shown.certificate),
            as_file(f"{CERTIFICATES}/server-key.pem", shown.key),
        ]
    beyond = [pool for pool in pools if not _is_known(Path(pool))]
    if beyond:
        files.append(as_file(DROP_IN, drop_in_text(beyond), 0o644))
    return files


def pools_of(plan: DeploymentPlan) -> tuple[str, ...]:
    """Give the directories in which the agent may make new disks."""
    return plan.preflight.pools if plan.config.pools is None else plan.config.pools


def settings_text(config: AgentConfig, enrolment: Enrolment, pools: tuple[str, ...]) -> str:
    """Write the agent's settings. JSON is YAML, and quotes whatever has to be quoted."""
    section: dict[str, Any] = {
        "id": config.id,
        "secret_file": SECRET,
        "transport": enrolment.transport,
        "pools": list(pools),
        **config.more,
    }
    gateway = enrolment.gateway
    if enrolment.transport != Transport.LOCAL.value:
        section["gateway"] = {
            "host": gateway.host,
            "port": gateway.port,
            "user": gateway.user,
            "host_keys": list(gateway.host_keys),
            "api_port": enrolment.api_port,
            "gate_ports": list(enrolment.gate_ports),
            "forward_address": gateway.forward_address,
        }
    if enrolment.certificate is not None:
        section["tls"] = {"address": enrolment.address, "certificates": CERTIFICATES}
    lines = [f"  {name}: {json.dumps(value)}" for name, value in section.items()]
    head = "# Written by the deployment; 'systemctl reload sendense-capture' reads changes."
    return "\n".join([head, "kvm_agent:", *lines, ""])


def drop_in_text(pools: list[str]) -> str:
    """Open further directories of disks for writing, to the hardened unit."""
    quoted = " ".join(f'"-{pool}"' for pool in pools)
    head = "# Directories with disks, which restores write into."
    return f"{head}\n[Service]\nReadWritePaths={quoted}\n"


def _is_known(pool: Path) -> bool:
    return any(known == pool or known in pool.parents for known in _KNOWN_POOLS)
