"""What a restore makes in a cloud is made once, and nothing of others is taken for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sendense.cloudstack import inventory
from sendense.errors import Conflict
from sendense.model.ascend_steps import (
    NEW,
    AttachVolume,
    DeployFromTemplate,
    DeployFromVolume,
    DetachRoot,
    Shape,
    WantedNic,
)
from sendense.workflows.managed import ascend_making
from sendense.workflows.managed.ascend_journal import Course, Piece
from sendense_lab.simulator.records import ServiceOffering, Volume
from tests.support.cloud_restore import JOB, Place, Work


class Died(Exception):
    """Stands for the end of the process."""


def _die(*_: Any, **__: Any) -> None:
    raise Died


class Maker(Place):
    """A restore that makes a volume."""

    def make(self) -> str:
        piece = Piece(1, (self.step,))
        return ascend_making.make(self.site, piece, self.step).made["was"]

    def die_before_it_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """End after all was remembered, and before CloudStack hears of it."""
        with monkeypatch.context() as patched:
            patched.setattr(type(self.client), "start", _die)
            with pytest.raises(Died):
                self.make()


@pytest.fixture
def place(site):
    return Maker(site)


def test_a_volume_of_another_is_never_taken(place, monkeypatch):
    place.die_before_it_is_asked(monkeypatch)
    theirs = place.volume_of(place.bob, "data")
    begun = next(fact for fact in place.work.facts if fact.get("name"))
    like = place.volume_of(place.bob, begun["name"])
    made = place.make()
    assert made not in {theirs.id, like.id}
    assert [(row.id, row.name) for row in place.volumes(place.ann)] == [(made, "data")]


def test_a_volume_of_the_same_owner_and_name_is_not_taken(place, monkeypatch):
    place.die_before_it_is_asked(monkeypatch)
    theirs = place.volume_of(place.ann, "data")
    assert place.make() != theirs.id


def test_facts_without_a_name_take_nothing(place):
    place.work.remember({"ascend": "begun", "piece": 1, "cloud_job": JOB, "known": []})
    theirs = place.volume_of(place.bob, "data", size=1 << 40)
    assert place.make() != theirs.id
    mine = place.volume_of(place.ann, "data")
    place.work = Work()
    place.work.remember({"ascend": "begun", "piece": 1, "cloud_job": JOB, "known": []})
    with pytest.raises(Conflict, match=mine.id):
        place.make()


@pytest.mark.parametrize("kept", [0, 1])
def test_what_was_made_is_found_again(place, kept):
    """By its job, or by its name where the cloud forgot the job."""
    made = place.make()
    row = place.cloud.world.get(Volume, made)
    begun = place.work.facts[0]
    row.name = begun["name"]
    place.work.facts = (begun if kept else {**begun, "cloud_job": "0" * 8},)
    assert place.make() == made
    assert row.name == "data"
    assert place.make() == made
    assert len(place.volumes(place.ann)) == 1


def test_what_was_made_and_given_away_is_left_alone(place):
    made = place.make()
    place.cloud.world.get(Volume, made).account_id = place.bob.id
    with pytest.raises(Conflict, match="bob"):
        place.make()


def test_a_volume_of_another_is_not_attached(place):
    made = place.make()
    place.cloud.world.get(Volume, made).account_id = place.bob.id
    site = place.site
    site.journal.made["was"] = made
    with pytest.raises(Conflict, match="not of one owner"):
        ascend_making.attach(site, AttachVolume("was", place.vm.id, None))


def test_without_the_right_to_rename_nothing_is_guessed(place, monkeypatch):
    features = place.client.features()
    params = {**features.params, "updateVolume": frozenset()}
    monkeypatch.setattr(place.client, "_features", replace(features, params=params))
    place.die_before_it_is_asked(monkeypatch)
    theirs = place.volume_of(place.bob, "data")
    mine = place.volume_of(place.ann, "data")
    with pytest.raises(Conflict, match=mine.id):
        place.make()
    place.cloud.world.remove(mine)
    made = place.make()
    assert made != theirs.id
    assert place.cloud.world.get(Volume, made).name == "data"


def test_an_instance_of_another_is_never_taken(place, monkeypatch):
    seen = place.seen
    offering = place.cloud.world.named(ServiceOffering, "Tiny Instance")
    nics = (WantedNic(seen.nics[0].network_id),)
    shape = Shape("shop", "The shop", seen.zone_id, seen.owner, offering.id, nics)
    step = DeployFromTemplate(seen.template_id, shape, start=False)

    def made() -> str:
        return ascend_making.make(place.site, Piece(1, (step,)), step).made[NEW]

    with monkeypatch.context() as patched:
        patched.setattr(type(place.client), "start", _die)
        with pytest.raises(Died):
            made()
    marked = place.work.facts[0]["name"]
    theirs = [
        place.cloud.add_instance("shop", account=place.bob, networks=("isolated1",),
                                 display_name=marked, running=False),
        place.cloud.add_instance("shop", account=place.ann, networks=("isolated1",),
                                 display_name="The shop", running=False),
    ]  # fmt: skip
    found = made()
    assert found not in {each.id for each in theirs}
    now = inventory.instance(place.client, found)[0]
    assert (now.name, now.display_name) == ("shop", "The shop")
    assert now.owner.is_same(seen.owner)
    assert made() == found


@pytest.fixture
def shop(place):
    """Give a restore that deploys Ann's shop around a volume of hers."""
    seen = place.seen
    nics = (WantedNic(seen.nics[0].network_id),)
    shape = Shape("shop", "", seen.zone_id, seen.owner, seen.offering_id, nics)
    place.course = Course("cloud", "recreate", (DeployFromVolume("was", shape), DetachRoot(NEW)))
    root = place.volume_of(place.ann, "root", state="Ready")
    place.work.remember({"ascend": "done", "piece": 9, "made": {"was": root.id}, "said": {}})
    return place, root


@pytest.mark.parametrize("how", ["given-away", "in-use", "not-ready"])
def test_no_instance_is_made_around_a_volume_that_is_in_other_hands(shop, how):
    place, root = shop
    if how == "given-away":
        root.account_id = place.bob.id
    elif how == "in-use":
        root.instance_id = place.vm.id
    else:
        root.state = "Migrating"
    step = place.course.steps[0]
    with pytest.raises(Conflict, match="which was made for the new instance"):
        ascend_making.make(place.site, Piece(1, (step,)), step)


def test_the_root_of_an_instance_that_was_given_away_stays(shop):
    place, _ = shop
    vm = place.cloud.add_instance("shop", account=place.bob, running=False)
    place.work.remember({"ascend": "done", "piece": 1, "made": {NEW: vm.id}, "said": {}})
    with pytest.raises(Conflict, match="bob's now"):
        ascend_making.detach_root(place.site, Piece(2, (DetachRoot(NEW),)), DetachRoot(NEW))
    assert [row.kind for row in inventory.instance(place.client, vm.id)[0].volumes] == ["ROOT"]
