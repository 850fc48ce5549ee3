"""What every repository promises of points as they come, are used together, and go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense import clock
from sendense.errors import Busy, Held, NotFound, Rejected
from sendense.model.decision import Method
from sendense.model.hold import Hold, HoldKind
from sendense.model.point import PointState
from sendense.repository.protocol import VerifyLevel
from tests.contract.opening import open_again
from tests.contract.repository_content import (
    OTHER_UUID,
    SIZE,
    TAIL,
    VDA,
    content,
    damage,
    full,
)
from tests.support.memory_repository import MemoryRepository
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    content_of,
    data,
    draft,
    machine,
    noise,
    restored,
    spec_for,
    store,
    zeroes,
)

# --- visible or not ---


def test_a_point_is_not_there_before_its_commit(repository):
    with repository.begin(machine(), "p1") as writer:
        writing = writer.disk(spec_for(repository, full(), MACHINE_UUID))
        writing.write(0, noise(BLOCK))
        writing.finish(read_bytes=0, sampled_blocks=0, seconds=0)
        assert repository.points() == ()
        with pytest.raises(NotFound):
            repository.open("p1")
    assert repository.points() == ()
    store(repository, "p1", full())


def test_an_unfinished_disk_cannot_be_committed(repository):
    with repository.begin(machine(), "p1") as writer:
        writer.disk(spec_for(repository, full(), MACHINE_UUID))
        with pytest.raises(Rejected):
            writer.commit(draft(machine()))
    assert repository.points() == ()


def test_a_disk_may_be_begun_again(repository):
    store(repository, "p1", full())
    change = Write(VDA, SIZE, (data(0, noise(BLOCK, 8)),), Method.BITMAP)
    again = full(seed=30)
    with repository.begin(machine(), "p2") as writer:
        first = writer.disk(spec_for(repository, change, MACHINE_UUID))
        first.write(0, noise(BLOCK, 8))
        first.discard()
        second = writer.disk(spec_for(repository, again, MACHINE_UUID))
        for chunk in again.chunks:
            second.write(chunk.offset, chunk.data)
        second.finish(read_bytes=0, sampled_blocks=0, seconds=0)
        made = writer.commit(draft(machine()))
    assert made.disks[0].parent is None
    assert restored(repository, "p2") == content(again)


def test_an_error_in_the_block_leaves_nothing(repository):
    def fail():
        with repository.begin(machine(), "p1") as writer:
            writing = writer.disk(spec_for(repository, full(), MACHINE_UUID))
            writing.write(0, noise(BLOCK))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert repository.points() == ()


@pytest.mark.parametrize("chunk", [(100, BLOCK), (0, 1000), (SIZE - 512, 512), (0, SIZE + 512)])
def test_what_is_not_made_of_whole_blocks_is_refused(repository, chunk):
    offset, length = chunk
    with repository.begin(machine(), "p1") as writer:
        writing = writer.disk(spec_for(repository, Write(VDA, SIZE, ()), MACHINE_UUID))
        with pytest.raises(ValueError, match=r".+"):
            writing.write(offset, bytes(length))
        with pytest.raises(ValueError, match=r".+"):
            writing.zero(offset, length)


def test_what_goes_back_is_refused(repository):
    with repository.begin(machine(), "p1") as writer:
        writing = writer.disk(spec_for(repository, Write(VDA, SIZE, ()), MACHINE_UUID))
        writing.zero(0, 2 * BLOCK)
        with pytest.raises(ValueError, match=r".+"):
            writing.write(BLOCK, noise(BLOCK))


def test_an_id_is_used_once(repository):
    store(repository, "p1", full())
    with pytest.raises(Rejected):
        repository.begin(machine(), "p1")
    store(repository, "p2", full())


# --- order ---


def test_a_sequence_is_never_given_out_twice(repository):
    for name in ("p1", "p2", "p3"):
        store(repository, name, full())
    repository.delete(["p3", "p2"])
    assert store(repository, "p4", full()).sequence == 4
    repository.delete(["p1", "p4"])
    assert store(repository, "p5", full()).sequence == 5


# --- alone ---


def test_one_writer_per_machine(repository):
    with repository.begin(machine(), "p1"):
        with pytest.raises(Busy) as caught:
            repository.begin(machine(), "p2")
        assert "backup" in str(caught.value)
    with repository.begin(machine(), "p2"):
        pass


def test_a_point_that_is_read_is_not_deleted(repository):
    store(repository, "p1", full())
    with repository.open("p1"), pytest.raises(Busy):
        repository.delete(["p1"])
    assert repository.delete(["p1"]) == ("p1",)


def test_a_deletion_waits_for_the_writer(repository):
    store(repository, "p1", full())
    with repository.begin(machine(), "p2"), pytest.raises(Busy):
        repository.delete(["p1"])


def test_a_point_is_read_while_another_is_written(repository):
    store(repository, "p1", full())
    with repository.begin(machine(), "p2"):
        assert restored(repository, "p1") == content(full())


# --- reading ---


def test_matches(repository):
    write = full()
    store(repository, "p1", write)
    whole = content(write)
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        assert reading.matches(0, whole[: 2 * BLOCK])
        assert reading.matches(0, bytearray(whole))
        assert reading.matches(3 * BLOCK, memoryview(whole)[3 * BLOCK : 6 * BLOCK])
        assert reading.matches(TAIL, whole[TAIL:])
        assert not reading.matches(BLOCK, whole[: 2 * BLOCK])
        assert not reading.matches(5 * BLOCK, noise(BLOCK))
        assert not reading.matches(BLOCK, bytes(BLOCK))
        assert reading.matches(TAIL, whole[TAIL:] + bytes(BLOCK))
        assert not reading.matches(TAIL, whole[TAIL:] + b"\1")
        assert reading.matches(40 * BLOCK, bytes(BLOCK))


def test_a_reader_can_be_left_in_the_middle(repository):
    store(repository, "p1", full())
    with repository.open("p1") as reader:
        chunks = reader.disk(VDA.identity).chunks()
        next(chunks)
        chunks.close()
        assert content_of(reader.disk(VDA.identity)) == content(full())


# --- deletion ---


def _chain(repository, length=5):
    """Make a full and incrementals; give what each point holds."""
    contents = {}
    write = full()
    base = content(write)
    for number in range(1, length + 1):
        store(repository, f"p{number}", write)
        base = content(write, base)
        contents[f"p{number}"] = base
        chunks = (
            data((number % 4) * BLOCK, noise(BLOCK, 50 + number)),
            zeroes((5 + number) * BLOCK, BLOCK),
            data((12 + number) * BLOCK, noise(BLOCK, 70 + number)),
        )
        write = Write(VDA, SIZE, chunks, Method.BITMAP)
    return contents


@pytest.mark.parametrize(
    "deleted",
    [["p1"], ["p3"], ["p5"], ["p4", "p2"], ["p1", "p2", "p3"], ["p2", "p5", "p4"], ["p5", "p1"]],
    ids="-".join,
)
def test_any_point_may_be_deleted(repository, deleted):
    contents = _chain(repository)
    assert sorted(repository.delete(deleted)) == sorted(deleted)
    left = [name for name in contents if name not in deleted]
    assert [point.id for point in repository.points()] == left
    for name in left:
        assert restored(repository, name) == contents[name]
        assert repository.verify(name, VerifyLevel.DATA).sound
    for name in deleted:
        with pytest.raises(NotFound):
            repository.point(name)


def test_all_points_may_be_deleted(repository):
    contents = _chain(repository)
    repository.delete(list(contents))
    assert repository.points() == ()
    assert repository.info().points == 0
    store(repository, "p9", full())


def test_a_chain_goes_on_after_a_deletion(repository):
    contents = _chain(repository)
    repository.delete(["p1", "p2"])
    change = Write(VDA, SIZE, (data(0, noise(BLOCK, 90)),), Method.BITMAP)
    made = store(repository, "p6", change)
    assert made.disks[0].parent == "p5"
    assert restored(repository, "p6") == content(change, contents["p5"])


# --- held ---

MADE = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _pin(point_id, note=""):
    return Hold(point_id, HoldKind.PIN, None, note, MADE)


def _lock(point_id, days, note=""):
    """Give a lock that ends so many days from now."""
    end = clock.now().replace(microsecond=0) + timedelta(days=days)
    return Hold(point_id, HoldKind.LOCK, end, note, MADE)


def test_holds_are_listed_by_point_and_kind(repository):
    _chain(repository, 3)
    store(repository, "o1", full(), uuid=OTHER_UUID)
    assert repository.holds() == ()
    given = [_pin("o1"), _pin("p2", "naïve"), _lock("p2", 3, "the law"), _lock("p1", 1)]
    for hold in given:
        repository.hold(hold)
    assert repository.holds() == (given[0], given[3], given[2], given[1])
    assert repository.holds(MACHINE_UUID) == (given[3], given[2], given[1])
    assert repository.holds(OTHER_UUID) == (given[0],)
    assert repository.holds("6f2d3f4e-0000-4000-8000-00000000000f") == ()


@pytest.mark.parametrize("hold", [_pin("p2", "why"), _lock("p2", 1)], ids=lambda hold: hold.kind)
def test_a_held_point_is_not_deleted_and_nothing_beside_it(repository, hold):
    contents = _chain(repository)
    repository.hold(hold)
    for chosen in (["p2"], ["p1", "p2"], ["p2", "p5"]):
        with pytest.raises(Held) as caught:
            repository.delete(chosen)
        assert hold.words() in caught.value.message
        assert caught.value.hint
    assert [point.id for point in repository.points()] == list(contents)
    assert restored(repository, "p5") == contents["p5"]


def test_a_held_point_of_another_machine_stops_a_deletion_before_it_begins(repository):
    store(repository, "p1", full())
    store(repository, "o1", full(), uuid=OTHER_UUID)
    repository.hold(_pin("o1"))
    with pytest.raises(Held):
        repository.delete(["p1", "o1"])
    assert len(repository.points()) == 2


def test_holds_outlive_the_deletion_of_neighbours(repository):
    contents = _chain(repository)
    for hold in (_pin("p3", "why"), _lock("p3", 2)):
        repository.hold(hold)
    before = repository.holds()
    repository.delete(["p2", "p4"])
    assert repository.holds() == before
    repository.delete(["p1", "p5"])
    repository.rebuild()
    assert repository.holds() == before
    assert restored(repository, "p3") == contents["p3"]


def test_a_pin_is_replaced_and_taken_off(repository):
    store(repository, "p1", full())
    repository.hold(_pin("p1", "a"))
    repository.hold(_pin("p1", "b"))
    assert repository.holds() == (_pin("p1", "b"),)
    repository.release_hold("p1", HoldKind.PIN)
    assert repository.holds() == ()
    with pytest.raises(NotFound):
        repository.release_hold("p1", HoldKind.PIN)
    assert repository.delete(["p1"]) == ("p1",)


def test_a_lock_gets_longer_and_never_shorter(repository):
    store(repository, "p1", full())
    first, longer = _lock("p1", 2), _lock("p1", 3)
    repository.hold(first)
    repository.hold(longer)
    repository.hold(_pin("p1"))
    for shorter in (first, _lock("p1", -1)):
        with pytest.raises(Held):
            repository.hold(shorter)
    with pytest.raises(Held):
        repository.release_hold("p1", HoldKind.LOCK)
    repository.release_hold("p1", HoldKind.PIN)
    assert repository.holds() == (longer,)


def test_a_lock_that_is_over_keeps_nothing(repository):
    contents = _chain(repository, 2)
    repository.hold(_lock("p1", -1))
    repository.hold(_lock("p2", -1))
    repository.hold(_lock("p2", 1))
    assert repository.delete(["p1"]) == ("p1",)
    with pytest.raises(Held):
        repository.delete(["p2"])
    assert restored(repository, "p2") == contents["p2"]


def test_a_lock_ends_by_itself(repository, monkeypatch):
    store(repository, "p1", full())
    lock = _lock("p1", 1)
    repository.hold(lock)
    with monkeypatch.context() as later:
        later.setattr(clock, "now", lambda: lock.until)
        assert repository.delete(["p1"]) == ("p1",)
    assert repository.holds() == ()


@pytest.mark.parametrize("hold", [_pin("p9"), _lock("p9", 1)], ids=lambda hold: hold.kind)
def test_what_is_not_there_is_not_held(repository, hold):
    with pytest.raises(NotFound):
        repository.hold(hold)
    with pytest.raises(NotFound):
        repository.release_hold("p9", hold.kind)
    store(repository, "p9", full())
    assert repository.holds() == ()


def test_a_point_of_the_same_id_begins_without_holds(repository):
    store(repository, "p1", full())
    repository.hold(_lock("p1", -1))
    repository.delete(["p1"])
    store(repository, "p1", full())
    assert repository.holds() == ()


def test_a_point_is_held_while_others_work(repository):
    store(repository, "p1", full())
    with repository.open("p1"), repository.begin(machine(), "p2"):
        repository.hold(_pin("p1"))
        assert repository.holds() == (_pin("p1"),)
        repository.release_hold("p1", HoldKind.PIN)


# --- verification ---


def test_a_sound_point(repository):
    store(repository, "p1", full(), attachments={"domain.xml": b"x"})
    for level in VerifyLevel:
        found = repository.verify("p1", level)
        assert found.sound
        assert (found.point, found.level) == ("p1", level)
    assert found.checked_bytes == SIZE


def test_damage_is_found_named_and_remembered(repository):
    store(repository, "p1", full())
    offset = damage(repository, "p1", 2 * BLOCK)
    found = repository.verify("p1", VerifyLevel.DATA)
    assert [(item.point, item.disk, item.offset) for item in found.findings] == [
        ("p1", VDA.identity, offset)
    ]
    assert repository.point("p1").state is PointState.DAMAGED
    assert repository.points()[0].state is PointState.DAMAGED


def test_rebuild_gives_the_number_of_points(repository):
    contents = _chain(repository)
    assert repository.rebuild() == len(contents)


def test_an_opened_repository_is_the_one_that_was_made(repository):
    store(repository, "p1", full())
    if isinstance(repository, MemoryRepository):
        return
    again = open_again(repository)
    assert again.points() == repository.points()
    assert again.info().id == repository.info().id
