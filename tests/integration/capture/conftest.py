"""One lab host for each module, and stopped machines as an operator would name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sendense.capture.domains import machine_from_xml
from sendense.capture.journal import JournalEntry, claim
from sendense.capture.offline import OfflineCapture
from sendense.capture.session import HostSettings
from sendense.capture.survey import survey_stopped
from sendense.model.plan import CapturePlan
from sendense.model.point import Consistency
from sendense.workflows.planning import BackupRequest, plan_backup
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab, temporary_lab
from sendense_lab.pool import MIB


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def host(lab: Lab) -> Hypervisor:
    return lab.add_hypervisor()


@pytest.fixture
def vm(lab: Lab) -> Iterator[CloudVm]:
    """A machine with a disk on a template, an empty qcow2 disk and a raw one."""
    vm = lab.create_vm(disks=[DiskSpec(16 * MIB), DiskSpec(8 * MIB, format="raw")])
    yield vm
    if vm.running:
        vm.destroy()


@dataclass
class Bench:
    """What a test needs to capture a machine that is off."""

    settings: HostSettings
    folder: Path

    def xml_file(self, vm: CloudVm) -> Path:
        path = self.folder / f"{vm.name}.xml"
        path.write_text(domain_xml(vm.shape, vm.disks))
        return path

    def plan(self, vm: CloudVm, consistency: Consistency = Consistency.CRASH) -> CapturePlan:
        """A full of all disks."""
        survey = survey_stopped(machine_from_xml(self.xml_file(vm)))
        return plan_backup(survey, (), BackupRequest(consistency=consistency))

    def claim(self, vm: CloudVm) -> JournalEntry:
        return claim(Path(self.settings.state_dir), vm.uuid, operation="test")

    def capture(self, vm: CloudVm, plan: CapturePlan, entry: JournalEntry) -> OfflineCapture:
        xml = self.xml_file(vm).read_text()
        return OfflineCapture(plan, self.settings, entry, domain_xml=xml)


@pytest.fixture
def bench(host: Hypervisor, tmp_path: Path) -> Bench:
    settings = HostSettings(
        uri=host.uri,
        socket_dir=str(host.run_dir),
        scratch_dir=str(host.run_dir),
        state_dir=str(tmp_path / "state"),
    )
    return Bench(settings, tmp_path)
