"""What each level of a check reads, tells and remembers."""

from __future__ import annotations

from contextlib import suppress

import pytest

from sendense.errors import Busy, NotAllowed, Rejected, Unavailable
from sendense.model.decision import Method
from sendense.model.point import PointState
from sendense.model.progress import Progress
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import header
from sendense.repository.dedup.checking import whole_check
from sendense.repository.dedup.checking.checked_packs import CheckedPacks
from sendense.repository.dedup.checking.facade import check
from sendense.repository.dedup.checking.findings import EXPLAINED, CheckLevel, Weight, What
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.protocol import VerifyLevel
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dedup_damage import damage_chunk, flip, locate
from tests.support.dedup_site import OTHER_UUID, VDA, patchy, whole
from tests.support.dict_store import DictStore
from tests.support.points import BLOCK, Write, data, noise, restored, store

STRUCTURE, SAMPLE, DATA = CheckLevel
CONTENT = noise(6 * MIB)


@pytest.fixture
def repository():
    made = dedup_repository(DictStore())
    store(made, "p1", whole(CONTENT))
    yield made
    made.close()


@pytest.fixture
def many():
    """Give a repository of a dozen packs and as many points."""
    made = dedup_repository(DictStore())
    for number in range(6):
        store(made, f"p{number}", whole(noise(MIB, number)), uuid=_uuid(number))
    yield made
    made.close()


def _uuid(number):
    return f"6f2d3f4e-0000-4000-8000-{number:012d}"


def kinds(found):
    return [(finding.weight, finding.what) for finding in found.findings]


def packs_of(repository):
    return [item.name for item in repository.parts.store.list(fmt.PACKS)]


# --- levels ---


@pytest.mark.parametrize("level", CheckLevel)
def test_a_sound_repository(repository, level):
    found = check(repository, level)
    assert found.sound
    assert found.findings == ()
    assert (found.points, found.touched, found.healed) == (1, (), ())
    assert found.packs == {STRUCTURE: 0, SAMPLE: 1, DATA: 2}[level]
    assert found.packs_total == 2
    stored = sum(item.size for item in repository.parts.store.list(fmt.PACKS))
    assert (found.checked_bytes == stored) == (level is DATA)


def test_an_empty_repository():
    assert check(dedup_repository(DictStore()), DATA).sound


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_a_percentage_that_is_none(repository, percent):
    with pytest.raises(Rejected):
        check(repository, SAMPLE, percent)


def test_structure_reads_no_data(repository):
    largest = max(repository.parts.store.list(fmt.PACKS), key=lambda item: item.size)
    flip(repository, largest.name, 100)
    assert check(repository, STRUCTURE).sound
    assert not check(repository, DATA).sound


def test_progress_goes_up_to_all_bytes(repository):
    heard: list[Progress] = []
    found = check(repository, DATA, progress=heard.append)
    packs = [item for item in heard if item.subject == "packs"]
    trees = [item for item in heard if item.subject == "trees"]
    assert packs[-1].done == packs[-1].total == found.checked_bytes
    assert [item.done for item in packs] == sorted(item.done for item in packs)
    assert 0 < trees[-1].done <= trees[-1].total


# --- samples ---


