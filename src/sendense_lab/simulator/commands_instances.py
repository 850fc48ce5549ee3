"""Instances: deployed, changed, set up anew, given away."""

from __future__ import annotations

import base64
import binascii

from sendense_lab.simulator import deploying, quotas, scope
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, Body, Steps, Work, command
from sendense_lab.simulator.commands_power import about, mine, shown, starting, stopping
from sendense_lab.simulator.errors import INTERNAL, ApiError, bad
from sendense_lab.simulator.machine_work import need_state
from sendense_lab.simulator.making import instance_row, new_nic
from sendense_lab.simulator.parameters import FOR_OWNER
from sendense_lab.simulator.records import (
    Account,
    AffinityGroup,
    BackupOffering,
    DiskOffering,
    Host,
    Instance,
    Network,
    OsType,
    SecurityGroup,
    ServiceOffering,
    Snapshot,
    SshKeyPair,
    Template,
    UserData,
    Volume,
    Zone,
    new_id,
)

GIB = deploying.GIB


@command(
    "deployVirtualMachine",
    "serviceofferingid:uuid/offering! zoneid:uuid/zone! templateid:uuid/template "
    "volumeid:uuid/volume@4.21 snapshotid:uuid/snapshot@4.21 name displayname "
    "diskofferingid:uuid/diskoffering size:integer rootdisksize:integer "
    "networkids:uuids/network iptonetworklist:map ipaddress macaddress details:map userdata "
    "userdataid:uuid/userdata affinitygroupids:uuids/affinity affinitygroupnames:list "
    "securitygroupids:uuids/securitygroup keypair keypairs:list startvm:boolean hostid:uuid/host "
    f"group hypervisor boottype bootmode keyboard dynamicscalingenabled:boolean {FOR_OWNER}",
    is_async=True,
)  # fmt: skip
def deploy_virtual_machine(call: Call) -> Work:
    """Creates and automatically starts a virtual machine based on an offering and a template."""
    owner = scope.new_owner(call)
    vm = _row(call, owner)
    start = call.flag("startvm", default=True)
    host = call.maybe("hostid", Host)
    if host and not call.caller.is_admin:
        raise bad("Parameter hostid can only be specified by a Root Admin")

    def steps() -> Steps:
        if start:
            try:
                yield from starting(call, vm, host)
            except BaseException:
                vm.state = "Error"
                raise
        else:
            yield lambda: None
        return shown(call, vm)

    return Work(
        steps(), object_id=vm.id, queue=vm.id, about=about(vm), event="VM.CREATE",
        words=f"starting Vm. Vm Id: {vm.id}", owner=owner.id,
    )  # fmt: skip


def _row(call: Call, owner: Account) -> Instance:
    """Check all, and make the rows of the instance and its volumes."""
    world = call.world
    offering = call.one("serviceofferingid", ServiceOffering)
    if call.maybe("snapshotid", Snapshot):
        raise ApiError(INTERNAL, "What snapshots hold is not kept in this simulator")
    template, root = deploying.template_of(call), deploying.root_volume(call, owner)
    if (template is None) == (root is None):
        raise (
            bad("Please specify one of templateid, snapshotid and volumeid")
            if world.since("4.21")
            else bad("Unable to use template: templateid is missing")
        )
    details = call.mapping("details")
    size = deploying.size_of(offering, details)
    cards = deploying.cards(call, owner)
    zone = call.one("zoneid", Zone)
    deploying.check_offering(offering, zone)
    deploying.check_zone(zone, [template, root, *(card.network for card in cards)])
    name = call.text("name") or f"VM-{new_id()}"
    deploying.check_name(name)
    deploying.check_clash(world, name, cards)
    disks = _disk_sizes(call, template)
    deploying.check_quotas(world, owner, size, [bytes_ for _, bytes_, _ in disks])
    vm = instance_row(world, name, owner, zone)
    vm.display_name = call.text("displayname") or name
    vm.offering_id = offering.id
    vm.cpus, vm.cpu_mhz, vm.memory_mib = size.cpus, size.mhz, size.memory_mib
    vm.details = details
    vm.nics = deploying.make_nics(world, cards)
    if template:
        vm.template_id, vm.os_type_id = template.id, template.os_type_id
    _extras(call, vm, owner)
    if root:
        root.kind, root.device_id, root.instance_id = "ROOT", 0, vm.id
        root.attached = world.now()
        vm.volume_ids.append(root.id)
    _volume_rows(call, vm, disks)
    return vm


def _disk_sizes(call: Call, template: Template | None) -> list[tuple[str, int, str]]:
    """Give kind, size and offering of the volumes to be made."""
    disks: list[tuple[str, int, str]] = []
    if template and not template.is_iso:
        asked = call.number("rootdisksize")
        if asked and asked * GIB < template.size:
            raise bad(f"Root disk size should be greater than template size: {template.size}")
        disks.append(("ROOT", asked * GIB if asked else template.size, ""))
    offering = call.maybe("diskofferingid", DiskOffering)
    if offering:
        gib = call.number("size") if offering.customized else offering.size_gib
        if not gib:
            raise bad("This disk offering requires a custom size specified")
        disks.append(("DATADISK", gib * GIB, offering.id))
    return disks


