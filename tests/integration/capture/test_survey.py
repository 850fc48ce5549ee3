"""Surveys of real machines, running and off: the same disks, seen from both sides."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.capture import images
from sendense.capture.domains import machine_from_xml, machine_of
from sendense.capture.survey import active_job, survey_running, survey_stopped
from sendense.errors import Busy, Rejected, Unsupported
from sendense.model.machine import Disk, PowerState, SourceKind
from sendense.model.survey import Survey
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import MIB
from tests.integration.capture.conftest import Bench
from tests.support.builders import a_machine

pytestmark = pytest.mark.vm


def checkpoint(vm: CloudVm, name: str, *targets: str) -> None:
    disks = "".join(f"<disk name='{target}' checkpoint='bitmap'/>" for target in targets)
    text = f"<domaincheckpoint><name>{name}</name><disks>{disks}</disks></domaincheckpoint>"
    vm.domain.checkpointCreateXML(text, 0)


def surveyed(vm: CloudVm, bench: Bench) -> Survey:
    if vm.running:
        return survey_running(vm.domain)
    return survey_stopped(machine_from_xml(bench.xml_file(vm)))


def test_running(bench: Bench, lab: Lab, vm: CloudVm, host: Hypervisor) -> None:
    vm.start(host)
    checkpoint(vm, "sendense-1", "vda", "vdb")
    vm.write("vdb", 1 * MIB, 4096)
    survey = surveyed(vm, bench)
    root, data, raw = survey.disks
    assert survey.machine.power is PowerState.PAUSED
    assert survey.incremental
    assert survey.checkpoints == ("sendense-1",)
    assert root.chain == (str(vm.disks["vda"].path), str(lab.pool.template.path))
    (bitmap,) = data.bitmaps
    assert (bitmap.name, bitmap.granularity, bitmap.dirty_bytes) == ("sendense-1", 65536, 65536)
    assert (bitmap.recording, bitmap.persistent, bitmap.inconsistent) == (True, True, False)
    assert (data.size, raw.size) == (16 * MIB, 8 * MIB)
    assert raw.bitmaps == ()
    assert root.allocated_bytes >= lab.pool.template.path.stat().st_blocks * 512
    assert not any(disk.memory_snapshot for disk in survey.disks)


def test_running_and_stopped_agree(bench: Bench, vm: CloudVm, host: Hypervisor) -> None:
    vm.start(host)
    checkpoint(vm, "sendense-1", "vda", "vdb")
    running = surveyed(vm, bench)
    vm.destroy()
    stopped = surveyed(vm, bench)
    for online, offline in zip(running.disks, stopped.disks, strict=True):
        assert replace(online, allocated_bytes=0) == replace(offline, allocated_bytes=0)
    assert stopped.machine.uuid == running.machine.uuid
    assert stopped.checkpoints == ()


def test_a_crash_leaves_what_both_call_inconsistent(
    bench: Bench, vm: CloudVm, host: Hypervisor
) -> None:
    images.add_bitmap(str(vm.disks["vdb"].path), "sendense-1", granularity=65536)
    vm.start(host)
    vm.kill9()
    off = surveyed(vm, bench).disks[1].bitmap("sendense-1")
    vm.start(host)
    running = surveyed(vm, bench).disks[1].bitmap("sendense-1")
    assert off == running
    assert off is not None
    assert off.inconsistent
    assert not off.recording


def test_a_disk_whose_header_names_its_backing_file_relatively(
    bench: Bench, lab: Lab, vm: CloudVm, host: Hypervisor
) -> None:
    path = vm.disks["vda"].path
    backing = lab.pool.template.path
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing.name, str(path)],
        check=True,
    )
    vm.start(host)
    checkpoint(vm, "sendense-1", "vda")
    running = surveyed(vm, bench).disks[0]
    assert [bitmap.name for bitmap in running.bitmaps] == ["sendense-1"]
    vm.destroy()
    assert surveyed(vm, bench).disks[0].chain == running.chain == (str(path), str(backing))


def test_internal_snapshots_show(bench: Bench, lab: Lab, host: Hypervisor) -> None:
    vm = lab.create_vm(disks=[DiskSpec(16 * MIB)])
    vm.start(host)
    vm.snapshot_memory("before")
    assert all(disk.memory_snapshot for disk in surveyed(vm, bench).disks)
    vm.destroy()
    assert all(disk.memory_snapshot for disk in surveyed(vm, bench).disks)


def test_stopped_is_busy_while_somebody_runs_it(
    bench: Bench, vm: CloudVm, host: Hypervisor
) -> None:
    machine = machine_from_xml(bench.xml_file(vm))
    vm.start(host)
    with pytest.raises(Busy, match=str(vm.disks["vda"].path)):
        survey_stopped(machine)


def test_a_network_disk_cannot_be_read_while_off() -> None:
    disk = Disk("vdb", "pool/volume", "raw", SourceKind.NETWORK)
    with pytest.raises(Unsupported, match="vdb") as caught:
        survey_stopped(a_machine(disk))
    assert "--exclude vdb" in (caught.value.hint or "")


def test_a_container_that_is_called_raw_is_not_read(vm: CloudVm) -> None:
    disk = Disk("vdb", str(vm.disks["vdb"].path), "raw", SourceKind.FILE)
    with pytest.raises(Rejected, match="begins as a qcow2"):
        survey_stopped(a_machine(disks=(disk,)))


def test_a_host_that_cannot_go_on_makes_no_incremental(bench: Bench, vm: CloudVm) -> None:
    machine = machine_from_xml(bench.xml_file(vm))
    assert survey_stopped(machine).incremental
    assert not survey_stopped(machine, incremental=False).incremental


def test_the_job_on_a_machine_is_described(
    bench: Bench, vm: CloudVm, host: Hypervisor, tmp_path: Path
) -> None:
    vm.start(host)
    assert active_job(vm.domain) is None
    folder = bench.settings.socket_dir
    vm.domain.backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/x.sock'/><disks>"
        f"<disk name='vda' backup='yes' type='file'><scratch file='{folder}/x.scratch'/></disk>"
        "</disks></domainbackup>",
        None,
        0,
    )
    try:
        job = active_job(vm.domain)
        assert job is not None
        assert job.is_backup
        assert str(job) == f"backup on {folder}/x.sock"
        # A survey under a job still sees the machine's own images.
        assert [disk.chain[0] for disk in surveyed(vm, bench).disks] == [
            str(volume.path) for volume in vm.disks.values()
        ]
    finally:
        vm.domain.abortJob()
    # The abort returns some milliseconds before the job is gone.
    wait_until(lambda: active_job(vm.domain) is None, "the end of the job", timeout_s=120)


def test_a_survey_is_quick(vm: CloudVm, host: Hypervisor) -> None:
    vm.start(host)
    survey_running(vm.domain)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        survey_running(vm.domain)
        seconds.append(time.monotonic() - began)
    # 30 ms where it was measured; the bound only catches a call that probes QEMU anew (4 s).
    assert min(seconds) < 2


def test_a_running_machine_is_described(vm: CloudVm, host: Hypervisor) -> None:
    vm.start(host)
    machine = machine_of(vm.domain)
    assert (machine.uuid, machine.name, machine.persistent) == (vm.uuid, vm.name, False)
    assert [disk.target for disk in machine.disks] == ["vda", "vdb", "vdc"]
    assert all(disk.serial for disk in machine.disks)
