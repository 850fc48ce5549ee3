"""Restores onto an instance that is there: in place, and as one more data disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.model.ascend import (
    Aim,
    PlainFeatures,
    Quota,
    RefusalCode,
    Way,
)
from sendense.model.ascend_planning import plan_ascent
from sendense.model.ascend_steps import (
    AttachVolume,
    CreateVolume,
    ImportVolume,
    NewFile,
    SafetyPoint,
    StartInstance,
    StopInstance,
    TagInstance,
    UntagInstance,
    VerifyDisk,
    WriteDisk,
)
from sendense.model.cloud import Owner
from tests.support.cloud_plans import (
    GIB,
    INSTANCE,
    POOL,
    a_manifest,
    a_pool,
    a_request,
    a_view,
    a_volume,
    an_id,
    an_instance,
    features,
)

ROOT, DATA = a_volume(), a_volume(1)
WEB = an_instance(ROOT, DATA)


def kinds(plan):
    return [type(step) for step in plan.steps]


def codes(plan):
    return [refusal.code for refusal in plan.refusals]


def of_kind(plan, kind):
    return [step for step in plan.steps if isinstance(step, kind)]


# --- the same instance in place ---


def in_place(view, **changes):
    return plan_ascent(a_manifest(), view, a_request(Aim.IN_PLACE, **changes))


def test_in_place():
    plan = in_place(a_view(instance=WEB))
    assert plan.way is Way.IN_PLACE
    assert kinds(plan) == [
        StopInstance, TagInstance, SafetyPoint, WriteDisk, WriteDisk, VerifyDisk, VerifyDisk,
        UntagInstance, StartInstance,
    ]  # fmt: skip
    assert [step.path for step in of_kind(plan, WriteDisk)] == [
        f"/mnt/{POOL}/{ROOT.id}",
        f"/mnt/{POOL}/{DATA.id}",
    ]


def test_whose_the_instance_is_now_is_said():
    bob = Owner("domain-1", "ROOT/acme", account="bob")
    plan = plan_ascent(
        a_manifest(), a_view(instance=replace(WEB, owner=bob)), a_request(Aim.IN_PLACE)
    )
    assert any("who gets what was ROOT/acme/acme's" in each for each in plan.warnings)
    assert {step.owner for step in of_kind(plan, WriteDisk)} == {bob}


def test_in_place_what_is_off_stays_off():
    plan = in_place(a_view(instance=replace(WEB, state="Stopped")), safety_point=False)
    assert kinds(plan) == [TagInstance, WriteDisk, WriteDisk, VerifyDisk, VerifyDisk, UntagInstance]


def test_in_place_the_file_keeps_its_format():
    manifest = a_manifest()
    disks = (manifest.disks[0], replace(manifest.disks[1], format="raw"))
    plan = plan_ascent(
        replace(manifest, disks=disks), a_view(instance=WEB), a_request(Aim.IN_PLACE)
    )
    assert [step.format for step in of_kind(plan, WriteDisk)] == ["qcow2", "raw"]


def test_in_place_one_disk():
    plan = in_place(a_view(instance=WEB), volumes=(DATA.id,))
    assert [step.volume_id for step in of_kind(plan, WriteDisk)] == [DATA.id]
    assert any("vol-0" in warning for warning in plan.warnings)


def test_in_place_of_disks_that_are_no_volume_what_to_restore_is_named():
    """Some disks of one moment beside others of another are nobody's wish, unless it is said."""

    def planned(aim, **changes):
        view = a_view(instance=WEB)
        return plan_ascent(a_manifest(), view, a_request(aim, **changes), strays=("vdc", "vdd"))

    plan = planned(Aim.IN_PLACE)
    assert codes(plan) == [RefusalCode.NO_VOLUME]
    assert "vdc, vdd" in plan.refusals[0].reason
    for volume in (ROOT, DATA):
        assert f"{volume.name} ({volume.id})" in plan.refusals[0].hint
    plan = planned(Aim.IN_PLACE, volumes=(DATA.id,))
    assert [step.volume_id for step in of_kind(plan, WriteDisk)] == [DATA.id]
    assert codes(planned(Aim.DATA_DISK, volumes=(DATA.id,))) == []


def test_in_place_never_by_order():
    new_root = a_volume(id=an_id(77))
    view = a_view(instance=an_instance(new_root, DATA))
    plan = in_place(view)
    assert codes(plan) == [RefusalCode.NO_VOLUME]
    assert new_root.id in plan.refusals[0].hint
    plan = in_place(view, onto={ROOT.id: new_root.id})
    assert [step.volume_id for step in of_kind(plan, WriteDisk)] == [new_root.id, DATA.id]
    plan = in_place(view, onto={ROOT.id: DATA.id}, allow_larger=True)
    assert RefusalCode.REQUEST in codes(plan)


