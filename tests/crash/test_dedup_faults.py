"""Every store call of a backup, a deletion and a restore goes wrong in every way once.

Whatever happens, earlier points stay good, what is listed is whole, and the same work succeeds
when it is done again.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass

import pytest

from sendense.errors import AlreadyExists, SendenseError
from sendense.model.decision import Method
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from tests.support.dedup import copied, dedup_repository, reopened
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store, zeroes

pytestmark = pytest.mark.slow

SIZE = 70 * BLOCK
FIRST = noise(SIZE)
SECOND = noise(BLOCK, 9) + FIRST[BLOCK : 5 * BLOCK] + bytes(BLOCK) + FIRST[6 * BLOCK :]
THIRD = SECOND[: 66 * BLOCK] + noise(4 * BLOCK, 12)
NVRAM = noise(80_000, 3)
FULL = Write(disk(), SIZE, (data(0, THIRD),))
INCREMENTAL = Write(disk(), SIZE, (data(66 * BLOCK, THIRD[66 * BLOCK :]),), Method.BITMAP)


@dataclass(frozen=True)
class Work:
    """Something that is done to a repository of two points."""

    makes: bool = False
    """It makes ``p3``; done again, as every run under an id of its own, ``p4``."""
    removes: bool = False
    """It deletes ``p2``."""
    write: Write = FULL

    def do(self, repository, made="p3"):
        if self.makes:
            store(repository, made, self.write, attachments={"nvram.fd": NVRAM})
        elif self.removes:
            repository.delete(["p2"])
        else:
            assert restored(repository, "p2") == SECOND


WORKS = {
    "full": Work(makes=True),
    "incremental": Work(makes=True, write=INCREMENTAL),
    "deletion": Work(removes=True),
    "restore": Work(),
}


def memory():
    return open_store(f"memory:{secrets.token_hex(8)}")


@pytest.fixture(scope="module")
def origin() -> DedupRepository:
    made = dedup_repository(memory())
    store(made, "p1", Write(disk(), SIZE, (data(0, FIRST),)))
    changes = (data(0, SECOND[:BLOCK]), zeroes(5 * BLOCK, BLOCK))
    store(made, "p2", Write(disk(), SIZE, changes, Method.BITMAP))
    return made


def check(repository, work):
    """Prove what is listed; gives the ids."""
    contents = {"p1": FIRST, "p2": SECOND, "p3": THIRD, "p4": THIRD}
    listed = [point.id for point in repository.points()]
    expected = {"p1"} | (set() if work.removes else {"p2"})
    assert expected <= set(listed) <= set(contents)
    for name in listed:
        assert restored(repository, name) == contents[name]
        assert repository.verify(name, VerifyLevel.DATA).sound
    return listed


def calls_of(origin, work):
    """Count the store calls of a work that nothing disturbs."""
    seen = []

    def schedule(verb, name):
        seen.append((verb, name))
        return Fault.NONE

    inner = copied(origin.parts.store, memory())
    work.do(reopened(FaultyStore(inner, schedule), origin))
    return len(seen)


@pytest.mark.parametrize("fault", [item for item in Fault if item is not Fault.NONE])
@pytest.mark.parametrize("name", WORKS)
def test_one_call_goes_wrong(origin, name, fault):
    work = WORKS[name]
    for number in range(calls_of(origin, work)):
        inner = copied(origin.parts.store, memory())
        counter = itertools.count()

        def schedule(_verb, _name, counter=counter, number=number):
            return fault if next(counter) == number else Fault.NONE

        disturbed = reopened(FaultyStore(inner, schedule), origin)
        failure = None
        try:
            work.do(disturbed)
        except SendenseError as error:
            failure = error
        disturbed.close()
        again = reopened(inner, origin)
        listed = check(again, work)
        if failure is None:
            assert ("p3" in listed) is work.makes
            assert ("p2" not in listed) is work.removes
        elif work.makes and "p3" not in listed:
            work.do(again, "p4")
        elif work.removes and "p2" in listed:
            work.do(again)
        check(again, work)
        store(again, "p9", FULL)
        assert restored(again, "p9") == THIRD
        again.close()


@pytest.mark.parametrize("name", ["full", "incremental"])
def test_the_store_goes_away_for_good(origin, name):
    """From one call on all fail: also those that clear up."""
    work = WORKS[name]
    for number in range(calls_of(origin, work)):
        inner = copied(origin.parts.store, memory())
        counter = itertools.count()

        def schedule(_verb, _name, counter=counter, number=number):
            return Fault.REFUSED if next(counter) >= number else Fault.NONE

        disturbed = reopened(FaultyStore(inner, schedule), origin)
        try:
            work.do(disturbed)
        except AlreadyExists:
            raise
        except SendenseError:
            pass
        again = reopened(inner, origin)
        check(again, work)
        if "p3" not in [point.id for point in again.points()]:
            work.do(again, "p4")
        check(again, work)
        again.close()
