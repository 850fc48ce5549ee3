"""Instances whose zone is lost, made again in another zone of the same cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sendense.model.ascend import Aim, AscendRequest, RefusalCode
from sendense.workflows.managed.ascend import plan_restore
from sendense_lab.lab import Lab
from sendense_lab.pool import Pool
from sendense_lab.simulator.records import (
    Cluster,
    Host,
    Network,
    Pod,
    ServiceOffering,
    Template,
    Zone,
)
from sendense_lab.simulator.seed import take_machines
from tests.vm.ascend_site import AscendSite, CloudHere, lost, shown

pytestmark = pytest.mark.vm

BARE = AscendRequest(Aim.RECREATE, zone_id="zone2")
MAPPED = replace(BARE, networks={"shared1": "dmz"}, offering_id="Far Instance")


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


def move(here: CloudHere) -> None:
    """Have the host be of another zone, with a pool, a network and offerings of that zone's own.

    What was before stays as a zone without a host.
    """
    world, machines = here.simulator.world, here.machines
    first, host = world.named(Zone, "zone1"), world.all(Host)[0]
    zone = world.add(Zone(name="zone2"))
    pod = world.add(Pod(name="pod2", zone_id=zone.id))
    cluster = world.add(Cluster(name="cluster2", zone_id=zone.id, pod_id=pod.id))
    machines.storage.add(Pool(here.site.root / "mnt"), "Filesystem", name="far", host=host.name)
    take_machines(world, machines, cluster)
    host.zone_id, host.pod_id, host.cluster_id = zone.id, pod.id, cluster.id
    dmz = replace(
        world.named(Network, "shared1"), id=f"{zone.id[:-1]}d", name="dmz", zone_id=zone.id,
        cidr="10.20.0.0/16", gateway="10.20.0.1",
    )  # fmt: skip
    world.add(dmz)
    tiny = world.named(ServiceOffering, "Tiny Instance")
    tiny.zone_ids = [first.id]
    far = replace(tiny, id=f"{zone.id[:-1]}f", name="Far Instance", zone_ids=[zone.id])
    world.add(far)
    near = next(each for each in world.all(Template) if not each.is_iso)
    world.add(replace(near, id=f"{zone.id[:-1]}e", name="Far guest", zone_id=zone.id))
    here.sync()


def codes(here: CloudHere, point: str, request: AscendRequest) -> set[RefusalCode]:
    plan = plan_restore(here.site.estate, here.wanted(point, request))
    return {each.code for each in plan.refusals}


def test_the_best_way(site: AscendSite) -> None:
    with site.cloud("4.22") as here:
        uuid, point, was, truth = lost(here)
        move(here)
        assert codes(here, point, BARE) == {RefusalCode.NETWORK, RefusalCode.SERVICE_OFFERING}
        done = here.restore(uuid, point, MAPPED)
        assert (done["way"], done["started"]) == ("import-and-deploy", True)
        assert any("gets a new IP" in warning for warning in done["warnings"])
        row = here.row(done["instance"])
        assert row["zonename"] == "zone2"
        assert row["nic"][0]["ipaddress"].startswith("10.20.")
        assert {each["storage"] for each in here.volumes(done["instance"])} == {"far"}
        cards = [("dmz", mac) for _, mac in was["cards"]]
        moved = {**was, "cards": cards, "serviceofferingname": "Far Instance"}
        assert shown(row) == moved
        assert here.machine(done["instance"]).running
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)


def test_without_a_template_of_that_zone(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        uuid, point, was, truth = lost(here)
        move(here)
        done = here.restore(uuid, point, MAPPED)
        assert done["way"] == "import-vm"
        row = here.row(done["instance"])
        assert (row["zonename"], row["nic"][0]["networkname"]) == ("zone2", "dmz")
        assert shown(row)["tags"] == was["tags"]
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)


def test_the_way_of_every_version(site: AscendSite) -> None:
    with site.cloud("4.18") as here:
        uuid, point, was, truth = lost(here)
        move(here)
        assert codes(here, point, MAPPED) >= {RefusalCode.TEMPLATE}
        request = replace(MAPPED, template_id="Far guest", disk_offerings={"*": "Custom"})
        done = here.restore(uuid, point, request)
        assert (done["way"], done["started"]) == ("deploy-and-overwrite", True)
        row = here.row(done["instance"])
        assert (row["zonename"], row["nic"][0]["networkname"]) == ("zone2", "dmz")
        assert shown(row)["tags"] == was["tags"]
        assert {each["storage"] for each in here.volumes(done["instance"])} == {"far"}
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)
