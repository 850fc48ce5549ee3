"""The network between hosts: one bridge, one cable per host, private addresses.

The bridge ends on this machine and leads nowhere else: hosts reach each other and the machine's
address on the bridge, where a test may listen. A cable can be pulled (nothing is answered any
more, as when a switch dies) or made bad (delay, loss).
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from sendense_lab.commands import run
from sendense_lab.errors import LabError
from sendense_lab.guest_image import cache_dir, locked

# Interface names have at most 15 characters.
PREFIX = "slb"
SUBNETS = ipaddress.ip_network("10.213.0.0/16").subnets(new_prefix=24)


@dataclass(frozen=True)
class Bridge:
    """A bridge of ours."""

    id: str
    """Four characters that all of its interfaces carry."""
    subnet: str

    @property
    def interface(self) -> str:
        return f"{PREFIX}-{self.id}"

    @property
    def address(self) -> str:
        """The machine's own on it."""
        return str(ipaddress.ip_network(self.subnet)[1])

    def host_address(self, number: int) -> str:
        return str(ipaddress.ip_network(self.subnet)[10 + number])

    def mac(self, number: int) -> str:
        """Of a host's network card."""
        return f"02:5d:{self.id[:2]}:{self.id[2:]}:00:{number:02x}"

    def cable(self, number: int) -> str:
        """The machine's end of a host's cable."""
        return f"{PREFIX}-{self.id}-{number}"


def create(identity: str) -> Bridge:
    """A new bridge on a subnet that nothing on this machine uses."""
    with locked(cache_dir() / "subnets.lock"):
        return _create(identity)


def _create(identity: str) -> Bridge:
    taken = _networks()
    for subnet in SUBNETS:
        if not any(subnet.overlaps(network) for network in taken):
            break
    else:
        raise LabError("no private network is free for the hosts")
    bridge = Bridge(identity, str(subnet))
    run(["ip", "link", "add", bridge.interface, "type", "bridge"])
    length = ipaddress.ip_network(bridge.subnet).prefixlen
    run(["ip", "addr", "add", f"{bridge.address}/{length}", "dev", bridge.interface])
    run(["ip", "link", "set", bridge.interface, "up"])
    return bridge


def connect(bridge: Bridge, number: int, init: int) -> None:
    """Give the host whose init is `init` its cable and address."""
    cable = bridge.cable(number)
    # The end of a host that was killed goes with its network, a moment later.
    remove(cable)
    # A host that comes back has its old address of the card too: others still know it by that.
    peer = ["peer", "name", "eth0", "address", bridge.mac(number), "netns", str(init)]
    run(["ip", "link", "add", cable, "type", "veth", *peer])
    run(["ip", "link", "set", cable, "master", bridge.interface, "up"])
    length = ipaddress.ip_network(bridge.subnet).prefixlen
    inside = ["nsenter", "--target", str(init), "--net", "ip"]
    run([*inside, "addr", "add", f"{bridge.host_address(number)}/{length}", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "link", "set", "lo", "up"])


def set_up(cable: str, *, up: bool) -> None:
    run(["ip", "link", "set", cable, "up" if up else "down"])


def lose(cable: str, *, from_host: float, to_host: float) -> None:
    """Lose packets at random, in percent for each direction; replaces what was lost before."""
    # Not by netem: kernels of small virtual machines are often built without it.
    keep(cable)
    chains = _drop("ingress", cable, from_host) + _drop("egress", cable, to_host)
    run(["nft", f"table netdev {cable} {{ {chains} }}"])


def keep(cable: str) -> None:
    """Lose nothing any more."""
    if cable in _tables(cable):
        run(["nft", "delete", "table", "netdev", cable])


def throttle(cable: str, *, kbit_per_s: int) -> None:
    """Bound what goes to the host; a second of it may wait."""
    _throttle([], cable, kbit_per_s)


def throttle_inside(init: int, *, kbit_per_s: int) -> None:
    """Bound what comes from the host whose init is `init`; a second of it may wait."""
    _throttle(_inside(init), "eth0", kbit_per_s)


def unthrottle(cable: str) -> None:
    _unthrottle([], cable)


def unthrottle_inside(init: int) -> None:
    _unthrottle(_inside(init), "eth0")


def _inside(init: int) -> list[str]:
    return ["nsenter", "--target", str(init), "--net"]


def _throttle(before: list[str], interface: str, kbit_per_s: int) -> None:
    rate = ["rate", f"{kbit_per_s}kbit", "burst", "32k", "latency", "1s"]
    run([*before, "tc", "qdisc", "replace", "dev", interface, "root", "tbf", *rate])


def _unthrottle(before: list[str], interface: str) -> None:
    if " tbf " in run([*before, "tc", "qdisc", "show", "dev", interface]):
        run([*before, "tc", "qdisc", "delete", "dev", interface, "root"])


def remove_all(identity: str) -> None:
    """Take a bridge of that id away, and all that belongs to it."""
    prefix = f"{PREFIX}-{identity}"
    # Cables before the bridge.
    found = sorted(path.name for path in Path("/sys/class/net").glob(f"{prefix}*"))
    for interface in reversed(found):
        remove(interface)
    for table in _tables(prefix):
        run(["nft", "delete", "table", "netdev", table])


def remove(interface: str) -> None:
    """Take an interface away if it is there."""
    if Path(f"/sys/class/net/{interface}").exists():
        run(["ip", "link", "delete", interface])


def _tables(prefix: str) -> list[str]:
    listing = run(["nft", "--json", "list", "tables", "netdev"])
    tables = [item["table"]["name"] for item in json.loads(listing)["nftables"] if "table" in item]
    return [name for name in tables if name.startswith(prefix)]


def _drop(hook: str, cable: str, percent: float) -> str:
    if percent <= 0:
        return ""
    which = "" if percent >= 100 else f"numgen random mod 1000 < {round(percent * 10)} "
    chain = f"type filter hook {hook} device {cable} priority 0; {which}drop;"
    return f"chain {hook} {{ {chain} }}\n"


def _networks() -> list[ipaddress.IPv4Network]:
    addresses = json.loads(run(["ip", "-json", "-4", "addr"]))
    routes = json.loads(run(["ip", "-json", "-4", "route"]))
    texts = [
        f"{info['local']}/{info['prefixlen']}" for link in addresses for info in link["addr_info"]
    ]
    texts += [route["dst"] for route in routes if route["dst"] != "default"]
    return [ipaddress.IPv4Network(text, strict=False) for text in texts]
