"""Files of a pool that become volumes, and instances made around one."""

from __future__ import annotations

from sendense_lab.simulator import deploying, quotas, scope
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, Body, Steps, Work, command
from sendense_lab.simulator.commands_power import about, shown
from sendense_lab.simulator.commands_volumes import my_volume
from sendense_lab.simulator.commands_volumes import shown as volume_shown
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.machines import FileFact
from sendense_lab.simulator.making import instance_row
from sendense_lab.simulator.parameters import FOR_OWNER, PAGED
from sendense_lab.simulator.records import (
    Account,
    DiskOffering,
    Instance,
    Network,
    Pool,
    ServiceOffering,
    Template,
    Volume,
    Zone,
)
from sendense_lab.simulator.shapes import Fields, set_fields

GIB = 1 << 30


def known_paths(call: Call, pool: Pool) -> set[str]:
    """Give the files of a pool that are volumes already, or what templates lie in."""
    volumes = call.world.all(Volume)
    return {disk.path for disk in volumes if disk.pool_id == pool.id and disk.path}


def check_pool(call: Call, pool: Pool) -> None:
    """Refuse a pool that nothing can be imported from."""
    kinds = {"NetworkFilesystem", "Filesystem", "RBD"}
    if call.world.since("4.22.1"):
        kinds.add("SharedMountPoint")
    if pool.kind not in kinds:
        raise bad(f"Importing volumes is not supported for storage pool type {pool.kind}")
    if pool.state != "Up":
        raise bad(f"Storage pool {pool.name} is not Up")


@command(
    "listVolumesForImport", f"storageid:uuid/pool! path {PAGED}", access=ADMIN, since="4.19.1"
)  # fmt: skip
def list_volumes_for_import(call: Call) -> Body:
    """Lists unmanaged volumes on a storage pool"""
    pool, path = call.one("storageid", Pool), call.text("path")
    check_pool(call, pool)
    known = known_paths(call, pool)
    found = [
        fact for fact in call.machines.files(pool.id)
        if fact.path not in known and (not path or fact.path == path)
        and call.text("keyword") in fact.path
    ]  # fmt: skip
    return call.listing("volumeforimport", found, lambda fact: _for_import(pool, fact))


def _for_import(pool: Pool, fact: FileFact) -> Fields:
    details: Fields = {"FILE_FORMAT": fact.format}
    if fact.backing:
        details["BACKING_FILE"] = fact.backing
        details["BACKING_FILE_FORMAT"] = "qcow2"
    if fact.locked:
        details["IS_LOCKED"] = "true"
    if fact.encrypted:
        details["IS_ENCRYPTED"] = "true"
    return set_fields({
        "name": fact.path,
        "path": fact.path,
        "fullpath": f"/mnt/{pool.id}/{fact.path}",
        "format": fact.format,
        "size": fact.size,
        "virtualsize": fact.virtual_size,
        "encryptformat": "luks" if fact.encrypted else "",
        "storageid": pool.id,
        "storage": pool.name,
        "details": details,
    })  # fmt: skip


def take_file(call: Call, pool: Pool, path: str) -> FileFact:
    """Give a file that can be imported."""
    check_pool(call, pool)
    if path in known_paths(call, pool):
        raise bad(f"The volume on path {path} is already managed by CloudStack on pool {pool.name}")
    fact = next((one for one in call.machines.files(pool.id) if one.path == path), None)
    if fact is None:
        raise bad(f"Volume with path: {path} not found on storage pool: {pool.name}")
    reasons = {
        "has backing file": bool(fact.backing),
        "is encrypted": fact.encrypted,
        "is locked, it is in use": fact.locked,
    }
    for reason, holds in reasons.items():
        if holds:
            raise bad(f"Volume with path: {path} cannot be imported: it {reason}")
    return fact


@command(
    "importVolume",
    f"path! storageid:uuid/pool! diskofferingid:uuid/diskoffering name {FOR_OWNER}",
    access=ADMIN, since="4.19.1", is_async=True,
)  # fmt: skip
def import_volume(call: Call) -> Work:
    """Import an unmanaged volume from a storage pool on a host into CloudStack"""
    world, owner, pool = call.world, scope.new_owner(call), call.one("storageid", Pool)
    path = call.text("path")
    offering = call.maybe("diskofferingid", DiskOffering) or next(
        row for row in world.all(DiskOffering) if row.customized
    )

    def steps() -> Steps:
        fact = take_file(call, pool, path)
        quotas.check_volume(world, owner, fact.virtual_size)
        if not offering.customized and offering.size_gib * GIB < fact.virtual_size:
            raise bad(f"Disk offering {offering.name} is smaller than the volume")
        yield lambda: None
        disk = world.add(
            Volume(
                name=call.text("name") or path, account_id=owner.id, zone_id=pool.zone_id,
                size=fact.virtual_size, state="Ready", pool_id=pool.id, path=path,
                format=fact.format, offering_id=offering.id,
            )
        )  # fmt: skip
        return volume_shown(call, disk)

    return Work(
        steps(), event="VOLUME.IMPORT", owner=owner.id,
        words=f"importing unmanaged volume {path} from storage pool {pool.id}",
    )  # fmt: skip


