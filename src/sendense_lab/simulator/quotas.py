"""Limits of accounts and domains: what would be too much is refused with 532."""

from __future__ import annotations

from sendense_lab.simulator.errors import LIMIT, ApiError
from sendense_lab.simulator.records import Account, Domain, Instance, Snapshot, Volume
from sendense_lab.simulator.world import World

GIB = 1 << 30

RESOURCES = {
    0: "user_vm", 1: "public_ip", 2: "volume", 3: "snapshot", 4: "template", 5: "project",
    6: "network", 7: "vpc", 8: "cpu", 9: "memory", 10: "primary_storage", 11: "secondary_storage",
}  # fmt: skip


def used(world: World, resource: str, accounts: set[str]) -> int:
    """Tell how much of something accounts use; storage in GiB, memory in MiB."""
    vms = [vm for vm in world.all(Instance) if vm.account_id in accounts]
    disks = [disk for disk in world.all(Volume) if disk.account_id in accounts]
    return {
        "user_vm": len(vms),
        "cpu": sum(vm.cpus for vm in vms),
        "memory": sum(vm.memory_mib for vm in vms),
        "volume": len(disks),
        "primary_storage": -(-sum(disk.size for disk in disks) // GIB),
        "snapshot": sum(1 for shot in world.all(Snapshot) if shot.account_id in accounts),
    }.get(resource, 0)


def check(world: World, account: Account, resource: str, more: int) -> None:
    """Refuse what goes over a limit of the account, or of a domain above it."""
    _check(world, f"account {account.name}", account.limits, resource, more, {account.id})
    domain: Domain | None = world.get(Domain, account.domain_id)
    while domain is not None:
        if resource in domain.limits:
            tree = world.domain_tree(domain)
            members = {one.id for one in world.all(Account) if one.domain_id in tree}
            _check(world, f"domain {domain.path}", domain.limits, resource, more, members)
        domain = world.find(Domain, domain.parent_id)


def _check(
    world: World, whose: str, limits: dict[str, int], resource: str, more: int, accounts: set[str]
) -> None:
    limit = limits.get(resource, -1)
    if limit >= 0 and used(world, resource, accounts) + more > limit:
        raise ApiError(
            LIMIT,
            f"Maximum amount of resources of Type = '{resource}' for {whose} has been exceeded. "
            f"Limit = '{limit}', requested = '{more}'",
        )


def check_volume(world: World, account: Account, size: int) -> None:
    """Refuse one more volume of a size."""
    check(world, account, "volume", 1)
    check(world, account, "primary_storage", -(-size // GIB))
