"""What a restore writes over is looked at again: a plan may be days old."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import Conflict
from sendense.model.ascend_steps import WriteDisk, step_from_json, step_to_json
from sendense.workflows.managed.ascend_disks import written_over
from sendense.workflows.managed.ascend_watch import KeptStopped
from sendense_lab.simulator.records import Instance, Volume
from tests.support.cloud_restore import GIB, Place


class Over(Place):
    """A restore over both disks of Ann's instance."""

    @property
    def writes(self) -> list[WriteDisk]:
        return [
            WriteDisk(
                f"was-{number}", volume.id, volume.pool_id, volume.path, volume.size, volume.name,
                instance_id=self.vm.id, owner=self.seen.owner,
            )
            for number, volume in enumerate(self.seen.volumes)
        ]  # fmt: skip

    def row(self, number: int) -> Volume:
        return self.cloud.world.get(Volume, self.seen.volumes[number].id)

    def moved(self, number: int, to: Instance) -> None:
        """Take a disk off, and give it to another."""
        volume_id = self.seen.volumes[number].id
        self.client.run("detachVolume", id=volume_id)
        self.client.run("attachVolume", id=volume_id, virtualmachineid=to.id)


@pytest.fixture
def place(site):
    return Over(site)


def test_disks_of_the_instance_are_written(place):
    instance, volumes = written_over(place.site, place.writes)
    assert instance.id == place.vm.id
    assert [each.id for each in volumes] == [each.id for each in place.seen.volumes]


@pytest.mark.parametrize("alone", [False, True], ids=["beside-the-root", "alone"])
def test_a_disk_that_another_instance_has_now_is_left_alone(place, alone):
    other = place.cloud.add_instance("other", account=place.ann, running=False)
    place.moved(1, other)
    writes = place.writes[1:] if alone else place.writes
    with pytest.raises(Conflict, match=f"attached to {other.id} now"):
        written_over(place.site, writes)


def test_a_disk_that_no_instance_has_is_left_alone(place):
    place.client.run("detachVolume", id=place.seen.volumes[1].id)
    with pytest.raises(Conflict, match="attached to no instance now"):
        written_over(place.site, place.writes)


def test_what_was_given_away_is_left_alone(place):
    place.row(1).account_id = place.bob.id
    with pytest.raises(Conflict, match="bob's now"):
        written_over(place.site, place.writes)
    place.cloud.world.get(Instance, place.vm.id).account_id = place.bob.id
    place.row(0).account_id = place.bob.id
    with pytest.raises(Conflict, match="bob's now"):
        written_over(place.site, place.writes)


def test_a_disk_that_cloudstack_works_on_is_left_alone(place):
    place.row(1).state = "Migrating"
    with pytest.raises(Conflict, match="Migrating"):
        written_over(place.site, place.writes)


def test_a_plan_that_does_not_name_the_instance_is_not_carried_out(place):
    content = {**step_to_json(place.writes[0])}
    del content["instance_id"], content["owner"]
    older = step_from_json(content)
    assert isinstance(older, WriteDisk)
    assert older == replace(place.writes[0], instance_id="", owner=None)
    with pytest.raises(Conflict, match="which instance"):
        written_over(place.site, [older])


def test_the_watch_sees_a_disk_that_is_taken_off(place):
    instance, volumes = written_over(place.site, place.writes)
    with KeptStopped(place.client, instance, volumes, every_s=60) as watch:
        watch.look()
        place.row(1).state = "Snapshotting"
        watch.look()
        place.row(1).state = "Ready"
        other = place.cloud.add_instance("other", account=place.ann, disks=(GIB,), running=False)
        place.moved(1, other)
        with pytest.raises(Conflict, match="not its disk any more"):
            watch.look()