@command("unmanageVolume", "id:uuid/volume!", access=ADMIN, since="4.19.1", is_async=True)
def unmanage_volume(call: Call) -> Work:
    """Unmanage a volume on storage pool."""
    disk = my_volume(call)

    def steps() -> Steps:
        if disk.instance_id or disk.state != "Ready":
            raise bad(f"Volume {disk.name} has to be Ready, and attached to nothing")
        yield lambda: None
        call.world.remove(disk)
        return {"success": True}

    return Work(
        steps(), about=("Volume", disk.id), event="VOLUME.UNMANAGE", owner=disk.account_id,
        words=f"unmanaging volume {disk.id}",
    )  # fmt: skip


@command(
    "importVm",
    "zoneid:uuid/zone! name! serviceofferingid:uuid/offering! importsource! hypervisor! "
    "displayname hostname networkid:uuid/network storageid:uuid/pool diskpath hostid:uuid/host "
    f"clusterid:uuid/cluster! temppath details:map templateid:uuid/template@4.22 {FOR_OWNER}",
    access=ADMIN, since="4.19", is_async=True,
)  # fmt: skip
def import_vm(call: Call) -> Work:
    """Import virtual machine from a unmanaged host into CloudStack"""
    world, owner = call.world, scope.new_owner(call)
    source = call.text("importsource").lower()
    if source not in {"shared", "local"}:
        raise bad(f"Only importsource shared and local are there in this simulator, not {source}")
    if call.text("hypervisor").upper() != "KVM":
        raise bad("Import VM is for hypervisor KVM")
    pool, network = call.one("storageid", Pool), call.one("networkid", Network)
    path, name = call.text("diskpath"), call.text("name")
    if not path:
        raise bad("Disk path is required for Import VM from shared or local storage")
    offering = call.one("serviceofferingid", ServiceOffering)
    size = deploying.size_of(offering, call.mapping("details"))
    zone = call.one("zoneid", Zone)
    deploying.check_offering(offering, zone)
    deploying.check_zone(zone, [pool, network])
    deploying.check_name(name)
    card = deploying.Card(network)
    deploying.check_clash(world, name, [card])

    def steps() -> Steps:
        fact = take_file(call, pool, path)
        deploying.check_quotas(world, owner, size, [fact.virtual_size])
        yield lambda: None
        vm = instance_row(world, name, owner, zone)
        vm.display_name = call.text("displayname") or name
        vm.offering_id, vm.details = offering.id, call.mapping("details")
        vm.cpus, vm.cpu_mhz, vm.memory_mib = size.cpus, size.mhz, size.memory_mib
        vm.nics = deploying.make_nics(world, [card])
        template = call.maybe("templateid", Template) or dummy_template(call)
        vm.template_id, vm.os_type_id = template.id, template.os_type_id
        _take_root(call, vm, pool, fact)
        return shown(call, vm)

    return Work(
        steps(), event="VM.IMPORT", words=f"importing unmanaged VM: {name}", owner=owner.id,
        about=("VirtualMachine", ""),
    )  # fmt: skip


def _take_root(call: Call, vm: Instance, pool: Pool, fact: FileFact) -> None:
    disk = call.world.add(
        Volume(
            name=f"ROOT-{vm.db_id}", kind="ROOT", state="Ready", size=fact.virtual_size,
            device_id=0, instance_id=vm.id, zone_id=vm.zone_id, pool_id=pool.id, path=fact.path,
            format=fact.format, account_id=vm.account_id, attached=call.world.now(),
            template_id=vm.template_id,
        )
    )  # fmt: skip
    vm.volume_ids.append(disk.id)
    call.events.add(
        "VOLUME.IMPORT", f"imported {fact.path}", account_id=vm.account_id, about=about(vm),
    )  # fmt: skip


def dummy_template(call: Call) -> Template:
    """Give the template that imported instances are said to be of."""
    name = "kvm-default-vm-import-dummy-template"
    for template in call.world.all(Template):
        if template.name == name:
            return template
    return call.world.add(
        Template(
            name=name, kind="SYSTEM", ready=True, public=False, featured=False,
            account_id=next(a.id for a in call.world.all(Account) if a.name == "admin"),
            zone_id=call.world.all(Zone)[0].id, os_type_id="", is_iso=True,
        )
    )  # fmt: skip
