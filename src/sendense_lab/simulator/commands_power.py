"""Instances: listed, started, stopped, rebooted, moved, and at last destroyed."""

from __future__ import annotations

from collections.abc import Callable

from sendense_lab.simulator import scope, shapes
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, Body, Steps, Work, command
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.errors import INTERNAL, UNAVAILABLE, ApiError, bad
from sendense_lab.simulator.machine_work import choose_host, machine_spec, need_state
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import Account, Host, Instance, Record, VmSnapshot, Volume
from sendense_lab.simulator.world import World

FILTERS = (
    "id:uuid/instance ids:uuids/instance name state zoneid:uuid/zone hypervisor "
    "serviceofferingid:uuid/offering templateid:uuid/template networkid:uuid/network "
    "affinitygroupid:uuid/affinity hostid:uuid/host podid:uuid/pod clusterid:uuid/cluster "
    "storageid:uuid/pool details:list userdata:boolean tags:map groupid keypair "
    f"backupofferingid:uuid/backupoffering haenable:boolean {OWNED} {PAGED}"
)


def shown(call: Call, vm: Instance) -> Body:
    """Show an instance to who asks."""
    return {"virtualmachine": shapes.instance(call.world, vm, full=call.full)}


def mine(call: Call, name: str = "id") -> Instance:
    """Give the instance that a parameter names, if the caller may act on it."""
    vm = call.one(name, Instance)
    scope.check_account(call.world, call.caller, call.world.get(Account, vm.account_id))
    return vm


def about(vm: Instance) -> tuple[str, str]:
    """Give what a job on an instance is about."""
    return ("VirtualMachine", vm.id)


def find_instances(call: Call) -> list[Instance]:
    """Give the instances that a list command asks for."""
    sees = scope.visible(call)
    wanted = {row.id for row in call.many("ids", Instance)}
    rows = matching(
        call, call.world.table(Instance).values(), zoneid="zone_id", templateid="template_id",
        serviceofferingid="offering_id", hostid="host_id", backupofferingid="backup_offering_id",
    )  # fmt: skip
    tests = _tests(call)
    return [
        vm for vm in rows
        if sees(vm.account_id) and (not wanted or vm.id in wanted)
        and all(test(vm) for test in tests)
    ]  # fmt: skip


def _tests(call: Call) -> list[Callable[[Instance], bool]]:
    world = call.world
    tests: list[Callable[[Instance], bool]] = []
    state = call.text("state")
    if state:
        tests.append(lambda vm: vm.state == state)
    elif not call.caller.is_admin:
        tests.append(lambda vm: vm.state not in {"Destroyed", "Expunging"})
    network, pool = call.args.get("networkid"), call.args.get("storageid")
    if isinstance(network, Record):
        tests.append(lambda vm: any(card.network_id == network.id for card in vm.nics))
    if isinstance(pool, Record):
        tests.append(lambda vm: any(disk.pool_id == pool.id for disk in world.volumes_of(vm)))
    group = call.args.get("affinitygroupid")
    if isinstance(group, Record):
        tests.append(lambda vm: group.id in vm.affinity_ids)
    for tag in call.pairs("tags"):
        tests.append(lambda vm, tag=tag: vm.tags.get(tag.get("key", "")) == tag.get("value"))  # type: ignore[misc]
    return tests


@command("listVirtualMachines", FILTERS)
def list_virtual_machines(call: Call) -> Body:
    """List the virtual machines owned by the account."""
    parts = shapes.wanted(call.world, call.words("details"))
    data = call.flag("userdata")
    return call.listing(
        "virtualmachine",
        find_instances(call),
        lambda vm: shapes.instance(call.world, vm, full=call.full, parts=parts, user_data=data),
    )


@command("listVirtualMachinesMetrics", FILTERS)
def list_virtual_machines_metrics(call: Call) -> Body:
    """Lists VM metrics"""
    parts = shapes.wanted(call.world, call.words("details"))
    return call.listing(
        "virtualmachine",
        find_instances(call),
        lambda vm: {
            **shapes.instance(call.world, vm, full=call.full, parts=parts),
            "ipaddress": next((card.ip for card in vm.nics if card.is_default), ""),
            "cputotal": f"{vm.cpus * vm.cpu_mhz / 1000:.1f} Ghz",
            "memorytotal": f"{vm.memory_mib / 1024:.2f} GB",
            "diskiopstotal": 0,
        },
    )


