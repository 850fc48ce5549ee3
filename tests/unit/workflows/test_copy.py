"""Copies between repositories of all kinds: what arrives, what is read, what goes wrong."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from dataclasses import replace
from itertools import product

import pytest

from sendense.errors import Busy, Damaged, OutOfSpace, Rejected
from sendense.model.decision import Method, Mode
from sendense.model.hold import Hold, HoldKind
from sendense.model.point import PointState
from sendense.model.point_copy import DiskReason
from sendense.repository.dedup import damages
from sendense.repository.protocol import Finding, VerifyLevel
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, plan_copy
from sendense.workflows.point_copier import CopyOptions
from tests.contract.repository_content import damage
from tests.support.copy_site import KINDS, Site, repository_of, verdicts, without_errors
from tests.support.dedup_damage import flip
from tests.support.memory_folder import memory_folder
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    data,
    disk,
    machine,
    noise,
    zeroes,
)

VDA, VDB = disk("vda"), disk("vdb")
SIZE = 70 * BLOCK + 512
OTHER_UUID = "6f2d3f4e-0000-4000-8000-000000000002"


@pytest.fixture
def folder():
    with memory_folder() as place:
        yield place


@pytest.fixture(params=product(KINDS, KINDS), ids="-to-".join)
def site(request, folder):
    source, target = request.param
    site = Site(repository_of(source, folder, "source"), repository_of(target, folder, "target"))
    yield site
    site.source.close()
    site.target.close()


@pytest.fixture
def dedup(folder):
    """From one dedup repository to another of another key."""
    return Site(repository_of("dedup", folder, "source"), repository_of("dedup", folder, "target"))


def full(seed=1, size=SIZE, target=VDA):
    tail = size - size % BLOCK
    head = data(0, noise(4 * BLOCK, seed))
    return Write(target, size, (head, data(tail, noise(size - tail, seed + 1))))


def change(*places, seed=7, size=SIZE, target=VDA, granularity=BLOCK):
    chunks = tuple(data(place * BLOCK, noise(BLOCK, seed + place)) for place in places)
    return Write(target, size, chunks, Method.BITMAP, granularity)


def three(site):
    """A full and two incrementals, of which the last frees some space."""
    site.backup("p1", full())
    site.backup("p2", change(1, 66))
    last = change(2)
    site.backup("p3", replace(last, chunks=(zeroes(0, BLOCK), *last.chunks)))


# --- what arrives ---


def test_all_points_arrive_in_order(site):
    three(site)
    results = without_errors(site.copy())
    assert verdicts(results) == {"p1": "copy", "p2": "copy", "p3": "copy"}
    site.check("p1", "p2", "p3")
    for point in site.target.points():
        assert site.target.verify(point.id, VerifyLevel.DATA).sound
    assert [item.disks[0].item.method for item in results] == [
        Method.EVERYTHING,
        Method.BITMAP,
        Method.BITMAP,
    ]


def test_only_what_differs_is_read(site):
    three(site)
    first, second, third = without_errors(site.copy())
    assert second.read_bytes == 2 * BLOCK
    assert (third.read_bytes, third.disks[0].zero_bytes) == (BLOCK, BLOCK)
    assert first.read_bytes == 4 * BLOCK + 512


def test_a_copied_point_is_as_it_was(site):
    three(site)
    without_errors(site.copy())
    for made in site.source.points():
        there = site.target.point(made.id)
        stored = replace(there, disks=made.disks, sequence=made.sequence, mode=made.mode)
        assert stored == made
        for own, image in zip(made.disks, there.disks, strict=True):
            for name in ("disk", "size", "chain", "read_bytes", "sampled_blocks", "seconds"):
                assert getattr(image, name) == getattr(own, name)
            assert image.decision.reason is own.decision.reason
            assert image.decision.tracked is own.decision.tracked


def test_copied_again_nothing_happens(site):
    three(site)
    without_errors(site.copy())
    before = site.target.points()
    results = without_errors(site.copy())
    assert set(verdicts(results).values()) == {"present"}
    assert site.target.points() == before


def test_the_next_point_is_what_changed(site):
    three(site)
    without_errors(site.copy())
    site.backup("p4", change(5))
    results = without_errors(site.copy())
    assert verdicts(results)["p4"] == "copy"
    assert results[-1].disks[0].item.base == "p3"
    assert results[-1].read_bytes == BLOCK
    site.check("p1", "p2", "p3", "p4")


def test_a_full_of_the_source_is_stored_as_what_changed(site):
    site.backup("p1", full())
    site.backup("p2", full())
    results = without_errors(site.copy())
    assert results[1].read_bytes == 0
    assert site.target.point("p2").mode is Mode.INCREMENTAL
    site.check("p1", "p2")


def test_points_between_are_left_out(site):
    three(site)
    without_errors(site.copy("p1"))
    results = without_errors(site.copy("p3"))
    assert results[0].disks[0].item.base == "p1"
    site.check("p1", "p3")


def test_the_base_was_deleted_in_the_source(site):
    three(site)
    without_errors(site.copy("p1", "p2"))
    site.source.delete(["p2"])
    results = without_errors(site.copy())
    assert results[-1].disks[0].item.reason is DiskReason.SOURCE_LACKS
    assert results[-1].disks[0].image.parent == "p2"
    site.check("p1", "p2", "p3")


def test_the_base_was_deleted_in_the_target(site):
    three(site)
    without_errors(site.copy("p1", "p2"))
    site.target.delete(["p2"])
    results = without_errors(site.copy())
    assert verdicts(results) == {"p1": "present", "p2": "copy", "p3": "copy"}
    site.check("p1", "p2", "p3")


def test_what_was_pruned_in_the_target_does_not_come_back(site):
    three(site)
    without_errors(site.copy())
    site.target.delete(["p1", "p2"])
    site.backup("p4", change(3))
    results = without_errors(site.copy())
    assert verdicts(results) == {"p1": "older", "p2": "older", "p3": "present", "p4": "copy"}
    site.check("p3", "p4")
    without_errors(site.copy(older=True))
    site.check("p3", "p4", "p1", "p2")


def test_disks_that_come_grow_shrink_and_go(site):
    site.backup("p1", full(), full(3, target=VDB))
    site.backup("p2", change(1, size=SIZE + 64 * BLOCK))
    site.backup("p3", full(5, size=5 * BLOCK + 4096), change(2, target=VDB))
    site.backup("p4", change(1, size=5 * BLOCK + 4096))
    results = without_errors(site.copy())
    site.check("p1", "p2", "p3", "p4")
    reasons = {disk.item.image.disk.target: disk.item.reason for disk in results[2].disks}
    assert reasons == {"vda": DiskReason.SHRUNK, "vdb": DiskReason.SHARED}
    assert results[1].read_bytes == BLOCK


def test_disks_without_a_byte(site):
    site.backup("p1", Write(VDA, 0, ()))
    site.backup("p2", Write(VDA, 0, (), Method.BITMAP))
    site.backup("p3", Write(VDA, 4096, (), Method.BITMAP))
    without_errors(site.copy())
    site.check("p1", "p2", "p3")


def test_a_disk_that_moved_to_another_target(site):
    site.backup("p1", full())
    site.backup("p2", change(1, target=disk("vdc", VDA.serial)))
    results = without_errors(site.copy())
    assert results[1].read_bytes == BLOCK
    site.check("p1", "p2")


def test_layers_of_fine_blocks(site):
    """A chain keeps changes of 4 KiB; the target may take blocks of 64 KiB only."""
    if not site.source.info().kind.startswith("qcow2"):
        pytest.skip("keeps whole blocks")
    site.backup("p1", full())
    fine = Write(
        VDA,
        SIZE,
        (data(4096, noise(4096, 9)), zeroes(2 * BLOCK, 4096), data(65 * BLOCK, noise(8192, 3))),
        Method.BITMAP,
        4096,
    )
    site.backup("p2", fine)
    results = without_errors(site.copy())
    site.check("p1", "p2")
    if site.target.info().kind.startswith("qcow2"):
        assert results[1].disks[0].image.block_size == 4096
        assert results[1].read_bytes == 12288
    site.target.delete(["p1"])
    site.check("p2")


def test_several_machines(site):
    three(site)
    site.backup("o1", full(9), uuid=OTHER_UUID)
    results = without_errors(site.copy(machine=OTHER_UUID))
    assert verdicts(results) == {"o1": "copy"}
    without_errors(site.copy())
    site.check("p1", "p2", "p3", "o1")


def test_holds_stay_where_they_are(site):
    three(site)
    site.source.hold(Hold("p2", HoldKind.PIN, None, "", site.source.point("p2").taken_at))
    without_errors(site.copy())
    assert site.target.holds() == ()


def test_read_back(site):
    three(site)
    results = without_errors(site.copy(options=CopyOptions(read_back=True)))
    found = [item.verification for item in results if item.verification]
    assert len(found) == 3
    assert all(item.sound and item.level is VerifyLevel.DATA for item in found)


# --- which ---


def test_the_last_points(site):
    three(site)
    without_errors(site.copy(last=2))
    site.check("p2", "p3")


def test_the_last_good_points(dedup):
    three(dedup)
    dedup.backup("p4", change(5))
    with_damage(dedup.source, "p4")
    planned = plan_copy(dedup.source, dedup.target, CopyRequest(last=2)).plan
    assert [(item.point.id, item.verdict.value) for item in planned.points] == [
        ("p2", "copy"),
        ("p3", "copy"),
        ("p4", "refused"),
    ]


def test_the_last_points_are_no_safety_points(dedup):
    three(dedup)
    dedup.backup("p4", change(5), safety=True)
    dedup.backup("o1", full(), uuid=OTHER_UUID, safety=True)
    without_errors(dedup.copy(last=1))
    # Of the other machine nothing else is there.
    assert {point.id for point in dedup.target.points()} == {"p3", "o1"}
    without_errors(dedup.copy())
    assert {point.id for point in dedup.target.points()} >= {"p4"}


def test_a_safety_point_is_copied_where_no_other_is_good(dedup):
    dedup.backup("p1", full())
    dedup.backup("p2", full(), safety=True)
    with_damage(dedup.source, "p1")
    planned = plan_copy(dedup.source, dedup.target, CopyRequest(last=1)).plan
    assert [item.point.id for item in planned.points] == ["p2"]


def test_points_since_a_moment(dedup):
    three(dedup)
    taken = dedup.source.point("p1").taken_at
    request = CopyRequest(since=taken)
    assert len(plan_copy(dedup.source, dedup.target, request).plan.points) == 3
    request = CopyRequest(since=taken.replace(year=2100))
    assert plan_copy(dedup.source, dedup.target, request).plan.points == ()


def test_a_repository_is_not_copied_onto_itself(site):
    three(site)
    site.target = site.source
    with pytest.raises(Rejected):
        site.copy()


# --- what goes wrong ---


def with_damage(repository, point):
    """Have a point listed as damaged."""
    damages.remember(
        repository.parts, points=frozenset([point]), records=frozenset(), packs=frozenset()
    )


def test_a_damaged_point_is_left_and_the_others_go_on(dedup):
    three(dedup)
    with_damage(dedup.source, "p2")
    results = without_errors(dedup.copy())
    assert verdicts(results) == {"p1": "copy", "p2": "refused", "p3": "copy"}
    assert results[2].disks[0].item.base == "p1"
    dedup.check("p1", "p3")


def test_damage_that_is_met_in_reading(site):
    three(site)
    damage(site.source, "p2", BLOCK)
    results = site.copy()
    assert verdicts(results) == {"p1": "copy", "p2": "failed", "p3": "copy"} or (
        verdicts(results) == {"p1": "copy", "p2": "failed", "p3": "failed"}
    )
    assert isinstance(results[1].error, Damaged)
    site.check()
    assert "p2" not in {point.id for point in site.target.points()}


def test_a_base_that_is_found_damaged_in_the_target(dedup):
    """Its nodes are read to build upon them: the damage is remembered, and a full is made."""
    three(dedup)
    without_errors(dedup.copy("p1"))
    with dedup.target.open("p1") as reader:
        root = reader.disk(VDA.identity).root
    location = dedup.target.parts.index.find([root])[root]
    flip(dedup.target, location.pack.name, location.entry.offset)
    results = without_errors(dedup.copy())
    assert verdicts(results) == {"p1": "present", "p2": "copy", "p3": "copy"}
    assert results[1].disks[0].item.reason is DiskReason.TARGET_DAMAGED
    assert results[2].disks[0].item.reason is DiskReason.SHARED
    assert dedup.target.point("p1").state is PointState.DAMAGED
    dedup.target.delete(["p1"])
    dedup.check("p2", "p3")


def test_the_base_in_the_source_cannot_be_read(dedup):
    """What it was is not known then; all of the disk is compared."""
    three(dedup)
    without_errors(dedup.copy("p1"))
    with dedup.source.open("p1") as reader:
        root = reader.disk(VDA.identity).root
    location = dedup.source.parts.index.find([root])[root]
    flip(dedup.source, location.pack.name, location.entry.offset)
    results = without_errors(dedup.copy("p2"))
    assert results[0].disks[0].image.parent == "p1"
    dedup.check("p1", "p2")


def test_a_source_that_cannot_tell_what_changed(site, monkeypatch):
    three(site)
    without_errors(site.copy("p1"))
    with site.source.open("p1") as reader:
        kind = type(reader.disk(VDA.identity))
    monkeypatch.setattr(kind, "changes", lambda *_, **__: None)
    results = without_errors(site.copy("p2"))
    assert results[0].disks[0].item.reason is DiskReason.SOURCE_CANNOT
    assert results[0].disks[0].image.parent == "p1"
    site.check("p1", "p2")


def test_a_machine_that_is_written_to_in_the_target(site):
    three(site)
    site.backup("o1", full(9), uuid=OTHER_UUID)
    with site.target.begin(machine(), "p9"):
        results = site.copy()
    assert verdicts(results) == {"p1": "failed", "p2": "failed", "p3": "failed", "o1": "copy"}
    assert isinstance(results[0].error, Busy)
    without_errors(site.copy())
    site.check("p1", "p2", "p3", "o1")


def test_two_copies_at_once(site):
    """The second plans while the first is at work, and comes when that is done."""
    three(site)
    plan = plan_copy(site.source, site.target, CopyRequest()).plan
    without_errors(site.copy())
    results = without_errors(run_copy(site.source, site.target, plan))
    assert set(verdicts(results).values()) == {"present"}
    site.check("p1", "p2", "p3")


def test_a_point_that_is_deleted_meanwhile(site):
    three(site)
    plan = plan_copy(site.source, site.target, CopyRequest()).plan
    site.source.delete(["p2"])
    results = without_errors(run_copy(site.source, site.target, plan))
    assert verdicts(results) == {"p1": "copy", "p2": "gone", "p3": "copy"}
    site.check("p1", "p3")


def test_a_point_cannot_be_deleted_while_it_is_copied(site, monkeypatch):
    three(site)
    refused: list[bool] = []

    def attempt(_progress):
        if not refused:
            with pytest.raises(Busy):
                site.source.delete(["p2"])
            refused.append(True)

    plan = plan_copy(site.source, site.target, CopyRequest(points=("p2",))).plan
    run_copy(site.source, site.target, plan, watch=lambda _: nullcontext(attempt))
    assert refused


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutOfSpace("full")], ids=["ctrl-c", "full"])
def test_what_ends_the_run(site, error):
    """Nothing half-done is seen, and the next run goes on with the same point."""
    three(site)
    site.backup("o1", full(9), uuid=OTHER_UUID)
    without_errors(site.copy("p1"))

    def fail(_progress):
        raise error

    plan = plan_copy(site.source, site.target, CopyRequest()).plan
    results = run_copy(site.source, site.target, plan, watch=lambda _: nullcontext(fail))
    assert verdicts(results) == {"p1": "present", "p2": "failed", "p3": "failed", "o1": "failed"}
    assert results[1].error is error
    assert [point.id for point in site.target.points()] == ["p1"]
    without_errors(site.copy())
    site.check("p1", "p2", "p3", "o1")


def test_a_copy_that_turns_out_damaged_is_an_error(dedup, monkeypatch):
    three(dedup)
    whole = type(dedup.target).verify

    def verify(self, point_id, level, **options):
        found = whole(self, point_id, level, **options)
        return replace(found, findings=(Finding(point_id, None, None, "rotten"),))

    monkeypatch.setattr(type(dedup.target), "verify", verify)
    results = dedup.copy("p1")
    assert isinstance(results[0].error, Damaged)
    assert "rotten" in results[0].error.message


# --- the target is a chain, and MACHINE_UUID one of its folders ---


def test_a_chain_in_the_target_stands_by_itself(folder):
    """QEMU reads it without us."""
    site = Site(repository_of("dedup", folder, "source"), repository_of("chain", folder, "target"))
    three(site)
    without_errors(site.copy())
    raw = folder / "model.raw"
    for name in ("p1", "p2", "p3"):
        raw.write_bytes(site.contents[name, VDA.identity])
        image = folder / "target/machines" / MACHINE_UUID / name / "vda.qcow2"
        command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(raw)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
