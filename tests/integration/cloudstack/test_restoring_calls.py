"""The calls of the restore ladder, against the versions that have them."""

import pytest

from sendense.cloudstack import actions, inventory
from sendense.errors import Rejected, Unsupported
from sendense_lab.simulator.machines import FileFact
from sendense_lab.simulator.records import Cluster

GIB = 1 << 30


@pytest.fixture
def there(site):
    """Give a cloud of 4.22, a client, an instance that is off, and a pool with three files."""
    cloud = site.cloud(version="4.22")
    cloud.add_instance("web", running=False)
    client = site.client(cloud)
    [[(seen, _)]] = list(inventory.instances(client))
    pool = seen.volumes[0].pool_id
    for fact in (
        FileFact("restored", "qcow2", 1000, GIB),
        FileFact("overlay", "qcow2", 1000, GIB, backing="base"),
        FileFact("used", "qcow2", 1000, GIB, locked=True),
    ):
        cloud.machines.add_file(pool, fact)
    return cloud, client, seen, pool


def test_files_that_can_be_taken(there):
    _, client, _, pool = there
    found = {one.path: one for one in actions.volumes_for_import(client, pool)}
    assert found["restored"].hindrance == ""
    assert found["restored"].virtual_size == GIB
    assert found["overlay"].hindrance == "it has a backing file, base"
    assert found["used"].hindrance == "it is in use"
    assert [one.path for one in actions.volumes_for_import(client, pool, "restored")] == [
        "restored"
    ]


def test_a_file_becomes_an_instance(there):
    """`importVolume`, then `deployVirtualMachine volumeid=`."""
    _, client, seen, pool = there
    volume = actions.import_volume(
        client, path="restored", pool_id=pool, name="root", owner=seen.owner
    )
    key = actions.deploy(
        client,
        actions.NewInstance(
            name="back",
            zone_id=seen.zone_id,
            offering_id=seen.offering_id,
            volume_id=volume,
            owner=seen.owner,
            cards=[actions.Card(nic.network_id) for nic in seen.nics],
        ),
    )
    made, _ = inventory.instance(client, key)
    assert [disk.id for disk in made.volumes] == [volume]


def test_a_root_is_replaced(there):
    _, client, seen, pool = there
    volume = actions.import_volume(
        client, path="restored", pool_id=pool, name="root", owner=seen.owner
    )
    actions.detach(client, seen.volumes[0].id)
    actions.attach(client, volume, seen.id, device_id=0)
    now, _ = inventory.instance(client, seen.id)
    assert [(disk.id, disk.kind) for disk in now.volumes] == [(volume, "ROOT")]


def test_a_file_becomes_an_instance_of_4_19(site):
    cloud = site.cloud(version="4.19")
    cloud.add_instance("web")
    client = site.client(cloud)
    [[(seen, _)]] = list(inventory.instances(client))
    pool = seen.volumes[0].pool_id
    cloud.machines.add_file(pool, FileFact("restored", "qcow2", 1000, GIB))
    key = actions.import_vm(
        client,
        name="back",
        path="restored",
        pool_id=pool,
        zone_id=seen.zone_id,
        cluster_id=cloud.world.all(Cluster)[0].id,
        network_id=seen.nics[0].network_id,
        offering_id=seen.offering_id,
        owner=seen.owner,
    )
    made, _ = inventory.instance(client, key)
    assert (made.state, made.volumes[0].path) == ("Stopped", "restored")


def test_what_cannot_be_taken_is_refused(there):
    _, client, seen, pool = there
    with pytest.raises(Rejected, match="backing file"):
        actions.import_volume(client, path="overlay", pool_id=pool, name="x", owner=seen.owner)


def test_an_older_cloud_does_not_know_it(site):
    client = site.client(site.cloud(version="4.18"))
    with pytest.raises(Unsupported):
        actions.volumes_for_import(client, "00000000-0000-4000-8000-000000000000")


def test_an_instance_is_given_to_another_owner(there):
    cloud, client, seen, _ = there
    cloud.create_account("bob", domain="ROOT/bob")
    [bob] = [one for page in inventory.accounts(client) for one in page if one.name == "bob"]
    owner = type(seen.owner)(domain_id=bob.domain_id, account="bob")
    actions.assign(client, seen.id, owner)
    assert inventory.instance(client, seen.id)[0].owner.words == "ROOT/bob/bob"


def test_fields_are_changed(there):
    _, client, seen, _ = there
    actions.update(client, seen.id, displayname="Other", details={"a": "b"})
    now, secrets = inventory.instance(client, seen.id)
    assert now.display_name == "Other"
    assert "a" in secrets.details
