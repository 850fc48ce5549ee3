"""Pairs of disks and volumes: no order, target or device decides, and a pair always has a clue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.model.machine import Disk
from sendense.model.matching import Clue, match_disks
from tests.support.cloud_plans import POOLS, a_volume, an_id, an_instance, disk_of, machine_of

SERIALS = ["own", "none", "stranger", *range(5)]


@st.composite
def histories(draw: Any) -> Any:
    """Give volumes, and disks that are some of them with clues lost and mixed up."""
    count = draw(st.integers(1, 5))
    volumes = [
        a_volume(number, path=draw(st.sampled_from([an_id(100 + number), f"moved-{number}"])))
        for number in range(count)
    ]
    disks: list[Disk] = []
    for number in draw(st.lists(st.integers(0, count - 1), max_size=6)):
        disk = disk_of(volumes[number], target=f"vd{chr(ord('a') + len(disks))}")
        serial = draw(st.sampled_from(SERIALS))
        if serial == "none":
            disk = replace(disk, serial=None)
        elif serial == "stranger":
            disk = replace(disk, serial=an_id(999).replace("-", "")[:20])
        elif isinstance(serial, int):
            disk = replace(disk, serial=volumes[serial % count].serial)
        if draw(st.booleans()):
            disk = replace(disk, path=f"/mnt/elsewhere/{disk.target}")
        disks.append(disk)
    return volumes, disks


def looked_at(volumes, disks):
    instance = an_instance(*volumes)
    machine = machine_of(instance, *disks)
    if not disks:
        machine = replace(machine, disks=())
    return match_disks(machine, instance, POOLS)


@settings(max_examples=200, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_both_sides_changes_nothing(history, random):
    volumes, disks = history
    before = looked_at(volumes, disks)
    shuffled_volumes, shuffled_disks = random.sample(volumes, len(volumes)), list(disks)
    random.shuffle(shuffled_disks)
    after = looked_at(shuffled_volumes, shuffled_disks)
    assert {(p.volume.id, p.disk, p.by) for p in before.pairs} == {
        (p.volume.id, p.disk, p.by) for p in after.pairs
    }
    assert {(d.kind, frozenset(d.targets)) for d in before.doubts} == {
        (d.kind, frozenset(d.targets)) for d in after.doubts
    }
    assert set(before.extra_disks) == set(after.extra_disks)


@settings(max_examples=200, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_targets_and_device_ids_change_nothing(history, random):
    volumes, disks = history
    targets = random.sample("abcdefghijklmnop", len(disks))
    renamed = [
        replace(disk, target=f"sd{letter}") for disk, letter in zip(disks, targets, strict=True)
    ]
    moved = [replace(volume, device_id=random.randint(0, 20)) for volume in volumes]
    before, after = looked_at(volumes, disks), looked_at(moved, renamed)
    place = {disk.target: number for number, disk in enumerate(disks)}
    renamed_place = {disk.target: number for number, disk in enumerate(renamed)}
    assert {(p.volume.id, place[p.disk.target]) for p in before.pairs} == {
        (p.volume.id, renamed_place[p.disk.target]) for p in after.pairs
    }


@settings(max_examples=200, deadline=None)
@given(histories())
def test_every_pair_has_its_clue_and_everything_is_said_once(history):
    volumes, disks = history
    match = looked_at(volumes, disks)
    for pair in match.pairs:
        clues = {
            Clue.SERIAL: pair.disk.serial == pair.volume.serial,
            Clue.NAME: pair.volume.id in pair.disk.path,
            Clue.PATH: pair.disk.path.endswith(f"/{pair.volume.path}"),
        }
        assert clues[pair.by]
        assert clues[Clue.SERIAL] or len(pair.disk.serial or "") != 20
    assert len({pair.volume.id for pair in match.pairs}) == len(match.pairs)
    paired = [pair.disk.target for pair in match.pairs]
    doubted = [target for doubt in match.doubts for target in doubt.targets]
    extra = [disk.target for disk in match.extra_disks]
    assert sorted(paired + doubted + extra) == sorted(disk.target for disk in disks)
