"""Instances made straight into the tables: what tests and the demo begin with."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sendense_lab.simulator.machine_work import choose_host, choose_pool, machine_spec
from sendense_lab.simulator.machines import Machines
from sendense_lab.simulator.records import (
    Account,
    Instance,
    Network,
    Nic,
    Pool,
    ServiceOffering,
    Template,
    Volume,
    Zone,
)
from sendense_lab.simulator.seed import user_of
from sendense_lab.simulator.world import World


@dataclass(frozen=True)
class NewInstance:
    """What an instance is made of; names are of what the world has."""

    name: str
    account: Account
    template: Template
    offering: ServiceOffering
    networks: Sequence[Network]
    disks: Sequence[int] = ()
    """Sizes of its data volumes."""
    running: bool = True
    host: str = ""
    pool: Pool | None = None
    root_size: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""
    display_name: str = ""


def new_nic(world: World, network: Network, place: int, *, ip: str = "", mac: str = "") -> Nic:
    """Give a card in a network, with the next address of it."""
    if not ip and network.kind != "L2":
        base = network.cidr.split("/")[0].split(".")
        number = network.next_host
        network.next_host += 1
        ip = f"{base[0]}.{base[1]}.{int(base[2]) + number // 250}.{number % 250 + 2}"
    return Nic(
        network_id=network.id,
        mac=mac or world.next_mac(),
        ip=ip,
        is_default=place == 0,
        device_id=place,
    )


def instance_row(world: World, name: str, account: Account, zone: Zone) -> Instance:
    """Make the row of an instance; its domain's name comes of the numbers of both."""
    vm = world.add(
        Instance(
            name=name,
            account_id=account.id,
            zone_id=zone.id,
            user_id=user_of(world, account).id if account.kind != 5 else "",
        )
    )
    vm.instance_name = f"i-{account.db_id}-{vm.db_id}-{world.settings['instance.name']}"
    return vm


def make(world: World, machines: Machines, new: NewInstance) -> Instance:
    """Make an instance with its volumes, and start it if it is to run."""
    with world.lock:
        vm = instance_row(world, new.name, new.account, world.all(Zone)[0])
        vm.display_name = new.display_name
        vm.offering_id, vm.template_id = new.offering.id, new.template.id
        vm.cpus, vm.cpu_mhz = new.offering.cpus or 1, new.offering.cpu_mhz or 500
        vm.memory_mib = new.offering.memory_mib or 128
        vm.os_type_id = new.template.os_type_id
        vm.tags, vm.details = dict(new.tags), dict(new.details)
        vm.user_data = base64.b64encode(new.user_data.encode()).decode() if new.user_data else ""
        vm.nics = [new_nic(world, net, place) for place, net in enumerate(new.networks)]
        pool = new.pool or choose_pool(world, vm.zone_id)
    size = new.root_size or new.template.size
    _volume(world, machines, vm, pool, ("ROOT", 0, size, new.template))
    for number, size in enumerate(new.disks, 1):
        # 3 is where CloudStack puts the ISO.
        device = number if number < 3 else number + 1
        _volume(world, machines, vm, pool, ("DATADISK", device, size, None))
    if new.running:
        host = world.host_named(new.host) if new.host else None
        with world.lock:
            host = choose_host(world, vm, wanted=host)
            spec = machine_spec(world, vm)
        machines.start(spec, host.name)
        with world.lock:
            vm.state, vm.host_id, vm.last_host_id = "Running", host.id, host.id
    return vm


def _volume(
    world: World, machines: Machines, vm: Instance, pool: Pool,
    what: tuple[str, int, int, Template | None],
) -> Volume:  # fmt: skip
    kind, device, size, template = what
    disk = Volume(
        name=f"ROOT-{vm.db_id}" if kind == "ROOT" else f"DATA-{vm.db_id}-{device}",
        kind=kind,
        device_id=device,
        instance_id=vm.id,
        zone_id=vm.zone_id,
        pool_id=pool.id,
        account_id=vm.account_id,
        attached=world.now(),
        template_id=template.id if template else "",
        offering_id="" if kind == "ROOT" else _custom_offering(world),
    )
    name = template.machine_name if template else ""
    disk.size = machines.create_volume(pool.id, disk.id, size, template=name)
    disk.path, disk.state = disk.id, "Ready"
    with world.lock:
        world.add(disk)
        vm.volume_ids.append(disk.id)
    return disk


def _custom_offering(world: World) -> str:
    from sendense_lab.simulator.records import DiskOffering

    return next(row.id for row in world.table(DiskOffering).values() if row.customized)