def test_a_sample_goes_round(many):
    store = many.parts.store
    total = len(packs_of(many))
    read = []
    for _ in range(4):
        before = CheckedPacks(many.parts).times
        found = check(many, SAMPLE, 25)
        assert found.packs == total // 4
        store.pass_time(days=1)
        after = CheckedPacks(many.parts).times
        read += [pack for pack, at in after.items() if before.get(pack) != at]
    assert len(set(read)) == len(read) == total
    oldest = read[: total // 4]
    check(many, SAMPLE, 25)
    after = CheckedPacks(many.parts).times
    assert {pack for pack, at in after.items() if at == max(after.values())} == set(oldest)


def test_ages_are_the_stores(many):
    many.parts.store.now = many.parts.store.now.replace(year=2041)
    check(many, DATA)
    assert {at.year for at in CheckedPacks(many.parts).times.values()} == {2041}


def test_what_was_read_is_put_together(many):
    for _ in range(20):
        check(many, SAMPLE, 10)
    assert len(list(many.parts.store.list(fmt.CHECKED))) < 8
    assert len(CheckedPacks(many.parts).times) == len(packs_of(many))


def test_a_record_of_a_check_that_is_damaged_goes_when_they_are_put_together(many):
    for _ in range(3):
        check(many, SAMPLE, 10)
    flip(many, next(many.parts.store.list(fmt.CHECKED)).name, 40)
    found = check(many, SAMPLE, 10)
    assert kinds(found) == [(Weight.INFORMATION, What.CHECKED)]
    for _ in range(8):
        found = check(many, SAMPLE, 10)
    assert found.findings == ()


def test_a_bad_pack_is_not_called_checked(many):
    bad = packs_of(many)[0]
    flip(many, bad, 100)
    assert not check(many, DATA).sound
    assert bad.rpartition("/")[2] not in CheckedPacks(many.parts).times


# --- notes ---


def test_damage_is_noted_known_at_every_level_and_healed(repository):
    damage_chunk(repository, "p1", VDA.identity, 3 * MIB)
    found = check(repository, DATA)
    assert kinds(found) == [(Weight.DAMAGE, What.PACK_RECORDS)]
    assert found.touched == found.findings[0].points == ("p1",)
    for level in CheckLevel:
        assert check(repository, level, 1).touched == ("p1",)
    assert len(list(repository.parts.store.list(fmt.DAMAGE))) == 1
    assert repository.points()[0].state is PointState.DAMAGED
    store(repository, "p2", whole(CONTENT))
    for level, healed in ((STRUCTURE, ()), (SAMPLE, ("p1",)), (DATA, ())):
        found = check(repository, level, 1)
        assert found.sound
        assert found.healed == healed
    assert {point.state for point in repository.points()} == {PointState.COMPLETE}
    assert restored(repository, "p1") == CONTENT


def test_the_bad_copy_stays_noted_when_the_points_are_whole_again(repository):
    """Otherwise garbage collection could keep the bad copy, and drop the good one."""
    damage_chunk(repository, "p1", VDA.identity, 3 * MIB)
    _, location = locate(repository, "p1", VDA.identity, 3 * MIB)
    repository.verify("p1", VerifyLevel.DATA)
    store(repository, "p2", whole(CONTENT))
    repository.verify("p1", VerifyLevel.DATA)
    assert repository.point("p1").state is PointState.COMPLETE
    found = check(repository, DATA)
    assert found.sound
    assert kinds(found) == [(Weight.INFORMATION, What.PACK_RECORDS)]
    repository.rebuild()
    chunk = location.entry.id
    assert repository.parts.index.find([chunk])[chunk].pack.id != location.pack.id


def test_a_pack_that_came_back(repository):
    parts = repository.parts
    name = max(packs_of(repository), key=lambda item: parts.store.info(item).size)
    content = parts.store.get(name)
    parts.store.delete([name])
    found = check(repository, STRUCTURE)
    assert kinds(found) == [(Weight.DAMAGE, What.PACK_MISSING)]
    assert found.touched == ("p1",)
    parts.store.put(name, content)
    assert not check(repository, STRUCTURE).sound
    found = check(repository, SAMPLE, 1)
    assert found.sound
    assert found.healed == ("p1",)
    assert list(parts.store.list(fmt.DAMAGE)) == []


def test_what_a_verification_cannot_put_down_to_a_record_is_left_to_it(repository):
    from sendense.repository.dedup import damages

    damages.put(repository.parts, points=frozenset({"p1"}), records=frozenset(), packs=frozenset())
    found = check(repository, DATA)
    assert kinds(found) == [(Weight.DAMAGE, What.POINT_NOTED)]
    assert repository.points()[0].state is PointState.DAMAGED
    assert repository.verify("p1", VerifyLevel.DATA).sound
    assert check(repository, DATA).findings == ()


def test_the_same_damage_is_noted_once(repository):
    damage_chunk(repository, "p1", VDA.identity, 3 * MIB)
    for _ in range(3):
        assert not repository.verify("p1", VerifyLevel.DATA).sound
        assert not check(repository, DATA).sound
    assert len(list(repository.parts.store.list(fmt.DAMAGE))) == 1


def test_damage_that_no_point_needs_is_told_once_and_then_known(repository):
    store(repository, "o1", whole(noise(MIB, 77)), uuid=OTHER_UUID)
    _, location = locate(repository, "o1", VDA.identity, 0)
    repository.delete(["o1"])
    flip(repository, location.pack.name, location.entry.offset)
    found = check(repository, DATA)
    assert kinds(found) == [(Weight.RISK, What.PACK_RECORDS)]
    assert not found.sound
    found = check(repository, DATA)
    assert kinds(found) == [(Weight.INFORMATION, What.PACK_RECORDS)]
    assert found.sound


def test_only_the_points_that_use_it_are_touched(many):
    change = Write(VDA, MIB, (data(BLOCK, noise(BLOCK, 50)),), Method.BITMAP)
    store(many, "p0b", change, uuid=_uuid(0))
    damage_chunk(many, "p0b", VDA.identity, BLOCK)
    assert check(many, DATA).touched == ("p0b",)
    damage_chunk(many, "p3", VDA.identity, 0)
    assert check(many, DATA).touched == ("p0b", "p3")


# --- strays, and what is not ours ---


def test_a_pack_that_no_index_names_is_told_of_once_it_is_old(repository):
    parts = repository.parts
    name = packs_of(repository)[0]
    stray = f"packs/ab/ab{name.rpartition('/')[2][2:]}"
    parts.store.put(stray, parts.store.get(name))
    assert check(repository, DATA).findings == ()
    parts.store.pass_time(days=2)
    found = check(repository, STRUCTURE)
    assert kinds(found) == [(Weight.INFORMATION, What.PACK_STRAY)]
    assert found.findings[0].object == stray
    assert found.sound


@pytest.mark.parametrize("name", ["packs/ab/notes.txt", "points/readme"])
def test_what_is_not_ours_is_told_of(repository, name):
    repository.parts.store.put(name, b"x")
    found = check(repository, DATA)
    assert kinds(found) == [(Weight.INFORMATION, What.FOREIGN)]
    assert found.findings[0].object == name


# --- points that were here ---


def test_a_newest_point_that_nobody_deleted_has_vanished(repository):
    store(repository, "p2", whole(CONTENT))
    names = repository.parts.store.names("points/")
    assert repository.points()
    repository.parts.store.delete([names[1]])
    for _ in range(2):
        found = check(repository, STRUCTURE)
        assert kinds(found) == [(Weight.DAMAGE, What.POINT_VANISHED)]
        assert found.touched == ("p2",)


def test_an_older_point_that_is_gone_is_told_of_once(repository):
    store(repository, "p2", whole(CONTENT))
    assert repository.points()
    repository.parts.store.delete(repository.parts.store.names("points/")[:1])
    found = check(repository, STRUCTURE)
    assert kinds(found) == [(Weight.INFORMATION, What.POINT_GONE)]
    assert found.sound
    assert check(repository, STRUCTURE).findings == ()


@pytest.mark.parametrize("names", [["p1"], ["p2"], ["p1", "p2"]])
def test_what_we_deleted_is_not_missed(repository, names):
    store(repository, "p2", whole(CONTENT))
    assert repository.points()
    repository.delete(names)
    assert check(repository, STRUCTURE).findings == ()


def test_what_another_machine_deleted_has_not_vanished(repository):
    from dataclasses import replace

    from sendense.repository.dedup.repository import DedupRepository
    from sendense.repository.dedup.seen_points import SeenPoints

    store(repository, "p2", whole(CONTENT))
    other = DedupRepository(replace(repository.parts, seen=SeenPoints()), repository.header)
    assert repository.points()
    other.delete(["p2"])
    assert kinds(check(repository, STRUCTURE)) == [(Weight.INFORMATION, What.POINT_GONE)]


# --- stores that fail ---


class Failing(DictStore):
    """Does not give some objects, whoever asks."""

    def __init__(self, objects, failing):
        super().__init__(objects)
        self.failing = failing

    def read_into(self, name, offset, target):
        if name in self.failing:
            raise Unavailable(f"{name}: input/output error")
        super().read_into(name, offset, target)


def opened(repository, failing):
    from dataclasses import replace

    from sendense.repository.dedup.leases import Leases
    from sendense.repository.dedup.repository import DedupRepository

    place = Failing(repository.parts.store.objects, failing)
    parts = replace(repository.parts, store=place, leases=Leases(place, repository.parts.ring))
    return DedupRepository(parts, repository.header)


def test_a_pack_that_the_disk_does_not_give_keeps_nobody_from_the_rest(many):
    bad = max(packs_of(many), key=lambda name: many.parts.store.info(name).size)
    other = opened(many, {bad})
    found = check(other, DATA)
    assert [(item.what, item.object) for item in found.findings] == [(What.PACK_UNREADABLE, bad)]
    assert not found.sound
    assert found.packs == found.packs_total - 1
    assert list(other.parts.store.list(fmt.DAMAGE)) == []


@pytest.mark.parametrize("level", [STRUCTURE, DATA])
def test_a_store_that_gives_nothing_ends_the_check(many, level):
    other = opened(many, set(packs_of(many)))
    with pytest.raises(Unavailable):
        check(other, level)
    assert list(other.parts.store.list(fmt.LEASES)) == []


def test_a_store_that_takes_nothing_is_told_and_checked(many, monkeypatch):
    damage_chunk(many, "p3", VDA.identity, 0)
    put = many.parts.store.put

    def refuse(name, parts, **options):
        if not name.startswith("leases/"):
            raise NotAllowed(f"{name}: read only")
        put(name, parts, **options)

    monkeypatch.setattr(many.parts.store, "put", refuse)
    found = check(many, DATA)
    assert found.touched == ("p3",)


# --- broken off ---


def test_a_check_that_is_broken_off_remembers_and_lets_go(many):
    damage_chunk(many, "p3", VDA.identity, 0)
    seen = 0

    def interrupt(progress):
        nonlocal seen
        seen += progress.subject == "packs"
        if progress.done > 0.6 * progress.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(many, DATA, progress=interrupt)
    assert seen
    assert list(many.parts.store.list(fmt.LEASES)) == []
    read = len(CheckedPacks(many.parts).times)
    noted = list(many.parts.store.list(fmt.DAMAGE))
    assert read or noted
    assert not check(many, DATA).sound


def test_a_check_whose_lease_is_lost_ends(many, monkeypatch):
    def lost(progress):
        with suppress(Busy):
            many.parts.store.delete(many.parts.store.names("leases/"))
            for lease in list(many.parts.leases._held.values()):
                lease.keep()

    with pytest.raises(Busy):
        check(many, DATA, progress=lost)


def test_checks_go_on_beside_each_other_and_beside_backups(repository):
    leases = repository.parts.leases
    with (
        leases.acquire(Wish(LeaseKind.CHECK, "another check")),
        leases.acquire(Wish(LeaseKind.WRITE, "a backup", "0" * 32)),
    ):
        assert check(repository, DATA).sound


@pytest.mark.parametrize("kind", [LeaseKind.GC, LeaseKind.REPAIR])
def test_what_removes_and_a_check_exclude_each_other(repository, kind):
    with repository.parts.leases.acquire(Wish(kind, "at work")), pytest.raises(Busy):
        check(repository, STRUCTURE)


def test_what_was_read_is_written_down_on_the_way(many, monkeypatch):
    monkeypatch.setattr(whole_check, "_REMEMBER_S", 0.0)
    found = check(many, DATA)
    assert len(CheckedPacks(many.parts).times) == found.packs


# --- the header and the slots ---


def test_a_header_of_another_repository(repository):
    other = dedup_repository(DictStore())
    repository.parts.store.put(fmt.HEADER, other.parts.store.get(fmt.HEADER))
    assert kinds(check(repository, STRUCTURE)) == [(Weight.DAMAGE, What.HEADER)]
    assert header.read_header(repository.parts.store).id == other.header.id


def test_a_repository_without_slots(repository):
    store_of = repository.parts.store
    store_of.delete(store_of.names("keys/"))
    assert kinds(check(repository, STRUCTURE)) == [(Weight.DAMAGE, What.NO_SLOT)]


# --- names ---


def test_everything_that_can_be_found_is_explained():
    assert set(EXPLAINED) == set(What)
    for explained in EXPLAINED.values():
        assert explained.meaning
        assert explained.remedy


def test_patchy_disks_have_inner_nodes():
    assert len(patchy(1)) > 2 * fmt.LEAF_BYTES
