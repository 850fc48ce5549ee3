"""Machines to instances, disks to volumes: what is not clear is a doubt with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import Conflict, NotFound, Rejected
from sendense.model.machine import SourceKind
from sendense.model.matching import Clue, DoubtKind, InstanceIndex, Verdict, match_disks
from tests.support.cloud_plans import (
    GIB,
    INSTANCE,
    POOLS,
    a_pool,
    a_volume,
    an_id,
    an_instance,
    disk_of,
    machine_of,
)

ROOT, DATA = a_volume(), a_volume(1)
WEB = an_instance(ROOT, DATA)


# --- instances ---


def test_by_uuid():
    found = InstanceIndex([WEB]).match(machine_of(WEB, uuid=INSTANCE.upper()))
    assert (found.verdict, found.instance, found.warning) == (Verdict.MATCHED, WEB, "")


def test_another_name_is_a_warning():
    found = InstanceIndex([WEB]).match(machine_of(WEB, name="i-2-99-VM"))
    assert found.verdict is Verdict.MATCHED
    assert "i-2-99-VM" in found.warning


@pytest.mark.parametrize(
    ("instances", "machine"),
    [
        ([WEB], machine_of(WEB, uuid=an_id(9))),
        ([WEB, replace(WEB, zone_id="zone-2")], machine_of(WEB)),
        ([WEB, an_instance(id=an_id(9), domain_name="other")], machine_of(WEB, name="other")),
    ],
    ids=["same name, other UUID", "two clouds", "the name of another"],
)
def test_doubts(instances, machine):
    found = InstanceIndex(instances).match(machine)
    assert (found.verdict, found.instance) == (Verdict.DOUBTFUL, None)
    assert found.reason


@pytest.mark.parametrize("name", ["r-4-VM", "s-1-VM", "v-2-QA", f"DUMMY-VM-{an_id(5)}"])
def test_machines_of_cloudstack_itself(name):
    machine = machine_of(WEB, uuid=an_id(9), name=name)
    assert InstanceIndex([WEB]).match(machine).verdict is Verdict.IGNORED


@pytest.mark.parametrize(
    "name", ["r-4-VM-old", "s-3-web shop", "v-2-", "r-4-", "xr-4-VM", "r-x-VM"]
)
def test_the_whole_name_has_to_be_as_cloudstack_gives_it(name):
    machine = machine_of(WEB, uuid=an_id(9), name=name)
    assert InstanceIndex([WEB]).match(machine).verdict is Verdict.UNKNOWN


def test_a_machine_of_nobody():
    machine = machine_of(WEB, uuid=an_id(9), name="pfsense")
    assert InstanceIndex([WEB]).match(machine).verdict is Verdict.UNKNOWN


def test_an_instance_may_be_named_like_a_system_machine():
    instance = an_instance(domain_name="v-2-VM")
    assert InstanceIndex([instance]).match(machine_of(instance)).verdict is Verdict.MATCHED


# --- disks ---


def pairs(match):
    return {pair.disk.target: pair.volume.id for pair in match.pairs}


def test_all_clues_agree():
    match = match_disks(machine_of(WEB), WEB, POOLS, sizes={"vda": 10 * GIB, "vdb": 11 * GIB})
    assert match.complete
    assert pairs(match) == {"vda": ROOT.id, "vdb": DATA.id}
    assert match.pair_of(DATA.id).by is Clue.SERIAL
    assert DATA.serial in match.pair_of(DATA.id).reason
    match.ensure_sure()


def test_targets_say_nothing():
    disks = (disk_of(ROOT, target="vdb"), disk_of(DATA, target="vda"))
    assert pairs(match_disks(machine_of(WEB, *disks), WEB, POOLS)) == {
        "vdb": ROOT.id,
        "vda": DATA.id,
    }


@pytest.mark.parametrize(
    ("disk", "clue"),
    [
        (disk_of(DATA, path="/elsewhere/overlay"), Clue.SERIAL),
        (disk_of(DATA, path=f"/elsewhere/{DATA.id}.qcow2", serial=None), Clue.NAME),
        (disk_of(DATA, path=f"/dev/drbd/by-res/cs-{DATA.id}/0", serial=None), Clue.NAME),
        (disk_of(DATA, path=f"pool/{DATA.id}", serial=None, kind=SourceKind.NETWORK), Clue.NAME),
        (disk_of(DATA, serial="whatever"), Clue.NAME),
    ],
)
def test_the_strongest_clue_is_named(disk, clue):
    assert match_disks(machine_of(WEB, disk), WEB, POOLS).pair_of(DATA.id).by is clue


def test_by_path_alone():
    volume = replace(DATA, path="moved")
    instance = an_instance(ROOT, volume)
    match = match_disks(machine_of(WEB, disk_of(volume, serial=None)), instance, POOLS)
    assert match.pair_of(DATA.id).by is Clue.PATH


def test_a_late_path_is_told():
    match = match_disks(machine_of(WEB, disk_of(DATA, path="/elsewhere/overlay")), WEB, POOLS)
    assert disk_of(DATA).path in match.pair_of(DATA.id).reason


@pytest.mark.parametrize(
    ("disks", "kind"),
    [
        ([disk_of(DATA, serial=ROOT.serial)], DoubtKind.CONTRADICTION),
        ([disk_of(DATA, serial=an_id(77).replace("-", "")[:20])], DoubtKind.CONTRADICTION),
        ([disk_of(DATA), disk_of(DATA, target="vdc")], DoubtKind.TWO_DISKS),
        ([disk_of(a_volume(7, instance_id="other"))], DoubtKind.OF_ANOTHER),
    ],
    ids=["serial of another", "unknown serial", "twice", "of another instance"],
)
def test_disks_in_doubt_have_no_pair(disks, kind):
    match = match_disks(
        machine_of(WEB, *disks), WEB, POOLS, elsewhere=[a_volume(7, instance_id="other")]
    )
    assert not match.pairs
    assert [doubt.kind for doubt in match.doubts] == [kind]
    with pytest.raises(Conflict):
        match.ensure_sure()


def test_two_volumes_of_one_place():
    instance = an_instance(ROOT, replace(DATA, path="same"), a_volume(2, path="same"))
    disk = disk_of(DATA, path=disk_of(instance.volumes[1]).path, serial=None)
    match = match_disks(machine_of(WEB, disk), instance, POOLS)
    assert [doubt.kind for doubt in match.doubts] == [DoubtKind.TWO_VOLUMES]
    with pytest.raises(Conflict, match="vdb"):
        match.pair_of(DATA.id)


def test_another_size_is_a_doubt():
    match = match_disks(machine_of(WEB), WEB, POOLS, sizes={"vda": 10 * GIB, "vdb": GIB})
    assert pairs(match) == {"vda": ROOT.id}
    assert [doubt.kind for doubt in match.doubts] == [DoubtKind.SIZE]


def test_what_only_one_side_has():
    stranger = disk_of(DATA, target="vdz", path="/srv/other.img", serial=None)
    match = match_disks(machine_of(WEB, disk_of(ROOT), stranger), WEB, POOLS)
    assert match.sure
    assert not match.complete
    assert (match.extra_disks, match.extra_volumes) == ((stranger,), (DATA,))
    with pytest.raises(NotFound):
        match.pair_of(DATA.id)


def test_an_iso_is_not_missed():
    instance = an_instance(ROOT, a_volume(3, kind="ISO"))
    assert match_disks(machine_of(instance, disk_of(ROOT)), instance, POOLS).complete


def test_another_machine_is_refused():
    with pytest.raises(Rejected):
        match_disks(machine_of(WEB, uuid=an_id(9)), WEB, POOLS)


def test_a_pool_that_is_not_known_leaves_the_other_clues():
    assert match_disks(machine_of(WEB), WEB, {"x": a_pool(id="x")}).complete


# --- what a point is told of ---


def test_a_definition_of_long_ago_is_a_doubt_for_a_machine_that_is_off():
    root, data = machine_of(WEB).disks
    stale = replace(data, path="/mnt/old/data")
    machine = machine_of(WEB, root, stale)
    assert match_disks(machine, WEB, POOLS).sure
    found = match_disks(machine, WEB, POOLS, in_place=True)
    (doubt,) = found.doubts
    assert doubt.kind is DoubtKind.CONTRADICTION
    assert "/mnt/old/data" in doubt.reason
    assert match_disks(machine_of(WEB), WEB, POOLS, in_place=True).complete


def test_what_one_side_lacks_is_told():
    root, data = machine_of(WEB).disks
    stranger = replace(data, target="vdx", path="/srv/other", serial=None)
    missing, extra = match_disks(machine_of(WEB, root, stranger), WEB, POOLS).warnings
    assert DATA.id in missing
    assert "/srv/other" in extra
    assert match_disks(machine_of(WEB), WEB, POOLS).warnings == ()
    coming = replace(WEB, volumes=(ROOT, replace(DATA, state="Creating")))
    assert match_disks(machine_of(coming, root), coming, POOLS).warnings == ()


def test_block_storage_may_give_more_than_was_asked_for():
    pools = {ROOT.pool_id: a_pool(kind="PowerFlex")}
    more = {"vda": ROOT.size + GIB, "vdb": DATA.size}
    machine = machine_of(WEB)
    assert match_disks(machine, WEB, pools, sizes=more).sure
    assert not match_disks(machine, WEB, POOLS, sizes=more).sure
    assert not match_disks(machine, WEB, pools, sizes={"vda": ROOT.size - GIB}).sure