@pytest.mark.parametrize(
    ("instance", "code"),
    [
        (None, RefusalCode.NOT_THERE),
        (replace(WEB, state="Migrating"), RefusalCode.NOT_STOPPABLE),
        (replace(WEB, state="Destroyed"), RefusalCode.NOT_STOPPABLE),
        (an_instance(ROOT, replace(DATA, size=GIB)), RefusalCode.SIZE),
        (an_instance(ROOT, replace(DATA, size=99 * GIB)), RefusalCode.SIZE),
        (an_instance(ROOT, replace(DATA, encryption="LUKS2")), RefusalCode.ENCRYPTED),
        (an_instance(ROOT, replace(DATA, state="Snapshotting")), RefusalCode.VOLUME_NOT_READY),
        (an_instance(ROOT, replace(DATA, path="")), RefusalCode.PATH),
        (an_instance(ROOT, replace(DATA, pool_id="rbd")), RefusalCode.PATH),
        (an_instance(ROOT, replace(DATA, kind="ISO")), RefusalCode.NO_VOLUME),
    ],
)
def test_in_place_refusals(instance, code):
    plan = in_place(a_view(instance=instance, pools=(a_pool(), a_pool(id="rbd", kind="RBD"))))
    assert codes(plan) == [code]
    assert not plan.steps


def test_in_place_an_enlarged_volume_can_be_allowed():
    instance = an_instance(ROOT, replace(DATA, size=99 * GIB))
    assert not in_place(a_view(instance=instance), allow_larger=True).refusals


def test_in_place_what_the_key_may_not():
    view = a_view(instance=WEB, features=PlainFeatures(frozenset()))
    assert codes(in_place(view)) == [RefusalCode.NO_API, RefusalCode.NO_API]
    view = replace(view, instance=replace(WEB, state="Stopped"))
    plan = in_place(view)
    assert not of_kind(plan, TagInstance)
    assert any("may not tag" in warning for warning in plan.warnings)


# --- one data disk ---

DB = an_instance(a_volume(id=an_id(200)), id=an_id(3), name="db", display_name="")


def data_disk(view, **changes):
    changes = {"volumes": (DATA.id,), **changes}
    return plan_ascent(a_manifest(), view, a_request(Aim.DATA_DISK, **changes))


def test_a_data_disk_for_the_instance_itself():
    plan = data_disk(a_view(instance=WEB))
    assert plan.way is Way.NEW_DATA_VOLUME
    assert kinds(plan) == [NewFile, VerifyDisk, ImportVolume, AttachVolume]
    # Device 1 is still the volume's that is restored.
    assert of_kind(plan, AttachVolume) == [
        AttachVolume(DATA.id, INSTANCE, None, "vol-1", "Web server")
    ]


def test_a_data_disk_for_another_instance():
    plan = data_disk(a_view(target=DB), instance_id=DB.id)
    assert of_kind(plan, AttachVolume) == [AttachVolume(DATA.id, DB.id, 1, "vol-1", "db")]


def test_a_data_disk_where_nothing_can_be_imported():
    plan = data_disk(a_view(instance=WEB, features=features("4.18.1")))
    assert kinds(plan) == [
        CreateVolume, StopInstance, AttachVolume, WriteDisk, VerifyDisk, StartInstance,
    ]  # fmt: skip
    assert "importVolume" in plan.why


@pytest.mark.parametrize(
    ("instance", "code"),
    [
        (None, RefusalCode.NOT_THERE),
        (replace(WEB, state="Error"), RefusalCode.NOT_STOPPABLE),
        (replace(WEB, disk_snapshots=1), RefusalCode.SNAPSHOTS),
        (replace(WEB, memory_snapshots=1), RefusalCode.SNAPSHOTS),
        (replace(WEB, backup_offering="gold"), RefusalCode.BACKUP_OFFERING),
        (an_instance(a_volume(state="Allocated")), RefusalCode.VOLUME_NOT_READY),
    ],
)
def test_a_data_disk_refused(instance, code):
    plan = data_disk(a_view(instance=instance))
    assert codes(plan) == [code]
    assert not plan.steps


def test_a_backup_offering_that_lets_attach():
    view = a_view(instance=replace(WEB, backup_offering="gold"), attach_beside_backup=True)
    assert not data_disk(view).refusals


def test_a_data_disk_and_quotas():
    plan = data_disk(a_view(instance=WEB, quota=Quota(volumes=0, primary_bytes=0)))
    assert codes(plan) == [RefusalCode.QUOTA, RefusalCode.QUOTA]
    assert codes(data_disk(a_view(instance=WEB), volumes=())) == [RefusalCode.REQUEST]
