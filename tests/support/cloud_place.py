"""A cloud, simulated or not, and a catalogue that it is read into."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from sendense import clock
from sendense.cloudstack.transport import Limits
from sendense.model.cloud import Cloud, CloudKeys
from sendense.model.secret import Secret
from sendense.settings import Settings
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense.workflows.managed.clouds import CloudClients
from sendense.workflows.managed.estate import Estate
from sendense_lab.simulator.simulator import Simulator
from tests.support.raw_cloud import raw_cloud

HASTY = Limits(per_second=5000, patience_s=0.5, connect_s=2.0, silent_s=10.0)


def until(what, within_s=120.0):
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Place:
    """A cloud, and a catalogue that it is read into."""

    def __init__(self, cloud: Simulator, catalog) -> None:
        self.cloud = cloud
        self.estate = Estate(catalog, Settings(), clouds=CloudClients(HASTY))
        keys = cloud.admin_keys
        self.id = "the-cloud"
        catalog.clouds.add(
            Cloud(self.id, "berlin", cloud.url, clock.now()),
            CloudKeys(keys.api_key, Secret(keys.secret)),
        )
        self.store = catalog.inventory
        self.catalog = catalog

    def look(self):
        return look_at_cloud(self.estate, self.id)

    def names(self):
        return {each.name for each in self.catalog.instances.names()}

    @property
    def state(self):
        return self.catalog.clouds.get(self.id).state


COMMANDS = (
    *("listApis", "listCapabilities", "listZones", "listHosts", "listStoragePools", "listDomains"),
    *("listAccounts", "listProjects", "listVirtualMachines", "listVolumes", "listVMSnapshot"),
    *("listNetworks", "listServiceOfferings", "listDiskOfferings", "listTemplates"),
    *("listAsyncJobs", "queryAsyncJobResult"),
)
"""What a key may use; no events."""


class RawPlace:
    """A cloud whose every answer a test chooses, and a catalogue that it is read into."""

    look_warnings = ()
    """What is always told: nothing, for its endpoint is on the loopback."""

    def __init__(self, catalog) -> None:
        self.catalog = catalog
        self.estate = Estate(catalog, Settings(), clouds=CloudClients(HASTY))
        self.id = "raw"
        self.vms: list[dict[str, Any]] = []
        self.projects: list[dict[str, Any]] = []
        """Instances of projects."""
        self.answers: dict[str, Callable[[dict[str, str]], Any]] = {}
        """Functions that answer commands, instead of what is usual."""
        self._opened = ExitStack()

    def __enter__(self):
        self.cloud, url = self._opened.enter_context(raw_cloud(self._answer))
        self._opened.callback(self.estate.clouds.close)
        self.catalog.clouds.add(
            Cloud(self.id, "berlin", url, clock.now()), CloudKeys("k", Secret("s"))
        )
        return self

    def __exit__(self, *error):
        self._opened.close()

    @property
    def state(self):
        return self.catalog.clouds.get(self.id).state

    def look(self, **how):
        return look_at_cloud(self.estate, self.id, **how)

    def apis(self, *, without="", params=("projectid",)):
        """Give an answer to `listApis`."""
        names = [name for name in COMMANDS if name != without]
        told = [{"name": name, "params": [{"name": each} for each in params]} for name in names]
        return {"count": len(told), "api": told}

    def _answer(self, form):
        command = form["command"]
        if command in self.answers:
            return self.answers[command](form)
        if command == "listApis":
            return self.apis()
        if command == "listCapabilities":
            return {"capability": {"cloudstackversion": "4.20.0.0"}}
        if command == "listVirtualMachines":
            found = self.projects if form.get("projectid") else self.vms
            found = [each for each in found if form.get("id", each["id"]) == each["id"]]
            return {"count": len(found), "virtualmachine": found}
        return {}


def a_vm(number, **fields):
    """Give the row of an instance."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "name": f"vm{number}",
        "state": "Running",
        "instancename": f"i-2-{number}-VM",
        "domainid": "d",
        "account": "a",
        "zoneid": "z",
        **fields,
    }
