"""Tags, and network cards."""

from __future__ import annotations

from sendense_lab.simulator import scope, shapes
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import Body, Steps, Work, command
from sendense_lab.simulator.commands_power import mine
from sendense_lab.simulator.errors import INTERNAL, ApiError, bad, unknown_entity
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import (
    Account,
    Instance,
    Network,
    Nic,
    Owned,
    Record,
    Snapshot,
    VmSnapshot,
    Volume,
)

KINDS: dict[str, type[Owned]] = {
    "uservm": Instance,
    "virtualmachine": Instance,
    "volume": Volume,
    "snapshot": Snapshot,
    "vmsnapshot": VmSnapshot,
    "network": Network,
}
SHOWN: dict[type[Owned], str] = {
    Instance: "UserVm",
    Volume: "Volume",
    Snapshot: "Snapshot",
    VmSnapshot: "VMSnapshot",
    Network: "Network",
}


def _tagged(call: Call) -> list[Owned]:
    kind = KINDS.get(call.text("resourcetype").lower())
    if kind is None:
        raise bad(f"Invalid resource type: {call.text('resourcetype')}")
    rows = []
    for key in call.words("resourceids"):
        row = call.world.find(kind, key)
        if row is None:
            raise unknown_entity(call.command.name, "resourceids", key)
        scope.check_account(call.world, call.caller, call.world.get(Account, row.account_id))
        rows.append(row)
    return rows


@command("createTags", "resourceids:list! resourcetype! tags:map customer", is_async=True)
def create_tags(call: Call) -> Work:
    """Creates resource tag(s)"""
    rows, pairs = _tagged(call), call.pairs("tags")
    if not pairs or any(not pair.get("key") for pair in pairs):
        raise bad("Please specify tags as tags[0].key and tags[0].value")

    def steps() -> Steps:
        yield lambda: None
        for row in rows:
            for pair in pairs:
                if pair["key"] in row.tags:
                    raise bad(f"tag {pair['key']} already on {SHOWN[type(row)]} with id {row.id}")
                row.tags[pair["key"]] = pair.get("value", "")
        return {"success": True}

    return Work(steps(), event="TAG.CREATE", words="creating resource tags")


@command("deleteTags", "resourceids:list! resourcetype! tags:map", is_async=True)
def delete_tags(call: Call) -> Work:
    """Deleting resource tag(s)"""
    rows, pairs = _tagged(call), call.pairs("tags")

    def steps() -> Steps:
        yield lambda: None
        found = False
        for row in rows:
            for key, value in list(row.tags.items()):
                if not pairs or any(_same(pair, key, value) for pair in pairs):
                    del row.tags[key]
                    found = True
        if not found:
            raise bad("Unable to find any tags which conform to specified delete parameters.")
        return {"success": True}

    return Work(steps(), event="TAG.DELETE", words="deleting resource tags")


def _same(pair: dict[str, str], key: str, value: str) -> bool:
    return pair.get("key") == key and pair.get("value", value) == value


@command("listTags", f"key value resourceid resourcetype customer {OWNED} {PAGED}")
def list_tags(call: Call) -> Body:
    """List resource tag(s)"""
    sees = scope.visible(call)
    wanted = KINDS.get(call.text("resourcetype").lower())
    asked = {name: call.text(name) for name in ("key", "value", "resourceid") if call.text(name)}
    rows: list[tuple[str, Owned]] = [
        (name, row)
        for kind, name in SHOWN.items()
        if wanted in (None, kind)
        for row in call.world.all(kind)
    ]
    found = [
        tag
        for name, row in rows
        if sees(row.account_id)
        for tag in shapes.tags(call.world, row.tags, row.account_id, name, row.id)
        if all(tag[field] == value for field, value in asked.items())
    ]
    return call.listing("tag", found, lambda tag: tag)


@command(
    "listNics",
    f"virtualmachineid:uuid/instance! networkid:uuid/network nicid:uuid/nic {PAGED}",
)
def list_nics(call: Call) -> Body:
    """list the vm nics  IP to NIC"""
    vm = mine(call, "virtualmachineid")
    network = call.args.get("networkid")
    cards = [
        card for card in vm.nics
        if not isinstance(network, Record) or card.network_id == network.id
    ]  # fmt: skip
    return call.listing("nic", cards, lambda card: shapes.nic(call.world, card, full=call.full))


MOST_SECONDARY_IPS = 10
"""The setting `vm.network.nic.max.secondary.ipaddresses` as it is shipped."""


@command(
    "addIpToNic", "nicid! ipaddress description", is_async=True, envelope="addiptovmnicresponse"
)
def add_ip_to_nic(call: Call) -> Work:
    """Assigns secondary IP to NIC"""
    world, key, ip = call.world, call.text("nicid"), call.text("ipaddress")
    vm, card = _card(call, key)
    network = world.get(Network, card.network_id)
    others = [
        nic for other in world.table(Instance).values() for nic in other.nics
        if nic.network_id == network.id
    ]  # fmt: skip
    if len(card.secondary_ips) >= MOST_SECONDARY_IPS:
        raise bad("Allocating guest IP for NIC failed : Maximum Number of Ips per Nic was crossed")
    if network.kind == "L2" or any(ip in (nic.ip, *nic.secondary_ips) for nic in others):
        raise ApiError(INTERNAL, "Failed to assign secondary IP to NIC")
    card.secondary_ips.append(ip)

    def steps() -> Steps:
        yield lambda: None
        told = {"id": card.id, "nicid": card.id, "networkid": network.id, "ipaddress": ip}
        return {"nicsecondaryip": told}

    return Work(
        steps(), about=("VirtualMachine", vm.id), event="NIC.SECONDARY.IP.ASSIGN",
        words=f"Associating secondary IP address to NIC with ID: {card.id}", owner=vm.account_id,
    )  # fmt: skip


def _card(call: Call, key: str) -> tuple[Instance, Nic]:
    for vm in call.world.table(Instance).values():
        for card in vm.nics:
            if card.id == key:
                owner = call.world.get(Account, vm.account_id)
                scope.check_account(call.world, call.caller, owner)
                return vm, card
    raise unknown_entity(call.command.name, "nicid", key)
