"""Snapshots of volumes and of instances.

Which kind of VM snapshot there is depends on the version: without memory it is refused up to 4.20
(a setting allows it for instances that run, with a guest agent), and makes overlays that stay from
4.21 on. While an instance has VM snapshots, volumes can neither be attached nor moved.
"""

from __future__ import annotations

from functools import partial

from sendense_lab.simulator import quotas, scope, shapes
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import Body, Steps, Work, command
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.commands_power import mine
from sendense_lab.simulator.commands_volumes import my_volume, no_vm_snapshots
from sendense_lab.simulator.errors import INTERNAL, ApiError, bad
from sendense_lab.simulator.machine_work import disk_spec, need_state
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import Account, Instance, Pool, Snapshot, VmSnapshot, Volume

FILE_POOLS = frozenset({"Filesystem", "NetworkFilesystem", "SharedMountPoint"})


@command(
    "listSnapshots",
    "id:uuid/snapshot name volumeid:uuid/volume snapshottype intervaltype zoneid:uuid/zone "
    f"{OWNED} {PAGED}",
)
def list_snapshots(call: Call) -> Body:
    """Lists all available snapshots for the account."""
    sees = scope.visible(call)
    rows = [
        row for row in matching(call, call.world.all(Snapshot), volumeid="volume_id")
        if sees(row.account_id)
    ]  # fmt: skip
    return call.listing("snapshot", rows, lambda row: shapes.snapshot(call.world, row))


@command(
    "createSnapshot",
    "volumeid:uuid/volume! name account domainid:uuid/domain quiescevm:boolean asyncbackup:boolean "
    "locationtype policyid tags:map",
    is_async=True,
)
def create_snapshot(call: Call) -> Work:
    """Creates an instant snapshot of a volume."""
    world, disk = call.world, my_volume(call, "volumeid")
    vm = world.find(Instance, disk.instance_id)
    running = vm is not None and vm.state == "Running"
    if disk.state != "Ready":
        raise bad(
            f"VolumeId: {disk.id} is not in Ready state but {disk.state}. Cannot take snapshot."
        )
    if running and not world.is_set("kvm.snapshot.enabled"):
        raise bad(
            "KVM Snapshot is not supported for a running instance: kvm.snapshot.enabled is false"
        )
    quotas.check(world, world.get(Account, disk.account_id), "snapshot", 1)
    shot = world.add(
        Snapshot(
            name=call.text("name") or f"{vm.name if vm else 'detached'}_{disk.name}",
            volume_id=disk.id, account_id=disk.account_id, size=disk.size, zone_id=disk.zone_id,
            state="Creating",
        )
    )  # fmt: skip

    def steps() -> Steps:
        try:
            no_vm_snapshots(call, vm, "take a volume snapshot")
            spec = disk_spec(disk)
            name = vm.instance_name if vm and running else ""
            disk.state = "Snapshotting"
            yield lambda: call.machines.snapshot_volume(name, spec, shot.id)
        except BaseException as error:
            shot.state = "Error"
            if isinstance(error, MachineError):
                raise ApiError(INTERNAL, f"Failed to create snapshot: {error}") from error
            raise
        finally:
            disk.state = "Ready"
        shot.state = "BackedUp"
        return {"snapshot": shapes.snapshot(world, shot)}

    return Work(
        steps(), object_id=shot.id, queue=disk.instance_id, about=("Snapshot", shot.id),
        event="SNAPSHOT.CREATE", words=f"creating snapshot for volume: {disk.id}",
        owner=disk.account_id,
    )  # fmt: skip


@command("deleteSnapshot", "id:uuid/snapshot!", is_async=True)
def delete_snapshot(call: Call) -> Work:
    """Deletes a snapshot of a disk volume."""
    shot = call.one("id", Snapshot)
    scope.check_account(call.world, call.caller, call.world.get(Account, shot.account_id))

    def steps() -> Steps:
        call.world.remove(shot)
        yield lambda: None
        return {"success": True}

    return Work(
        steps(), about=("Snapshot", shot.id), event="SNAPSHOT.DELETE",
        words=f"deleting snapshot: {shot.id}", owner=shot.account_id,
    )  # fmt: skip


