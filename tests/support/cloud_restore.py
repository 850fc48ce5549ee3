"""A simulated cloud and one restore into it: for steps that need no agent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from sendense.cloudstack import inventory
from sendense.cloudstack.client import CloudClient
from sendense.model.ascend_steps import CreateVolume
from sendense.workflows.managed.ascend_journal import Course, Journal
from sendense.workflows.managed.ascend_site import Site
from sendense_lab.simulator.records import Account, DiskOffering, Domain, Volume
from sendense_lab.simulator.seed import add_account
from sendense_lab.simulator.simulator import Simulator

JOB = "019a2f6b3c41d2f08a7b1234"
GIB = 1 << 30


@dataclass
class Work:
    """A job of ours that remembers in memory."""

    facts: tuple[Any, ...] = ()
    job: Any = field(default_factory=lambda: SimpleNamespace(id=JOB, attempt=1))

    def remember(self, fact: Any) -> None:
        self.facts += (fact,)

    def check(self) -> None:
        pass

    def report(self, progress: Any, /) -> None:
        pass

    def waiting(self, reason: str | None) -> None:
        pass


class Place:
    """A cloud with an instance of Ann's, and one restore into it."""

    def __init__(self, site: Any, **cloud: Any) -> None:
        self.cloud: Simulator = site.cloud(version="4.22", **cloud)
        self.ann, self.bob = self.account("ann"), self.account("bob")
        self.vm = self.cloud.add_instance("web", account=self.ann, disks=(GIB,), running=False)
        self.client: CloudClient = site.client(self.cloud)
        self.seen = inventory.instance(self.client, self.vm.id)[0]
        self.work = Work()
        self.estate: Any = None
        self.course = Course("cloud", "in-place", ())

    def account(self, name: str) -> Account:
        world = self.cloud.world
        return add_account(world, name, world.named(Domain, "ROOT"), "User")

    @property
    def site(self) -> Site:
        """Give the restore as a process sees it that begins now."""
        none: Any = None
        return Site(
            self.estate, self.work, none, none, none, self.client, {},
            Journal.of(self.work), self.course,
        )  # fmt: skip

    def volumes(self, account: Account) -> list[Volume]:
        """Give an account's volumes that no instance has."""
        rows = self.cloud.world.all(Volume)
        return [row for row in rows if row.account_id == account.id and not row.instance_id]

    def volume_of(self, account: Account, name: str, **changes: Any) -> Volume:
        offering = self.cloud.world.get(DiskOffering, self.step.offering_id)
        row = Volume(name=name, account_id=account.id, zone_id=self.seen.zone_id,
                     size=GIB, offering_id=offering.id)  # fmt: skip
        return self.cloud.world.add(replace(row, **changes))

    @property
    def step(self) -> CreateVolume:
        offering = next(row for row in self.cloud.world.all(DiskOffering) if row.customized)
        return CreateVolume("was", "data", offering.id, 1, self.seen.zone_id, self.seen.owner)
