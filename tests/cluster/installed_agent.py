"""An agent under test, as it is on a host: installed, started by systemd, inside its unit."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import nbd

from sendense.fleet.bundle import HOME, UNIT, build_bundle
from sendense.model.agent_status import GateExport
from sendense.model.secret import Secret
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.cluster.host import ClusterHost
from sendense_lab.commands import wait_until
from sendense_lab.domain_xml import domain_xml
from tests.vm.agent_site import AGENT, AgentSite

SETTINGS = "/etc/sendense/sendense-capture.yaml"
WORK_DIR = "/var/lib/libvirt/qemu/sendense"


class InstalledAgent(AgentSite):
    """The agent of one host of a cluster, with the transport ``local``."""

    def __init__(self, cluster: Cluster, host: ClusterHost) -> None:
        """Install it by hand, and start it."""
        self.cluster = cluster
        self.host = host
        self.hypervisor = host  # type: ignore[assignment]
        self.id = AGENT
        self.secret = Secret(b"s" * 40)
        self.pool = cluster.pool.folder
        install_files(host)
        host.put("/etc/sendense/agent.secret", self.secret.reveal(), mode=0o600)
        self.settle()
        host.run(["systemctl", "start", UNIT])

    @property
    def _socket(self) -> Path:  # type: ignore[override]
        return self.host.seen("/run/sendense/agent.sock")

    @property
    def pid(self) -> int:
        """Of the agent, as this machine numbers it."""
        return self.host.outer_pid(int(self.property_of("MainPID")))

    def property_of(self, name: str) -> str:
        """What systemd says of the unit."""
        return self.host.run(["systemctl", "show", "--value", f"--property={name}", UNIT]).strip()

    def settle(self, *, scratch_reserve: str = "1M") -> None:
        """Write the settings."""
        self.host.put(
            SETTINGS,
            f"kvm_agent:\n  id: {AGENT}\n  transport: local\n  pools: [{self.pool}]\n"
            f"  scratch_reserve: {scratch_reserve}\n",
        )

    def restart(self) -> None:
        self.host.run(["systemctl", "daemon-reload"])
        self.host.run(["systemctl", "restart", UNIT])

    def define(self, vm: CloudVm) -> None:
        """Have libvirt keep a machine that is off."""
        libvirt = self.host.connection
        version = libvirt.getLibVersion()
        libvirt.defineXML(domain_xml(vm.shape, vm.disks, libvirt_version=version))

    def open(self, export: GateExport) -> nbd.NBD:
        """Speak NBD with an export, by the path at which this machine sees its socket."""
        assert export.socket is not None
        return super().open(replace(export, socket=str(self.host.seen(export.socket))))

    def log(self) -> str:
        return self.host.journal(UNIT)

    def wait_restarted(self, pid: int, *, within_s: float = 150) -> None:
        """Wait until another process than ``pid`` serves."""

        def served() -> bool:
            main = int(self.property_of("MainPID"))
            state = self.property_of("SubState")
            return state == "running" and main != 0 and self.host.outer_pid(main) != pid

        wait_until(served, "another agent", timeout_s=within_s, interval_s=0.3)


def install_files(host: ClusterHost) -> None:
    """Put the bundle in place, as a deployment does."""
    bundle = build_bundle()
    host.put("/root/bundle.tar.gz", bundle.data)
    for folder in (f"{HOME}/bin", "/etc/sendense"):
        host.run(["mkdir", "-p", folder])
    host.run(["tar", "-C", HOME, "-xzf", "/root/bundle.tar.gz"])
    host.run(["ln", "-sfn", f"versions/{bundle.name}", f"{HOME}/current"])
    launcher = "../current/bin/sendense-capture-agent"
    host.run(["ln", "-sfn", launcher, f"{HOME}/bin/sendense-capture-agent"])
    host.run(["ln", "-sfn", f"{HOME}/current/{UNIT}", f"/etc/systemd/system/{UNIT}"])
    owner = ["-o", "libvirt-qemu", "-g", "libvirt-qemu"]
    host.run(["install", "-d", *owner, "-m", "0770", WORK_DIR])
    host.run(["systemctl", "daemon-reload"])


def exposure(host: ClusterHost) -> float:
    """What `systemd-analyze security` gives the unit that runs."""
    argv = host.command(["systemd-analyze", "security", "--no-pager", UNIT])
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if "Overall exposure level" in line)
    return float(line.split(":")[-1].split()[0])