@command("revertSnapshot", "id:uuid/snapshot!", is_async=True)
def revert_snapshot(call: Call) -> Work:
    """This is supposed to revert a volume snapshot."""
    world, shot = call.world, call.one("id", Snapshot)
    scope.check_account(world, call.caller, world.get(Account, shot.account_id))
    disk = world.find(Volume, shot.volume_id)
    if disk is None:
        raise bad(f"The volume of snapshot {shot.id} is gone")
    vm = world.find(Instance, disk.instance_id)

    def steps() -> Steps:
        if vm and vm.state != "Stopped":
            raise bad("The VM the specified disk is attached to is not in the shutdown state.")
        spec = disk_spec(disk)
        disk.state = "RevertSnapshotting"
        try:
            yield lambda: call.machines.revert_volume(spec, shot.id)
        except MachineError as error:
            raise ApiError(INTERNAL, f"Failed to revert snapshot: {error}") from error
        finally:
            disk.state = "Ready"
        return {"snapshot": shapes.snapshot(world, shot)}

    return Work(
        steps(), queue=disk.instance_id, about=("Snapshot", shot.id), event="SNAPSHOT.REVERT",
        words=f"revert to snapshot: {shot.id}", owner=shot.account_id,
    )  # fmt: skip


@command(
    "listVMSnapshot",
    "vmsnapshotid:uuid/vmsnapshot vmsnapshotids:uuids/vmsnapshot name state "
    f"virtualmachineid:uuid/instance {OWNED} {PAGED}",
)
def list_vm_snapshot(call: Call) -> Body:
    """List virtual machine snapshot by conditions"""
    sees, state = scope.visible(call), call.text("state")
    one = call.maybe("vmsnapshotid", VmSnapshot)
    rows = [
        row for row in matching(call, call.world.all(VmSnapshot), virtualmachineid="instance_id")
        if sees(row.account_id) and (one is None or row.id == one.id)
        and (not state or row.state == state)
    ]  # fmt: skip
    return call.listing("vmSnapshot", rows, lambda row: shapes.vm_snapshot(call.world, row))


@command(
    "createVMSnapshot",
    "virtualmachineid:uuid/instance! name description snapshotmemory:boolean quiescevm:boolean",
    is_async=True,
)
def create_vm_snapshot(call: Call) -> Work:
    """Creates snapshot for a vm."""
    world, vm = call.world, mine(call, "virtualmachineid")
    memory = call.flag("snapshotmemory")
    shots = [shot for shot in world.all(VmSnapshot) if shot.instance_id == vm.id]
    if len(shots) >= int(world.settings["vmsnapshot.max"]):
        raise bad(
            f"Creating Instance Snapshot failed due to a VM can just have : "
            f"{len(shots)} VM snapshots. Please delete old ones"
        )
    _check_strategy(call, vm, memory=memory)
    shot = world.add(
        VmSnapshot(
            instance_id=vm.id, account_id=vm.account_id, state="Creating",
            kind="DiskAndMemory" if memory else "Disk", description=call.text("description"),
            parent_id=shots[-1].id if shots else "",
        )
    )  # fmt: skip
    shot.name = f"{vm.instance_name}_VS_{world.now():%Y%m%d%H%M%S}{shot.db_id}"
    shot.display_name = call.text("name") or shot.name

    def steps() -> Steps:
        try:
            need_state(vm, "Running", "Stopped")
            yield from _taking(call, vm, shot)
        except BaseException as error:
            world.remove(shot)
            if isinstance(error, MachineError):
                raise ApiError(INTERNAL, f"Failed to create vm snapshot: {error}") from error
            raise
        for other in shots:
            other.current = False
        shot.state = "Ready"
        return {"vmsnapshot": shapes.vm_snapshot(world, shot)}

    return Work(
        steps(), object_id=shot.id, queue=vm.id, about=("VMSnapshot", shot.id),
        event="VMSNAPSHOT.CREATE", words=f"creating snapshot for VM: {vm.id}", owner=vm.account_id,
    )  # fmt: skip


