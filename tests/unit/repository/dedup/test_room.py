"""Room that a disk gives for what is read: filled in place, and never anybody else's meanwhile."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sendense.model.decision import Method
from sendense.model.stream import RoomySink
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.buffers import BufferPool
from sendense.repository.dedup.writing import writing_threads
from sendense.storage.urls import open_store
from tests.support.dedup import dedup_repository
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    data,
    disk,
    draft,
    machine,
    noise,
    restored,
    spec_for,
    store,
)

PATIENCE_S = 20.0
LEAF = fmt.LEAF_BYTES


@pytest.fixture
def repository():
    made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    yield made
    made.close()


def begun(repository, point, size, *, target="vda", method=Method.EVERYTHING):
    return point.disk(spec_for(repository, Write(disk(target), size, (), method), MACHINE_UUID))


def finish(writer):
    return writer.finish(read_bytes=0, sampled_blocks=0, seconds=0.0)


def fill(writer, content, *, step=5 * BLOCK, offset=0):
    """Have all of a disk come in through room, as much ahead as there is."""
    ahead: list[tuple[int, memoryview]] = []
    position, end = offset, offset + len(content)
    while position < end or ahead:
        view = None
        if position < end:
            view = writer.room(position, min(step, end - position))
        if view is None:
            at, filled = ahead.pop(0)
            writer.write(at, filled)
        else:
            view[:] = content[position - offset :][: len(view)]
            ahead.append((position, view))
            position += len(view)


@pytest.mark.parametrize("size", [BLOCK, LEAF, 3 * LEAF + 7 * BLOCK, 2 * LEAF + BLOCK + 512])
def test_what_is_filled_in_is_stored(repository, size):
    content = noise(size)
    with repository.begin(machine(), "p1") as point:
        writer = begun(repository, point, size)
        assert isinstance(writer, RoomySink)
        fill(writer, content)
        image = finish(writer)
        point.commit(draft(machine()))
    assert restored(repository, "p1") == content
    assert image.data_bytes == -(-size // BLOCK) * BLOCK


def test_zeroes_and_copies_come_between(repository):
    content = noise(LEAF)
    with repository.begin(machine(), "p1") as point:
        writer = begun(repository, point, 8 * LEAF)
        fill(writer, content[: 3 * BLOCK], offset=LEAF - BLOCK)
        writer.zero(LEAF + 2 * BLOCK, 2 * BLOCK)
        writer.write(LEAF + 4 * BLOCK, content[:BLOCK])
        fill(writer, content, offset=LEAF + 5 * BLOCK)
        writer.zero(6 * LEAF, 2 * LEAF)
        finish(writer)
        point.commit(draft(machine()))
    found = restored(repository, "p1")
    assert found[LEAF - BLOCK : LEAF + 2 * BLOCK] == content[: 3 * BLOCK]
    assert found[LEAF + 4 * BLOCK : LEAF + 5 * BLOCK] == content[:BLOCK]
    assert found[LEAF + 5 * BLOCK : 2 * LEAF + 5 * BLOCK] == content
    assert not any(found[2 * LEAF + 5 * BLOCK :])


def test_what_was_filled_is_written_in_its_order(repository):
    with repository.begin(machine(), "p1") as point:
        writer = begun(repository, point, LEAF)
        first = writer.room(0, BLOCK)
        second = writer.room(BLOCK, BLOCK)
        with pytest.raises(ValueError, match="room"):
            writer.write(0, second)
        with pytest.raises(ValueError, match="lacks"):
            finish(writer)
        assert first is not None
        assert writer.room(2 * BLOCK, LEAF).nbytes == LEAF - 2 * BLOCK


def test_there_is_no_room_for_an_incremental(repository):
    store(repository, "p1", Write(disk(), LEAF, (data(0, noise(LEAF)),)))
    with repository.begin(machine(), "p2") as point:
        writer = begun(repository, point, LEAF, method=Method.BITMAP)
        with pytest.raises(ValueError, match="everything"):
            writer.room(0, BLOCK)


def test_a_disk_holds_two_buffers_at_most(repository):
    with repository.begin(machine(), "p1") as point:
        writer = begun(repository, point, 9 * LEAF)
        assert writer.room(0, BLOCK) is not None
        assert writer.room(LEAF, BLOCK) is not None
        assert writer.room(2 * LEAF, BLOCK) is None


def test_disks_that_failed_with_room_do_not_keep_another_waiting(repository):
    """They may hold as much as a disk can, and for ever."""
    disks = [disk(f"vd{number}") for number in range(writing_threads() + 4)]
    ended = []

    def run():
        with repository.begin(machine(MACHINE_UUID, *disks), "p1") as point:
            writers = [begun(repository, point, 4 * LEAF, target=item.target) for item in disks]
            *others, last = writers
            for writer in others:
                writer.room(0, BLOCK)
                writer.room(LEAF, BLOCK)
            fill(last, noise(4 * LEAF))
            ended.append(finish(last))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert ended


def test_many_disks_at_once_come_to_their_end(repository):
    disks = [disk(f"vd{number}") for number in range(writing_threads() + 3)]
    owner = machine(MACHINE_UUID, *disks)
    contents = [noise(3 * LEAF, seed) for seed in range(len(disks))]
    with repository.begin(owner, "p1") as point:
        writers = [begun(repository, point, 3 * LEAF, target=item.target) for item in disks]

        def go(number):
            fill(writers[number], contents[number])
            finish(writers[number])

        with ThreadPoolExecutor(len(disks)) as pool:
            for done in [pool.submit(go, number) for number in range(len(disks))]:
                done.result(PATIENCE_S)
        point.commit(draft(owner))
    for item, content in zip(disks, contents, strict=True):
        assert restored(repository, "p1", item.identity) == content


def test_room_that_was_not_filled_is_nobody_elses_after_a_discard(repository):
    """Whoever read into it may not have ended yet."""
    content = noise(12 * LEAF)
    with repository.begin(machine(), "p1") as point:
        gone = begun(repository, point, len(content))
        left = [gone.room(0, LEAF), gone.room(LEAF, LEAF)]
        gone.discard()
        kept = begun(repository, point, len(content))
        for position in range(0, len(content), LEAF):
            kept.write(position, content[position : position + LEAF])
            for view in left:
                view[:] = bytes(LEAF)
        finish(kept)
        point.commit(draft(machine()))
    assert restored(repository, "p1") == content


def test_a_spare_buffer_is_not_taken_from_who_waits():
    pool = BufferPool(16, 1)
    held = pool.take()
    assert pool.take_spare() is None
    looks = []

    def look():
        looks.append(pool.take_spare())
        if len(looks) == 1:
            pool.give(held)
            looks.append(pool.take_spare())

    assert pool.take(look) is held
    assert looks == [None, None]
    pool.give(held)
    assert pool.take_spare() is held


def test_a_buffer_that_does_not_come_back_is_replaced():
    pool = BufferPool(16, 1)
    held = pool.take()
    pool.replace()
    assert pool.take() is not held
