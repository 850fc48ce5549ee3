"""Zones, hosts, pools, networks, offerings, templates and people, as answers show them."""

from __future__ import annotations

from sendense_lab.simulator.records import (
    Account,
    Cluster,
    DiskOffering,
    Domain,
    Host,
    Instance,
    Network,
    OsType,
    Pod,
    Pool,
    Project,
    Role,
    RoleRule,
    ServiceOffering,
    Template,
    User,
    Volume,
    Zone,
)
from sendense_lab.simulator.shapes import Fields, name_of, owner, set_fields, tags, when
from sendense_lab.simulator.world import World

LIMITS = (
    "vm", "ip", "volume", "snapshot", "template", "project", "network", "vpc", "cpu", "memory",
)  # fmt: skip


def zone(world: World, row: Zone) -> Fields:
    """Show a zone."""
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "networktype": row.network_type,
        "securitygroupsenabled": row.security_groups,
        "localstorageenabled": row.local_storage,
        "allocationstate": "Enabled",
        "dhcpprovider": "VirtualRouter",
        "dns1": "192.0.2.53",
        "internaldns1": "192.0.2.53",
        "guestcidraddress": "10.1.1.0/24",
        "zonetoken": row.id,
        "tags": [],
    }
    if world.since("4.19"):
        fields["type"] = "Core"
    return set_fields(fields)


def where(world: World, row: Host | Pool | Cluster) -> Fields:
    """Give the zone, the pod and the cluster of something."""
    fields: Fields = {
        "zoneid": row.zone_id,
        "zonename": name_of(world.find(Zone, row.zone_id)),
        "podid": row.pod_id,
        "podname": name_of(world.find(Pod, row.pod_id)),
    }
    if not isinstance(row, Cluster):
        fields |= {
            "clusterid": row.cluster_id,
            "clustername": name_of(world.find(Cluster, row.cluster_id)),
        }
    return fields


def pod(world: World, row: Pod) -> Fields:
    """Show a pod."""
    return {
        "id": row.id,
        "name": row.name,
        "zoneid": row.zone_id,
        "zonename": name_of(world.find(Zone, row.zone_id)),
        "allocationstate": "Enabled",
    }


def cluster(world: World, row: Cluster) -> Fields:
    """Show a cluster."""
    return {
        "id": row.id,
        "name": row.name,
        **where(world, row),
        "hypervisortype": "KVM",
        "clustertype": "CloudManaged",
        "allocationstate": "Enabled",
        "managedstate": "Managed",
        "cpuovercommitratio": "1.0",
        "memoryovercommitratio": "1.0",
        "resourcedetails": {"cpuOvercommitRatio": "1.0", "memoryOvercommitRatio": "1.0"},
    }


def host(world: World, row: Host) -> Fields:
    """Show a host."""
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "type": row.kind,
        "resourcestate": row.resource_state,
        "ipaddress": row.address,
        **where(world, row),
        "clustertype": "CloudManaged",
        "hypervisor": row.hypervisor,
        "hypervisorversion": row.hypervisor_version,
        "version": world.full_version,
        "capabilities": "hvm,snapshot",
        "cpunumber": 4,
        "cpuspeed": 2000,
        "cpuallocated": "0%",
        "cpuallocatedpercentage": "0%",
        "cpuallocatedvalue": 0,
        "cpuallocatedwithoverprovisioning": "0%",
        "cpuwithoverprovisioning": "8000",
        "memorytotal": 8589934592,
        "memoryallocated": 0,
        "memoryallocatedbytes": 0,
        "memoryallocatedpercentage": "0%",
        "memorywithoverprovisioning": "8589934592",
        "created": when(row.created),
        "lastpinged": "1970-01-19T16:32:39+0000",
        "events": "Ping; AgentConnected; AgentDisconnected; HostDown; Remove",
        "hahost": False,
        "hasannotations": False,
        "hostha": {"haenable": False, "hastate": "Disabled"},
        "islocalstorageactive": False,
        "managementserverid": world.management_id,
        "outofbandmanagement": {"enabled": False, "powerstate": "Disabled"},
        "encryptionsupported": True,
        "ueficapability": True,
        "details": dict(row.details),
    }
    if world.since("4.19"):
        fields["instanceconversionsupported"] = False
    if world.since("4.20"):
        fields["arch"] = "x86_64"
    return set_fields(fields)