def _check_strategy(call: Call, vm: Instance, *, memory: bool) -> None:
    """Refuse what no strategy of this version can do."""
    world = call.world
    disks = world.volumes_of(vm)
    if memory:
        if vm.state != "Running":
            raise bad("Memory snapshots are of instances that run")
        if any(disk.format != "qcow2" for disk in disks) or any(disk.encryption for disk in disks):
            raise bad("A memory snapshot takes volumes that are qcow2, and not encrypted")
        return
    pools = {world.get(Pool, disk.pool_id).kind for disk in disks if disk.pool_id}
    if world.since("4.21") and pools <= FILE_POOLS:
        keys = {disk.id for disk in disks}
        if any(shot.volume_id in keys for shot in world.all(Snapshot)):
            raise bad("Cannot take a disk-only VM snapshot of an instance with volume snapshots")
        if vm.backup_offering_id:
            raise bad("Cannot take a disk-only VM snapshot of an instance with a backup offering")
        return
    if vm.state != "Running" or not world.is_set("kvm.vmstoragesnapshot.enabled"):
        raise bad(
            "KVM VM does not allow to take a disk-only snapshot when VM is in running "
            "state: kvm.vmstoragesnapshot.enabled is false"
        )
    if not world.guest_agents:
        raise bad("The guest agent does not answer: the instance cannot be frozen")


def _taking(call: Call, vm: Instance, shot: VmSnapshot) -> Steps:
    world = call.world
    specs = [disk_spec(disk) for disk in world.volumes_of(vm)]
    name = vm.instance_name
    if shot.kind == "DiskAndMemory":
        yield lambda: call.machines.snapshot_memory(name, shot.name)
        return {}
    if not world.since("4.21"):
        for spec in specs:
            yield partial(call.machines.snapshot_volume, name, spec, shot.id)
        return {}
    running = name if vm.state == "Running" else ""
    paths = yield lambda: call.machines.snapshot_disks(running, specs, shot.id)
    _take_paths(world.volumes_of(vm), paths)
    shot.overlays = True
    return {}


def _take_paths(disks: list[Volume], paths: object) -> None:
    """Note the files that volumes are in now."""
    if isinstance(paths, dict):
        for disk in disks:
            disk.path = paths.get(disk.device_id, disk.path)


@command("deleteVMSnapshot", "vmsnapshotid:uuid/vmsnapshot!", is_async=True)
def delete_vm_snapshot(call: Call) -> Work:
    """Deletes a vmsnapshot."""
    world, shot = call.world, call.one("vmsnapshotid", VmSnapshot)
    vm = mine_of(call, shot)

    def steps() -> Steps:
        if shot.kind == "DiskAndMemory":
            yield lambda: call.machines.delete_memory_snapshot(vm.instance_name, shot.name)
        elif shot.overlays:
            specs = [disk_spec(disk) for disk in world.volumes_of(vm)]
            running = vm.instance_name if vm.state == "Running" else ""
            paths = yield lambda: call.machines.merge_disks(running, specs, shot.id)
            _take_paths(world.volumes_of(vm), paths)
        else:
            yield lambda: None
        world.remove(shot)
        return {"success": True}

    return Work(
        steps(), queue=vm.id, about=("VMSnapshot", shot.id), event="VMSNAPSHOT.DELETE",
        words=f"deleting VM snapshot: {shot.id}", owner=vm.account_id,
    )  # fmt: skip


def mine_of(call: Call, shot: VmSnapshot) -> Instance:
    """Give the instance of a snapshot, if the caller may act on it."""
    scope.check_account(call.world, call.caller, call.world.get(Account, shot.account_id))
    return call.world.get(Instance, shot.instance_id)
