"""A process that is killed at any step leaves good points, and the next one goes on at once."""

from __future__ import annotations

import pytest

from sendense import steps
from sendense.model.decision import Method
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from tests.crash.repository_site import copy_of, killed_at
from tests.support.dedup import dedup_repository, reopened
from tests.support.memory_folder import memory_folder
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store

pytestmark = pytest.mark.slow

SIZE = 70 * BLOCK
FIRST = noise(SIZE)
SECOND = noise(BLOCK, 9) + FIRST[BLOCK:]
THIRD = SECOND[: 66 * BLOCK] + noise(4 * BLOCK, 12)
CONTENTS = {"p1": FIRST, "p2": SECOND, "p3": THIRD, "p4": THIRD}


RINGS: list[DedupRepository] = []


def opened(folder):
    """Open with the ring that is at hand: deriving a key takes 0.1 s, and here are many."""
    return reopened(open_store(str(folder)), RINGS[0])


@pytest.fixture(scope="module")
def origin():
    with memory_folder() as folder:
        place = folder / "origin"
        made = dedup_repository(open_store(str(place)), level=3)
        RINGS[:] = [made]
        store(made, "p1", Write(disk(), SIZE, (data(0, FIRST),)))
        store(made, "p2", Write(disk(), SIZE, (data(0, SECOND[:BLOCK]),), Method.BITMAP))
        yield place


def back_up(folder, name="p3"):
    write = Write(disk(), SIZE, (data(66 * BLOCK, THIRD[66 * BLOCK :]),), Method.BITMAP)
    return lambda: store(opened(folder), name, write, attachments={"nvram.fd": noise(70_000)})


def delete(folder, *names):
    return lambda: opened(folder).delete(names)


def steps_of(action):
    seen: list[str] = []
    steps.listen(seen.append)
    try:
        action()
    finally:
        steps.unlisten()
    return seen


def check(repository):
    listed = [point.id for point in repository.points()]
    assert repository.lost() == ()
    for name in listed:
        assert restored(repository, name) == CONTENTS[name]
        assert repository.verify(name, VerifyLevel.DATA).sound
    return listed


def test_a_killed_backup(origin, tmp_path):
    names = steps_of(back_up(copy_of(origin, tmp_path / "counted")))
    assert {"dedup:pack-stored", "dedup:index-stored", "dedup:point-stored"} <= set(names)
    there = names.index("dedup:point-stored") + 1
    for number in range(1, len(names) + 1):
        folder = copy_of(origin, tmp_path / f"at-{number}")
        assert killed_at(number, back_up(folder))
        listed = check(opened(folder))
        if number >= there:
            assert listed == ["p1", "p2", "p3"]
        else:
            assert set(listed) in ({"p1", "p2"}, {"p1", "p2", "p3"})
        # Nobody waits for the dead: its lease counts for nothing.
        if listed == ["p1", "p2"]:
            back_up(folder, "p4")()
            assert check(opened(folder)) == ["p1", "p2", "p4"]


def test_a_killed_deletion(origin, tmp_path):
    action = delete(copy_of(origin, tmp_path / "counted"), "p1", "p2")
    names = steps_of(action)
    assert names.count("dedup:point-deleted") == 2
    for number in range(1, len(names) + 1):
        folder = copy_of(origin, tmp_path / f"at-{number}")
        assert killed_at(number, delete(folder, "p1", "p2"))
        left = check(opened(folder))
        delete(folder, *left)()
        repository = opened(folder)
        assert check(repository) == []
        made = store(repository, "p4", Write(disk(), SIZE, (data(0, THIRD),)))
        assert made.sequence == 3
