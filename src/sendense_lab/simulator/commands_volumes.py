"""Volumes: listed, created, attached, detached, resized, moved, deleted."""

from __future__ import annotations

from sendense_lab.simulator import quotas, scope, shapes
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import Body, Steps, Work, command
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.commands_power import mine
from sendense_lab.simulator.commands_roles import success
from sendense_lab.simulator.errors import INTERNAL, ApiError, bad
from sendense_lab.simulator.machine_work import disk_spec, need_state
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.parameters import FOR_OWNER, OWNED, PAGED
from sendense_lab.simulator.records import (
    Account,
    DiskOffering,
    Instance,
    Pool,
    Snapshot,
    VmSnapshot,
    Volume,
    Zone,
)
from sendense_lab.simulator.volume_work import allocate

ISO_DEVICE = 3
GIB = 1 << 30


def shown(call: Call, disk: Volume) -> Body:
    """Show a volume to who asks."""
    return {"volume": shapes.volume(call.world, disk, full=call.full)}


def my_volume(call: Call, name: str = "id") -> Volume:
    """Give the volume that a parameter names, if the caller may act on it."""
    disk = call.one(name, Volume)
    scope.check_account(call.world, call.caller, call.world.get(Account, disk.account_id))
    return disk


def no_vm_snapshots(call: Call, vm: Instance | None, what: str) -> None:
    """Refuse what VM snapshots stand in the way of."""
    if vm and any(shot.instance_id == vm.id for shot in call.world.all(VmSnapshot)):
        raise bad(f"Unable to {what}: the instance {vm.name} has VM snapshots")


@command(
    "listVolumes",
    "id:uuid/volume ids:uuids/volume name type state virtualmachineid:uuid/instance "
    "zoneid:uuid/zone podid:uuid/pod clusterid:uuid/cluster storageid:uuid/pool hostid:uuid/host "
    f"diskofferingid:uuid/diskoffering isencrypted:boolean@4.21 tags:map {OWNED} {PAGED}",
)
def list_volumes(call: Call) -> Body:
    """Lists all volumes."""
    sees = scope.visible(call)
    kind, state = call.text("type"), call.text("state")
    wanted = {row.id for row in call.many("ids", Volume)}
    rows = matching(
        call, call.world.table(Volume).values(), zoneid="zone_id", storageid="pool_id",
        virtualmachineid="instance_id", diskofferingid="offering_id",
    )  # fmt: skip
    found = [
        row for row in rows
        if sees(row.account_id) and (not kind or row.kind == kind.upper())
        and (not state or row.state == state) and (not wanted or row.id in wanted)
    ]  # fmt: skip
    return call.listing("volume", found, lambda row: shapes.volume(call.world, row, full=call.full))


@command(
    "createVolume",
    "name zoneid:uuid/zone diskofferingid:uuid/diskoffering size:integer snapshotid:uuid/snapshot "
    "virtualmachineid:uuid/instance customid storageid:uuid/pool@4.22.1 miniops:integer "
    f"maxiops:integer displayvolume:boolean {FOR_OWNER}",
    is_async=True,
)
def create_volume(call: Call) -> Work:
    """Creates a disk volume from a disk offering; it must still be attached to be of use."""
    world = call.world
    owner = scope.new_owner(call)
    offering = call.maybe("diskofferingid", DiskOffering)
    if call.maybe("snapshotid", Snapshot):
        raise ApiError(INTERNAL, "What snapshots hold is not kept in this simulator")
    if offering is None:
        raise bad("Either disk Offering Id or snapshot Id must be passed whilst creating volume")
    zone = call.maybe("zoneid", Zone)
    if zone is None:
        raise bad("Please specify a valid zone Id to create volume in")
    size = _size(offering, call.number("size"))
    quotas.check_volume(world, owner, size)
    disk = world.add(
        Volume(
            name=call.text("name") or f"DATA-{world.now():%s}",
            account_id=owner.id,
            zone_id=zone.id,
            size=size,
            offering_id=offering.id,
        )
    )
    pool = call.maybe("storageid", Pool)

    def steps() -> Steps:
        if pool is not None:
            yield from allocate(call, disk, None, pool)
        else:
            yield lambda: None
        return shown(call, disk)

    return Work(
        steps(), object_id=disk.id, about=("Volume", disk.id), event="VOLUME.CREATE",
        words=f"creating volume {disk.id}", owner=owner.id,
    )  # fmt: skip


def _size(offering: DiskOffering, gib: int | None) -> int:
    if not offering.customized:
        if gib is not None:
            raise bad("This disk offering does not allow a custom size")
        return offering.size_gib * GIB
    if gib is None:
        raise bad("This disk offering requires a custom size specified")
    if not 1 <= gib <= 1024:
        raise bad(f"Volume size: {gib} GB is out of allowed range. Min: 1. Max: 1024")
    return gib * GIB