def _volume_rows(call: Call, vm: Instance, disks: list[tuple[str, int, str]]) -> None:
    for kind, size, offering in disks:
        disk = call.world.add(
            Volume(
                name=f"{'ROOT' if kind == 'ROOT' else 'DATA'}-{vm.db_id}",
                kind=kind, size=size, device_id=0 if kind == "ROOT" else 1, instance_id=vm.id,
                zone_id=vm.zone_id, account_id=vm.account_id, offering_id=offering,
                template_id=vm.template_id if kind == "ROOT" else "", attached=call.world.now(),
            )
        )  # fmt: skip
        vm.volume_ids.append(disk.id)


def _extras(call: Call, vm: Instance, owner: Account) -> None:
    vm.user_data = _user_data(call)
    stored = call.maybe("userdataid", UserData)
    if stored:
        vm.user_data, vm.user_data_id = stored.content, stored.id
    names = call.words("affinitygroupnames")
    groups = call.many("affinitygroupids", AffinityGroup) + [
        row for row in call.world.all(AffinityGroup)
        if row.name in names and row.account_id == owner.id
    ]  # fmt: skip
    for group in groups:
        if group.account_id != owner.id:
            raise bad(f"Unable to use affinity group {group.name}: it is of another account")
    vm.affinity_ids = [group.id for group in groups]
    vm.security_group_ids = [row.id for row in call.many("securitygroupids", SecurityGroup)]
    vm.keypairs = call.words("keypairs") or [call.text("keypair")] * bool(call.text("keypair"))
    for key in vm.keypairs:
        if not any(
            (row.name, row.account_id) == (key, owner.id) for row in call.world.all(SshKeyPair)
        ):
            raise bad(f"A key pair with name '{key}' was not found.")
    if call.text("group"):
        vm.group, vm.group_id = call.text("group"), new_id()
    vm.uefi = call.text("boottype").upper() == "UEFI"
    if vm.uefi and call.text("bootmode").upper() not in {"LEGACY", "SECURE"}:
        raise bad("Invalid bootmode: give LEGACY or SECURE with boottype UEFI")
    vm.boot_mode = call.text("bootmode", "LEGACY").upper()


def _user_data(call: Call) -> str:
    text = call.text("userdata")
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise bad("User data is not base64 encoded") from None
    return text


@command(
    "updateVirtualMachine",
    "id:uuid/instance! name displayname group haenable:boolean ostypeid:uuid/ostype details:map "
    "cleanupdetails:boolean userdata userdataid:uuid/userdata isdynamicallyscalable:boolean "
    "securitygroupids:uuids/securitygroup instancename customid deleteprotection:boolean@4.20",
)
def update_virtual_machine(call: Call) -> Body:
    """Updates properties of a virtual machine; it shows after its next start."""
    vm = mine(call)
    name = call.text("name")
    if name:
        need_state(vm, "Stopped")
        deploying.check_name(name)
        networks = [deploying.Card(call.world.get(Network, nic.network_id)) for nic in vm.nics]
        deploying.check_clash(call.world, name, networks, vm.id)
        vm.name = name
    vm.display_name = call.text("displayname", vm.display_name)
    vm.ha = call.flag("haenable", default=vm.ha)
    vm.delete_protection = call.flag("deleteprotection", default=vm.delete_protection)
    kind = call.maybe("ostypeid", OsType)
    vm.os_type_id = kind.id if kind else vm.os_type_id
    if call.flag("cleanupdetails"):
        vm.details = {}
    elif call.mapping("details"):
        vm.details = call.mapping("details")
    if call.text("userdata"):
        vm.user_data, vm.user_data_id = _user_data(call), ""
    if call.text("group"):
        vm.group, vm.group_id = call.text("group"), vm.group_id or new_id()
    if "securitygroupids" in call.args:
        vm.security_group_ids = [row.id for row in call.many("securitygroupids", SecurityGroup)]
    vm.updated = call.world.now()
    call.events.add(
        "VM.UPDATE", f"Successfully completed updating Vm {vm.id}", account_id=vm.account_id,
        user_id=call.caller.user.id, about=about(vm), resource=vm.name,
    )  # fmt: skip
    return shown(call, vm)


@command(
    "restoreVirtualMachine",
    "virtualmachineid:uuid/instance! templateid:uuid/template rootdisksize:integer@4.20 "
    "expunge:boolean@4.20",
    is_async=True,
)
def restore_virtual_machine(call: Call) -> Work:
    """Restore a VM to original template/ISO or new template/ISO"""
    vm = mine(call, "virtualmachineid")
    template = call.maybe("templateid", Template) or call.world.find(Template, vm.template_id)
    if template is None:
        raise bad(f"The instance {vm.name} was made of no template")

    def steps() -> Steps:
        need_state(vm, "Running", "Stopped")
        was_running = vm.state == "Running"
        if was_running:
            yield from stopping(call, vm)
        yield from _new_root(call, vm, template)
        if was_running:
            yield from starting(call, vm)
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.RESTORE", owner=vm.account_id,
        words=f"restoring Vm: {vm.id}",
    )  # fmt: skip


