"""What a repair mends, what it leaves, and that it may be broken off anywhere."""

from __future__ import annotations

import pytest

from sendense import steps
from sendense.errors import Busy, NotAllowed
from sendense.model.point import PointState
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import indexing
from sendense.repository.dedup.checking.facade import check, plan_repair, repair
from sendense.repository.dedup.checking.findings import CheckLevel, Weight, What
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.unnamed_packs import pack_id
from tests.support.dedup_damage import flip
from tests.support.dedup_site import VDA, back_up_again, build
from tests.support.points import restored
from tests.support.spoiling import SPOILS, names_of

DATA = CheckLevel.DATA


@pytest.fixture(scope="module")
def site():
    return build()


@pytest.fixture
def repository(site):
    made = site.open(site.store())
    yield made
    made.close()


def spoil(site, repository, kind, how):
    store = repository.parts.store
    name = names_of(site, kind)[0]
    SPOILS[how](site, store, name)
    return name


def whole_points(site, repository):
    """Hold every point that is not damaged against its content; give their ids."""
    good = {point.id for point in repository.points() if point.state is PointState.COMPLETE}
    for (point, identity), content in site.contents.items():
        assert point not in good or restored(repository, point, identity) == content
    return good


def indexed(repository):
    """Give the packs that index objects name."""
    return {
        record.head.id
        for name in repository.parts.store.names(fmt.INDEX)
        for record in indexing.read_index(repository.parts, name)
    }


def test_nothing_to_repair(repository):
    assert check(repository, DATA).findings == ()
    before = dict(repository.parts.store.objects)
    plan = plan_repair(repository)
    assert plan.empty
    assert list(plan.steps()) == []
    assert repair(repository).plan == plan
    assert repository.parts.store.objects == before


def test_a_plan_changes_nothing(site, repository):
    for kind in ("data-pack", "index", "condemnation", "sequence"):
        spoil(site, repository, kind, "middle")
    check(repository, DATA)
    before = dict(repository.parts.store.objects)
    plan = plan_repair(repository)
    assert not plan.empty
    assert len(list(plan.steps())) >= 5
    assert repository.parts.store.objects == before


# --- the index ---


def test_an_index_that_is_gone_altogether_is_made_from_the_packs(site, repository):
    store = repository.parts.store
    before = indexed(repository)
    store.delete(store.names(fmt.INDEX))
    repository.rebuild()
    assert whole_points(site, repository) == {"p1", "p2", "o1"}, "readable before it is mended"
    found = check(repository, CheckLevel.STRUCTURE)
    assert {finding.what for finding in found.findings} == {What.PACK_UNNAMED}
    assert found.touched == ()
    result = repair(repository)
    assert {head.id for head in result.plan.named} == indexed(repository) == before
    assert check(repository, DATA).findings == ()
    back_up_again(repository, site)
    assert indexed(repository) - before, "and what is stored anew is the trees of older points"
    assert repair(repository).plan.empty


def test_strays_of_dead_writers_are_not_named(site, repository):
    store = repository.parts.store
    used = names_of(site, "data-pack")[-1]
    repository.delete(["p2"])
    store.delete(store.names(fmt.INDEX))
    result = repair(repository)
    assert pack_id(used) not in {head.id for head in result.plan.named}
    assert used in store.objects
    assert check(repository, DATA).sound


def test_an_index_object_that_cannot_be_read_is_replaced(site, repository):
    name = spoil(site, repository, "index", "middle")
    before = set(indexed_but(repository, name))
    result = repair(repository)
    assert result.plan.removed == (name,)
    assert name not in repository.parts.store.objects
    assert indexed(repository) == before | {head.id for head in result.plan.named}
    assert check(repository, DATA).findings == ()


def indexed_but(repository, name):
    for other in repository.parts.store.names(fmt.INDEX):
        if other != name:
            yield from (record.head.id for record in indexing.read_index(repository.parts, other))


