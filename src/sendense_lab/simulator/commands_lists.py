"""What there is around instances: zones, hosts, pools, networks, offerings, templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sendense_lab.simulator import scope
from sendense_lab.simulator import shapes_around as around
from sendense_lab.simulator.call import Call, R
from sendense_lab.simulator.catalogue import ADMIN, Body, command
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import (
    AffinityGroup,
    BackupOffering,
    Cluster,
    DiskOffering,
    Domain,
    Host,
    Instance,
    Network,
    OsType,
    Pod,
    Pool,
    Record,
    SecurityGroup,
    ServiceOffering,
    SshKeyPair,
    Template,
    UserData,
    Zone,
)
from sendense_lab.simulator.shapes import affinity_group, owner, set_fields


def matching(call: Call, rows: Iterable[R], **refs: str) -> Iterator[R]:
    """Give the rows with the id, the name and the keyword that were asked for.

    `refs` names parameters and the fields of the row that hold the same id.
    """
    one, name = call.args.get("id"), call.text("name")
    word = call.text("keyword").lower()
    keys = {
        field: value.id for param, field in refs.items()
        if isinstance(value := call.args.get(param), Record)
    }  # fmt: skip
    for row in rows:
        if isinstance(one, Record) and row.id != one.id:
            continue
        if name and row.name != name:
            continue
        if word and word not in row.name.lower():
            continue
        if all(getattr(row, field) == key for field, key in keys.items()):
            yield row


@command(
    "listZones", f"id:uuid/zone name available:boolean domainid:uuid/domain networktype {PAGED}"
)
def list_zones(call: Call) -> Body:
    """Lists zones"""
    rows = matching(call, call.world.all(Zone))
    return call.listing("zone", rows, lambda row: around.zone(call.world, row))


@command("listPods", f"id:uuid/pod name zoneid:uuid/zone {PAGED}", access=ADMIN)
def list_pods(call: Call) -> Body:
    """Lists all Pods."""
    rows = matching(call, call.world.all(Pod), zoneid="zone_id")
    return call.listing("pod", rows, lambda row: around.pod(call.world, row))


@command(
    "listClusters", f"id:uuid/cluster name hypervisor zoneid:uuid/zone podid:uuid/pod {PAGED}",
    access=ADMIN,
)  # fmt: skip
def list_clusters(call: Call) -> Body:
    """Lists clusters."""
    rows = matching(call, call.world.all(Cluster), zoneid="zone_id", podid="pod_id")
    return call.listing("cluster", rows, lambda row: around.cluster(call.world, row))


@command(
    "listHosts",
    "id:uuid/host name type hypervisor state resourcestate zoneid:uuid/zone podid:uuid/pod "
    f"clusterid:uuid/cluster details virtualmachineid:uuid/instance {PAGED}",
    access=ADMIN,
)
def list_hosts(call: Call) -> Body:
    """Lists hosts."""
    rows = matching(
        call, call.world.all(Host), zoneid="zone_id", podid="pod_id", clusterid="cluster_id"
    )
    asked = {
        "kind": call.text("type"),
        "hypervisor": call.text("hypervisor"),
        "state": call.text("state"),
        "resource_state": call.text("resourcestate"),
    }
    found = [
        row for row in rows
        if all(not value or getattr(row, field).lower() == value.lower()
               for field, value in asked.items())
    ]  # fmt: skip
    return call.listing("host", found, lambda row: around.host(call.world, row))


@command(
    "listStoragePools",
    "id:uuid/pool name path ipaddress scope zoneid:uuid/zone podid:uuid/pod "
    f"clusterid:uuid/cluster {PAGED}",
    access=ADMIN,
)
def list_storage_pools(call: Call) -> Body:
    """Lists storage pools."""
    rows = matching(
        call, call.world.all(Pool), zoneid="zone_id", podid="pod_id", clusterid="cluster_id"
    )
    scope_name = call.text("scope").upper()
    found = [row for row in rows if not scope_name or row.scope == scope_name]
    return call.listing("storagepool", found, lambda row: around.pool(call.world, row))


@command(
    "listNetworks",
    "id:uuid/network zoneid:uuid/zone type traffictype canusefordeploy:boolean "
    f"acltype {OWNED} {PAGED}",
)
def list_networks(call: Call) -> Body:
    """Lists all available networks."""
    sees = scope.visible(call)
    kind = call.text("type").lower()
    rows = matching(call, call.world.all(Network), zoneid="zone_id")
    found = [
        row for row in rows
        if (row.public or sees(row.account_id)) and (not kind or row.kind.lower() == kind)
    ]  # fmt: skip
    return call.listing("network", found, lambda row: around.network(call.world, row))


def usable(call: Call, row: ServiceOffering | DiskOffering) -> bool:
    """Tell whether an offering is the caller's to use: of no domain, or of one above its own."""
    if call.caller.is_admin or not row.domain_ids:
        return row.state == "Active"
    path = call.world.get(Domain, call.caller.account.domain_id).path + "/"
    tops = (call.world.get(Domain, key).path + "/" for key in row.domain_ids)
    return row.state == "Active" and any(path.startswith(top) for top in tops)


@command(
    "listServiceOfferings",
    "id:uuid/offering name domainid:uuid/domain isrecursive:boolean listall:boolean "
    f"zoneid:uuid/zone virtualmachineid:uuid/instance issystem:boolean state@4.19 {PAGED}",
)
def list_service_offerings(call: Call) -> Body:
    """Lists all available service offerings."""
    rows = [row for row in matching(call, call.world.all(ServiceOffering)) if usable(call, row)]
    return call.listing(
        "serviceoffering", rows, lambda row: around.service_offering(call.world, row)
    )