def pool(world: World, row: Pool) -> Fields:
    """Show a primary storage."""
    used = sum(disk.size for disk in world.table(Volume).values() if disk.pool_id == row.id)
    return set_fields({
        "id": row.id,
        "name": row.name,
        **where(world, row),
        "type": row.kind,
        "path": row.path,
        "ipaddress": row.address,
        "scope": row.scope,
        "provider": "DefaultPrimary",
        "state": row.state,
        "hypervisor": "KVM",
        "created": when(row.created),
        "disksizetotal": row.size,
        "disksizeallocated": used,
        "disksizeused": used,
        "overprovisionfactor": "2.0",
        "suitableformigration": False,
        "managed": False,
    })  # fmt: skip


def network(world: World, row: Network) -> Fields:
    """Show a guest network."""
    return set_fields({
        "id": row.id,
        "name": row.name,
        "displaytext": row.name,
        "type": row.kind,
        "state": row.state,
        "traffictype": "Guest",
        "broadcastdomaintype": "Vlan",
        "gateway": row.gateway,
        "netmask": row.netmask,
        "cidr": row.cidr,
        "zoneid": row.zone_id,
        "zonename": name_of(world.find(Zone, row.zone_id)),
        "acltype": "Domain" if row.public else "Account",
        "issystem": False,
        "isdefault": False,
        "related": row.id,
        "dns1": "192.0.2.53",
        "specifyipranges": False,
        "canusefordeploy": True,
        "ispersistent": False,
        "restartrequired": False,
        "displaynetwork": True,
        "details": {},
        "service": [],
        **owner(world, row.account_id),
        "tags": tags(world, row.tags, row.account_id, "Network", row.id),
    })  # fmt: skip


def _places(world: World, row: ServiceOffering | DiskOffering) -> Fields:
    domains = [world.get(Domain, key) for key in row.domain_ids]
    zones = [world.get(Zone, key) for key in row.zone_ids]
    return {
        "domainid": ",".join(domain.id for domain in domains),
        "domain": ",".join(domain.path for domain in domains),
        "zoneid": ",".join(place.id for place in zones),
        "zone": ",".join(place.name for place in zones),
    }


def service_offering(world: World, row: ServiceOffering) -> Fields:
    """Show a compute offering; a custom one has no size."""
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "displaytext": row.display_text or row.name,
        "created": when(row.created),
        "iscustomized": row.customized,
        "storagetype": row.storage_type,
        "provisioningtype": "thin",
        "offerha": False,
        "limitcpuuse": False,
        "isvolatile": False,
        "issystem": False,
        "defaultuse": False,
        "cacheMode": "none",
        "rootdisksize": 0,
        "diskofferingid": row.disk_offering_id,
        "encryptroot": False,
        **_places(world, row),
    }
    if not row.customized:
        fields |= {"cpunumber": row.cpus, "cpuspeed": row.cpu_mhz, "memory": row.memory_mib}
    if world.since("4.19"):
        fields["state"] = row.state
    return set_fields(fields)


def disk_offering(world: World, row: DiskOffering) -> Fields:
    """Show a disk offering."""
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "displaytext": row.display_text or row.name,
        "created": when(row.created),
        "disksize": 0 if row.customized else row.size_gib,
        "iscustomized": row.customized,
        "storagetype": row.storage_type,
        "provisioningtype": "thin",
        "cacheMode": "none",
        "displayoffering": True,
        "encrypt": row.encrypt,
        "disksizestrictness": False,
        **_places(world, row),
    }
    if world.since("4.19"):
        fields["state"] = row.state
    return set_fields(fields)


def template(world: World, row: Template) -> Fields:
    """Show a template, or an ISO."""
    kind = world.find(OsType, row.os_type_id)
    return set_fields({
        "id": row.id,
        "name": row.name,
        "displaytext": row.name,
        "created": when(row.created),
        "zoneid": row.zone_id,
        "zonename": name_of(world.find(Zone, row.zone_id)),
        "hypervisor": "None" if row.is_iso else "KVM",
        "format": "ISO" if row.is_iso else row.format,
        "templatetype": row.kind,
        "ostypeid": row.os_type_id,
        "ostypename": name_of(kind),
        "isready": row.ready,
        "ispublic": row.public,
        "isfeatured": row.featured,
        "isextractable": True,
        "crossZones": False,
        "passwordenabled": False,
        "sshkeyenabled": False,
        "isdynamicallyscalable": False,
        "directdownload": False,
        "deployasis": False,
        "requireshvm": True,
        "bits": 0,
        "status": "Download Complete",
        "size": row.size,
        "physicalsize": row.size,
        "details": {},
        "url": "http://templates.example/image.qcow2",
        "downloaddetails": [
            {"datastore": "secondary", "downloadPercent": "100", "downloadState": "DOWNLOADED"}
        ],
        **owner(world, row.account_id),
        "tags": [],
    })  # fmt: skip


