"""Whole hosts: they start, carry guests, lose their power and network, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense_lab import journal
from sendense_lab.cluster import cgroups
from sendense_lab.cluster.cluster import Cluster, cluster
from sendense_lab.cluster.host import ClusterHost
from sendense_lab.errors import CommandFailed
from tests.lab.bitmaps import checkpoint, dirty_bytes

# The first run on a machine builds the roots.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.vm, pytest.mark.timeout(900)]

HOSTS = {"kvm1": "bookworm", "kvm2": "bookworm", "kvm3": "trixie"}
BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]
ABANDONED = """
import sys, time
from pathlib import Path
from sendense_lab.cluster.cluster import Cluster
with Cluster(Path(sys.argv[1]), {"kvm1": "bookworm"}, name="abandoned") as c:
    c.hosts["kvm1"].lose(to_host=1)
    c.create_vm(c.hosts["kvm1"], boot="none")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    with cluster(HOSTS, name="tests-cluster") as entered:
        yield entered


@pytest.fixture
def one(site: Cluster) -> ClusterHost:
    return site.hosts["kvm1"]


@pytest.fixture
def other(site: Cluster) -> Iterator[ClusterHost]:
    yield site.hosts["kvm2"]
    site.hosts["kvm2"].mend()


def test_each_host_is_whole(site: Cluster):
    for host in site.hosts.values():
        assert host.run(["systemctl", "is-active", "libvirtd", "ssh"]).split() == ["active"] * 2
        assert host.run(["systemctl", "--failed", "--no-legend"]) == ""
        assert host.run(["hostname"]).strip() == host.name
        assert site.ssh(host, ["id", "-u"]).strip() == "0"
    pythons = [host.run(["python3", "-V"]) for host in site.hosts.values()]
    assert [version.rsplit(".", 1)[0] for version in pythons] == [
        "Python 3.11",
        "Python 3.11",
        "Python 3.13",
    ]


def test_a_guest_moves_between_hosts_and_goes_on(
    site: Cluster, one: ClusterHost, other: ClusterHost
):
    vm = site.create_vm(one, options=["lab.run=write:vdb:4:64:1"])
    vm.guest.wait_ready()
    checkpoint(vm, "travels", "vdb")
    up_since = vm.guest.exec(BOOT_ID)
    site.migrate(vm, other)
    assert vm.guest.exec(BOOT_ID) == up_since
    assert vm.uuid not in [domain.UUIDString() for domain in one.connection.listAllDomains()]
    # The bitmap went along, and records on the other host.
    before = dirty_bytes(vm.domain, "travels")
    vm.guest.write_files("vdb", count=2, kib=512, seed=3)
    vm.guest.exec(["sync"])
    assert dirty_bytes(vm.domain, "travels") > before
    assert vm.guest.freeze() == 2
    assert vm.guest.thaw() == 2
    vm.guest.verify_files()
    vm.destroy()


def test_a_newer_host_takes_a_guest_of_an_older_one(site: Cluster, one: ClusterHost):
    vm = site.create_vm(one)
    vm.guest.wait_ready()
    site.migrate(vm, site.hosts["kvm3"])
    assert "RESULT OK" in vm.guest.verify_files()
    assert vm.guest.freeze() == 2
    assert vm.guest.thaw() == 2
    vm.destroy()


def test_the_pool_has_one_path_everywhere(site: Cluster, one: ClusterHost, other: ClusterHost):
    note = site.pool.folder / "note"
    note.write_text("for all")
    assert site.pool.folder == Path("/mnt") / site.pool.id
    for host in (one, other):
        assert host.run(["cat", note]) == "for all"
        assert host.run(["mountpoint", site.pool.folder])
    note.unlink()


def test_a_host_loses_its_power_and_comes_back(site: Cluster, other: ClusterHost):
    vm = site.create_vm(other, boot="none")
    pid = vm.pid
    other.run(["touch", "/var/lib/kept", "/run/lost"])
    other.kill()
    assert not Path(f"/proc/{pid}").exists()
    other.start()
    assert not vm.running
    other.run(["test", "-e", "/var/lib/kept"])
    with pytest.raises(CommandFailed):
        other.run(["test", "-e", "/run/lost"])
    vm.start(other)
    vm.destroy()


def test_a_host_powers_off_in_order(other: ClusterHost):
    other.stop()
    assert cgroups.pids(other.container.name) == []
    other.start()
    assert other.run(["systemctl", "is-active", "libvirtd"]).strip() == "active"


def test_a_cut_cable_hangs_and_a_mended_one_works(site: Cluster, other: ClusterHost):
    other.cut()
    with pytest.raises((CommandFailed, subprocess.TimeoutExpired)):
        site.ssh(other, ["true"], timeout_s=5)
    # Whoever is on the host still is.
    other.run(["systemctl", "is-active", "ssh"])
    other.mend()
    site.ssh(other, ["true"])


def test_a_bad_cable(site: Cluster, other: ClusterHost):
    other.throttle(2000)
    other.lose(to_host=5, from_host=5)
    site.ssh(other, ["true"])
    other.lose(to_host=100)
    with pytest.raises((CommandFailed, subprocess.TimeoutExpired)):
        site.ssh(other, ["true"], timeout_s=5)
    other.mend()
    site.ssh(other, ["true"])


def test_a_killed_cluster_is_ended_by_the_next(site: Cluster, tmp_path: Path):
    root = Path(f"/srv/sendense-lab-abandoned-{os.getpid()}")
    source = str(Path(journal.__file__).parents[1])
    owner = subprocess.Popen(
        [sys.executable, "-c", ABANDONED, str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        identity = (root / "cluster-id").read_text()
        owner.send_signal(signal.SIGKILL)
    assert len(traces_of(identity, root)) > 4
    journal.sweep()
    assert traces_of(identity, root) == []
    # Its neighbour never noticed.
    assert site.ssh(site.hosts["kvm1"], ["true"]) == ""


def test_an_error_while_starting_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    root = Path(f"/srv/sendense-lab-failing-{os.getpid()}")
    seen: list[str] = []

    def fail(host: ClusterHost) -> None:
        seen.append((root / "cluster-id").read_text())
        raise RuntimeError("as if systemd hung")

    monkeypatch.setattr(ClusterHost, "wait_ready", fail)
    with pytest.raises(RuntimeError), Cluster(root, {"kvm1": "bookworm"}):
        pass
    assert traces_of(seen[0], root) == []


def traces_of(identity: str, root: Path) -> list[str]:
    """What a cluster has outside of its own process."""
    found = [str(path) for tree in cgroups.trees() for path in tree.glob(f"*-{identity}-*")]
    found += [path.name for path in Path("/sys/class/net").glob(f"slb-{identity}*")]
    found += [line for line in _tables() if identity in line]
    found += [str(link) for link in Path("/mnt").iterdir() if link.is_symlink()
              and link.readlink().is_relative_to(root)]  # fmt: skip
    found += [entry.root for entry in journal.entries() if entry.root == str(root)]
    return [*found, *([str(root)] if root.exists() else [])]


def _tables() -> list[str]:
    listing = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    return listing.stdout.splitlines()
