"""A copy that is broken off anywhere: what is in the target is whole, and the next run goes on."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

import pytest

from sendense import steps
from sendense.errors import SendenseError
from sendense.model.decision import Method
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.opening import create_repository, open_repository
from sendense.repository.protocol import Repository, VerifyLevel
from sendense.storage.urls import open_store
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, plan_copy
from sendense.workflows.point_copier import PointCopied
from tests.crash.repository_site import copy_of, killed_at
from tests.support.copy_site import memory, quick_dedup, without_errors
from tests.support.dedup import copied, reopened
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.memory_folder import memory_folder
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store, zeroes

pytestmark = pytest.mark.slow

SIZE = 70 * BLOCK
FIRST = noise(SIZE)
SECOND = noise(BLOCK, 9) + FIRST[BLOCK : 5 * BLOCK] + bytes(BLOCK) + FIRST[6 * BLOCK :]
THIRD = SECOND[: 66 * BLOCK] + noise(4 * BLOCK, 12)
CONTENTS = {"p1": FIRST, "p2": SECOND, "p3": THIRD}


@dataclass(frozen=True)
class Origin:
    """A source of three points, and a target that has the first."""

    source: DedupRepository
    target: DedupRepository


def fill(source: Repository) -> None:
    store(source, "p1", Write(disk(), SIZE, (data(0, FIRST),)))
    changes = (data(0, SECOND[:BLOCK]), zeroes(5 * BLOCK, BLOCK))
    store(source, "p2", Write(disk(), SIZE, changes, Method.BITMAP))
    last = Write(disk(), SIZE, (data(66 * BLOCK, THIRD[66 * BLOCK :]),), Method.BITMAP)
    store(source, "p3", last, attachments={"nvram.fd": noise(80_000, 3)})


def copy(source: Repository, target: Repository, *names: str) -> tuple[PointCopied, ...]:
    planned = plan_copy(source, target, CopyRequest(points=names))
    return run_copy(source, target, planned.plan)


@pytest.fixture(scope="module")
def origin() -> Origin:
    made = Origin(quick_dedup(memory(), "source"), quick_dedup(memory(), "target"))
    fill(made.source)
    without_errors(copy(made.source, made.target, "p1"))
    return made


def check(target: Repository, *, complete: bool) -> None:
    listed = [point.id for point in target.points()]
    assert listed == list(CONTENTS)[: len(listed)]
    assert listed[0] == "p1"
    assert not complete or len(listed) == 3
    for name in listed:
        assert restored(target, name) == CONTENTS[name]
        assert target.verify(name, VerifyLevel.DATA).sound


def go_on(source: Repository, target: Repository) -> None:
    """Complete what was broken off; half of a point's object is taken out by a person."""
    check(target, complete=False)
    target.delete([lost.id for lost in target.lost()])
    without_errors(copy(source, target))
    check(target, complete=True)


def disturbed(origin, where, schedule):
    """Copy with a schedule for the calls of one store; gives the target's store."""
    inner = copied(origin.target.parts.store, memory())
    source, place = origin.source, inner
    if where == "source":
        source = reopened(FaultyStore(origin.source.parts.store, schedule), origin.source)
    else:
        place = FaultyStore(inner, schedule)
    target = reopened(place, origin.target)
    try:
        return inner, copy(source, target)
    finally:
        target.parts.index.close()
        if source is not origin.source:
            source.parts.index.close()


def calls_of(origin, where) -> int:
    seen = []

    def schedule(verb, name):
        seen.append((verb, name))
        return Fault.NONE

    _, results = disturbed(origin, where, schedule)
    without_errors(results)
    return len(seen)


@pytest.mark.parametrize("fault", [item for item in Fault if item is not Fault.NONE])
@pytest.mark.parametrize("where", ["target", "source"])
def test_one_call_goes_wrong(origin, where, fault):
    every = where == "target" and fault in (Fault.REFUSED, Fault.TORN)
    for number in range(0, calls_of(origin, where), 1 if every else 4):
        counter = itertools.count()

        def schedule(_verb, _name, counter=counter, number=number):
            return fault if next(counter) == number else Fault.NONE

        inner = copied(origin.target.parts.store, memory())
        try:
            inner, results = disturbed(origin, where, schedule)
        except SendenseError:
            results = ()  # It ended where the plan was made.
        again = reopened(inner, origin.target)
        if results and all(item.error is None for item in results):
            check(again, complete=True)
        go_on(origin.source, again)
        again.parts.index.close()


@pytest.mark.parametrize("where", ["target", "source"])
def test_stopped_at_any_call(origin, where):
    """Ctrl-C comes in the main thread: the others end what they are at."""
    main = threading.main_thread()
    stopped = 0
    for number in range(0, calls_of(origin, where), 1 if where == "target" else 4):
        counter = itertools.count()

        def schedule(_verb, _name, counter=counter, number=number):
            if threading.current_thread() is main and next(counter) == number:
                raise KeyboardInterrupt
            return Fault.NONE

        inner = copied(origin.target.parts.store, memory())
        try:
            inner, results = disturbed(origin, where, schedule)
        except KeyboardInterrupt:
            continue  # It ended where the plan was made.
        stopped += any(isinstance(item.error, KeyboardInterrupt) for item in results)
        again = reopened(inner, origin.target)
        go_on(origin.source, again)
        again.parts.index.close()
    assert stopped > 5


@pytest.mark.parametrize("where", ["target", "source"])
def test_a_store_that_goes_away_for_good(origin, where):
    for number in range(0, calls_of(origin, where), 4):
        counter = itertools.count()

        def schedule(_verb, _name, counter=counter, number=number):
            return Fault.REFUSED if next(counter) >= number else Fault.NONE

        inner = copied(origin.target.parts.store, memory())
        try:
            inner, results = disturbed(origin, where, schedule)
        except SendenseError:
            continue  # It ended where the plan was made.
        again = reopened(inner, origin.target)
        if all(item.error is None for item in results):
            check(again, complete=True)  # Nothing was left but to give up leases.
        go_on(origin.source, again)
        again.parts.index.close()


@pytest.fixture(scope="module", params=["chain", "dedup"])
def killable(request, origin):
    """Give a target in a directory, and how it is opened."""
    with memory_folder() as folder:
        place = folder / "target"
        if request.param == "chain":
            made: Repository = create_repository(f"qcow2:{place}")
            yield place, lambda where: open_repository(f"qcow2:{where}")
        else:
            made = quick_dedup(open_store(str(place)), "target")
            yield place, lambda where: reopened(open_store(str(where)), origin.target)
        made.close()


def test_killed_at_any_step(origin, killable, tmp_path):
    place, opened = killable
    if not opened(place).points():
        without_errors(copy(origin.source, opened(place), "p1"))
    seen: list[str] = []
    steps.listen(seen.append)
    try:
        without_errors(copy(origin.source, opened(copy_of(place, tmp_path / "counted"))))
    finally:
        steps.unlisten()
    tried, killed = 0, 0
    for number, step in enumerate(seen, start=1):
        if step.startswith("store:") and number % 5:
            continue  # Each object is written in the same steps.
        folder = copy_of(place, tmp_path / f"at-{number}")

        def act(folder=folder):
            copy(reopened(origin.source.parts.store, origin.source), opened(folder))

        tried += 1
        if killed_at(number, act):
            killed += 1
            go_on(origin.source, opened(folder))
        else:
            # Leases are renewed by the clock: another run has a step more or less, and is through.
            check(opened(folder), complete=True)
    assert killed > 0.8 * tried
