"""What the facts of a host mean for a deployment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sendense.errors import Rejected
from sendense.fleet.preflight import judge
from sendense.model.finding import Level
from sendense.units import GIB, MIB

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def facts(**changes: Any) -> dict[str, Any]:
    """Give the facts of a Debian host that is as it should be."""
    usual: dict[str, Any] = {
        "root": True,
        "host": "kvm1",
        "now": NOW.timestamp(),
        "os": {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
        "python": [3, 11, 2],
        "systemd": "252",
        "modules": ["libvirt", "yaml"],
        "programs": ["qemu-img", "qemu-nbd", "ssh", "ssh-keygen", "setpriv", "systemctl"],
        "libvirt": [9_000_000, 7_002_000],
        "free": {"/opt": GIB, "/var/lib": GIB, "/var/lib/libvirt/qemu": 20 * GIB},
        "selinux": "",
        "apparmor": "N",
        "gateway": "",
        "pools": ["/mnt/a"],
        "installed": {
            "current": "", "versions": [], "active": False, "enabled": False, "unfinished": False,
        },
    }  # fmt: skip
    return {**usual, **changes}


ROCKY = {"ID": "rocky", "ID_LIKE": "rhel centos fedora", "PRETTY_NAME": "Rocky Linux 9.4"}


def test_a_host_that_is_well():
    found = judge("10.0.0.1", facts(), NOW)
    assert found.ready
    assert found.incremental
    assert {item.level for item in found.findings} == {Level.OK}
    assert (found.packages, found.tool, found.pools) == ((), "apt-get", ("/mnt/a",))
    found.require()


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"root": False}, "rights", Level.PROBLEM),
        ({"libvirt": None}, "libvirt", Level.PROBLEM),
        ({"libvirt": [6_000_000, 4_002_000]}, "libvirt", Level.PROBLEM),
        ({"libvirt": [7_000_000, 5_002_000]}, "incremental", Level.WARNING),
        ({"gateway": "timed out"}, "gateway", Level.PROBLEM),
        ({"now": NOW.timestamp() + 20}, "clock", Level.WARNING),
        ({"now": NOW.timestamp() - 300}, "clock", Level.PROBLEM),
        ({"selinux": "1"}, "selinux", Level.WARNING),
        ({"apparmor": "Y"}, "apparmor", Level.WARNING),
        ({"free": {"/opt": MIB, "/var/lib": GIB, "/var/lib/libvirt/qemu": 20 * GIB}}, "room",
         Level.PROBLEM),
        ({"free": {"/opt": GIB, "/var/lib": GIB, "/var/lib/libvirt/qemu": GIB}}, "scratch",
         Level.WARNING),
    ],
)  # fmt: skip
def test_each_thing_that_is_not(changes: dict[str, Any], check: str, level: Level):
    found = judge("10.0.0.1", facts(**changes), NOW)
    (finding,) = [item for item in found.findings if item.level is not Level.OK]
    assert (finding.check, finding.level) == (check, level)
    assert finding.fix
    assert found.ready == (level is Level.WARNING)
    if not found.ready:
        with pytest.raises(Rejected, match="is not ready"):
            found.require()


@pytest.mark.parametrize(
    ("system", "tool", "packages"),
    [
        (facts()["os"], "apt-get", ("python3-yaml", "qemu-utils", "openssh-client")),
        (ROCKY, "dnf", ("python3-pyyaml", "qemu-img", "openssh-clients", "openssh")),
    ],
)
def test_missing_packages_have_the_names_of_the_distribution(system, tool, packages):
    found = judge(
        "10.0.0.1", facts(os=system, modules=["libvirt"], programs=["setpriv", "systemctl"]), NOW
    )
    assert found.tool == tool
    assert found.packages == packages
    assert found.ready


def test_a_deployment_that_died_and_a_version_that_is_there():
    there = {**facts()["installed"], "current": "0.1.0-abc", "active": True, "unfinished": True}
    found = judge("10.0.0.1", facts(installed=there), NOW)
    assert found.ready
    assert (found.current, found.active, found.unfinished) == ("0.1.0-abc", True, True)


def test_a_host_without_a_gateway_to_reach_is_not_asked():
    found = judge("10.0.0.1", facts(gateway=None), NOW)
    assert "gateway" not in {item.check for item in found.findings}
