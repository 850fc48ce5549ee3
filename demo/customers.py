"""CloudStack's side of the story: its customers, their instances, and what they do to them.

All of it goes through the API, by the keys of whoever does it: the administrator's or the
customer's.  The product has no part in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from demo.cloudmonkey import CloudMonkey, shown
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.simulator.lab_machines import LabMachines

FILES, KIB = 48, 512
TAG = ("backup", "nightly")


@dataclass
class Customer:
    """An account in a domain of its own."""

    name: str
    domain: str
    account_id: str
    monkey: CloudMonkey
    instances: dict[str, str] = field(default_factory=dict)
    """Ids by name."""


class Customers:
    """The accounts of a cloud and what is theirs."""

    def __init__(
        self, admin: CloudMonkey, machines: LabMachines, say: Callable[[str], None]
    ) -> None:
        """Begin with an empty cloud."""
        self.admin = admin
        self.machines = machines
        self.say = say
        self.zone = admin.rows("list zones")[0]["id"]
        self.hosts = {row["name"]: row["id"] for row in admin.rows("list hosts", type="Routing")}
        self._parent = admin.made("create domain", name="customers")["id"]

    def add(self, name: str) -> Customer:
        """Make a domain, an account of the role User in it, and its keys."""
        domain = self.admin.made("create domain", name=name, parentdomainid=self._parent)
        role = self.admin.named("list roles", "User")
        account = self.admin.made(
            "create account", account=name, username=name, firstname=name, lastname="Customer",
            email=f"{name}@example.org", password=secrets.token_hex(16), roleid=role,
            domainid=domain["id"],
        )  # fmt: skip
        return Customer(name, "ROOT/customers/" + name, account["id"], user_of(self.admin, account))

    def deploy(
        self, customer: Customer, name: str, *, tagged: bool = True, start: bool = True
    ) -> None:
        """Have a customer make an instance with a data disk."""
        monkey = customer.monkey
        wanted = {
            "name": name,
            "serviceofferingid": monkey.named("list serviceofferings", "Small Instance"),
            "templateid": monkey.named("list templates", "Lab guest", templatefilter="executable"),
            "zoneid": self.zone,
            "networkids": monkey.named("list networks", "shared1"),
            "diskofferingid": monkey.named("list diskofferings", "Custom"),
            "size": 1,
            **({} if start else {"startvm": "false"}),
        }
        made = monkey.made("deploy virtualmachine", **wanted)
        customer.instances[name] = made["id"]
        where = made.get("hostname") or self.instance(made["id"]).get("hostname", "no host")
        if tagged:
            monkey.do(
                "create tags", resourcetype="UserVm", resourceids=made["id"],
                **{"tags[0].key": TAG[0], "tags[0].value": TAG[1]},
            )  # fmt: skip
        tag = f", tag {'='.join(TAG)}" if tagged else ""
        self.say(f"  {customer.name} deployed {name}: {made['state']} on {where}{tag}")

    def do(self, words: str, **params: object) -> None:
        """Have the administrator do something that is shown."""
        self.say(f"[bold]cloudstack# {shown(words, params)}[/]")
        self.admin.do(words, **params)

    def vm(self, identity: str) -> CloudVm:
        """Give the machine behind an instance."""
        return self.machines.vm(identity)

    def fill(self, identity: str, seed: int) -> None:
        """Have a guest write files, and keep their checksums."""
        guest = self.vm(identity).guest
        guest.wait_ready(timeout_s=180)
        guest.write_files("vdb", count=FILES, kib=KIB, seed=seed)

    def work(self, identity: str, seed: int) -> None:
        """Have a guest change some of what it has."""
        self.vm(identity).guest.rewrite_files("vdb", count=1, seed=seed)

    def instance(self, identity: str) -> dict[str, Any]:
        """Give an instance as the administrator sees it."""
        (row,) = self.admin.rows("list virtualmachines", id=identity, listall="true")
        return row

    def named(self, name: str) -> list[dict[str, Any]]:
        """Give the instances of a name."""
        rows = self.admin.rows("list virtualmachines", listall="true")
        return [row for row in rows if row["name"] == name]

    def volumes(self, identity: str) -> list[dict[str, Any]]:
        """Give its volumes in their order."""
        rows = self.admin.rows("list volumes", virtualmachineid=identity, listall="true")
        return sorted(rows, key=lambda row: row["deviceid"])


def user_of(admin: CloudMonkey, account: dict[str, Any]) -> CloudMonkey:
    """Make keys for the user of an account."""
    keys = admin.made("register userkeys", id=account["user"][0]["id"])
    return CloudMonkey(admin.url, keys["apikey"], keys["secretkey"])
