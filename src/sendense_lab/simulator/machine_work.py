"""What instances and volumes become for a host: specs, places, and the choice of both."""

from __future__ import annotations

from sendense_lab.simulator.errors import BAD_PARAMETER, NO_CAPACITY, ApiError
from sendense_lab.simulator.machines import DiskSpec, MachineSpec
from sendense_lab.simulator.records import Host, Instance, Pool, Volume
from sendense_lab.simulator.world import World


def disk_spec(volume: Volume) -> DiskSpec:
    """Give a volume as a host takes it."""
    return DiskSpec(
        device_id=volume.device_id or 0,
        volume_id=volume.id,
        pool_id=volume.pool_id,
        path=volume.path,
        size=volume.size,
        format=volume.format,
    )


def machine_spec(world: World, vm: Instance) -> MachineSpec:
    """Give an instance as a host takes it."""
    return MachineSpec(
        uuid=vm.id,
        name=vm.instance_name,
        cpus=vm.cpus or 1,
        memory_mib=vm.memory_mib or 128,
        macs=tuple(card.mac for card in vm.nics),
        disks=tuple(disk_spec(disk) for disk in world.volumes_of(vm) if disk.path),
        uefi=vm.uefi,
    )


def choose_host(
    world: World, vm: Instance, *, wanted: Host | None = None, other_than: str = ""
) -> Host:
    """Choose where an instance runs: as asked, where it was last, or where the fewest run."""
    usable = [
        host for host in world.all(Host)
        if (host.kind, host.state, host.resource_state) == ("Routing", "Up", "Enabled")
        and host.zone_id == vm.zone_id
        and host.id != other_than and _reaches(world, host, vm)
    ]  # fmt: skip
    if wanted is not None:
        if wanted in usable:
            return wanted
        raise ApiError(NO_CAPACITY, f"Host {wanted.name} cannot take the instance")
    if not usable:
        raise ApiError(
            NO_CAPACITY,
            f"Unable to create a deployment for VM instance {vm.instance_name}: "
            "no host can take it",
        )
    for host in usable:
        if host.id == vm.last_host_id:
            return host
    loads = {host.id: 0 for host in usable}
    for other in world.table(Instance).values():
        if other.host_id in loads:
            loads[other.host_id] += 1
    return min(usable, key=lambda host: loads[host.id])


def _reaches(world: World, host: Host, vm: Instance) -> bool:
    """Tell whether a host can open all volumes of an instance."""
    pools = (world.find(Pool, disk.pool_id) for disk in world.volumes_of(vm))
    return all(pool is None or not pool.host or pool.host == host.name for pool in pools)


def choose_pool(world: World, zone_id: str, vm: Instance | None = None) -> Pool:
    """Choose where a new volume goes: beside the instance's root, or in the zone's first pool."""
    root = world.root_of(vm) if vm else None
    pool = world.find(Pool, root.pool_id) if root else None
    if pool is not None and pool.state == "Up":
        return pool
    for one in world.pools_for(None):
        if one.zone_id == zone_id:
            return one
    raise ApiError(NO_CAPACITY, "Unable to find a suitable storage pool")


def need_state(vm: Instance, *states: str) -> None:
    """Refuse what a state does not allow."""
    if vm.state not in states:
        raise ApiError(
            BAD_PARAMETER,
            f"Virtual machine {vm.name} is in state {vm.state}; it has to be in "
            f"{' or '.join(states)}",
        )
