"""Machines that are off and that libvirt has forgotten: looked at and captured by their XML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense.errors import Busy, NotAllowed, NotFound, Rejected, SourceChanged, Unsupported
from sendense.fleet.agent_client import AgentClient
from sendense.model.agent_status import WorkState
from sendense.model.decision import Mode, Reason
from sendense.model.machine import PowerState
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.domain_xml import domain_xml
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite
from tests.vm.remote_worker import CRASH, Worker, at_step, contents, new_worker, on_disk

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


@pytest.fixture(scope="module")
def worker(agent: AgentSite) -> Iterator[Worker]:
    with new_worker(agent) as worker:
        yield worker


@pytest.fixture
def vm(agent: AgentSite) -> Iterator[CloudVm]:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.random_fill("vdb", 0, 4 * MIB, 3)
    yield vm
    if vm.running:
        vm.destroy()


def xml_of(vm: CloudVm) -> str:
    """What the control plane makes of a machine that it knows."""
    return domain_xml(vm.shape, vm.disks)


def test_incremental_over_stop_and_start(worker: Worker, vm: CloudVm) -> None:
    """Full while it runs, incremental while it is off, and again while it runs."""
    vm.start(worker.agent.hypervisor)
    first = worker.back_up(vm)
    vm.write("vdb", 9 * MIB, 64 * 1024, 5)
    vm.destroy()
    expected = on_disk(vm)
    with pytest.raises(NotFound):
        worker.back_up(vm)
    notes = {"cloudstack.json": b'{"id": "x"}'}
    second = worker.back_up(vm, domain_xml=xml_of(vm), attachments=notes)
    assert first.machine.power is PowerState.PAUSED
    assert second.machine.power is PowerState.STOPPED
    assert [image.decision.reason for image in second.disks] == [Reason.USABLE] * 2
    assert second.disks[1].read_bytes < 2 * MIB
    assert worker.agent.own_marks(vm) == {second.checkpoint}
    worker.check(vm, second, expected)
    with worker.repository().open(second.id) as reader:
        assert reader.attachment("cloudstack.json") == notes["cloudstack.json"]
        assert reader.attachment("domain.xml").decode() == xml_of(vm)
    vm.start(worker.agent.hypervisor)
    vm.write("vdb", 12 * MIB, 64 * 1024, 6)
    third = worker.back_up(vm)
    assert third.mode is Mode.INCREMENTAL
    assert third.disks[1].read_bytes < 2 * MIB
    worker.check(vm, third, contents(vm))
    worker.agent.check_free(vm)


def test_what_libvirt_knows_wins(worker: Worker, vm: CloudVm) -> None:
    before = xml_of(vm)
    vm.random_fill(vm.attach_disk(8 * MIB), 0, MIB, 12)
    vm.start(worker.agent.hypervisor)
    with worker.client() as client:
        seen = client.survey_of(before)
    assert seen.machine.power is PowerState.PAUSED
    assert [item.disk.target for item in seen.disks] == ["vda", "vdb", "vdc"]
    point = worker.back_up(vm, domain_xml=before)
    assert [image.disk.target for image in point.disks] == ["vda", "vdb", "vdc"]
    worker.check(vm, point, contents(vm))


def test_a_start_during_the_capture_ends_it(
    worker: Worker, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the last look can see it: what a second does to a short read.
    monkeypatch.setattr("sendense.fleet.remote_host._POLL_S", 600.0)
    with (
        at_step("disks-stored", lambda: vm.start(worker.agent.hypervisor)),
        pytest.raises(SourceChanged, match="stay off"),
    ):
        worker.back_up(vm, domain_xml=xml_of(vm))
    assert worker.repository().points(vm.uuid) == ()
    # Its new bitmap cannot leave an image that is in use; the next capture takes it back.
    point = worker.back_up(vm)
    expected = contents(vm)
    worker.check(vm, point, expected)
    assert worker.agent.own_marks(vm) == {point.checkpoint}


def test_who_wants_it_in_the_end_is_asked_once_and_has_it(worker: Worker, vm: CloudVm) -> None:
    asked = []

    def confirm() -> None:
        asked.append(1)
        raise Busy("it is Starting now")

    with pytest.raises(Busy, match="Starting"):
        worker.back_up(vm, domain_xml=xml_of(vm), confirm=confirm)
    assert len(asked) == 1
    assert worker.repository().points(vm.uuid) == ()
    assert worker.agent.own_marks(vm) == set()
    odd = ("a volume is missing",)
    point = worker.back_up(vm, domain_xml=xml_of(vm), warnings=odd, confirm=lambda: None)
    assert odd[0] in point.warnings


def test_a_start_on_another_host_during_the_capture_ends_it(worker: Worker, vm: CloudVm) -> None:
    """No libvirt of this host shows it: the images do."""
    agent = worker.agent
    with worker.client() as client:
        survey = client.survey_of(xml_of(vm))
    ticket = agent.capture_ticket(vm, disks=agent.decisions(survey, None), domain_xml=xml_of(vm))
    assert agent.ready(ticket).state is WorkState.READY
    vm.start(agent.lab.add_hypervisor())
    wait_until(
        lambda: agent.status(ticket).state is WorkState.FAILED, "the capture's end", timeout_s=120
    )
    error = agent.status(ticket).error
    assert error is not None
    assert error.code == "source-changed"
    vm.destroy()


def test_what_is_not_looked_at(worker: Worker, vm: CloudVm, tmp_path: Path) -> None:
    secret = tmp_path / "secret.qcow2"
    secret.write_bytes(os.urandom(4096))
    path = str(vm.disks["vdb"].path)
    link = worker.agent.pool / "way-out"
    link.symlink_to(tmp_path)
    with worker.client() as client:
        for elsewhere in (secret, link / secret.name):
            with pytest.raises(NotAllowed, match="disk vdb of the request's domain XML lies in no"):
                client.survey_of(xml_of(vm).replace(path, str(elsewhere)))
        firmware = "<os><nvram>/etc/hostname</nvram>"
        with pytest.raises(NotAllowed, match="UEFI variables"):
            client.survey_of(xml_of(vm).replace("<os>", firmware))
        for words in ("<domain/>", "no XML", "<volume/>"):
            with pytest.raises(Rejected):
                client.survey_of(words)
        other = worker.agent.lab.create_vm(disks=[DiskSpec(size=4 * MIB)])
        with pytest.raises(Rejected, match="and not of"):
            worker.back_up(vm, domain_xml=xml_of(other))
        vm.start(worker.agent.lab.add_hypervisor())
        with pytest.raises(Busy, match="in use"):
            client.survey_of(xml_of(vm))
    link.unlink()
    vm.destroy()


def test_attachments_of_the_capture_are_its_own(worker: Worker, vm: CloudVm) -> None:
    with pytest.raises(Rejected, match=r"domain\.xml"):
        worker.back_up(vm, CRASH, domain_xml=xml_of(vm), attachments={"domain.xml": b""})
    assert worker.repository().points(vm.uuid) == ()


def test_an_agent_that_is_older(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no such path, and says so; a client asks another path that no agent knows."""
    call = AgentClient.call

    def misdirected(self, method, path, *rest):
        return call(self, method, path.replace("/v1/surveys", "/v1/unknown"), *rest)

    def older(self, method, path, *rest):
        try:
            return misdirected(self, method, path, *rest)
        except NotFound as error:
            error.message = error.message.replace("/v1/unknown", "/v1/surveys")
            raise

    monkeypatch.setattr(AgentClient, "call", older)
    with worker.client() as client, pytest.raises(Unsupported, match="has forgotten"):
        client.survey_of("<domain/>")
