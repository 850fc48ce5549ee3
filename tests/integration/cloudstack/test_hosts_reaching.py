"""Which hosts read an instance that is off: each its own, and none that is silent before others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sendense import clock
from sendense.errors import NotFound
from sendense.model.cloud import CloudHost, CloudKind
from sendense.model.fleet import Transport
from sendense.model.secret import Secret
from sendense.settings import Settings
from sendense.workflows.managed.cloud_hosts import clouds_of_host, hosts_reaching
from sendense.workflows.managed.estate import Estate
from tests.support.catalogs import catalog_at, sqlite_urls
from tests.support.cloud_plans import CLUSTER, ZONE, a_pool, an_id, an_instance
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud
from tests.support.fleet import a_heartbeat, a_host

NAMES = ("kvm1", "kvm2", "kvm3")


@pytest.fixture
def estate():
    with sqlite_urls() as new_url, catalog_at(new_url()) as catalog:
        estate = Estate(catalog, Settings())
        cloud = catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
        now = clock.now()
        hosts = []
        for number, name in enumerate(NAMES):
            address = f"10.0.0.{number}"
            catalog.hosts.add(a_host(name, address=address, transport=Transport.SSH))
            catalog.hosts.enrol(
                f"id-{name}", public_key=f"ssh-ed25519 {name}", ticket_secret=Secret("s"), at=now
            )
            catalog.hosts.heard(f"id-{name}", a_heartbeat(), now)
            hosts.append(
                CloudHost(
                    id=f"cs-{name}", name=name, address=address, kind="Routing", hypervisor="KVM",
                    state="Up", resource_state="Enabled", zone_id=ZONE, cluster_id=CLUSTER,
                )
            )  # fmt: skip
        catalog.inventory.take(cloud.id, CloudKind.HOST, hosts, now)
        catalog.inventory.take(cloud.id, CloudKind.POOL, [a_pool()], now)
        yield estate
        estate.clouds.close()


def off(number: int = 1, **changes):
    return an_instance(id=an_id(number), state="Stopped", host_id="", **changes)


def test_instances_are_spread_and_each_keeps_its_own(estate):
    orders = [hosts_reaching(estate, "id-west", off(number)) for number in range(60)]
    assert {order[0] for order in orders} == {f"id-{name}" for name in NAMES}
    assert all(len(set(order)) == 3 for order in orders)
    assert hosts_reaching(estate, "id-west", off(7)) == orders[7]


def test_its_last_host_comes_first(estate):
    for name in NAMES:
        order = hosts_reaching(estate, "id-west", off(last_host_id=f"cs-{name}"))
        assert order[0] == f"id-{name}"


def test_one_that_is_silent_or_paused_is_the_last_resort(estate):
    hosts = estate.catalog.hosts
    hosts.heard("id-kvm2", a_heartbeat(), clock.now() - timedelta(hours=1))
    order = hosts_reaching(estate, "id-west", off(last_host_id="cs-kvm2"))
    assert order[-1] == "id-kvm2"
    hosts.heard("id-kvm2", a_heartbeat(), clock.now())
    hosts.pause("id-kvm1", clock.now() + timedelta(hours=1))
    assert hosts_reaching(estate, "id-west", off(last_host_id="cs-kvm1"))[-1] == "id-kvm1"


def test_no_host_reaches_a_pool_of_another_cluster(estate):
    far = a_pool(id=an_id(99), cluster_id="cluster-2")
    estate.catalog.inventory.take("id-west", CloudKind.POOL, [far], clock.now())
    instance = off()
    there = replace(instance.volumes[0], pool_id=far.id)
    with pytest.raises(NotFound):
        hosts_reaching(estate, "id-west", replace(instance, volumes=(there,)))


def test_the_clouds_of_a_host(estate):
    clouds = estate.catalog.clouds
    assert [cloud.name for cloud in clouds_of_host(estate, "id-kvm1")] == ["west"]
    estate.catalog.hosts.add(a_host("alone", address="10.9.9.9"))
    assert clouds_of_host(estate, "id-alone") == ()
    # One that was never read may have any host.
    clouds.add(a_cloud("new"), KEYS_OF_CLOUD)
    assert [cloud.name for cloud in clouds_of_host(estate, "id-alone")] == ["new"]
    clouds.edit("id-new", enabled=False)
    assert clouds_of_host(estate, "id-alone") == ()
