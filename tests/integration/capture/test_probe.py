"""The examination of a real host, well and ill."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.capture import images
from sendense.capture.folders import Account
from sendense.capture.journal import claim
from sendense.capture.probe import (
    examine_host,
    prepare_folders,
    qemu_account,
    security_models,
)
from sendense.capture.session import HostSettings
from sendense.model.finding import Finding, Level
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import MIB
from tests.integration.capture.conftest import Bench

pytestmark = pytest.mark.vm


@pytest.fixture
def plain(lab: Lab) -> Iterator[CloudVm]:
    """A machine of which there is nothing to say but that no agent runs in it."""
    vm = lab.create_vm(disks=[DiskSpec(8 * MIB)])
    yield vm
    if vm.running:
        vm.destroy()


def about(settings: HostSettings, check: str) -> list[Finding]:
    return [finding for finding in examine_host(settings) if finding.check == check]


def begin_job(vm: CloudVm, folder: str) -> None:
    vm.domain.backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/p.sock'/><disks>"
        f"<disk name='vda' backup='yes' type='file'><scratch file='{folder}/p.scratch'/></disk>"
        "</disks></domainbackup>",
        None,
        0,
    )


def test_a_host_that_is_well(bench: Bench, plain: CloudVm, host: Hypervisor) -> None:
    plain.start(host)
    settings = replace(bench.settings, scratch_reserve_bytes=0)
    findings = examine_host(settings)
    ill = [item for item in findings if item.level is Level.PROBLEM]
    assert ill == []
    checks = {item.check for item in findings}
    assert checks >= {"tools", "libvirt", "incremental", "rights", "socket-dir", "scratch-dir"}
    assert all(item.fix for item in findings if item.level is Level.PROBLEM)


def test_whom_qemu_runs_as_and_what_confines_it(host: Hypervisor) -> None:
    connection = host.connect()
    capabilities = connection.getCapabilities()
    connection.close()
    assert qemu_account(capabilities) == Account(host.user.uid, host.user.gid)
    assert security_models(capabilities) == ("none", "dac")


def test_folders_are_made_for_qemus_user(bench: Bench, lab: Lab, host: Hypervisor) -> None:
    folder = lab.root / "made"
    settings = replace(
        bench.settings, socket_dir=str(folder), scratch_dir=str(folder), scratch_reserve_bytes=0
    )
    assert about(settings, "socket-dir")[0].level is Level.PROBLEM
    assert prepare_folders(settings)[0] == f"{folder} made"
    assert folder.stat().st_uid == host.user.uid
    assert {item.level for item in about(settings, "socket-dir")} == {Level.OK}
    assert prepare_folders(settings) == ()


def test_without_libvirt_the_rest_is_examined(bench: Bench) -> None:
    settings = replace(bench.settings, uri="qemu+unix:///system?socket=/nonexistent")
    findings = examine_host(settings)
    (libvirt,) = [item for item in findings if item.check == "libvirt"]
    assert libvirt.level is Level.PROBLEM
    assert "systemctl" in (libvirt.fix or "")
    assert {"tools", "socket-dir"} <= {item.check for item in findings}


def test_a_job_of_a_dead_run_a_living_one_and_a_foreign_one(
    bench: Bench, plain: CloudVm, host: Hypervisor, lab: Lab
) -> None:
    plain.start(host)
    begin_job(plain, bench.settings.socket_dir)
    try:
        (dead,) = about(bench.settings, "job")
        assert dead.level is Level.PROBLEM
        assert "doctor --repair" in (dead.fix or "")
        entry = claim(Path(bench.settings.state_dir), plain.uuid, operation="backup")
        (living,) = about(bench.settings, "job")
        entry.release()
        assert living.level is Level.OK
        elsewhere = replace(bench.settings, socket_dir="/elsewhere")
        (foreign,) = about(elsewhere, "job")
        assert foreign.level is Level.WARNING
        assert "another program" in foreign.message
    finally:
        plain.domain.abortJob()
    wait_until(lambda: about(bench.settings, "job") == [], "the end of the job", timeout_s=120)


def test_broken_bitmaps_are_named(bench: Bench, plain: CloudVm, host: Hypervisor) -> None:
    path = str(plain.disks["vdb"].path)
    images.add_bitmap(path, "sendense-old", granularity=65536)
    subprocess.run(["qemu-img", "bitmap", "--add", path, "theirs"], check=True)
    plain.start(host)
    os.kill(plain.pid, signal.SIGKILL)
    plain.wait_stopped()
    plain.start(host)
    (broken,) = about(bench.settings, "bitmaps")
    assert broken.level is Level.PROBLEM
    assert "sendense-old" in broken.message
    assert broken.fix == f"sendense release {plain.name}"
    (foreign,) = about(bench.settings, "foreign")
    assert foreign.level is Level.OK
    assert "theirs" in foreign.message


def test_too_many_bitmaps_raw_disks_and_no_agent(
    bench: Bench, vm: CloudVm, host: Hypervisor
) -> None:
    for number in range(2):
        images.add_bitmap(str(vm.disks["vdb"].path), f"sendense-{number}", granularity=65536)
    vm.start(host)
    settings = replace(bench.settings, max_bitmaps_per_vm=1)
    assert about(settings, "bitmaps")[0].level is Level.WARNING
    assert "vdc" in about(settings, "no-bitmaps")[0].message
    (agent,) = about(settings, "agent")
    assert agent.level is Level.WARNING
    assert "qemu-guest-agent" in (agent.fix or "")


def test_internal_snapshots_beside_our_bitmaps_are_a_problem(
    bench: Bench, plain: CloudVm, host: Hypervisor
) -> None:
    plain.start(host)
    plain.snapshot_memory("before")
    assert {item.level for item in about(bench.settings, "snapshots")} == {Level.WARNING}
    plain.destroy()
    images.add_bitmap(str(plain.disks["vdb"].path), "sendense-1", granularity=65536)
    plain.start(host)
    assert Level.PROBLEM in {item.level for item in about(bench.settings, "snapshots")}


def test_a_guest_that_an_io_error_paused(bench: Bench, plain: CloudVm, host: Hypervisor) -> None:
    assert about(bench.settings, "paused") == []
    plain.start(host, paused=True)
    (paused,) = about(bench.settings, "paused")
    assert paused.level is Level.OK
