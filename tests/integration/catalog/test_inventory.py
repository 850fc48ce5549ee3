"""What clouds have: taken over page by page, swept, and never overwritten by another cloud."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from sendense.catalog.inventory_reading import CloudInstanceFilter
from sendense.errors import Conflict, NotFound
from sendense.model.cloud import (
    CloudKind,
    CloudPool,
    CloudTemplate,
    InstanceSecrets,
    Owner,
)
from sendense.model.machine import PowerState
from sendense.model.page import Paging, every
from sendense.model.secret import Secret
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW, a_host

MINUTE = timedelta(minutes=1)
LATER = NOW + MINUTE
VM = a_cloud_instance()


@pytest.fixture
def catalog(catalog):
    """Give a catalogue that knows two clouds."""
    add_clouds(catalog)
    return catalog


def add_clouds(catalog):
    for name in ("west", "east"):
        catalog.clouds.add(a_cloud(name), KEYS_OF_CLOUD)


def take(catalog, *instances, cloud="id-west", at=NOW):
    return catalog.inventory.take_instances(cloud, pairs(*instances), at)


def history(catalog, **wanted):
    return [(each.what, each.name) for each in catalog.cloud_changes.page(**wanted).items]


class TestInstances:
    def test_one_comes_back_as_it_was(self, catalog):
        assert take(catalog, VM).new == (VM.id,)
        entry = catalog.inventory.instance(VM.id)
        assert (entry.instance, entry.cloud_id) == (VM, "id-west")
        assert (entry.first_seen, entry.seen_at, entry.gone_at) == (NOW, NOW, None)
        assert history(catalog) == [("appeared", "Shop 1")]
        with pytest.raises(NotFound):
            catalog.inventory.instance("none")

    def test_what_did_not_change_is_only_touched(self, catalog):
        take(catalog, VM)
        taken = take(catalog, VM, at=LATER)
        assert (taken.new, taken.changed) == ((), ())
        entry = catalog.inventory.instance(VM.id)
        assert (entry.first_seen, entry.seen_at) == (NOW, LATER)
        assert len(history(catalog)) == 1

    def test_a_change_is_told_with_before_and_after(self, catalog):
        take(catalog, VM)
        now = replace(VM, state="Stopped", host="", host_id="", tags={"backup": "weekly"})
        assert take(catalog, now, at=LATER).changed == (VM.id,)
        assert catalog.inventory.instance(VM.id).instance == now
        change = catalog.cloud_changes.page(object_id=VM.id, what="changed").items[0]
        assert change.fields == {
            "state": ("Running", "Stopped"),
            "host": ("kvm1", ""),
            "tags": ("backup=daily", "backup=weekly"),
        }
        assert (change.kind, change.at) == ("instance", LATER)

    def test_what_is_volatile_is_written_and_makes_no_history(self, catalog):
        take(catalog, VM)
        now = replace(VM, last_host_id="h7")
        assert take(catalog, now, at=LATER).changed == ()
        assert catalog.inventory.instance(VM.id).instance == now
        assert len(history(catalog)) == 1

    def test_secrets_are_sealed_and_never_told(self, catalog):
        first = InstanceSecrets({"password": Secret("hunter2")}, Secret("dXNlcg=="))
        catalog.inventory.take_instances("id-west", [(VM, first)], NOW)
        assert catalog.inventory.secrets(VM.id) == first
        again = catalog.inventory.take_instances("id-west", [(VM, first)], LATER)
        assert again.changed == ()
        second = InstanceSecrets({"password": Secret("hunter3")})
        taken = catalog.inventory.take_instances("id-west", [(VM, second)], LATER)
        assert taken.changed == (VM.id,)
        assert catalog.inventory.secrets(VM.id) == second
        assert catalog.cloud_changes.page().items[0].fields == {"details": ("", "changed")}
        take(catalog, VM, at=LATER)
        assert catalog.inventory.secrets(VM.id) == InstanceSecrets()

    def test_a_sweep_marks_what_was_not_seen(self, catalog):
        other = a_cloud_instance(2)
        take(catalog, VM, other)
        take(catalog, other, at=LATER)
        assert catalog.inventory.sweep("id-west", None, LATER, LATER) == (VM.id,)
        assert catalog.inventory.instance(VM.id).gone_at == LATER
        assert catalog.inventory.instance(other.id).gone_at is None
        assert catalog.inventory.sweep("id-west", None, LATER, LATER) == ()
        assert catalog.inventory.sweep("id-east", None, LATER + MINUTE, LATER) == ()
        assert history(catalog, object_id=VM.id)[0] == ("gone", "vm-1")
        assert catalog.inventory.count("id-west") == 1
        assert take(catalog, VM, at=LATER + MINUTE).new == (VM.id,)
        entry = catalog.inventory.instance(VM.id)
        assert (entry.first_seen, entry.gone_at) == (NOW, None)

    def test_a_server_whose_clock_is_behind_sets_nothing_back(self, catalog):
        take(catalog, VM, at=LATER)
        take(catalog, VM)
        assert catalog.inventory.instance(VM.id).seen_at == LATER
        take(catalog, replace(VM, state="Stopped"))
        entry = catalog.inventory.instance(VM.id)
        assert (entry.instance.state, entry.seen_at) == ("Stopped", LATER)
        assert catalog.inventory.sweep("id-west", None, LATER, LATER) == ()

    def test_a_sweep_of_some(self, catalog):
        take(catalog, VM, a_cloud_instance(2))
        assert catalog.inventory.sweep("id-west", None, LATER, LATER, only={VM.id}) == (VM.id,)
        assert catalog.inventory.states([VM.id, "none"]) == {VM.id: "Running"}

    def test_instances_of_projects(self, catalog):
        take(catalog, VM)
        assert not catalog.inventory.has_projects("id-west")
        owner = Owner("d", "ROOT", "", "p1", "shop")
        take(catalog, replace(VM, owner=owner, zone_id="z" * 200), at=LATER)
        assert catalog.inventory.has_projects("id-west")
        assert not catalog.inventory.has_projects("id-east")

    def test_another_cloud_does_not_overwrite_it(self, catalog):
        take(catalog, VM)
        theirs = replace(VM, name="theirs", owner=Owner("d-evil", "ROOT/evil", "eve"))
        for _ in range(2):
            taken = take(catalog, theirs, a_cloud_instance(2), cloud="id-east", at=LATER)
            assert taken.elsewhere == (VM.id,)
        entry = catalog.inventory.instance(VM.id)
        assert (entry.instance, entry.cloud_id, entry.seen_at) == (VM, "id-west", NOW)
        assert history(catalog, object_id=VM.id) == [("appeared", "Shop 1")]
        assert catalog.instances.name(VM.id).cloud.account == "ann"

    def test_it_moves_when_the_first_cloud_has_it_no_longer(self, catalog):
        take(catalog, VM)
        catalog.inventory.sweep("id-west", None, LATER, LATER)
        assert take(catalog, VM, cloud="id-east", at=LATER).new == (VM.id,)
        entry = catalog.inventory.instance(VM.id)
        assert (entry.cloud_id, entry.first_seen, entry.gone_at) == ("id-east", LATER, None)
        assert catalog.instances.name(VM.id).cloud.cloud == "east"

    def test_one_that_is_twice_in_a_page(self, catalog):
        now = replace(VM, state="Stopped")
        assert take(catalog, VM, now).new == (VM.id,)
        assert catalog.inventory.instance(VM.id).instance == now
        assert take(catalog).new == ()


def test_looks_at_once_take_turns(catalog):
    catalog.hosts.add(a_host("a"))
    first = [a_cloud_instance(number) for number in range(30)]
    machines = [a_machine(uuid=each.id, name=each.domain_name) for each in first]
    pool = CloudPool("p1", "fast", "NetworkFilesystem")

    def look(number):
        there = [replace(each, state=f"State{number}") for each in first]
        take(catalog, *there[number:], at=NOW + number * MINUTE)
        catalog.inventory.take("id-west", CloudKind.POOL, [pool], NOW)
        catalog.instances.see("id-a", machines if number % 2 else [], NOW)
        if number == 3:
            catalog.clouds.remove("id-east", NOW)
        take(catalog, a_cloud_instance(99), cloud="id-east")

    failures = []

    def run(number):
        try:
            look(number)
        except Conflict:  # the other cloud is no more
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with pytest.raises(Conflict):
        look(1)
    assert catalog.inventory.instance(first[1].id).instance.state == "State1"
    assert {each.id for each in first} <= {each.uuid for each in catalog.instances.names()}


@pytest.fixture(scope="module")
def three(new_url):
    """Give a catalogue that is only read."""
    with catalog_at(new_url()) as catalog:
        add_clouds(catalog)
        second = a_cloud_instance(
            2, state="Stopped", host_id="", tags={"backup": "weekly"},
            owner=Owner("d-sub", "ROOT/acme/sub", "", "p1", "shop"),
        )  # fmt: skip
        third = a_cloud_instance(
            3, display_name="", zone_id="z2", zone="east-1", tags={"a&b": "50%", "x": "[y]"},
            owner=Owner("d-other", "ROOT/acmeother", "bob"),
        )  # fmt: skip
        take(catalog, VM, second)
        take(catalog, third, cloud="id-east")
        yield catalog


class TestFilters:
    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, [1, 2, 3]),
            ({"search": "SHOP"}, [1, 2]),
            ({"search": "i-2-3"}, [3]),
            ({"search": a_cloud_instance(2).id}, [2]),
            ({"state": "Stopped"}, [2]),
            ({"zone": "west-1"}, [1, 2]),
            ({"zone": "z2"}, [3]),
            ({"domain": "ROOT/acme"}, [1, 2]),
            ({"domain": "d-sub"}, [2]),
            ({"domain": "ROOT/ac"}, []),
            ({"account": "ann"}, [1]),
            ({"project": "shop"}, [2]),
            ({"project": "p1"}, [2]),
            ({"tag": "backup"}, [1, 2]),
            ({"tag": "backup=daily"}, [1]),
            ({"tag": "Backup"}, []),
            ({"tag": "back*"}, []),
            ({"tag": "a&b=50%"}, [3]),
            ({"host_id": "h1"}, [1, 3]),
            ({"cloud_id": "id-east"}, [3]),
            ({"gone": True}, []),
            ({"gone": False}, [1, 2, 3]),
        ],
    )
    def test_each(self, three, wanted, found):
        page = three.inventory.page(wanted=CloudInstanceFilter(**wanted))
        assert [int(entry.instance.id[-12:]) for entry in page.items] == found

    def test_pages(self, catalog):
        take(catalog, *(a_cloud_instance(number) for number in range(1, 8)))
        found = list(every(lambda at: catalog.inventory.page(Paging(2, at.cursor))))
        assert sorted(each.instance.name for each in found) == [f"vm-{n}" for n in range(1, 8)]


class TestObjects:
    POOL = CloudPool("p1", "fast", "NetworkFilesystem", size=10, used=1)

    def take(self, catalog, *objects, kind=CloudKind.POOL, at=NOW):
        return catalog.inventory.take("id-west", kind, objects, at)

    def test_it_appears_changes_and_goes(self, catalog):
        assert self.take(catalog, self.POOL).new == ("p1",)
        used = replace(self.POOL, used=5)
        assert self.take(catalog, used, at=LATER).changed == ()
        assert catalog.inventory.object("id-west", CloudKind.POOL, "p1").value == used
        assert self.take(catalog, used).changed == ()
        assert catalog.inventory.object("id-west", CloudKind.POOL, "p1").seen_at == LATER
        assert catalog.inventory.unseen_objects("id-west", CloudKind.POOL, LATER) == 0
        assert catalog.inventory.unseen_objects("id-west", CloudKind.POOL, LATER + MINUTE) == 1
        named = replace(used, name="faster")
        assert self.take(catalog, named, at=LATER).changed == ("p1",)
        assert self.take(catalog, named, at=LATER).changed == ()
        assert catalog.inventory.present("id-west", CloudKind.POOL) == (named,)
        assert catalog.inventory.sweep("id-west", CloudKind.POOL, LATER + MINUTE, LATER) == ("p1",)
        assert catalog.inventory.present("id-west", CloudKind.POOL) == ()
        entry = catalog.inventory.object("id-west", CloudKind.POOL, "p1")
        assert (entry.first_seen, entry.gone_at) == (NOW, LATER)
        whats = [each.what for each in catalog.cloud_changes.page(kind="pool").items]
        assert whats == ["gone", "changed", "appeared"]
        with pytest.raises(NotFound):
            catalog.inventory.object("id-west", CloudKind.ZONE, "p1")

    def test_a_template_is_in_each_of_its_zones(self, catalog):
        here = [CloudTemplate("t1", "debian", zone) for zone in ("z1", "z2")]
        self.take(catalog, *here, kind=CloudKind.TEMPLATE)
        page = catalog.inventory.objects("id-west", CloudKind.TEMPLATE, search="deb")
        assert [entry.value for entry in page.items] == here
        self.take(catalog, here[1], kind=CloudKind.TEMPLATE, at=LATER)
        catalog.inventory.sweep("id-west", CloudKind.TEMPLATE, LATER, LATER)
        assert catalog.inventory.object("id-west", CloudKind.TEMPLATE, "t1").value == here[1]
        page = catalog.inventory.objects("id-west", CloudKind.TEMPLATE, zone_id="z1", gone=True)
        assert len(page.items) == 1


class TestAmongAllInstances:
    @pytest.fixture(autouse=True)
    def hosts(self, catalog):
        for name in ("a", "b"):
            catalog.hosts.add(a_host(name))

    def shown(self, **changes):
        return a_machine(uuid=VM.id, name="i-2-1-VM", **changes)

    def test_one_that_no_host_shows_is_present(self, catalog):
        take(catalog, replace(VM, state="Stopped"))
        instance = catalog.instances.get(VM.id)
        assert (instance.power, instance.host_id) == (PowerState.STOPPED, None)
        assert (instance.name, instance.gone_at) == ("i-2-1-VM", None)
        assert instance.machine.memory_bytes == 1 << 30
        assert [disk.serial for disk in instance.machine.disks] == ["v1"]
        name = catalog.instances.names()[0]
        assert (name.uuid, name.name, name.host_id) == (VM.id, "i-2-1-VM", None)
        assert name.cloud.cloud == "west"
        assert (name.cloud.name, name.cloud.other_name) == ("Shop 1", "vm-1")
        assert name.cloud.tags == {"backup": "daily"}
        assert name == catalog.instances.name(VM.id)

    def test_what_a_host_shows_stays_as_it_is(self, catalog):
        machine = self.shown(vcpus=7)
        catalog.instances.see("id-a", [machine], NOW)
        take(catalog, replace(VM, state="Stopped"), at=LATER)
        instance = catalog.instances.get(VM.id)
        assert (instance.machine, instance.host_id) == (machine, "id-a")
        assert instance.power is PowerState.RUNNING

    def test_it_stays_when_its_host_shows_it_no_longer(self, catalog):
        machine = self.shown(vcpus=7)
        catalog.instances.see("id-a", [machine], NOW)
        take(catalog, VM)
        take(catalog, replace(VM, state="Stopped"), at=LATER)
        assert catalog.instances.see("id-a", [], LATER).gone == (VM.id,)
        instance = catalog.instances.get(VM.id)
        assert (instance.host_id, instance.gone_at) == (None, None)
        assert instance.machine == replace(machine, power=PowerState.STOPPED)
        take(catalog, replace(VM, cpus=9, state="Stopped"), at=LATER)
        assert catalog.instances.get(VM.id).machine.vcpus == 7  # a host knew it better

    def test_it_moves_to_another_host_by_way_of_none(self, catalog):
        catalog.instances.see("id-a", [self.shown()], NOW)
        take(catalog, VM)
        catalog.instances.see("id-a", [], LATER)
        assert catalog.instances.get(VM.id).power is PowerState.RUNNING
        assert catalog.instances.see("id-b", [self.shown()], LATER).moved == (VM.id,)
        assert catalog.instances.get(VM.id).host_id == "id-b"

    def test_one_that_was_made_up_follows_its_cloud_until_a_host_shows_it(self, catalog):
        off = replace(VM, state="Stopped")
        take(catalog, off)
        take(catalog, replace(off, cpus=4), at=LATER)
        assert catalog.instances.get(VM.id).machine.vcpus == 4
        take(catalog, VM, at=LATER)
        assert catalog.instances.get(VM.id).power is PowerState.RUNNING
        catalog.instances.see("id-a", [self.shown(vcpus=7)], LATER)
        catalog.instances.see("id-a", [], LATER)
        take(catalog, replace(off, cpus=5), at=LATER)
        instance = catalog.instances.get(VM.id)
        assert (instance.machine.vcpus, instance.power) == (7, PowerState.STOPPED)

    def test_it_is_gone_when_neither_has_it(self, catalog):
        take(catalog, VM)
        catalog.inventory.sweep("id-west", None, LATER, LATER)
        assert catalog.instances.get(VM.id).gone_at == LATER
        assert catalog.instances.names() == ()
        take(catalog, VM, at=LATER + MINUTE)
        assert catalog.instances.get(VM.id).gone_at is None
        catalog.instances.see("id-a", [self.shown()], LATER + MINUTE)
        catalog.inventory.sweep("id-west", None, LATER + 2 * MINUTE, LATER + 2 * MINUTE)
        assert catalog.instances.get(VM.id).gone_at is None  # a host shows it
        catalog.instances.see("id-a", [], LATER + 3 * MINUTE)
        assert catalog.instances.get(VM.id).gone_at == LATER + 3 * MINUTE

    @pytest.mark.parametrize("state", ["Destroyed", "Expunging", "Error"])
    def test_there_is_nothing_to_ask_for(self, catalog, state):
        take(catalog, VM)
        take(catalog, replace(VM, state=state), at=LATER)
        assert catalog.instances.names() == ()
        assert catalog.instances.get(VM.id).gone_at == LATER
        take(catalog, replace(VM, state="Stopped"), at=LATER)
        assert len(catalog.instances.names()) == 1

    def test_a_cloud_that_is_forgotten_leaves_what_hosts_show(self, catalog):
        other = a_cloud_instance(2)
        take(catalog, VM, other)
        catalog.instances.see("id-a", [self.shown()], NOW)
        catalog.clouds.remove("id-west", LATER)
        assert [each.uuid for each in catalog.instances.names()] == [VM.id]
        assert catalog.instances.names()[0].cloud is None
        assert catalog.instances.get(other.id).gone_at == LATER
