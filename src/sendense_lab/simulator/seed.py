"""A cloud that was just set up: a zone with what the machines have, and an administrator."""

from __future__ import annotations

from sendense_lab.simulator import roles
from sendense_lab.simulator.machines import Machines, PoolFact
from sendense_lab.simulator.records import (
    Account,
    BackupOffering,
    Cluster,
    DiskOffering,
    Domain,
    Host,
    KeyPairOfUser,
    Network,
    OsType,
    Pod,
    Pool,
    Project,
    SecurityGroup,
    ServiceOffering,
    Template,
    User,
    Zone,
)
from sendense_lab.simulator.world import World

OFFERINGS = (
    ("Tiny Instance", 1, 500, 128),
    ("Small Instance", 1, 500, 512),
    ("Medium Instance", 2, 1000, 1024),
)


def set_up(world: World, machines: Machines) -> KeyPairOfUser:
    """Fill an empty world; gives the administrator's key."""
    roles.add_built_in(world)
    admin = add_account(world, "admin", world.root, roles.ROOT_ADMIN)
    zone = world.add(Zone(name="zone1"))
    pod = world.add(Pod(name="pod1", zone_id=zone.id))
    cluster = world.add(Cluster(name="cluster1", zone_id=zone.id, pod_id=pod.id))
    take_machines(world, machines, cluster)
    _offerings(world)
    _networks(world, zone, admin)
    return world.keys_of(user_of(world, admin))[0]


def take_machines(world: World, machines: Machines, cluster: Cluster) -> None:
    """Take hosts, pools and templates of the machines that the world does not know yet."""
    known = {host.name for host in world.all(Host)}
    for fact in machines.hosts():
        if fact.name not in known:
            world.add(
                Host(
                    name=fact.name,
                    address=fact.address,
                    hypervisor_version=fact.hypervisor_version,
                    details={
                        "Host.OS": "Debian",
                        "secured": "false",
                        "token": "what a host must not tell",
                    },
                    zone_id=cluster.zone_id,
                    pod_id=cluster.pod_id,
                    cluster_id=cluster.id,
                )
            )
    for pool in machines.pools():
        if world.find(Pool, pool.id) is None:
            world.add(_pool(world, pool, cluster))
    _templates(world, machines, cluster)


def _pool(world: World, fact: PoolFact, cluster: Cluster) -> Pool:
    # A pool of one host has that host's address.
    local = [host.address for host in world.all(Host) if fact.host and host.name == fact.host]
    address = local[0] if local else Pool.address
    return Pool(
        id=fact.id,
        name=fact.name,
        kind=fact.kind,
        path=fact.path,
        host=fact.host,
        address=address,
        scope="HOST" if fact.host else "CLUSTER",
        zone_id=cluster.zone_id,
        pod_id=cluster.pod_id,
        cluster_id=cluster.id,
    )


def _templates(world: World, machines: Machines, cluster: Cluster) -> None:
    admin = world.named(Account, "admin")
    known = {template.machine_name for template in world.all(Template)}
    system = next(iter(world.all(OsType)), None) or world.add(
        OsType(name="Debian GNU/Linux 12 (64-bit)")
    )
    for fact in machines.templates():
        if fact.name not in known:
            world.add(
                Template(
                    name=fact.name,
                    machine_name=fact.name,
                    size=fact.size,
                    zone_id=cluster.zone_id,
                    os_type_id=system.id,
                    account_id=admin.id,
                )
            )
    if not any(row.is_iso for row in world.all(Template)):
        world.add(
            Template(
                name="debian-12-netinst",
                is_iso=True,
                size=700 << 20,
                zone_id=cluster.zone_id,
                os_type_id=system.id,
                account_id=admin.id,
            )
        )


def _offerings(world: World) -> None:
    world.add(OsType(name="Other Linux (64-bit)"))
    for name, cpus, mhz, memory in OFFERINGS:
        world.add(ServiceOffering(name=name, cpus=cpus, cpu_mhz=mhz, memory_mib=memory))
    world.add(ServiceOffering(name="Custom Instance", customized=True))
    world.add(DiskOffering(name="Small", size_gib=5))
    world.add(DiskOffering(name="Large", size_gib=100))
    world.add(DiskOffering(name="Custom", customized=True))
    world.add(BackupOffering(name="Daily NAS"))


def _networks(world: World, zone: Zone, admin: Account) -> None:
    world.add(
        Network(
            name="shared1", zone_id=zone.id, kind="Shared", account_id=admin.id, public=True,
            cidr="10.9.0.0/16", gateway="10.9.0.1", netmask="255.255.0.0", vlan=900,
        )
    )  # fmt: skip
    world.add(Network(name="isolated1", zone_id=zone.id, account_id=admin.id))


def add_domain(world: World, name: str, parent: Domain) -> Domain:
    """Make a domain below another."""
    return world.add(
        Domain(
            name=name,
            parent_id=parent.id,
            path=f"{parent.path}/{name}",
            level=parent.level + 1,
        )
    )


def add_account(world: World, name: str, domain: Domain, role: str) -> Account:
    """Make an account with one user of the same name, who has a key."""
    found = world.role_named(role)
    account = world.add(
        Account(
            name=name,
            domain_id=domain.id,
            kind=roles.KINDS[found.kind],
            role_id=found.id,
        )
    )
    user = world.add(User(name=name, account_id=account.id, email=f"{name}@example.org"))
    world.add(SecurityGroup(name="default", account_id=account.id))
    world.add_key(user)
    return account


def user_of(world: World, account: Account) -> User:
    """Give the first user of an account."""
    return next(user for user in world.all(User) if user.account_id == account.id)


def add_project(world: World, name: str, owner: Account, text: str = "") -> Project:
    """Make a project, and the account that owns what it owns."""
    project = Project(name=name, display_text=text, domain_id=owner.domain_id, owner_id=owner.id)
    account = world.add(
        Account(
            name=f"PrjAcct-{name}-1",
            domain_id=owner.domain_id,
            kind=5,
            project_id=project.id,
        )
    )
    project.account_id = account.id
    return world.add(project)