def _new_root(call: Call, vm: Instance, template: Template) -> Steps:
    """Drop the root volume, and put a new one in its place: another row, with another id."""
    old = call.world.root_of(vm)
    vm.template_id, vm.os_type_id = template.id, template.os_type_id
    if old:
        vm.volume_ids.remove(old.id)
        if old.path:
            yield lambda: call.machines.delete_volume(old.pool_id, old.path)
        call.world.remove(old)
    size = call.number("rootdisksize")
    _volume_rows(call, vm, [("ROOT", size * GIB if size else template.size, "")])
    return {}


@command(
    "scaleVirtualMachine", "id:uuid/instance! serviceofferingid:uuid/offering! details:map",
    is_async=True,
)  # fmt: skip
def scale_virtual_machine(call: Call) -> Work:
    """Scales the virtual machine to a new service offering."""
    vm, offering = mine(call), call.one("serviceofferingid", ServiceOffering)
    size = deploying.size_of(offering, call.mapping("details"))

    def steps() -> Steps:
        need_state(vm, "Stopped")
        yield lambda: None
        vm.offering_id = offering.id
        vm.cpus, vm.cpu_mhz, vm.memory_mib = size.cpus, size.mhz, size.memory_mib
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.UPGRADE", owner=vm.account_id,
        words=f"upgrading Vm: {vm.id}",
    )  # fmt: skip


@command(
    "addNicToVirtualMachine",
    "virtualmachineid:uuid/instance! networkid:uuid/network! ipaddress macaddress", is_async=True,
)  # fmt: skip
def add_nic(call: Call) -> Work:
    """Adds VM to specified network by creating a NIC"""
    vm, network = mine(call, "virtualmachineid"), call.one("networkid", Network)

    def steps() -> Steps:
        need_state(vm, "Stopped", "Running")
        if any(card.network_id == network.id for card in vm.nics):
            raise bad(f"A NIC already exists for VM:{vm.instance_name} in network: {network.id}")
        yield lambda: None
        place = len(vm.nics)
        vm.nics.append(
            new_nic(
                call.world, network, place, ip=call.text("ipaddress"), mac=call.text("macaddress")
            )
        )
        return shown(call, vm)

    return Work(
        steps(), queue=vm.id, about=about(vm), event="NIC.CREATE", owner=vm.account_id,
        words=f"Adding network {network.id} to user vm: {vm.id}",
    )  # fmt: skip


@command(
    "updateVMAffinityGroup",
    "id:uuid/instance! affinitygroupids:uuids/affinity affinitygroupnames:list", is_async=True,
)  # fmt: skip
def update_vm_affinity_group(call: Call) -> Work:
    """Updates the affinity/anti-affinity group associations of a virtual machine."""
    vm = mine(call)
    groups = call.many("affinitygroupids", AffinityGroup)

    def steps() -> Steps:
        need_state(vm, "Stopped")
        yield lambda: None
        vm.affinity_ids = [group.id for group in groups]
        return shown(call, vm)

    return Work(steps(), queue=vm.id, about=about(vm), owner=vm.account_id)


@command("assignVirtualMachine", f"virtualmachineid:uuid/instance! {FOR_OWNER}", access=ADMIN)
def assign_virtual_machine(call: Call) -> Body:
    """Change ownership of a VM from one account to another."""
    vm, owner = mine(call, "virtualmachineid"), scope.new_owner(call)
    need_state(vm, "Stopped")
    quotas.check(call.world, owner, "user_vm", 1)
    vm.account_id = owner.id
    for disk in call.world.volumes_of(vm):
        disk.account_id = owner.id
    return shown(call, vm)


@command(
    "assignVirtualMachineToBackupOffering",
    "virtualmachineid:uuid/instance! backupofferingid:uuid/backupoffering!", is_async=True,
)  # fmt: skip
def assign_backup_offering(call: Call) -> Work:
    """Assigns a VM to a backup offering"""
    vm, offering = mine(call, "virtualmachineid"), call.one("backupofferingid", BackupOffering)

    def steps() -> Steps:
        yield lambda: None
        vm.backup_offering_id = offering.id
        return {"success": True}

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.BACKUP.OFFERING.ASSIGN",
        words=f"assigning VM to backup offering: {offering.id}", owner=vm.account_id,
    )  # fmt: skip


@command(
    "removeVirtualMachineFromBackupOffering",
    "virtualmachineid:uuid/instance! forced:boolean", is_async=True,
)  # fmt: skip
def remove_backup_offering(call: Call) -> Work:
    """Removes a VM from any existing backup offering"""
    vm = mine(call, "virtualmachineid")

    def steps() -> Steps:
        yield lambda: None
        vm.backup_offering_id = ""
        return {"success": True}

    return Work(
        steps(), queue=vm.id, about=about(vm), event="VM.BACKUP.OFFERING.REMOVE",
        words=f"removing VM from backup offering: {vm.id}", owner=vm.account_id,
    )  # fmt: skip