def domain(world: World, row: Domain) -> Fields:
    """Show a domain of the tree."""
    parent = world.find(Domain, row.parent_id)
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "level": row.level,
        "path": row.path,
        "parentdomainid": row.parent_id,
        "parentdomainname": name_of(parent),
        "haschild": any(one.parent_id == row.id for one in world.table(Domain).values()),
        "state": "Active",
        "created": when(row.created),
        "secondarystoragetotal": 0,
    }
    return set_fields({**fields, **_limits(row.limits)})


def _limits(limits: dict[str, int]) -> Fields:
    fields: Fields = {}
    for name in LIMITS:
        limit = limits.get("user_vm" if name == "vm" else name, -1)
        text = "Unlimited" if limit < 0 else str(limit)
        fields |= {f"{name}limit": text, f"{name}total": 0, f"{name}available": text}
    return fields


def account(world: World, row: Account) -> Fields:
    """Show an account with its users."""
    place = world.get(Domain, row.domain_id)
    role = world.find(Role, row.role_id)
    states = [one.state for one in world.table(Instance).values() if one.account_id == row.id]
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "accounttype": row.kind,
        "roleid": row.role_id,
        "rolename": name_of(role),
        "roletype": role.kind if role else "",
        "domainid": place.id,
        "domain": place.name,
        "domainpath": place.path,
        "state": row.state,
        "created": when(row.created),
        "isdefault": row.name == "admin" and place.id == world.root.id,
        "user": [user(world, one) for one in world.all(User) if one.account_id == row.id],
        "groups": [],
        **_limits(row.limits),
        "vmtotal": len(states),
        "vmrunning": states.count("Running"),
        "vmstopped": states.count("Stopped"),
    }
    if world.since("4.20.1"):
        fields["apikeyaccess"] = row.api_access
    return set_fields(fields)


def user(world: World, row: User) -> Fields:
    """Show a user; never its secret, and its API key only to administrators elsewhere."""
    holder = world.get(Account, row.account_id)
    place = world.get(Domain, holder.domain_id)
    return set_fields({
        "id": row.id,
        "username": row.name,
        "firstname": row.first_name,
        "lastname": row.last_name,
        "email": row.email,
        "created": when(row.created),
        "state": row.state,
        "account": holder.name,
        "accountid": holder.id,
        "accounttype": holder.kind,
        "roleid": holder.role_id,
        "rolename": name_of(world.find(Role, holder.role_id)),
        "domainid": place.id,
        "domain": place.name,
        "iscallerchilddomain": False,
        "isdefault": row.name == "admin",
        "is2faenabled": row.two_factor,
        "is2famandated": False,
    })  # fmt: skip


def project(world: World, row: Project) -> Fields:
    """Show a project."""
    place = world.get(Domain, row.domain_id)
    people = [row.owner_id, *row.member_ids]
    return set_fields({
        "id": row.id,
        "name": row.name,
        "displaytext": row.display_text or row.name,
        "domainid": place.id,
        "domain": place.name,
        "projectaccountname": world.get(Account, row.account_id).name,
        "state": row.state,
        "created": when(row.created),
        "owner": [{"account": name_of(world.find(Account, key))} for key in people[:1]],
        **_limits({}),
        "tags": [],
    })  # fmt: skip


def role(row: Role, *, world: World) -> Fields:
    """Show a role."""
    fields: Fields = {
        "id": row.id,
        "name": row.name,
        "type": row.kind,
        "description": row.description,
        "isdefault": row.is_default,
    }
    if world.since("4.19"):
        fields["ispublic"] = row.is_public
    if world.since("4.20"):
        fields["state"] = row.state
    return set_fields(fields)


def rule(row: RoleRule, *, world: World) -> Fields:
    """Show a rule of a role."""
    return set_fields({
        "id": row.id,
        "roleid": row.role_id,
        "rolename": name_of(world.find(Role, row.role_id)),
        "rule": row.rule,
        "permission": "allow" if row.allow else "deny",
        "description": row.description,
    })  # fmt: skip