def test_beside_a_point_that_cannot_be_read_all_packs_are_named(site, repository):
    """What that point needs is not known, and its object may be put back."""
    store = repository.parts.store
    packs = {pack_id(name) for name in store.names(fmt.PACKS)}
    point = next(name for name in store.names(fmt.POINTS) if name.endswith("p2"))
    flip(repository, point, 100)
    for name in store.names(fmt.INDEX):
        flip(repository, name, 100)
    repair(repository)
    assert indexed(repository) == packs
    store.put(point, site.objects[point])
    assert check(repository, DATA).findings == ()
    assert [item.id for item in repository.lost()] == []


def test_packs_that_are_gone_leave_the_index_after_the_damage_is_noted(site, repository):
    name = spoil(site, repository, "data-pack", "deleted")
    order: list[str] = []
    steps.listen(order.append)
    try:
        result = repair(repository)
    finally:
        steps.unlisten()
    assert order.index("repair:noted") < order.index("repair:successors-durable")
    assert pack_id(name) in result.plan.dropped
    assert pack_id(name) not in indexed(repository)
    touched = {point.id for point in repository.points() if point.state is PointState.DAMAGED}
    assert touched == {"p1", "p2", "o1"}
    found = check(repository, DATA)
    assert [finding.what for finding in found.findings] == [What.RECORD_MISSING]
    back_up_again(repository, site)
    found = check(repository, DATA)
    assert found.findings == ()
    assert set(found.healed) == touched
    assert whole_points(site, repository) >= touched


# --- packs ---


@pytest.mark.parametrize("how", ["first-byte", "last-byte", "near-end", "longer"])
@pytest.mark.parametrize("kind", ["meta-pack", "data-pack"])
def test_a_pack_that_is_bad_as_a_whole_is_copied(site, repository, kind, how):
    name = spoil(site, repository, kind, how)
    found = check(repository, DATA)
    damaged = {finding.weight for finding in found.findings}
    result = repair(repository)
    assert result.copied_records == sum(len(copy.records) for copy in result.plan.copies) > 0
    assert pack_id(name) not in indexed(repository)
    assert name in repository.parts.store.objects, "never removed by a repair"
    found = check(repository, DATA)
    if Weight.DAMAGE not in damaged:
        assert found.findings == ()
        assert whole_points(site, repository) == {"p1", "p2", "o1"}


def test_good_records_of_a_bad_pack_are_kept(site, repository):
    name = spoil(site, repository, "data-pack", "middle")
    found = check(repository, DATA)
    good = {"p1", "p2", "o1"} - set(found.touched)
    result = repair(repository)
    (copy,) = result.plan.copies
    assert copy.task.head.name == name
    assert copy.lost == 1
    assert len(copy.records) == len(copy.task.entries) - 1
    assert whole_points(site, repository) == good
    assert check(repository, DATA).touched == found.touched
    back_up_again(repository, site)
    found = check(repository, DATA)
    assert found.sound
    assert found.touched == ()
    assert {"p1", "p2", "o1"} <= whole_points(site, repository)


def test_a_record_in_two_bad_packs_is_copied_once(site, repository):
    """Each pack must not count on the other."""
    store = repository.parts.store
    name = names_of(site, "data-pack")[0]
    flip(repository, name, 3)
    check(repository, DATA)
    back_up_again(repository, site)
    twin = max(
        (item for item in store.names(fmt.PACKS) if item not in site.objects),
        key=lambda item: len(store.objects[item]),
    )
    flip(repository, twin, 3)
    check(repository, DATA)
    result = repair(repository)
    assert {copy.task.head.name for copy in result.plan.copies} == {name, twin}
    assert check(repository, DATA).sound
    assert whole_points(site, repository) >= {"p1", "p2", "o1"}


def test_a_pack_that_is_whole_again_stays(site, repository):
    name = spoil(site, repository, "data-pack", "middle")
    check(repository, DATA)
    repository.parts.store.put(name, site.objects[name])
    result = repair(repository)
    assert result.plan.copies == ()
    assert check(repository, DATA).findings == ()
    assert whole_points(site, repository) == {"p1", "p2", "o1"}


# --- small objects ---


def test_a_number_of_a_deleted_point_is_written_again(site, repository):
    name = spoil(site, repository, "sequence", "middle")
    repair(repository)
    assert check(repository, DATA).findings == ()
    back_up_again(repository, site)
    assert repository.point("again-o").sequence == 3
    assert name in repository.parts.store.objects


