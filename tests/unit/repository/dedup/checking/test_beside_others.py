"""A check while others write, delete and lag; and with those who come after it."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from sendense.errors import SendenseError
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.facade import check, repair
from sendense.repository.dedup.checking.findings import CheckLevel
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.collecting.running import collect
from sendense.storage.retrying import Patience, Retrying
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dedup_damage import damage_chunk, flip
from tests.support.dedup_site import OTHER_UUID, VDA, back_up_again, build, whole
from tests.support.dict_store import DictStore
from tests.support.faulty_store import FaultyStore, at_random
from tests.support.points import noise, restored, store

DATA = CheckLevel.DATA
PREFIXES = [fmt.POINTS, fmt.INDEX, fmt.PACKS, fmt.DAMAGE, fmt.HOLDS, fmt.SEQUENCES, fmt.CHECKED]


class Watched(DictStore):
    """Does something once, before a listing."""

    def __init__(self, objects=None):
        super().__init__(objects)
        self.at = ""
        self.action = lambda: None
        self.hidden: set[str] = set()

    def list(self, prefix):
        if prefix == self.at:
            self.at = ""
            self.action()
        return (item for item in list(super().list(prefix)) if item.name not in self.hidden)


@pytest.fixture(scope="module")
def site():
    return build()


@pytest.fixture
def place(site):
    return Watched(site.objects)


@pytest.fixture
def repository(site, place):
    made = site.open(place)
    assert check(made, DATA).findings == ()
    yield made
    made.close()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("level", CheckLevel)
def test_a_backup_in_the_middle(site, place, repository, prefix, level):
    writer = site.open(place)
    place.at, place.action = prefix, lambda: back_up_again(writer, site)
    found = check(repository, level)
    assert place.at == "" or level is CheckLevel.STRUCTURE
    assert found.findings == ()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("level", CheckLevel)
def test_a_deletion_in_the_middle(site, place, repository, prefix, level):
    other = site.open(place)
    place.at, place.action = prefix, lambda: other.delete(["p2"])
    assert check(repository, level).sound
    assert check(repository, DATA).sound


def test_a_listing_that_lags_makes_no_pack_missing(repository, place):
    place.hidden = set(place.names(fmt.PACKS)[:2])
    assert check(repository, DATA).findings == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_store_that_fails_now_and_then(site, seed):
    patience = Patience(20, 1e9, sleep=lambda seconds: None)
    flaky = Retrying(FaultyStore(site.store(), at_random(seed, 0.1)), patience)
    repository = site.open(flaky)
    assert check(repository, DATA).findings == ()
    name = next(item.name for item in flaky.list(fmt.PACKS))
    content = bytearray(flaky.get(name))
    content[30] ^= 1
    flaky.put(name, content)
    assert [item.object for item in check(repository, DATA).findings] == [name]
    repair(repository)
    back_up_again(repository, site)
    repository.close()


def test_garbage_collection_keeps_the_good_copy_and_drops_the_bad(site, place):
    """Also on a machine that read the index in another order."""
    content = noise(6 * MIB, 9)
    place_of = DictStore()
    made = dedup_repository(place_of)
    store(made, "p1", whole(content))
    store(made, "o1", whole(noise(MIB, 3)), uuid=OTHER_UUID)
    damage_chunk(made, "p1", VDA.identity, 2 * MIB)
    check(made, DATA)
    store(made, "p2", whole(content))
    check(made, DATA)
    repair(made)
    made.rebuild()
    for _ in range(2):
        collect(made, CollectOptions(grace=timedelta(0)))
        place_of.pass_time(days=3)
    assert check(made, DATA).findings == ()
    for point in ("p1", "p2"):
        assert restored(made, point) == content
    made.close()


@pytest.mark.parametrize("seed", range(4))
def test_harm_backups_checks_repairs_and_collections_in_any_order(site, seed):
    """However they follow each other, no point reads wrongly, and what was whole stays whole."""
    rng = random.Random(seed)
    place = site.store()
    place.delete(place.names(fmt.LEASES))
    repository = site.open(place)
    whole_before = set(site.contents)
    number = 0
    for _ in range(12):
        act = rng.choice(["harm", "check", "repair", "collect", "backup", "sample"])
        if act == "harm":
            name = rng.choice(place.names(fmt.PACKS) + place.names(fmt.INDEX))
            flip(repository, name, rng.randrange(len(place.objects[name])))
            whole_before = whole_now(site, repository)
        elif act == "check":
            check(repository, DATA)
        elif act == "sample":
            check(repository, CheckLevel.SAMPLE, 30)
        elif act == "repair":
            repair(repository)
        elif act == "collect":
            collect_or_refuse(repository)
            place.pass_time(days=2)
        else:
            number += 1
            content = site.contents["p1", VDA.identity]
            store(repository, f"b{number}", whole(content))
        assert whole_now(site, repository) >= whole_before, act
        whole_before = whole_now(site, repository)
    repository.close()


def collect_or_refuse(repository):
    try:
        collect(repository, CollectOptions(grace=timedelta(0)))
    except SendenseError:
        return False
    return True


def whole_now(site, repository):
    """Read every point; gives those that are right, and lets nothing be wrong."""
    right = set()
    for (point, identity), content in site.contents.items():
        try:
            assert restored(repository, point, identity) == content
        except SendenseError:
            continue
        right.add((point, identity))
    return right
