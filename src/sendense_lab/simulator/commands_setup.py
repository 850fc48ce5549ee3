"""What an administrator sets up: offerings, networks, limits, settings; and what users bring."""

from __future__ import annotations

import base64
import hashlib

from sendense_lab.simulator import quotas, scope, shapes
from sendense_lab.simulator import shapes_around as around
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, OPERATORS, Body, Steps, Work, command
from sendense_lab.simulator.commands_roles import success
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.parameters import FOR_OWNER, OWNED, PAGED
from sendense_lab.simulator.records import (
    Account,
    AffinityGroup,
    DiskOffering,
    Domain,
    Network,
    ServiceOffering,
    SshKeyPair,
    UserData,
    Zone,
)


@command(
    "createServiceOffering",
    "name! displaytext cpunumber:integer cpuspeed:integer memory:integer customized:boolean "
    "storagetype domainid:uuids/domain zoneid:uuids/zone",
    access=ADMIN,
)
def create_service_offering(call: Call) -> Body:
    """Creates a service offering."""
    cpus, memory = call.number("cpunumber"), call.number("memory")
    row = call.world.add(
        ServiceOffering(
            name=call.text("name"),
            display_text=call.text("displaytext"),
            cpus=cpus or 0,
            cpu_mhz=call.number("cpuspeed") or 0,
            memory_mib=memory or 0,
            customized=not cpus or not memory,
            storage_type=call.text("storagetype", "shared"),
            domain_ids=[one.id for one in call.many("domainid", Domain)],
            zone_ids=[one.id for one in call.many("zoneid", Zone)],
        )
    )
    return {"serviceoffering": around.service_offering(call.world, row)}


@command("deleteServiceOffering", "id:uuid/offering!", access=ADMIN)
def delete_service_offering(call: Call) -> Body:
    """Deletes a service offering."""
    call.one("id", ServiceOffering).state = "Inactive"
    return success(call)


@command(
    "createDiskOffering",
    "name! displaytext disksize:integer customized:boolean storagetype encrypt:boolean "
    "domainid:uuids/domain zoneid:uuids/zone",
    access=ADMIN,
)
def create_disk_offering(call: Call) -> Body:
    """Creates a disk offering."""
    size = call.number("disksize")
    if bool(size) == call.flag("customized"):
        raise bad("Give the disksize, or customized=true")
    row = call.world.add(
        DiskOffering(
            name=call.text("name"),
            display_text=call.text("displaytext"),
            size_gib=size or 0,
            customized=call.flag("customized"),
            storage_type=call.text("storagetype", "shared"),
            encrypt=call.flag("encrypt"),
            domain_ids=[one.id for one in call.many("domainid", Domain)],
            zone_ids=[one.id for one in call.many("zoneid", Zone)],
        )
    )
    return {"diskoffering": around.disk_offering(call.world, row)}


@command("deleteDiskOffering", "id:uuid/diskoffering!", access=ADMIN)
def delete_disk_offering(call: Call) -> Body:
    """Updates a disk offering."""
    call.one("id", DiskOffering).state = "Inactive"
    return success(call)


@command(
    "createNetwork",
    f"name! zoneid:uuid/zone! networkofferingid displaytext gateway netmask {FOR_OWNER}",
)
def create_network(call: Call) -> Body:
    """Creates a network"""
    row = call.world.add(
        Network(
            name=call.text("name"),
            zone_id=call.one("zoneid", Zone).id,
            account_id=scope.new_owner(call).id,
            vlan=1000 + len(call.world.table(Network)),
        )
    )
    return {"network": around.network(call.world, row)}


@command("deleteNetwork", "id:uuid/network! forced:boolean", is_async=True)
def delete_network(call: Call) -> Work:
    """Deletes a network"""
    network = call.one("id", Network)
    scope.check_account(call.world, call.caller, call.world.get(Account, network.account_id))

    def steps() -> Steps:
        yield lambda: None
        call.world.remove(network)
        return {"success": True}

    return Work(steps(), about=("Network", network.id), event="NETWORK.DELETE", words="network")