@command(
    "startVirtualMachine",
    "id:uuid/instance! hostid:uuid/host podid:uuid/pod clusterid:uuid/cluster "
    "considerlasthost:boolean",
    is_async=True,
)
def start_virtual_machine(call: Call) -> Work:
    """Starts a virtual machine."""
    vm = mine(call)
    wanted = call.maybe("hostid", Host)
    if wanted and not call.caller.is_admin:
        raise bad("Only root administrators can say where an instance starts")

    def steps() -> Steps:
        need_state(vm, "Stopped")
        yield from starting(call, vm, wanted)
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.START", owner=vm.account_id,
        words=f"starting Vm. Vm Id: {vm.id}",
    )  # fmt: skip


def starting(call: Call, vm: Instance, wanted: Host | None = None) -> Steps:
    """Start an instance that is off: volumes that are only allocated come to be first."""
    from sendense_lab.simulator.volume_work import allocate

    world = call.world
    vm.state = "Starting"
    try:
        for disk in world.volumes_of(vm):
            if disk.state == "Allocated":
                yield from allocate(call, disk, vm)
        host = choose_host(world, vm, wanted=wanted)
        spec = machine_spec(world, vm)
        yield lambda: call.machines.start(spec, host.name)
    except MachineError as error:
        vm.state = "Stopped"
        raise ApiError(
            UNAVAILABLE,
            f"Unable to start a VM {vm.instance_name} due to insufficient capacity: {error}",
        ) from error
    except BaseException:
        vm.state = "Stopped"
        raise
    vm.state, vm.host_id, vm.last_host_id = "Running", host.id, host.id
    vm.updated = world.now()
    return {}


@command("stopVirtualMachine", "id:uuid/instance! forced:boolean", is_async=True)
def stop_virtual_machine(call: Call) -> Work:
    """Stops a virtual machine."""
    vm = mine(call)
    forced = call.flag("forced")

    def steps() -> Steps:
        if vm.state == "Stopped":
            return shown(call, vm)
        need_state(vm, "Running", *(("Starting", "Stopping", "Unknown") if forced else ()))
        yield from stopping(call, vm, forced=forced)
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.STOP", owner=vm.account_id,
        words=f"stopping user vm: {vm.id}",
    )  # fmt: skip


def stopping(call: Call, vm: Instance, *, forced: bool = False) -> Steps:
    """Stop an instance that runs."""
    vm.state = "Stopping"
    try:
        yield lambda: call.machines.stop(vm.instance_name, forced=forced)
    except BaseException:
        vm.state = "Running"
        raise
    vm.last_host_id = vm.host_id or vm.last_host_id
    vm.state, vm.host_id = "Stopped", ""
    vm.updated = call.world.now()
    return {}


@command("rebootVirtualMachine", "id:uuid/instance! forced:boolean", is_async=True)
def reboot_virtual_machine(call: Call) -> Work:
    """Reboots a virtual machine."""
    vm = mine(call)
    forced = call.flag("forced")

    def steps() -> Steps:
        need_state(vm, "Running")
        if forced:
            yield from stopping(call, vm)
            yield from starting(call, vm)
        else:
            yield lambda: call.machines.reboot(vm.instance_name)
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.REBOOT", owner=vm.account_id,
        words=f"rebooting user vm: {vm.id}",
    )  # fmt: skip


@command(
    "migrateVirtualMachine",
    "virtualmachineid:uuid/instance! hostid:uuid/host storageid:uuid/pool autoselect:boolean",
    access=ADMIN, is_async=True,
)  # fmt: skip
def migrate_virtual_machine(call: Call) -> Work:
    """Attempts Migration of a VM to a different host."""
    vm = mine(call, "virtualmachineid")
    wanted = call.maybe("hostid", Host)
    if wanted and wanted.id == vm.host_id:
        raise bad(f"Cannot migrate VM, host with id: {wanted.id} for VM is the same as the source")

    def steps() -> Steps:
        need_state(vm, "Running")
        yield from migrating(call, vm, wanted)
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.MIGRATE", owner=vm.account_id,
        words=f"Attempting to migrate VM Id: {vm.id}",
    )  # fmt: skip


def migrating(call: Call, vm: Instance, wanted: Host | None = None) -> Steps:
    """Move an instance that runs to another host."""
    host = choose_host(call.world, vm, wanted=wanted, other_than=vm.host_id)
    vm.state = "Migrating"
    try:
        yield lambda: call.machines.migrate(vm.instance_name, host.name)
    except MachineError as error:
        raise ApiError(INTERNAL, f"Migration was refused or failed: {error}") from error
    finally:
        vm.state = "Running"
    vm.last_host_id, vm.host_id = vm.host_id, host.id
    return {}