@command(
    "listDiskOfferings",
    "id:uuid/diskoffering name domainid:uuid/domain isrecursive:boolean listall:boolean "
    f"zoneid:uuid/zone volumeid:uuid/volume encrypt:boolean state@4.19 {PAGED}",
)
def list_disk_offerings(call: Call) -> Body:
    """Lists all available disk offerings."""
    rows = [row for row in matching(call, call.world.all(DiskOffering)) if usable(call, row)]
    return call.listing("diskoffering", rows, lambda row: around.disk_offering(call.world, row))


FILTERS = frozenset({
    "featured", "self", "selfexecutable", "sharedexecutable", "executable", "community", "all",
})  # fmt: skip


def _templates(call: Call, *, iso: bool) -> list[Template]:
    sees = scope.visible(call)
    return [
        row for row in matching(call, call.world.all(Template), zoneid="zone_id")
        if row.is_iso == iso and (row.public or row.featured or sees(row.account_id))
    ]  # fmt: skip


@command(
    "listTemplates",
    "templatefilter! id:uuid/template name zoneid:uuid/zone hypervisor showremoved:boolean "
    f"showunique:boolean {OWNED} {PAGED}",
)
def list_templates(call: Call) -> Body:
    """List all public, private, and privileged templates."""
    asked = call.text("templatefilter")
    if asked not in FILTERS:
        raise bad(f"Unable to parse the template filter: {asked}")
    if asked == "all" and not call.caller.is_admin:
        raise bad("Filter all can be specified by admin only")
    rows = _templates(call, iso=False)
    return call.listing("template", rows, lambda row: around.template(call.world, row))


@command(
    "listIsos", f"isofilter id:uuid/template name zoneid:uuid/zone bootable:boolean {OWNED} {PAGED}"
)
def list_isos(call: Call) -> Body:
    """Lists all available ISO files."""
    rows = _templates(call, iso=True)
    return call.listing("iso", rows, lambda row: around.template(call.world, row))


@command("listOsTypes", f"id:uuid/ostype description oscategoryid {PAGED}")
def list_os_types(call: Call) -> Body:
    """Lists all supported OS types for this cloud."""
    rows = matching(call, call.world.all(OsType))
    return call.listing(
        "ostype",
        rows,
        lambda row: set_fields({
            "id": row.id, "name": row.name, "description": row.name, "isuserdefined": False,
            "oscategoryid": row.category_id,
        }),
    )  # fmt: skip


@command(
    "listAffinityGroups",
    f"id:uuid/affinity name type virtualmachineid:uuid/instance {OWNED} {PAGED}",
)
def list_affinity_groups(call: Call) -> Body:
    """Lists affinity groups"""
    sees, vm = scope.visible(call), call.maybe("virtualmachineid", Instance)
    rows = [
        row for row in matching(call, call.world.all(AffinityGroup))
        if sees(row.account_id) and (vm is None or row.id in vm.affinity_ids)
    ]  # fmt: skip
    return call.listing("affinitygroup", rows, lambda row: affinity_group(call.world, row))


@command("listSecurityGroups", f"id:uuid/securitygroup securitygroupname {OWNED} {PAGED}")
def list_security_groups(call: Call) -> Body:
    """Lists security groups"""
    sees = scope.visible(call)
    rows = [row for row in matching(call, call.world.all(SecurityGroup)) if sees(row.account_id)]
    return call.listing(
        "securitygroup",
        rows,
        lambda row: set_fields({
            "id": row.id, "name": row.name, "description": row.description,
            **owner(call.world, row.account_id), "ingressrule": [], "egressrule": [], "tags": [],
        }),
    )  # fmt: skip


@command("listSSHKeyPairs", f"name fingerprint {OWNED} {PAGED}")
def list_ssh_key_pairs(call: Call) -> Body:
    """List registered keypairs"""
    sees = scope.visible(call)
    rows = [row for row in matching(call, call.world.all(SshKeyPair)) if sees(row.account_id)]
    return call.listing(
        "sshkeypair",
        rows,
        lambda row: set_fields({
            "id": row.id, "name": row.name, "fingerprint": row.fingerprint,
            **owner(call.world, row.account_id),
        }),
    )  # fmt: skip


@command("listUserData", f"id:uuid/userdata name {OWNED} {PAGED}")
def list_user_data(call: Call) -> Body:
    """List registered userdatas"""
    sees = scope.visible(call)
    rows = [row for row in matching(call, call.world.all(UserData)) if sees(row.account_id)]
    return call.listing(
        "userdata",
        rows,
        lambda row: set_fields({
            "id": row.id, "name": row.name, "userdata": row.content,
            **owner(call.world, row.account_id),
        }),
    )  # fmt: skip


@command("listBackupOfferings", f"id:uuid/backupoffering zoneid:uuid/zone {PAGED}")
def list_backup_offerings(call: Call) -> Body:
    """Lists backup offerings"""
    rows = matching(call, call.world.all(BackupOffering))
    return call.listing(
        "backupoffering",
        rows,
        lambda row: set_fields({
            "id": row.id, "name": row.name, "description": row.description or row.name,
            "externalid": row.name, "allowuserdrivenbackups": True, "zoneid": row.zone_id,
        }),
    )  # fmt: skip