@command(
    "attachVolume",
    "id:uuid/volume! virtualmachineid:uuid/instance! deviceid:integer",
    is_async=True,
)  # fmt: skip
def attach_volume(call: Call) -> Work:
    """Attaches a disk volume to a virtual machine."""
    disk, vm = my_volume(call), mine(call, "virtualmachineid")
    if disk.account_id != vm.account_id:
        raise bad("The volume and the instance are not of the same account")
    if disk.zone_id != vm.zone_id:
        raise bad("The volume and the instance are not in the same zone")
    wanted = call.number("deviceid")
    if disk.instance_id:
        raise bad("Volume is already attached to a VM")
    if wanted == ISO_DEVICE or (wanted is not None and wanted < 0):
        raise bad(f"deviceId {wanted} was out of the range of the valid devices")

    def steps() -> Steps:
        need_state(vm, "Running", "Stopped")
        if disk.state not in {"Allocated", "Ready", "Uploaded"}:
            raise bad(
                f"Volume state must be in Allocated, Ready or in Uploaded state, not {disk.state}"
            )
        device = _free_device(call, vm, wanted)
        no_vm_snapshots(call, vm, "attach a volume")
        if vm.backup_offering_id:
            raise bad(
                "Unable to attach volume, please specify a VM that does not have any "
                "backup offering"
            )
        yield from _attaching(call, disk, vm, device)
        return shown(call, disk)

    return Work(
        steps(), queue=vm.id, about=("Volume", disk.id), event="VOLUME.ATTACH",
        words=f"attaching volume: {disk.id} to vm: {vm.id}", owner=disk.account_id,
    )  # fmt: skip


def _free_device(call: Call, vm: Instance, wanted: int | None) -> int:
    taken = {disk.device_id for disk in call.world.volumes_of(vm)}
    if wanted is not None:
        if wanted in taken:
            raise bad(f"deviceId {wanted} is used by vm {vm.id}")
        if wanted == 0 and vm.state != "Stopped":
            raise bad("The root disk can only be attached to an instance that is stopped")
        return wanted
    return next(number for number in range(1, 64) if number not in taken | {ISO_DEVICE})


def _attaching(call: Call, disk: Volume, vm: Instance, device: int) -> Steps:
    world, before = call.world, disk.state
    root = world.root_of(vm)
    if disk.state == "Allocated" and (device == 0 or (root and root.state == "Ready")):
        yield from allocate(call, disk, vm)
    disk.device_id = device
    if vm.state == "Running":
        spec = disk_spec(disk)
        disk.state = "Attaching"
        try:
            yield lambda: call.machines.attach(vm.instance_name, spec)
        except BaseException as error:
            disk.device_id, disk.state = None, "Ready" if disk.path else before
            if isinstance(error, MachineError):
                raise ApiError(INTERNAL, f"Failed to attach volume {disk.name}: {error}") from error
            raise
        disk.state = "Ready"
    else:
        yield lambda: None
    disk.instance_id, disk.attached = vm.id, world.now()
    if device == 0:
        disk.kind = "ROOT"
    vm.volume_ids.append(disk.id)
    return {}


@command(
    "detachVolume", "id:uuid/volume virtualmachineid:uuid/instance deviceid:integer", is_async=True
)  # fmt: skip
def detach_volume(call: Call) -> Work:
    """Detaches a disk volume from a virtual machine."""
    disk = _to_detach(call)
    vm = call.world.find(Instance, disk.instance_id)
    if vm is None:
        raise bad("The specified volume is not attached to a VM.")

    def steps() -> Steps:
        need_state(vm, "Running", "Stopped")
        no_vm_snapshots(call, vm, "detach a volume")
        if disk.kind == "ROOT" and vm.state != "Stopped":
            raise bad("Please specify a VM that is stopped to detach its root volume.")
        spec = disk_spec(disk)
        if vm.state == "Running":
            yield lambda: call.machines.detach(vm.instance_name, spec)
        else:
            yield lambda: None
        disk.instance_id, disk.device_id, disk.attached = "", None, None
        disk.kind = "DATADISK"
        vm.volume_ids.remove(disk.id)
        return shown(call, disk)

    return Work(
        steps(), queue=vm.id, about=("Volume", disk.id), event="VOLUME.DETACH",
        words=f"detaching volume: {disk.id} from vm: {vm.id}", owner=disk.account_id,
    )  # fmt: skip


def _to_detach(call: Call) -> Volume:
    if "id" in call.args:
        return my_volume(call)
    vm, device = mine(call, "virtualmachineid"), call.number("deviceid")
    for disk in call.world.volumes_of(vm):
        if disk.device_id == device:
            return disk
    raise bad("Please provide either a volume id, or a tuple(device id, instance id)")


@command(
    "updateVolume",
    "id:uuid/volume name displayvolume:boolean customid deleteprotection:boolean@4.20",
    is_async=True,
)
def update_volume(call: Call) -> Work:
    """Updates the volume."""
    disk = my_volume(call)

    def steps() -> Steps:
        yield lambda: None
        disk.name = call.text("name", disk.name)
        disk.delete_protection = call.flag("deleteprotection", default=disk.delete_protection)
        return shown(call, disk)

    return Work(
        steps(), about=("Volume", disk.id), event="VOLUME.UPDATE", owner=disk.account_id,
        words=f"updating volume: {disk.id}",
    )  # fmt: skip


