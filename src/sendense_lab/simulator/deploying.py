"""What a new instance is made of, checked before there is a row of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sendense_lab.simulator import quotas, scope
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.errors import NO_CAPACITY, ApiError, bad
from sendense_lab.simulator.making import new_nic
from sendense_lab.simulator.records import (
    Account,
    Instance,
    Network,
    Nic,
    Pool,
    Record,
    ServiceOffering,
    Template,
    Volume,
    Zone,
)
from sendense_lab.simulator.world import World

GIB = 1 << 30
_NAME = re.compile(r"^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class Size:
    """What an instance takes of a host."""

    cpus: int
    mhz: int
    memory_mib: int


@dataclass(frozen=True)
class Card:
    """One network card that was asked for."""

    network: Network
    ip: str = ""
    mac: str = ""


def check_zone(zone: Zone, things: Iterable[Network | Template | Volume | Pool | None]) -> None:
    """Refuse what is of another zone than the instance is to be in."""
    for thing in things:
        if thing is not None and thing.zone_id != zone.id:
            kind = type(thing).__name__.lower()
            raise bad(f"The {kind} {thing.name} ({thing.id}) is not in the zone {zone.name}")


def check_offering(offering: ServiceOffering, zone: Zone) -> None:
    """Refuse an offering that is for other zones only."""
    if offering.zone_ids and zone.id not in offering.zone_ids:
        raise bad(f"Service offering {offering.name} is not available in the zone {zone.name}")


def size_of(offering: ServiceOffering, details: dict[str, str]) -> Size:
    """Give the size of an offering; one without asks for it in the details."""
    if not offering.customized:
        return Size(offering.cpus, offering.cpu_mhz, offering.memory_mib)
    try:
        return Size(
            int(details["cpuNumber"]), int(details.get("cpuSpeed", "500")), int(details["memory"])
        )
    except (KeyError, ValueError):
        raise bad(
            "Need to specify custom parameter values cpu, cpu speed and memory when using custom "
            "offering"
        ) from None


def check_name(name: str) -> None:
    """Refuse what is no name of a host."""
    if not _NAME.match(name):
        raise bad(
            "Invalid name. Vm name can contain ASCII letters 'a' through 'z', the digits '0' "
            "through '9', and the hyphen ('-'), must be between 1 and 63 characters long, and "
            "can't start or end with \"-\" and can't start with digit"
        )


def cards(call: Call, owner: Account) -> list[Card]:
    """Give the cards that were asked for; without a word, one in a network that is the owner's."""
    asked = [_card(call, row) for row in call.pairs("iptonetworklist")]
    if asked and call.many("networkids", Network):
        raise bad("networkIds can't be specified along with iptonetworklist")
    if not asked:
        networks = call.many("networkids", Network) or [_default_network(call.world, owner)]
        first = Card(networks[0], call.text("ipaddress"), call.text("macaddress"))
        asked = [first, *(Card(network) for network in networks[1:])]
    if len({card.network.id for card in asked}) != len(asked):
        raise bad("Duplicate network ids were given")
    for card in asked:
        _check_card(call, card, owner)
    return asked


def _card(call: Call, row: dict[str, str]) -> Card:
    given = {key.lower(): value for key, value in row.items()}
    network = call.world.find(Network, given.get("networkid", ""))
    if network is None:
        raise bad(f"Unable to find network by id {given.get('networkid', '')}")
    return Card(network, given.get("ip", ""), given.get("mac", ""))


def _default_network(world: World, owner: Account) -> Network:
    networks = world.all(Network)
    for network in (*(n for n in networks if n.account_id == owner.id and not n.public),
                    *(n for n in networks if n.public)):  # fmt: skip
        return network
    raise bad("Unable to find a default network; specify networkids")


def _check_card(call: Call, card: Card, owner: Account) -> None:
    world, network = call.world, card.network
    if not network.public and network.account_id != owner.id:
        raise bad(f"Unable to use network with id= {network.id}, permission denied")
    for vm in world.table(Instance).values():
        for nic in vm.nics:
            if card.mac and nic.mac.lower() == card.mac.lower():
                raise bad(f"Mac address {card.mac} is in use already")
            if card.ip and nic.network_id == network.id and card.ip in (nic.ip, *nic.secondary_ips):
                raise ApiError(
                    NO_CAPACITY, f"Unable to acquire Guest IP address {card.ip} for {network.name}"
                )


def check_clash(world: World, name: str, wanted: list[Card], but: str = "") -> None:
    """Refuse a name that another instance has in one of the networks."""
    keys = {card.network.id for card in wanted}
    for vm in world.table(Instance).values():
        if vm.name == name and vm.id != but and any(nic.network_id in keys for nic in vm.nics):
            raise bad(f"The vm with hostName {name} already exists in the network domain")


def make_nics(world: World, wanted: list[Card]) -> list[Nic]:
    """Give the rows of the cards."""
    return [
        new_nic(world, card.network, place, ip=card.ip, mac=card.mac)
        for place, card in enumerate(wanted)
    ]


def check_quotas(world: World, owner: Account, size: Size, disks: list[int]) -> None:
    """Refuse what is over a limit."""
    quotas.check(world, owner, "user_vm", 1)
    quotas.check(world, owner, "cpu", size.cpus)
    quotas.check(world, owner, "memory", size.memory_mib)
    if disks:
        quotas.check(world, owner, "volume", len(disks))
        quotas.check(world, owner, "primary_storage", sum(-(-size // GIB) for size in disks))


def root_volume(call: Call, owner: Account) -> Volume | None:
    """Give the volume that the instance is to be made around (4.21+)."""
    disk = call.maybe("volumeid", Volume)
    if disk is None:
        return None
    scope.check_account(call.world, call.caller, call.world.get(Account, disk.account_id))
    if disk.account_id != owner.id:
        raise bad("The volume is not of the account that the instance is for")
    if disk.instance_id or disk.state != "Ready":
        raise bad(f"Volume {disk.id} has to be Ready, and attached to nothing")
    return disk


def template_of(call: Call) -> Template | None:
    """Give the template that was asked for, if it is ready and the caller's to use."""
    template = call.maybe("templateid", Template)
    if template is None:
        return None
    owner = call.world.get(Account, template.account_id)
    shown = template.public or template.featured
    if not template.ready or not (shown or scope.can_act_for(call.world, call.caller, owner)):
        raise bad(f"Unable to use template {template.id}")
    return template


def ids(rows: list[Record]) -> list[str]:
    """Give the ids of rows."""
    return [row.id for row in rows]
