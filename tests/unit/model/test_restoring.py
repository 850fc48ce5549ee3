"""Restore plans: a doubt is a refusal that names the disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import NotFound, Rejected
from sendense.model.machine import PowerState
from sendense.model.restoring import (
    DestinationKind,
    Occupant,
    VolumePlace,
    plan_devices,
    plan_in_place,
    plan_new_files,
    plan_onto_volumes,
)
from tests.support.builders import GIB, a_bitmap, a_disk, a_machine, a_point, an_image

ROOT, DATA = an_image(a_disk("vda")), an_image(a_disk("vdb"))
POINT = a_point(disks=(ROOT, DATA))
VOLUME = "9f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b0f"


# --- new files ---


def test_new_files_are_named_after_targets_and_keep_their_format():
    raw = an_image(a_disk("vdb", format="raw"))
    plan = plan_new_files(a_point(disks=(ROOT, raw)), (ROOT, raw), folder="/restore")
    assert [item.destination.path for item in plan.disks] == [
        "/restore/vda.qcow2",
        "/restore/vdb.raw",
    ]
    assert plan.size == 2 * GIB
    assert plan.left_out == ()


def test_a_format_can_be_named():
    plan = plan_new_files(POINT, (ROOT,), folder="/restore", image_format="raw")
    assert plan.disks[0].destination.format == "raw"
    assert [item.image for item in plan.left_out] == [DATA]


def test_a_format_that_is_not_written():
    with pytest.raises(Rejected, match=r"vda.*vmdk"):
        plan_new_files(POINT, (ROOT,), folder="/restore", image_format="vmdk")


@pytest.mark.parametrize("target", ["../../etc/cron.d/x", "", ".hidden", "a/b", "x\0"])
def test_a_target_cannot_lead_out_of_the_directory(target):
    image = an_image(a_disk(target))
    with pytest.raises(Rejected):
        plan_new_files(a_point(disks=(image,)), (image,), folder="/restore")


# --- volumes ---


def onto_volumes(places, images=(ROOT, DATA), **options):
    return plan_onto_volumes(
        POINT, images, places=places, machine=a_machine(uuid=VOLUME), **options
    )


def volume(name="a", image_format="raw", size=GIB):
    return VolumePlace(f"/mnt/pool/{name}", image_format, size)


def test_volumes_of_another_machine_are_named_by_what_a_disk_is():
    plan = onto_volumes({ROOT.disk.identity: volume("b"), "vdb": volume("a")})
    assert [(item.image.disk.target, item.destination.path) for item in plan.disks] == [
        ("vda", "/mnt/pool/b"),
        ("vdb", "/mnt/pool/a"),
    ]
    assert {item.destination.format for item in plan.disks} == {"raw"}
    assert plan.machine is not None
    assert plan.machine.uuid == VOLUME
    assert [item.image for item in onto_volumes({"vdb": volume()}).left_out] == [ROOT]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({}, "no volume is named"),
        ({"vdz": volume()}, "no disk 'vdz'"),
        ({"vda": volume(), "vdb": volume()}, "both lead to"),
        ({"vda": volume(), ROOT.disk.identity: volume("b")}, "one disk that goes to two places"),
        ({"vda": volume(image_format="vmdk")}, "vmdk"),
        ({"vda": volume(size=GIB - 512)}, "needs"),
        ({"vda": volume(size=GIB + 512)}, "bytes, the disk has"),
    ],
)
def test_volumes_in_doubt(places, words):
    with pytest.raises(Rejected, match=words):
        onto_volumes(places)


def test_a_larger_volume_on_request():
    plan = onto_volumes({"vda": volume(size=2 * GIB)}, allow_larger=True)
    assert plan.disks[0].destination.capacity == 2 * GIB


# --- devices ---


def devices(mapping, images=(ROOT, DATA), **options):
    capacities = {"/dev/a": GIB, "/dev/b": GIB, "/dev/small": GIB - 512, "/dev/large": 2 * GIB}
    return plan_devices(POINT, images, mapping=mapping, capacities=capacities, **options)


def test_devices_are_named_by_target_serial_or_path():
    plan = devices({"serialvda": "/dev/b", "/mnt/pool/vdb": "/dev/a"})
    assert [(item.image.disk.target, item.destination.path) for item in plan.disks] == [
        ("vda", "/dev/b"),
        ("vdb", "/dev/a"),
    ]
    assert {item.destination.kind for item in plan.disks} == {DestinationKind.BLOCK_DEVICE}


def test_a_disk_without_a_device_is_left_out():
    assert [item.image for item in devices({"vda": "/dev/a"}).left_out] == [DATA]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"vda": "/dev/a", "vdb": "/dev/a"}, "both lead to"),
        ({"vda": "/dev/a", "serialvda": "/dev/b"}, "one disk that goes to two places"),
        ({"vda": "/dev/small"}, "needs"),
        ({"vda": "/dev/large"}, "has"),
        ({}, "no device"),
    ],
)
def test_devices_in_doubt(mapping, words):
    with pytest.raises(Rejected, match=words):
        devices(mapping)


def test_an_unknown_disk():
    with pytest.raises(NotFound, match="vdz"):
        devices({"vdz": "/dev/a"})


def test_a_larger_device_on_request():
    assert (
        devices({"vda": "/dev/large"}, allow_larger=True).disks[0].destination.capacity == 2 * GIB
    )


# --- in place ---


def in_place(*occupants, point=POINT, images=None, power=PowerState.STOPPED, **options):
    machine = a_machine(*(item.disk for item in occupants), power=power)
    images = point.disks if images is None else images
    return plan_in_place(point, images, machine=machine, occupants=occupants, **options)


def occupant(target="vda", size=GIB, bitmaps=(), **changes):
    return Occupant(a_disk(target, **changes), size, bitmaps)


def test_disks_are_matched_by_serial_not_by_position():
    plan = in_place(occupant("vda", serial="serialvdb"), occupant("vdb", serial="serialvda"))
    assert [(item.image.disk.target, item.destination.path) for item in plan.disks] == [
        ("vda", "/mnt/pool/vdb"),
        ("vdb", "/mnt/pool/vda"),
    ]
    assert plan.disks[0].reason == "same serial serialvda"
    assert plan.machine is not None


def test_without_serials_the_path_decides_then_the_volume():
    moved = an_image(a_disk("vda", serial=None, path=f"/mnt/old/{VOLUME}"))
    stayed = an_image(a_disk("vdb", serial=None))
    plan = in_place(
        occupant("vdc", serial=None, path=f"/mnt/new/{VOLUME}"),
        occupant("vdd", serial=None, path="/mnt/pool/vdb"),
        point=a_point(disks=(moved, stayed)),
    )
    assert [item.reason for item in plan.disks] == [f"same volume {VOLUME}", "same path"]


def test_another_serial_at_the_same_path_is_another_disk():
    with pytest.raises(Rejected, match="no disk of the machine is vda"):
        in_place(occupant("vda", serial="other"), images=(ROOT,))


def test_a_name_that_is_no_uuid_says_nothing():
    moved = an_image(a_disk("vda", serial=None, path="/mnt/old/disk.qcow2"))
    with pytest.raises(Rejected, match="no disk of the machine is vda"):
        in_place(
            occupant("vda", serial=None, path="/mnt/new/disk.qcow2"), point=a_point(disks=(moved,))
        )


def test_two_candidates():
    with pytest.raises(Rejected, match=r"vda.*more than one.*vda, vdx"):
        in_place(occupant("vda"), occupant("vdx", serial="serialvda"), images=(ROOT,))


def test_two_disks_of_the_point_for_one_place():
    twin = an_image(a_disk("vdb", serial="serialvda"))
    with pytest.raises(Rejected, match="both lead to"):
        in_place(occupant("vda"), point=a_point(disks=(ROOT, twin)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": GIB - 512}, "needs"),
        ({"size": GIB + 512}, "has"),
        ({"format": "raw"}, "is raw now"),
        ({"read_only": True}, "read-only"),
        ({"shareable": True}, "shared"),
    ],
)
def test_a_place_in_doubt(changes, words):
    with pytest.raises(Rejected, match=words) as caught:
        in_place(occupant(**changes), images=(ROOT,))
    assert "vda" in caught.value.message


def test_a_larger_place_on_request():
    plan = in_place(occupant(size=2 * GIB), images=(ROOT,), allow_larger=True)
    assert plan.disks[0].destination.capacity == 2 * GIB


@pytest.mark.parametrize("power", [PowerState.RUNNING, PowerState.PAUSED])
def test_a_machine_that_is_not_off(power):
    with pytest.raises(Rejected, match=power.value):
        in_place(occupant("vda"), occupant("vdb"), power=power)


def test_another_machine():
    point = replace(POINT, machine=replace(POINT.machine, uuid="other"))
    with pytest.raises(Rejected, match="not of"):
        in_place(occupant("vda"), occupant("vdb"), point=point)


def test_only_our_bitmaps_are_stale():
    plan = in_place(
        occupant(bitmaps=(a_bitmap(), a_bitmap("foreign"), a_bitmap("sendense-x"))), images=(ROOT,)
    )
    assert plan.disks[0].destination.stale_bitmaps == ("sendense-p1", "sendense-x")
