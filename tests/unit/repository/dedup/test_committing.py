"""The moment of the commit: a point that is stored is never called a failure, nor the reverse."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from sendense import steps
from sendense.errors import Busy, NotFound, SendenseError, Unavailable
from sendense.model.decision import Method
from sendense.repository.dedup import condemning
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.facade import check
from sendense.repository.dedup.checking.findings import CheckLevel
from sendense.repository.dedup.checking.point_structure import lacking
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dedup_site import VDA, patchy, whole
from tests.support.dict_store import DictStore
from tests.support.points import BLOCK, Write, data, noise, restored, store

SIZE = 9 * MIB + 1536
FULL = patchy(1)
CHANGE = Write(VDA, SIZE, (data(5 * BLOCK, noise(BLOCK, 50)),), Method.BITMAP)


class Faulty(DictStore):
    """Asks before and after each call whether it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str, str], None] = lambda verb, name: None
        self.after: Callable[[str, str], None] = lambda verb, name: None

    def put(self, name, parts, *, create=False):
        self.before("put", name)
        super().put(name, parts, create=create)
        self.after("put", name)

    def get(self, name):
        self.before("get", name)
        return super().get(name)

    def info(self, name):
        self.before("info", name)
        return super().info(name)

    def list(self, prefix):
        self.before("list", prefix)
        return super().list(prefix)

    def delete(self, names):
        for name in names:
            self.before("delete", name)
        super().delete(names)


@pytest.fixture
def place():
    return Faulty()


@pytest.fixture
def repository(place):
    made = dedup_repository(place)
    store(made, "p1", whole(FULL))
    yield made
    made.close()


def changed():
    content = bytearray(FULL)
    content[5 * BLOCK : 6 * BLOCK] = noise(BLOCK, 50)
    return bytes(content)


@contextmanager
def once_stored(action):
    """Do something at the moment when the point object is there."""

    def at(step):
        if step == "dedup:point-stored":
            action()

    steps.listen(at)
    try:
        yield
    finally:
        steps.unlisten()


def take_lease(place):
    place.delete([name for name in place.names(fmt.LEASES)])


def test_a_point_whose_lease_was_taken_and_whose_data_is_there(repository, place):
    with once_stored(lambda: take_lease(place)):
        store(repository, "p2", CHANGE)
    assert restored(repository, "p2") == changed()


@pytest.mark.parametrize("kind", [1, 2], ids=["data", "meta"])
def test_a_point_whose_base_was_collected_is_withdrawn(repository, place, kind):
    """The packs of the base are as needed as the writer's own."""
    packs = [name for name in place.names(fmt.PACKS) if place.objects[name][5] == kind]

    def collect():
        take_lease(place)
        place.delete(packs)

    with once_stored(collect), pytest.raises(Busy) as caught:
        store(repository, "p2", CHANGE)
    assert packs[0].rpartition("/")[2] in caught.value.data["lost"]
    assert [point.id for point in repository.points()] == ["p1"]
    with pytest.raises(NotFound):
        repository.point("p2")


@pytest.mark.parametrize("kind", [1, 2], ids=["data", "meta"])
def test_a_point_whose_base_is_about_to_be_removed_is_withdrawn(repository, place, kind):
    """A collection that did not see the point has condemned a pack, and not removed it yet."""
    packs = [name for name in place.names(fmt.PACKS) if place.objects[name][5] == kind]

    def on_its_way():
        take_lease(place)
        condemning.condemn(repository.parts, [name.rpartition("/")[2] for name in packs])

    with once_stored(on_its_way), pytest.raises(Busy) as caught:
        store(repository, "p2", CHANGE)
    assert "is condemned" in caught.value.data["lost"]
    assert [point.id for point in repository.points()] == ["p1"]


def test_the_number_of_a_point_that_was_withdrawn_is_not_given_out_again(repository, place):
    def collect():
        take_lease(place)
        place.delete(place.names(fmt.PACKS))

    with once_stored(collect), pytest.raises(Busy):
        store(repository, "p2", CHANGE)
    assert store(repository, "p3", whole(FULL)).sequence == 3
    found = check(repository, CheckLevel.DATA)
    assert "p2" not in found.touched, "it has not vanished: we took it back"


def test_a_record_that_is_elsewhere_too_is_not_missed(repository, place):
    """Garbage collection has copied what the base needs, and removed where it was."""
    old = place.names(fmt.PACKS)
    condemning.condemn(repository.parts, [name.rpartition("/")[2] for name in old])
    store(repository, "o1", whole(FULL), uuid="6f2d3f4e-0000-4000-8000-000000000002")
    stored = repository.stored_points()[0]
    assert lacking(repository.parts, stored) == []
    place.delete(old)
    assert lacking(repository.parts, stored) == []
    place.delete([name for name in place.names(fmt.PACKS) if name not in old])
    assert lacking(repository.parts, stored)


@pytest.mark.parametrize("verb", ["info", "list", "get"])
def test_what_cannot_be_looked_up_afterwards_is_no_failure(repository, place, caplog, verb):
    def fail(called, name):
        if called == verb:
            raise Unavailable(f"{verb} {name}: 503")

    def break_store():
        take_lease(place)
        place.before = fail

    with once_stored(break_store), caplog.at_level(logging.WARNING):
        made = store(repository, "p2", CHANGE)
    place.before = lambda verb, name: None
    assert made.id == "p2"
    assert restored(repository, "p2") == changed()
    told = [record.getMessage() for record in caplog.records]
    assert any("p2 is stored" in text for text in told) == (verb != "get")


def test_an_answer_that_was_lost(repository, place, caplog):
    def lose(verb, name):
        if verb == "put" and name.startswith(fmt.POINTS):
            raise Unavailable("no answer")

    place.after = lose
    with caplog.at_level(logging.WARNING):
        store(repository, "p2", CHANGE)
    assert restored(repository, "p2") == changed()
    assert any("although the store said" in item.getMessage() for item in caplog.records)


@pytest.mark.parametrize("blind", [False, True])
def test_a_point_that_was_not_put(repository, place, blind):
    tried: list[str] = []

    def fail(verb, name):
        if name.startswith(fmt.POINTS) and (verb == "put" or (blind and tried)):
            tried.append(name)
            raise Unavailable(f"{verb}: 503")

    place.before = fail
    with pytest.raises(Unavailable, match="put: 503"):
        store(repository, "p2", CHANGE)
    place.before = lambda verb, name: None
    assert [point.id for point in repository.points()] == ["p1"]
    assert restored(repository, "p1") == FULL


def test_a_point_that_cannot_be_withdrawn_is_told_to_be_damaged(repository, place):
    def fail(verb, name):
        if verb == "delete" and name.startswith(fmt.POINTS):
            raise Unavailable("503")

    def collect():
        take_lease(place)
        place.delete(place.names(fmt.PACKS))
        place.before = fail

    with once_stored(collect), pytest.raises(Busy, match="p2 is damaged"):
        store(repository, "p2", CHANGE)
    place.before = lambda verb, name: None
    with pytest.raises(SendenseError):
        restored(repository, "p2")
