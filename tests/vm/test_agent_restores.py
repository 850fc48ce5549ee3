"""Restores through the agent's API: what a worker wrote is what the disk holds, or nothing is."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from sendense.agent.marks import half_restored, unmark
from sendense.model.agent_status import RestoreStatus, WorkState
from sendense.model.ticket import PlaceKind, RestoreOrder, RestorePlace, Ticket
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.domain_xml import domain_xml
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import Volume
from tests.vm.agent_site import MIB, AgentSite, raw_content

pytestmark = pytest.mark.vm

SIZE = 8 * MIB


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


@pytest.fixture
def vm(agent: AgentSite) -> Iterator[CloudVm]:
    """A machine that is off and that libvirt keeps, with our bitmap in its disks."""
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE), DiskSpec(SIZE, format="raw")])
    vm.random_fill("vdb", 0, MIB, 1)
    agent.define(vm)
    ticket = agent.capture_ticket(vm)
    agent.ready(ticket)
    agent.commit(ticket)
    yield vm
    domain = agent.hypervisor.connection.lookupByUUIDString(vm.uuid)
    if domain.isActive():
        domain.destroy()
    domain.undefine()


def existing(vm: CloudVm, *targets: str) -> tuple[RestorePlace, ...]:
    return tuple(
        RestorePlace(
            name, str(vm.disks[name].path), vm.disks[name].format, SIZE, PlaceKind.EXISTING
        )
        for name in targets
    )


def new_file(path: Path, image_format: str = "qcow2", target: str = "vdb") -> RestorePlace:
    return RestorePlace(target, str(path), image_format, SIZE, PlaceKind.NEW_FILE)


def content_of(path: Path, image_format: str, folder: Path) -> bytes:
    raw = folder / "content.raw"
    command = ["qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(raw)]
    subprocess.run(command, check=True)
    return raw.read_bytes()


def failed(agent: AgentSite, order: RestoreOrder) -> RestoreStatus:
    """Begin a restore that must fail, before anything is touched."""
    ticket = agent.restore_ticket(order)
    status = agent.restore_ready(ticket)
    assert status.state is WorkState.FAILED
    assert status.error is not None
    return status


def test_in_place(agent: AgentSite, vm: CloudVm) -> None:
    assert agent.own_marks(vm)
    order = RestoreOrder(existing(vm, "vdb", "vdc"), machine=vm.uuid)
    ticket = agent.restore_ticket(order)
    status = agent.restore_ready(ticket)
    assert status.state is WorkState.READY, status
    wanted = {item.target: os.urandom(SIZE) for item in status.exports}
    for item in status.exports:
        assert item.size == SIZE
        agent.write(item, wanted[item.target])
    places = {str(vm.disks[target].path) for target in wanted}
    assert set(half_restored(agent.state_dir)) == places
    # The machine cannot be started on disks that are half restored.
    with pytest.raises(Exception, match="lock"):
        agent.hypervisor.connection.lookupByUUIDString(vm.uuid).create()
    assert agent.finish(ticket).state is WorkState.COMMITTED
    assert agent.finish(ticket).state is WorkState.COMMITTED
    for target, content in wanted.items():
        assert raw_content(vm, target, agent.folder) == content
    # Its root disk was not restored, and keeps its bitmap.
    assert half_restored(agent.state_dir) == ()
    agent.check_free(vm)
    agent.hypervisor.connection.lookupByUUIDString(vm.uuid).create()


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_to_a_new_file(agent: AgentSite, image_format: str) -> None:
    path = agent.pool / f"new-{image_format}"
    ticket = agent.restore_ticket(RestoreOrder((new_file(path, image_format),)))
    status = agent.restore_ready(ticket)
    content = os.urandom(SIZE)
    agent.write(status.exports[0], content)
    assert not path.exists()
    assert agent.finish(ticket).state is WorkState.COMMITTED
    assert content_of(path, image_format, agent.folder) == content
    assert not path.with_name(f"{path.name}.part").exists()
    # Nothing is overwritten.
    again = failed(agent, RestoreOrder((new_file(path, image_format),)))
    assert again.error is not None
    assert again.error.code == "already-exists"


def test_a_machine_is_defined_and_started_at_the_end(agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    path = vm.disks["vdb"].path
    path.unlink()
    order = RestoreOrder(
        (new_file(path),), domain_xml=domain_xml(vm.shape, vm.disks), define=True, start=True
    )
    ticket = agent.restore_ticket(order)
    agent.write(agent.restore_ready(ticket).exports[0], bytes(SIZE))
    assert agent.finish(ticket).state is WorkState.COMMITTED
    domain = agent.hypervisor.connection.lookupByUUIDString(vm.uuid)
    assert domain.isActive()
    assert domain.isPersistent()
    domain.destroy()
    domain.undefine()


def test_a_known_machine_keeps_its_definition(agent: AgentSite, vm: CloudVm) -> None:
    definition = agent.hypervisor.connection.lookupByUUIDString(vm.uuid).XMLDesc(0)
    xml = domain_xml(vm.shape, vm.disks)
    newcomers = {
        "same machine": xml,
        "same uuid": xml.replace(f"<name>{vm.name}</name>", "<name>other</name>"),
        "same name": xml.replace(vm.uuid, str(uuid.uuid4())),
    }
    for number, (name, newcomer) in enumerate(newcomers.items()):
        for define in (True, False):
            path = agent.pool / f"newcomer-{number}"
            order = RestoreOrder(
                (new_file(path),), domain_xml=newcomer, define=define, start=not define
            )
            error = failed(agent, order).error
            assert error is not None
            assert error.code == "rejected", name
            assert "already" in error.message
            assert "--name" in str(error.hint)
    assert [*agent.pool.glob("newcomer-*")] == []
    assert agent.hypervisor.connection.lookupByUUIDString(vm.uuid).XMLDesc(0) == definition


def test_a_machine_that_came_meanwhile_keeps_its_definition(agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    path = agent.pool / "came-meanwhile"
    order = RestoreOrder((new_file(path),), domain_xml=domain_xml(vm.shape, {}), define=True)
    ticket = agent.restore_ticket(order)
    agent.write(agent.restore_ready(ticket).exports[0], bytes(SIZE))
    agent.define(vm)
    domain = agent.hypervisor.connection.lookupByUUIDString(vm.uuid)
    try:
        definition = domain.XMLDesc(0)
        status = agent.finish(ticket)
        assert status.state is WorkState.FAILED
        assert status.error is not None
        assert "the disks are complete, but" in status.error.message
        assert path.exists()
        assert domain.XMLDesc(0) == definition
    finally:
        domain.undefine()


@contextmanager
def on_a_block_device(agent: AgentSite) -> Iterator[tuple[str, Path]]:
    """Give the XML of a machine whose second disk is a block device, and that device."""
    backing = agent.folder / f"loop-{uuid.uuid4()}"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    made = subprocess.run(
        ["losetup", "--find", "--show", backing], check=True, capture_output=True, text=True
    )
    device = Path(made.stdout.strip())
    volume = Volume(str(uuid.uuid4()), device, "raw", SIZE)
    vm = agent.lab.create_vm(disks=[DiskSpec(volume=volume)])
    before, source, after = domain_xml(vm.shape, vm.disks).partition(f"<source file='{device}'/>")
    assert source
    head, disk, tail = before.rpartition("<disk type='file'")
    assert disk
    try:
        yield f"{head}<disk type='block'{tail}<source dev='{device}'/>{after}", device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        backing.unlink()


@contextmanager
def pool_of_devices(agent: AgentSite) -> Iterator[None]:
    """Have the agent restart with a pool of devices, for a machine that libvirt does not keep."""
    settings = agent.settings_file.read_text()
    agent.stop()
    agent.settings_file.write_text(settings.replace("pools: [", "pools: [/dev, "))
    agent.start()
    yield
    agent.stop()
    agent.settings_file.write_text(settings)
    agent.start()


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "transient"])
def test_a_machine_that_starts_on_a_block_device_ends_it(agent: AgentSite, *, kept: bool) -> None:
    connection = agent.hypervisor.connection
    with ExitStack() as stack:
        xml, device = stack.enter_context(on_a_block_device(agent))
        node = agent.pool / f"node-{uuid.uuid4()}"
        os.mknod(node, 0o600 | stat.S_IFBLK, device.stat().st_rdev)
        stack.callback(node.unlink)
        name = xml.partition("<uuid>")[2].partition("</uuid>")[0]
        if kept:
            connection.defineXML(xml)
        else:
            stack.enter_context(pool_of_devices(agent))
        place = RestorePlace("vdb", str(device), "raw", SIZE, PlaceKind.EXISTING)
        ticket = agent.restore_ticket(RestoreOrder((place,), machine=name))
        status = agent.restore_ready(ticket)
        assert status.state is WorkState.READY, status
        agent.write(status.exports[0], os.urandom(SIZE))
        # No lock keeps it off, as QEMU has another node of the device in a /dev of its own.
        own_xml = xml.replace(str(device), str(node))
        if kept:
            connection.defineXML(own_xml).create()
        else:
            connection.createXML(own_xml, 0)
        try:
            servers = ["pgrep", "-f", f"export-name.*{ticket.id}"]
            wait_until(
                lambda: (
                    subprocess.run(servers, check=False, stdout=subprocess.DEVNULL).returncode != 0
                ),
                "the end of the writable export",
                timeout_s=120,
            )
            ended = agent.finish(ticket)
            assert ended.state is WorkState.FAILED
            assert ended.error is not None
            assert "was started while" in ended.error.message
            assert half_restored(agent.state_dir) == (str(device),)
        finally:
            domain = connection.lookupByUUIDString(name)
            if domain.isActive():
                domain.destroy()
            if kept:
                domain.undefine()
            unmark(agent.state_dir, [str(device)])


def test_a_block_device_that_another_machine_runs_on(agent: AgentSite) -> None:
    """No lock tells, and the control plane may be wrong about whose it is, or call it otherwise."""
    with ExitStack() as stack:
        xml, device = stack.enter_context(on_a_block_device(agent))
        node = agent.pool / f"node-{uuid.uuid4()}"
        os.mknod(node, 0o600 | stat.S_IFBLK, device.stat().st_rdev)
        stack.callback(node.unlink)
        domain = agent.hypervisor.connection.createXML(xml, 0)
        stack.callback(domain.destroy)
        place = RestorePlace("vdb", str(node), "raw", SIZE, PlaceKind.EXISTING)
        error = failed(agent, RestoreOrder((place,), machine=str(uuid.uuid4()))).error
        assert error is not None
        assert error.code == "busy"
        assert f"is disk vdb of {domain.name()}, which runs" in error.message
        assert half_restored(agent.state_dir) == ()


def test_given_up(agent: AgentSite, vm: CloudVm) -> None:
    path = agent.pool / "given-up"
    order = RestoreOrder((*existing(vm, "vdb"), new_file(path, target="vdz")), machine=vm.uuid)
    ticket = agent.restore_ticket(order)
    status = agent.restore_ready(ticket)
    agent.write(status.exports[0], os.urandom(SIZE))
    reply = agent.send("DELETE", f"/v1/restores/{ticket.id}", ticket)
    assert reply.body["state"] == "aborted"
    assert [*agent.pool.glob("given-up*")] == []
    # What was overwritten cannot be taken back, and that is remembered.
    assert half_restored(agent.state_dir) == (str(vm.disks["vdb"].path),)
    health = {item["name"]: item["level"] for item in agent.look("/v1/heartbeat")["health"]}
    assert health["restores"] == "warning"
    agent.check_free(vm)
    again = agent.restore_ticket(RestoreOrder(existing(vm, "vdb"), machine=vm.uuid))
    agent.write(agent.restore_ready(again).exports[0], bytes(SIZE))
    agent.finish(again)
    assert half_restored(agent.state_dir) == ()


def test_killed_in_the_middle(agent: AgentSite, vm: CloudVm) -> None:
    path = agent.pool / "killed"
    order = RestoreOrder((*existing(vm, "vdb"), new_file(path, target="vdz")), machine=vm.uuid)
    ticket = agent.restore_ticket(order)
    agent.write(agent.restore_ready(ticket).exports[0], os.urandom(SIZE))
    agent.stop(signal.SIGKILL)
    servers = ["pgrep", "-f", f"export-name.*{ticket.id}"]
    wait_until(
        lambda: subprocess.run(servers, check=False).returncode != 0,
        "the servers' end",
        timeout_s=120,
    )
    agent.start()
    status = agent.restore_status(ticket)
    assert status.state is WorkState.FAILED
    assert [*agent.pool.glob("killed*")] == []
    assert half_restored(agent.state_dir) == (str(vm.disks["vdb"].path),)
    for socket in agent.hypervisor.run_dir.glob("*.sock"):
        assert ticket.id not in socket.name
    # The lock went with the server: it can be repeated.
    again = agent.restore_ticket(RestoreOrder(existing(vm, "vdb"), machine=vm.uuid))
    assert agent.restore_ready(again).state is WorkState.READY
    agent.finish(again)


def test_what_may_not_be_written(agent: AgentSite, vm: CloudVm, tmp_path: Path) -> None:
    other = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    link = agent.pool / "link"
    link.symlink_to(tmp_path)
    orders = {
        "lies in no pool": RestoreOrder((new_file(tmp_path / "x"),)),
        "x lies in no pool": RestoreOrder((new_file(link / "x"),)),
        "y lies in no pool": RestoreOrder((new_file(agent.pool / ".." / "y"),)),
        "is no disk of the machine": RestoreOrder(existing(other, "vdb"), machine=vm.uuid),
        "holds 8.0 MiB": RestoreOrder(
            (
                RestorePlace(
                    "vdb", str(vm.disks["vdb"].path), "qcow2", SIZE * 2, PlaceKind.EXISTING
                ),
            ),
            machine=vm.uuid,
        ),
    }
    for words, order in orders.items():
        error = failed(agent, order).error
        assert error is not None
        assert words in error.message
    assert [*tmp_path.iterdir()] == []
    agent.hypervisor.connection.lookupByUUIDString(vm.uuid).create()
    error = failed(agent, RestoreOrder(existing(vm, "vdb"), machine=vm.uuid)).error
    assert error is not None
    assert "runs" in error.message
    agent.check_free(vm)


def test_killed_before_the_uefi_variables_are_replaced(agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)], uefi=True)
    vm.nvram.write_bytes(b"old")
    agent.stop()
    agent.start("restore-complete")
    order = RestoreOrder(existing(vm, "vdb"), machine=vm.uuid, nvram=MIB)
    ticket = agent.restore_ticket(order)
    disk, store = agent.restore_ready(ticket).exports
    contents = [os.urandom(SIZE), os.urandom(MIB)]
    for export, content in zip((disk, store), contents, strict=True):
        agent.write(export, content)
    assert vm.nvram.read_bytes() == b"old"
    with suppress(OSError):
        agent.finish(ticket)
    agent.wait_dead()
    assert vm.nvram.read_bytes() == b"old"
    agent.start()
    assert agent.restore_status(ticket).state is WorkState.COMMITTED
    assert [raw_content(vm, "vdb", agent.folder), vm.nvram.read_bytes()] == contents
    # What does not complete leaves the old ones, and nothing beside them.
    again = agent.restore_ticket(order)
    agent.write(agent.restore_ready(again).exports[1], bytes(MIB))
    agent.send("DELETE", f"/v1/restores/{again.id}", again)
    assert vm.nvram.read_bytes() == contents[1]
    assert [*vm.nvram.parent.glob(f"{vm.uuid}*")] == [vm.nvram]
    unmark(agent.state_dir, [str(vm.disks["vdb"].path)])


@pytest.mark.parametrize("size", [-512, 513, 5 * MIB])
def test_sizes_that_no_variable_store_has(agent: AgentSite, vm: CloudVm, size: int) -> None:
    order = RestoreOrder(existing(vm, "vdb"), machine=vm.uuid, nvram=size)
    reply = agent.send("POST", "/v1/restores", agent.restore_ticket(order))
    assert (reply.status, reply.body["code"]) == (400, "rejected")


STEPS = ("restore-complete", "disk-published", "restore-unmarked", "machine-made")


def killed_at(agent: AgentSite, step: str, order: RestoreOrder) -> tuple[Ticket, bytes]:
    """Have the agent die at a step of the end of a restore; gives what is on its disks."""
    agent.stop()
    agent.start(step)
    ticket = agent.restore_ticket(order)
    content = os.urandom(SIZE)
    for export in agent.restore_ready(ticket).exports:
        agent.write(export, content)
    with suppress(OSError):
        agent.finish(ticket)
    agent.wait_dead()
    return ticket, content


@contextmanager
def new_machine(agent: AgentSite) -> Iterator[tuple[CloudVm, Path]]:
    """Give a machine that the host does not know yet, and the place of its only data disk."""
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    path = vm.disks["vdb"].path
    path.unlink()
    yield vm, path
    connection = agent.hypervisor.connection
    for domain in connection.listAllDomains():
        if domain.UUIDString() == vm.uuid:
            if domain.isActive():
                domain.destroy()
            domain.undefine()


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_before_its_machine_is_told(agent: AgentSite, step: str, *, start: bool) -> None:
    with new_machine(agent) as (vm, path):
        xml = domain_xml(vm.shape, vm.disks)
        order = RestoreOrder((new_file(path),), domain_xml=xml, define=True, start=start)
        ticket, content = killed_at(agent, step, order)
        agent.start()
        # All was written: what is left to do is done, and done once.
        assert agent.restore_status(ticket).state is WorkState.COMMITTED
        domain = agent.hypervisor.connection.lookupByUUIDString(vm.uuid)
        assert domain.isPersistent()
        assert bool(domain.isActive()) is start
        if not start:
            assert content_of(path, "qcow2", agent.folder) == content
        assert [*agent.pool.glob("*.part")] == []
        kept = agent.state_dir / f"agent/{ticket.id}.json"
        assert "<domain" not in kept.read_text()


def test_killed_before_its_machine_is_defined_and_another_has_come(agent: AgentSite) -> None:
    with new_machine(agent) as (vm, path):
        order = RestoreOrder(
            (new_file(path),), domain_xml=domain_xml(vm.shape, vm.disks), define=True
        )
        ticket, content = killed_at(agent, "restore-unmarked", order)
        other = domain_xml(vm.shape, {"vda": vm.disks["vda"]})
        agent.hypervisor.connection.defineXML(other)
        agent.start()
        status = agent.restore_status(ticket)
        assert status.state is WorkState.FAILED
        assert status.error is not None
        assert "the disks are complete, but" in status.error.message
        assert "is on this host already" in status.error.message
        assert content_of(path, "qcow2", agent.folder) == content


@pytest.mark.parametrize("step", STEPS[:2])
def test_killed_while_disks_get_their_names(agent: AgentSite, step: str) -> None:
    paths = [agent.pool / f"{step}-{number}" for number in range(2)]
    places = tuple(new_file(path, target=f"vd{number}") for number, path in enumerate(paths))
    ticket, content = killed_at(agent, step, RestoreOrder(places))
    agent.start()
    # All was written: what is left to do is done.
    assert agent.restore_status(ticket).state is WorkState.COMMITTED
    for path in paths:
        assert content_of(path, "qcow2", agent.folder) == content
    assert [*agent.pool.glob("*.part")] == []
