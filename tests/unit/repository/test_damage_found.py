"""Flipped bytes and cut files of each kind are found, named, remembered and not passed on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from sendense.errors import Damaged, NotFound, SendenseError
from sendense.formats.qcow2_reader import Qcow2Reader
from sendense.model.decision import Method
from sendense.model.point import PointState
from sendense.repository.opening import create_repository, open_repository
from sendense.repository.protocol import VerifyLevel
from tests.support.memory_folder import memory_folder
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    content_of,
    data,
    disk,
    noise,
    restored,
    store,
)

VDA = disk("vda")
SIZE = 8 * BLOCK
FINE = 4096
FULL = Write(VDA, SIZE, (data(0, noise(4 * BLOCK)),))
CHANGE = Write(VDA, SIZE, (data(BLOCK, noise(FINE, 1)),), Method.BITMAP, FINE)
LAST = Write(VDA, SIZE, (data(2 * BLOCK, noise(BLOCK, 2)),), Method.BITMAP)


@pytest.fixture(scope="module")
def site():
    with memory_folder() as folder:
        repository = create_repository(f"qcow2:{folder / 'site'}")
        for name, write in (("p1", FULL), ("p2", CHANGE), ("p3", LAST)):
            store(repository, name, write, attachments={"domain.xml": b"<domain/>"})
        yield folder / "site", {name: restored(repository, name) for name in ("p1", "p2", "p3")}


@pytest.fixture
def place(site, tmp_path):
    return Path(shutil.copytree(site[0], tmp_path / "copy"))


def machine(place):
    return place / "machines" / MACHINE_UUID


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def flip_block(place, point, offset):
    """Flip a byte of what a layer stores for an offset of the disk."""
    path = machine(place) / point / "vda.qcow2"
    with Qcow2Reader(path) as reader:
        found = reader.locate(offset, 512)[0].offset
    flip(path, found)


def read_all(repository, point):
    """Read a point as a restore does."""
    with repository.open(point) as reader:
        reader.attachment("domain.xml")
        return content_of(reader.disk(VDA.identity))


@pytest.mark.parametrize("name", ["manifest.json", "vda.map", "domain.xml"])
def test_every_flipped_byte_of_a_small_file(place, name):
    path = machine(place) / "p1" / name
    good = path.read_bytes()
    repository = open_repository(str(place))
    for offset in range(0, len(good), max(1, len(good) // 60)):
        flip(path, offset)
        with pytest.raises(SendenseError):
            read_all(repository, "p1")
        path.write_bytes(good)
    assert read_all(repository, "p1")


@pytest.mark.parametrize("name", ["manifest.json", "vda.map", "domain.xml", "vda.qcow2"])
@pytest.mark.parametrize("part", [0, 0.3, 0.6])
def test_a_cut_file(place, name, part):
    path = machine(place) / "p1" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    repository = open_repository(str(place))
    with pytest.raises(Damaged):
        read_all(repository, "p1")
    found = repository.verify("p1", VerifyLevel.STRUCTURE)
    assert not found.sound
    assert {item.point for item in found.findings} == {"p1"}


@pytest.mark.parametrize("name", ["vda.map", "domain.xml", "vda.qcow2"])
def test_a_lost_file(place, name):
    (machine(place) / "p1" / name).unlink()
    repository = open_repository(str(place))
    with pytest.raises(Damaged):
        read_all(repository, "p1")
    assert not repository.verify("p1", VerifyLevel.STRUCTURE).sound


def test_an_image_with_flipped_bytes_never_gives_wrong_data(site, place):
    random = Random(7)
    path = machine(place) / "p1" / "vda.qcow2"
    good = path.read_bytes()
    repository = open_repository(str(place))
    for _ in range(80):
        # Half of them in the tables behind the data, where few bytes matter much.
        start = random.choice((0, 5 * BLOCK))
        flip(path, random.randrange(start, len(good)))
        try:
            assert read_all(repository, "p1") == site[1]["p1"]
        except Damaged:
            assert not repository.verify("p1", VerifyLevel.DATA).sound
        path.write_bytes(good)
    assert repository.verify("p1", VerifyLevel.DATA).sound


def test_all_who_need_a_damaged_layer_are_damaged(place):
    flip_block(place, "p1", 3 * BLOCK)
    repository = open_repository(str(place))
    found = repository.verify("p3", VerifyLevel.DATA)
    assert [(item.point, item.disk, item.offset) for item in found.findings] == [
        ("p1", VDA.identity, 3 * BLOCK)
    ]
    states = [point.state for point in open_repository(str(place)).points()]
    assert states == [PointState.DAMAGED] * 3


def test_damage_above_does_not_concern_what_is_below(place):
    flip_block(place, "p2", BLOCK)
    repository = open_repository(str(place))
    assert not repository.verify("p2", VerifyLevel.DATA).sound
    states = {point.id: point.state.value for point in repository.points()}
    assert states == {"p1": "complete", "p2": "damaged", "p3": "damaged"}


def test_every_damaged_block_is_named(place):
    for number in (0, 2, 3):
        flip_block(place, "p1", number * BLOCK)
    found = open_repository(str(place)).verify("p1", VerifyLevel.DATA)
    assert [item.offset for item in found.findings] == [0, 2 * BLOCK, 3 * BLOCK]


def test_a_clean_verification_takes_the_mark_away(place):
    path = machine(place) / "p1" / "vda.qcow2"
    good = path.read_bytes()
    flip_block(place, "p1", 0)
    repository = open_repository(str(place))
    repository.verify("p1", VerifyLevel.DATA)
    path.write_bytes(good)
    assert repository.verify("p1", VerifyLevel.STRUCTURE).sound
    assert repository.point("p1").state is PointState.DAMAGED, "structure proves no data"
    assert repository.verify("p1", VerifyLevel.DATA).sound
    assert repository.point("p1").state is PointState.COMPLETE


def test_a_mark_that_cannot_be_read_counts_as_damage(place):
    (machine(place) / "p2" / "damaged.json").write_bytes(b"{")
    repository = open_repository(str(place))
    assert repository.point("p2").state is PointState.DAMAGED
    assert repository.verify("p2", VerifyLevel.DATA).sound
    assert repository.point("p2").state is PointState.COMPLETE


def test_one_unreadable_manifest_does_not_hide_the_others(place):
    flip(machine(place) / "p1" / "manifest.json", 100)
    repository = open_repository(str(place))
    assert [(item.id, item.state.value) for item in repository.points()] == [
        ("p2", "damaged"),
        ("p3", "damaged"),
    ]
    with pytest.raises(Damaged, match=r"manifest\.json"):
        repository.point("p1")
    assert not repository.verify("p1", VerifyLevel.STRUCTURE).sound
    with pytest.raises(Damaged, match="others need"):
        repository.delete(["p1"])
    repository.delete(["p1", "p2", "p3"])
    assert repository.points() == ()
    with pytest.raises(NotFound):
        repository.point("p1")


def cut_manifest(folder):
    flip(folder / "manifest.json", 100)


def remove_manifest(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("lose", [cut_manifest, remove_manifest])
def test_a_lost_point_is_named_verified_and_deleted(place, lose):
    lose(machine(place) / "p3")
    repository = open_repository(str(place))
    (lost,) = repository.lost()
    assert (lost.machine, lost.id, lost.newest) == (MACHINE_UUID, "p3", 3)
    assert repository.lost("6f2d3f4e-0000-4000-8000-000000000002") == ()
    found = repository.verify("p3", VerifyLevel.STRUCTURE)
    assert "manifest" in found.findings[0].message
    assert [item.id for item in repository.lost()] == ["p3"], "a mark on it changes nothing"
    assert repository.delete(["p3"]) == ("p3",)
    assert repository.lost() == ()
    assert [item.id for item in repository.points()] == ["p1", "p2"]


def test_a_lost_point_may_be_the_newest_where_the_last_number_is_lost_too(place):
    cut_manifest(machine(place) / "p1")
    (machine(place) / ".machine.json").unlink()
    (lost,) = open_repository(str(place)).lost()
    assert lost.newest > 10**9


def test_a_forged_backing_file_is_never_opened(place):
    """QEMU would open whatever the header names."""
    path = machine(place) / "p2" / "vda.qcow2"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"../p1/vda.qcow2", b"/etc/secret.img"))
    repository = open_repository(str(place))
    with pytest.raises(Damaged, match="another backing file"):
        restored(repository, "p2")
    with pytest.raises(Damaged, match="another backing file"):
        repository.delete(["p1"])
    assert [point.id for point in repository.points()] == ["p1", "p2", "p3"]


# --- damage and merging ---


def test_a_merge_does_not_launder_damage(place):
    flip_block(place, "p1", 3 * BLOCK)
    repository = open_repository(str(place))
    repository.delete(["p1"])
    found = repository.verify("p2", VerifyLevel.DATA)
    assert [item.offset for item in found.findings] == [3 * BLOCK]


def test_damage_in_a_block_that_is_partly_hidden_stays_damage(place):
    """p2 hides 4 KiB of this block of p1; the merged block is hashed anew."""
    flip_block(place, "p1", BLOCK + 8 * FINE)
    repository = open_repository(str(place))
    repository.delete(["p1"])
    assert repository.point("p2").state is PointState.DAMAGED
    found = repository.verify("p2", VerifyLevel.DATA)
    assert [item.offset for item in found.findings] == [BLOCK]


def test_a_merge_that_hides_damage_heals_it(place, site):
    flip_block(place, "p1", 2 * BLOCK)
    repository = open_repository(str(place))
    repository.delete(["p1", "p2"])
    assert restored(repository, "p3") == site[1]["p3"]


def test_known_damage_is_handed_on(place):
    flip_block(place, "p1", 0)
    repository = open_repository(str(place))
    repository.verify("p1", VerifyLevel.DATA)
    repository.delete(["p1"])
    assert [point.state.value for point in repository.points()] == ["damaged", "damaged"]


def test_a_parent_that_cannot_be_merged_is_not_touched(place):
    flip(machine(place) / "p1" / "vda.map", 50)
    repository = open_repository(str(place))
    with pytest.raises(Damaged, match="cannot be merged") as caught:
        repository.delete(["p1"])
    assert "together with it" in str(caught.value.hint)
    assert [point.id for point in repository.points()] == ["p1", "p2", "p3"]
    repository.delete(["p2", "p3"])
    repository.delete(["p1"])


def test_what_is_written_over_a_damaged_block_is_stored(place, site):
    """A comparison must not call a block equal because the parent's hash says so by chance."""
    flip_block(place, "p1", BLOCK + 8 * FINE)
    repository = open_repository(str(place))
    whole = site[1]["p3"]
    chunks = tuple(data(start, whole[start : start + BLOCK]) for start in range(0, SIZE, BLOCK))
    store(repository, "p4", Write(VDA, SIZE, chunks, Method.COMPARE))
    assert restored(repository, "p4") == whole


def test_a_catalogue_is_only_a_cache(place):
    repository = open_repository(str(place))
    before = repository.points()
    catalog = machine(place) / ".catalog.json"
    assert catalog.exists()
    for content in (b"", b"{}", b"null", catalog.read_bytes()[:-20]):
        catalog.write_bytes(content)
        assert repository.points() == before
    shutil.copytree(machine(place) / "p3", machine(place) / "p7")
    assert repository.points() == before, "a manifest of another point is no point"
    shutil.rmtree(machine(place) / "p7")
    shutil.rmtree(machine(place) / "p3")
    assert [point.id for point in repository.points()] == ["p1", "p2"]
    told = json.loads(catalog.read_bytes())
    assert sorted(told["content"]) == ["p1", "p2"]
