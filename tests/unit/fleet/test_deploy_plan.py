"""What a deployment would do, and what it would write, as values."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sendense.agent.settings import load_settings
from sendense.errors import Rejected
from sendense.fleet.bundle import UNIT, build_bundle
from sendense.fleet.deploy_plan import (
    AgentConfig,
    StepKind,
    files_of,
    plan_deployment,
    settings_text,
)
from sendense.fleet.preflight import Preflight
from sendense.model.enrolment import Enrolment, GatewayPlace, HostCertificate

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuVT1gtJqZ6sVvJ0tCq9mSNn5nG2W1d6q0pGsG0pJ3K"
FOUND = Preflight(
    address="10.0.0.1",
    host="kvm1",
    system="Debian",
    findings=(),
    packages=(),
    tool="apt-get",
    pools=("/mnt/a", "/data/disks"),
    current="",
    active=False,
    unfinished=False,
    incremental=True,
)
ENROLMENT = Enrolment(
    agent="kvm1",
    secret="a secret of forty characters, or some more",
    transport="ssh",
    gateway=GatewayPlace("backup.example.org", 443, "tunnel", (KEY,)),
    api_port=20000,
    gate_ports=(20001, 20002),
)


def test_the_usual_steps():
    plan = plan_deployment(FOUND, AgentConfig("kvm1"), build_bundle())
    assert [step.kind for step in plan.steps] == [
        StepKind.REMEMBER, StepKind.INSTALL, StepKind.KEY, StepKind.ENROL, StepKind.SETTINGS,
        StepKind.SWITCH, StepKind.START, StepKind.WAIT, StepKind.FORGET,
    ]  # fmt: skip


def test_more_steps_where_they_are_needed():
    found = replace(FOUND, packages=("qemu-utils",), unfinished=True, current="0.0.9-a")
    plan = plan_deployment(found, AgentConfig("kvm1"), build_bundle())
    assert [step.kind for step in plan.steps][:2] == [StepKind.UNDO, StepKind.PACKAGES]
    assert "0.0.9-a" in plan.steps[2].reason


def test_settings_that_come_from_the_enrolment():
    with pytest.raises(Rejected, match="gateway, secret_file"):
        plan_deployment(
            FOUND, AgentConfig("kvm1", more={"secret_file": "/x", "gateway": {}}), build_bundle()
        )


def test_what_is_written_is_what_the_agent_reads(tmp_path: Path):
    config = AgentConfig("kvm1", more={"performance": {"backup_window": "22:00-06:00"}})
    text = settings_text(config, ENROLMENT, ("/mnt/a: b",))
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    settings = load_settings(file)
    assert (settings.id, settings.transport) == ("kvm1", "ssh")
    assert settings.gateway is not None
    assert settings.gateway.host_keys == (KEY,)
    assert settings.gateway.gate_ports == (20001, 20002)
    assert settings.pools == (Path("/mnt/a: b"),)
    assert str(settings.performance.backup_window) == "22:00-06:00"
    assert ENROLMENT.secret not in text


def test_each_transport_has_what_it_needs():
    local = settings_text(AgentConfig("kvm1"), replace(ENROLMENT, transport="local"), ())
    assert "gateway" not in yaml.safe_load(local)["kvm_agent"]
    shown = HostCertificate("CA", "CERT", "KEY")
    tls = replace(ENROLMENT, transport="tls", address="10.0.0.1", certificate=shown)
    plan = plan_deployment(FOUND, AgentConfig("kvm1", pools=()), build_bundle())
    files = {path: (base64.b64decode(data), mode) for path, data, mode in files_of(plan, tls)}
    assert files["/etc/sendense/pki/server-key.pem"] == (b"KEY", 0o600)
    section = yaml.safe_load(files["/etc/sendense/sendense-capture.yaml"][0])["kvm_agent"]
    assert section["tls"] == {"address": "10.0.0.1", "certificates": "/etc/sendense/pki"}


def test_secrets_are_for_root_alone_and_pools_are_opened():
    plan = plan_deployment(FOUND, AgentConfig("kvm1"), build_bundle())
    files = {path: (base64.b64decode(data), mode) for path, data, mode in files_of(plan, ENROLMENT)}
    assert files["/etc/sendense/agent.secret"] == (ENROLMENT.secret.encode(), 0o600)
    drop_in = f"/etc/systemd/system/{UNIT}.d/sendense-pools.conf"
    assert b'ReadWritePaths="-/data/disks"\n' in files[drop_in][0]
    assert b"/mnt" not in files[drop_in][0]


def test_the_bundle_is_the_host_side_and_nothing_else():
    bundle = build_bundle()
    build_bundle.cache_clear()
    assert build_bundle() == bundle
    with tarfile.open(fileobj=io.BytesIO(bundle.data)) as archive:
        names = [member.name for member in archive]
    inside = {name.removeprefix(f"versions/{bundle.name}/") for name in names}
    folders = {name.split("/")[2] for name in inside if name.count("/") > 2}
    assert folders == {"agent", "capture", "model"}
    assert {UNIT, "bin/sendense-capture-agent", "lib/sendense/errors.py"} <= inside
    assert not [name for name in inside if "pycache" in name or "/fleet/" in name]
    assert re.fullmatch(r"[0-9.]+-[0-9a-f]{12}", bundle.name)