@command(
    "destroyVirtualMachine",
    "id:uuid/instance! expunge:boolean volumeids:uuids/volume forced:boolean@4.22", is_async=True,
)  # fmt: skip
def destroy_virtual_machine(call: Call) -> Work:
    """Destroys a virtual machine. Once destroyed, only the administrator can recover it."""
    vm = mine(call)
    expunge = call.flag("expunge")
    if expunge and not call.caller.is_admin:
        raise bad(
            "Parameter expunge can be passed by Admin only. Or when the "
            "allow.user.expunge.recover.vm key is set."
        )
    volumes = call.many("volumeids", Volume)

    def steps() -> Steps:
        if vm.delete_protection:
            raise bad(
                f"Instance [id = {vm.id}, name = {vm.name}] has delete protection "
                "enabled and cannot be deleted."
            )
        if vm.state == "Running":
            yield from stopping(call, vm)
        need_state(vm, "Stopped", "Error", "Destroyed")
        vm.state = "Destroyed"
        vm.updated = call.world.now()
        for disk in call.world.volumes_of(vm):
            if disk.kind != "ROOT" and disk in volumes:
                yield from _drop_volume(call, vm, disk)
        body = shown(call, vm)
        if expunge:
            yield from expunging(call, vm)
        return body

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.DESTROY", owner=vm.account_id,
        words=f"destroying vm: {vm.id}",
    )  # fmt: skip


def _drop_volume(call: Call, vm: Instance, disk: Volume) -> Steps:
    pool, path = disk.pool_id, disk.path
    if disk.id in vm.volume_ids:
        vm.volume_ids.remove(disk.id)
    if path:
        yield lambda: call.machines.delete_volume(pool, path)
    call.world.remove(disk)
    return {}


def expunging(call: Call, vm: Instance) -> Steps:
    """Remove an instance for good: its root goes, its data volumes stay, detached."""
    vm.state = "Expunging"
    for disk in call.world.volumes_of(vm):
        if disk.kind == "ROOT":
            yield from _drop_volume(call, vm, disk)
        else:
            disk.instance_id, disk.device_id, disk.attached = "", None, None
    forget(call.world, vm)
    call.events.add(
        "VM.EXPUNGE", f"successfully expunged vm: {vm.id}", account_id=vm.account_id,
        about=about(vm), resource=vm.name,
    )  # fmt: skip
    return {}


def forget(world: World, vm: Instance) -> None:
    """Drop an instance and what hangs on it from the tables."""
    for shot in world.all(VmSnapshot):
        if shot.instance_id == vm.id:
            world.remove(shot)
    world.remove(vm)


@command("expungeVirtualMachine", "id:uuid/instance!", access=ADMIN, is_async=True)
def expunge_virtual_machine(call: Call) -> Work:
    """Expunge a virtual machine. Once expunged, it cannot be recoverd."""
    vm = mine(call)

    def steps() -> Steps:
        if vm.state not in {"Destroyed", "Expunging", "Error"}:
            raise bad(f"Please destroy vm with specified vmId before expunging: {vm.id}")
        yield from expunging(call, vm)
        return {"success": True}

    return Work(steps(), queue=vm.id, about=about(vm))


@command("unmanageVirtualMachine", "id:uuid/instance!", access=ADMIN, is_async=True)
def unmanage_virtual_machine(call: Call) -> Work:
    """Unmanage a guest virtual machine."""
    vm = mine(call)

    def steps() -> Steps:
        need_state(vm, "Running", "Stopped")
        if any(shot.instance_id == vm.id for shot in call.world.all(VmSnapshot)):
            raise bad(f"Cannot unmanage VM with id = {vm.id} as there are VM snapshots for it")
        yield lambda: None
        # What runs, runs on; its files stay. CloudStack only forgets.
        for disk in call.world.volumes_of(vm):
            call.world.remove(disk)
        call.world.remove(vm)
        return {"success": True}

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.UNMANAGE", owner=vm.account_id,
        words=f"unmanaging VM. Vm Id: {vm.id}",
    )  # fmt: skip


@command("recoverVirtualMachine", "id:uuid/instance!")
def recover_virtual_machine(call: Call) -> Body:
    """Recovers a virtual machine."""
    vm = mine(call)
    if vm.state != "Destroyed":
        raise bad(
            f"Unable to recover the vm with specified vmId as it is not in the "
            f"right state: {vm.state}"
        )
    vm.state = "Stopped"
    return shown(call, vm)