@command(
    "resizeVolume",
    "id:uuid/volume! size:integer shrinkok:boolean diskofferingid:uuid/diskoffering", is_async=True,
)  # fmt: skip
def resize_volume(call: Call) -> Work:
    """Resizes a volume"""
    disk = my_volume(call)
    offering = call.maybe("diskofferingid", DiskOffering)
    size = (call.number("size") or 0) * GIB
    if offering and not offering.customized:
        size = offering.size_gib * GIB
    if not size:
        raise bad("Need to specify either a new size or a disk offering")
    if size < disk.size and not call.flag("shrinkok"):
        raise bad(
            f"Going from existing size of {disk.size} to size of {size} would shrink the "
            "volume. Need to sign off by supplying the shrinkok parameter with value of true."
        )
    vm = call.world.find(Instance, disk.instance_id)

    def steps() -> Steps:
        no_vm_snapshots(call, vm, "resize a volume")
        running = vm is not None and vm.state == "Running"
        spec = disk_spec(disk)
        before, disk.state = disk.state, "Resizing"
        try:
            if disk.path:
                name = vm.instance_name if vm and running else ""
                yield lambda: call.machines.resize(name, spec, size)
            else:
                yield lambda: None
        except MachineError as error:
            raise ApiError(INTERNAL, f"Failed to resize volume: {error}") from error
        finally:
            disk.state = before
        disk.size = size
        disk.offering_id = offering.id if offering else disk.offering_id
        return shown(call, disk)

    return Work(
        steps(), queue=disk.instance_id, about=("Volume", disk.id), event="VOLUME.RESIZE",
        words=f"Volume Id: {disk.id}", owner=disk.account_id,
    )  # fmt: skip


@command(
    "migrateVolume",
    "volumeid:uuid/volume! storageid:uuid/pool! livemigrate:boolean newdiskofferingid",
    is_async=True,
)  # fmt: skip
def migrate_volume(call: Call) -> Work:
    """Migrate volume"""
    disk, pool = my_volume(call, "volumeid"), call.one("storageid", Pool)
    vm = call.world.find(Instance, disk.instance_id)
    if pool.id == disk.pool_id:
        raise bad("The volume is on the destination storage pool already")

    def steps() -> Steps:
        if vm and vm.state != "Stopped":
            raise bad("Volume is attached to an instance that is not stopped")
        no_vm_snapshots(call, vm, "migrate a volume")
        spec = disk_spec(disk)
        # Newer versions name the file of a volume that was moved by its format.
        path = f"{disk.id}.qcow2" if call.world.since("4.22") else disk.id
        disk.state = "Migrating"
        try:
            yield lambda: call.machines.migrate_volume(spec, pool.id, path)
        except MachineError as error:
            raise ApiError(INTERNAL, f"Failed to migrate volume: {error}") from error
        finally:
            disk.state = "Ready"
        disk.pool_id, disk.path = pool.id, path
        return shown(call, disk)

    return Work(
        steps(), queue=disk.instance_id, about=("Volume", disk.id), event="VOLUME.MIGRATE",
        words=f"Attempting to migrate volume Id: {disk.id} to storage pool Id: {pool.id}",
        owner=disk.account_id,
    )  # fmt: skip


@command("deleteVolume", "id:uuid/volume!")
def delete_volume(call: Call) -> Body:
    """Deletes a detached disk volume."""
    disk = my_volume(call)
    if disk.instance_id:
        raise bad("Please specify a volume that is not attached to any VM.")
    if disk.delete_protection:
        raise bad(
            f"Volume [id = {disk.id}, name = {disk.name}] has delete protection "
            "enabled and cannot be deleted."
        )
    if disk.path:
        call.machines.delete_volume(disk.pool_id, disk.path)
    call.world.remove(disk)
    call.events.add(
        "VOLUME.DELETE", f"Successfully completed deleting volume {disk.id}",
        account_id=disk.account_id, about=("Volume", disk.id), resource=disk.name,
    )  # fmt: skip
    return success(call)


@command("destroyVolume", "id:uuid/volume! expunge:boolean", is_async=True)
def destroy_volume(call: Call) -> Work:
    """Destroys a Volume."""
    disk = my_volume(call)
    if disk.instance_id:
        raise bad("Please specify a volume that is not attached to any VM.")
    expunge = call.flag("expunge")

    def steps() -> Steps:
        disk.state = "Destroy"
        pool, path = disk.pool_id, disk.path
        body = shown(call, disk)
        if expunge:
            if path:
                yield lambda: call.machines.delete_volume(pool, path)
            call.world.remove(disk)
        else:
            yield lambda: None
        return body

    return Work(
        steps(), about=("Volume", disk.id), event="VOLUME.DESTROY",
        words=f"destroying volume {disk.id}", owner=disk.account_id,
    )  # fmt: skip