def test_a_number_out_of_this_world_is_not_believed(site, repository):
    store = repository.parts.store
    tag = store.names("sequences/")[0].split("/")[1]
    store.put(f"sequences/{tag}/9999999999", b"garbage")
    result = repair(repository)
    assert result.plan.removed == (f"sequences/{tag}/9999999999",)
    assert check(repository, DATA).findings == ()


def test_what_a_newer_key_sealed_is_left_alone(site, repository):
    """A key that a slot states was made: what it sealed is not damaged."""
    from sendense.repository.dedup import slots
    from sendense.repository.dedup.sealing import seal_json
    from sendense.repository.dedup.slot_documents import passphrase_slot
    from tests.support.dedup import PASSPHRASE

    newer = site.ring.next_epoch()
    slots._store(repository.parts.store, passphrase_slot(newer, PASSPHRASE, label=""))
    name = f"condemned/{'e' * 32}"
    content = seal_json(newer, name, fmt.SealedKind.CONDEMNED, {"packs": []})
    repository.parts.store.put(name, content)
    check(repository, DATA)
    result = repair(repository)
    assert result.plan.empty
    assert name in repository.parts.store.objects


def test_points_and_slots_are_left_alone(site, repository):
    check(repository, DATA)
    point = spoil(site, repository, "point", "middle")
    slot = spoil(site, repository, "slot", "middle")
    assert repair(repository).plan.empty
    assert {point, slot} <= set(repository.parts.store.objects)
    assert [item.id for item in repository.lost()] == [point.rpartition("-")[2]]


# --- broken off, and kept from it ---


def test_a_repair_that_dies_at_any_step_is_finished_by_the_next(site):
    for number in range(1, 100):
        repository = site.open(site.store())
        _damage_much(site, repository)
        died = _dies_at(number, repository)
        good = whole_points(site, repository)
        repair(repository)
        left = plan_repair(repository)
        assert not any((left.copies, left.named, left.replaced, left.remade, left.removed))
        assert good <= whole_points(site, repository)
        found = check(repository, DATA)
        assert {item.what for item in found.findings if item.weight is Weight.RISK} == set()
        back_up_again(repository, site)
        assert check(repository, DATA).sound
        repository.close()
        if not died:
            break
    assert number > 8


def _damage_much(site, repository):
    store = repository.parts.store
    packs = names_of(site, "data-pack")
    flip(repository, packs[0], len(store.objects[packs[0]]) // 2)
    store.delete([packs[1]])
    flip(repository, store.names(fmt.INDEX)[0], 60)
    spoil(site, repository, "condemnation", "empty")
    check(repository, DATA)


class _Died(BaseException):
    pass


def _dies_at(number, repository):
    count = 0

    def die(step):
        nonlocal count
        count += step.startswith(("repair:", "dedup:pack", "dedup:index"))
        if count == number:
            raise _Died

    steps.listen(die)
    try:
        repair(repository)
    except _Died:
        return True
    finally:
        steps.unlisten()
    return False


def test_what_the_store_keeps_locked_is_told(site, repository, monkeypatch):
    name = spoil(site, repository, "index", "middle")
    delete = repository.parts.store.delete

    def refuse(names):
        if name in names:
            raise NotAllowed(f"{name} is locked")
        delete(names)

    monkeypatch.setattr(repository.parts.store, "delete", refuse)
    assert repair(repository).kept == (name,)
    assert not check(repository, DATA).sound
    assert whole_points(site, repository) == {"p1", "p2", "o1"}


@pytest.mark.parametrize("kind", [LeaseKind.WRITE, LeaseKind.GC, LeaseKind.CHECK])
def test_a_repair_goes_on_alone(repository, kind):
    machine = "0" * 32 if kind is LeaseKind.WRITE else None
    with repository.parts.leases.acquire(Wish(kind, "at work", machine)), pytest.raises(Busy):
        repair(repository)


def test_restores_go_on_beside_a_repair(site, repository):
    with repository.open("p1") as reader:
        first = next(reader.disk(VDA.identity).chunks())
        assert bytes(first.data) == site.contents["p1", VDA.identity][: first.length]
        repair(repository)
