"""All of a simulated cloud as values: whole, each once, in bounded memory, with no secret shown."""

from datetime import timedelta

import pytest

from sendense import clock
from sendense.cloudstack import events, inventory
from sendense.errors import NotFound
from sendense.model.cloud import KINDS, CloudKind
from sendense.model.secret import Secret
from sendense_lab.simulator.records import Account, Instance

GIB = 1 << 30


def names(client):
    return sorted(one.name for page in inventory.instances(client) for one, _ in page)


@pytest.mark.parametrize("version", ["4.18", "4.20", "4.23"])
def test_an_instance_with_all_that_it_has(site, version):
    cloud = site.cloud(version=version)
    cloud.create_account("acme", domain="ROOT/customers/acme")
    vm = cloud.add_instance(
        "web",
        account=cloud.account("acme", "ROOT/customers/acme"),
        display_name="Web server",
        disks=(GIB, 2 * GIB),
        tags={"tier": "gold"},
        details={"password": "hunter2"},
        user_data="hunter2",
    )
    [[(found, secrets)]] = list(inventory.instances(site.client(cloud)))
    assert (found.id, found.name, found.shown_name) == (vm.id, "web", "Web server")
    assert found.running
    assert found.domain_name == vm.instance_name
    # Also where the version shows the name of the domain only.
    assert found.owner.words == "ROOT/customers/acme/acme"
    assert found.host_id
    assert [disk.kind for disk in found.volumes] == ["ROOT", "DATADISK", "DATADISK"]
    assert [disk.size for disk in found.volumes][1:] == [GIB, 2 * GIB]
    assert all(disk.pool_id and disk.path and disk.instance_id == vm.id for disk in found.volumes)
    assert found.memory_bytes > 0
    assert found.nics[0].mac
    assert found.tags == {"tier": "gold"}
    assert secrets.details["password"] == Secret("hunter2")
    assert secrets.user_data == Secret("aHVudGVyMg==")
    shown = repr((found, secrets))
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown
    assert inventory.instance(site.client(cloud), vm.id) == (found, secrets)


def test_one_that_is_not_there(site):
    with pytest.raises(NotFound):
        inventory.instance(site.client(site.cloud()), "00000000-0000-4000-8000-000000000000")


def test_what_projects_own_is_there_once(site):
    cloud = site.cloud()
    client = site.client(cloud)
    client.run("createProject", name="moon", displaytext="moon")
    [project] = [one for page in inventory.projects(client) for one in page]
    account = next(one for one in cloud.world.all(Account) if one.project_id == project.id)
    cloud.add_instance("rover", account=account, disks=(GIB,))
    cloud.add_instance("web")
    found = {one.name: one for page in inventory.instances(client) for one, _ in page}
    assert sorted(found) == ["rover", "web"]
    assert found["rover"].owner.words == "project moon"
    assert len(found["rover"].volumes) == 2
    assert inventory.instance(client, found["rover"].id)[0] == found["rover"]


@pytest.mark.parametrize("kind", list(CloudKind))
def test_what_is_around(site, kind):
    cloud = site.cloud()
    client = site.client(cloud)
    if kind is CloudKind.PROJECT:
        client.run("createProject", name="moon", displaytext="moon")
    found = [one for page in inventory.around(client, kind) for one in page]
    assert found
    for one in found:
        assert type(one) is KINDS[kind]
        assert one.id
        assert one.name


def test_hosts_to_deploy_to(site):
    found = [one for page in inventory.hosts(site.client(site.cloud())) for one in page]
    assert [one for one in found if one.usable]
    assert all(one.address for one in found if one.usable)


def test_snapshots_are_counted(site):
    cloud = site.cloud(version="4.22")
    vm = cloud.add_instance("web")
    client = site.client(cloud)
    client.run("createVMSnapshot", virtualmachineid=vm.id, snapshotmemory=True, name="with")
    [[(found, _)]] = list(inventory.instances(client))
    assert (found.memory_snapshots, found.disk_snapshots) == (1, 0)


def test_a_tenant_sees_its_own(site):
    cloud = site.cloud()
    keys = cloud.create_account("acme", domain="ROOT/acme")
    cloud.add_instance("theirs")
    mine = cloud.add_instance("mine", account=cloud.account("acme", "ROOT/acme"), disks=(GIB,))
    client = site.client(cloud, keys)
    assert not client.features().admin
    [[(found, _)]] = list(inventory.instances(client))
    assert found.id == mine.id
    assert len(found.volumes) == 2
    # Where it runs is for admins only.
    assert (found.host_id, found.domain_name, found.volumes[0].path) == ("", "", "")
    assert [one for page in inventory.templates(client) for one in page]


def test_instances_that_come_and_go_while_they_are_read(site):
    """Between two pages one goes and two come; nothing is missed that was there all the time."""
    cloud = site.cloud()
    stay = cloud.fill(450)
    gone = cloud.add_instance("gone", disks=(GIB,))
    client = site.client(cloud)
    client.features()
    late: list[Instance] = []

    def meanwhile():
        cloud.expunge(gone)
        late.extend(cloud.add_instance(f"late{number}", disks=(GIB,)) for number in range(2))

    cloud.faults.before("listVirtualMachines", meanwhile, after=1)
    found = {one.id: one for page in inventory.instances(client) for one, _ in page}
    assert {vm.id for vm in stay} <= set(found)
    for vm in late:
        if vm.id in found:
            assert len(found[vm.id].volumes) == 2
    assert client.warnings == ()
    assert set({one for one in names(client)}) == {vm.name for vm in [*stay, *late]}


def test_pages_of_a_cloud_that_wants_them_small(site):
    cloud = site.cloud(settings={"default.page.size": "50"})
    cloud.fill(120)
    assert len(names(site.client(cloud))) == 120


def test_events_newest_first_since_a_moment(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web")
    client = site.client(cloud)
    client.run("stopVirtualMachine", id=vm.id)
    long_ago = clock.now() - timedelta(days=1)
    found = [one for page in events.events(client, long_ago) for one in page]
    assert {"VM.CREATE", "VM.STOP"} <= {one.kind for one in found}
    assert vm.id in {one.resource_id for one in found}
    assert len({one.id for one in found}) == len(found)
    moments = [one.created for one in found if one.created]
    assert moments == sorted(moments, reverse=True)
    assert list(events.events(client, clock.now() + timedelta(hours=1))) == []