@command("createAffinityGroup", f"name! type! description {FOR_OWNER}", is_async=True)
def create_affinity_group(call: Call) -> Work:
    """Creates an affinity/anti-affinity group"""
    owner = scope.new_owner(call)
    if any(
        (row.name, row.account_id) == (call.text("name"), owner.id)
        for row in call.world.all(AffinityGroup)
    ):
        raise bad(f"Unable to create affinity group, a group with name {call.text('name')} exists")
    group = call.world.add(
        AffinityGroup(
            name=call.text("name"),
            kind=call.text("type"),
            description=call.text("description"),
            account_id=owner.id,
        )
    )

    def steps() -> Steps:
        yield lambda: None
        return {"affinitygroup": shapes.affinity_group(call.world, group)}

    return Work(
        steps(), object_id=group.id, about=("AffinityGroup", group.id), owner=owner.id,
        event="AG.CREATE", words="creating affinity group",
    )  # fmt: skip


@command("registerSSHKeyPair", f"name! publickey! {FOR_OWNER}")
def register_ssh_key_pair(call: Call) -> Body:
    """Register a public key in a keypair under a certain name"""
    digest = hashlib.md5(call.text("publickey").encode(), usedforsecurity=False).hexdigest()
    shown = ":".join(digest[at : at + 2] for at in range(0, 32, 2))
    row = call.world.add(
        SshKeyPair(name=call.text("name"), account_id=scope.new_owner(call).id, fingerprint=shown)
    )
    return {"keypair": {"id": row.id, "name": row.name, "fingerprint": row.fingerprint}}


@command("registerUserData", f"name! userdata! params {FOR_OWNER}")
def register_user_data(call: Call) -> Body:
    """Register a new userdata."""
    text = call.text("userdata")
    base64.b64decode(text)
    row = call.world.add(
        UserData(name=call.text("name"), account_id=scope.new_owner(call).id, content=text)
    )
    return {"userdata": {"id": row.id, "name": row.name, "userdata": row.content}}


@command("listResourceLimits", f"id:integer resourcetype:integer {OWNED} {PAGED}")
def list_resource_limits(call: Call) -> Body:
    """Lists resource limits."""
    owner, asked = scope.new_owner(call), call.number("resourcetype")
    rows = [row for row in quotas.RESOURCES.items() if asked in (None, row[0])]
    return call.listing(
        "resourcelimit",
        rows,
        lambda row: {
            **shapes.owner(call.world, owner.id),
            "resourcetype": str(row[0]),
            "resourcetypename": row[1],
            "max": owner.limits.get(row[1], -1),
        },
    )


@command("updateResourceLimit", f"resourcetype:integer! max:integer {FOR_OWNER}", access=OPERATORS)
def update_resource_limit(call: Call) -> Body:
    """Updates resource limits for an account or domain."""
    number = call.number("resourcetype")
    name = quotas.RESOURCES.get(-1 if number is None else number)
    if name is None:
        raise bad("Please specify a valid resource type.")
    limit = call.number("max")
    most = -1 if limit is None else limit
    domain = call.maybe("domainid", Domain)
    fields: dict[str, object] = {
        "resourcetype": str(number), "resourcetypename": name, "max": most,
    }  # fmt: skip
    if domain and not call.text("account") and "projectid" not in call.args:
        domain.limits[name] = most
        return {"resourcelimit": {"domainid": domain.id, "domain": domain.name, **fields}}
    owner = scope.new_owner(call)
    owner.limits[name] = most
    return {"resourcelimit": {**shapes.owner(call.world, owner.id), **fields}}


@command("updateConfiguration", "name! value", access=ADMIN)
def update_configuration(call: Call) -> Body:
    """Updates a configuration."""
    name, value = call.text("name"), call.text("value")
    if name not in call.world.settings:
        raise bad(f"Config parameter with name {name} doesn't exist")
    call.world.settings[name] = value
    return {"configuration": {"category": "Advanced", "name": name, "value": value}}
