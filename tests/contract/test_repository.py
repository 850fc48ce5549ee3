"""What every repository promises (``sendense.repository.protocol``), held by each of them."""

from __future__ import annotations

import pytest

from sendense.errors import Busy, NotFound, Rejected
from sendense.model.decision import Method
from sendense.model.point import PointState
from sendense.repository.opening import RepositorySettings, create_repository, open_repository
from sendense.repository.protocol import VerifyLevel
from tests.support.memory_repository import MemoryRepository
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    content_of,
    data,
    disk,
    draft,
    machine,
    noise,
    restored,
    spec_for,
    store,
    zeroes,
)

VDA = disk("vda")
VDB = disk("vdb")
OTHER_UUID = "6f2d3f4e-0000-4000-8000-000000000002"
SIZE = 20 * BLOCK + 1536
TAIL = 20 * BLOCK


@pytest.fixture(params=["plain", "compressed", "memory"])
def repository(request, tmp_path):
    if request.param == "memory":
        return MemoryRepository()
    level = 1 if request.param == "compressed" else None
    return create_repository(
        f"qcow2:{tmp_path / 'repository'}", RepositorySettings(compression_level=level)
    )


def full(size=SIZE, seed=1, target=VDA):
    """Data at both ends and a hole between."""
    tail = size - size % BLOCK
    return Write(
        target,
        size,
        (data(0, noise(4 * BLOCK, seed)), data(tail, noise(size - tail, seed + 1))),
    )


def content(write, base=b""):
    """Give what a disk holds after a write over ``base``."""
    result = bytearray(base.ljust(write.size, b"\0"))
    for chunk in write.chunks:
        result[chunk.offset : chunk.end] = chunk.data or bytes(chunk.length)
    return bytes(result)


# --- points ---


def test_an_empty_repository(repository):
    assert repository.points() == ()
    assert repository.points(MACHINE_UUID) == ()
    assert repository.info().points == 0
    assert repository.rebuild() == 0
    with pytest.raises(NotFound):
        repository.point("nothing")
    with pytest.raises(NotFound):
        repository.open("nothing")
    with pytest.raises(NotFound):
        repository.delete(["nothing"])


def test_a_point_is_listed_as_it_was_committed(repository):
    made = store(repository, "p1", full(), attachments={"domain.xml": b"<domain/>"})
    assert made.sequence == 1
    assert repository.points() == (made,)
    assert repository.points(MACHINE_UUID) == (made,)
    assert repository.points(OTHER_UUID) == ()
    assert repository.point("p1") == made
    image = made.disks[0]
    assert image.size == SIZE
    assert image.parent is None
    assert image.data_bytes == 4 * BLOCK + 1536
    assert (image.read_bytes, image.seconds) == (4 * BLOCK + 1536, 0.5)
    assert image.stored_bytes > 0


def test_what_was_written_is_read(repository):
    write = full()
    store(repository, "p1", write)
    assert restored(repository, "p1") == content(write)


def test_ranges_that_are_never_named_read_as_zero(repository):
    store(repository, "p1", Write(VDA, SIZE, ()))
    assert restored(repository, "p1") == bytes(SIZE)


def test_zeroes_in_a_full_read_as_zero(repository):
    chunks = (zeroes(0, 2 * BLOCK), data(2 * BLOCK, bytes(BLOCK)), data(TAIL, noise(1536)))
    write = Write(VDA, SIZE, chunks)
    store(repository, "p1", write)
    assert restored(repository, "p1") == content(write)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_buffer_may_be_used_again_after_a_write(repository, kind):
    with repository.begin(machine(), "p1") as writer:
        writing = writer.disk(spec_for(repository, Write(VDA, 2 * BLOCK, ()), MACHINE_UUID))
        buffer = bytearray(noise(BLOCK))
        writing.write(0, kind(buffer))
        buffer[:] = noise(BLOCK, 5)
        writing.write(BLOCK, kind(buffer))
        writing.finish(read_bytes=0, sampled_blocks=0, seconds=0)
        writer.commit(draft(machine()))
    assert restored(repository, "p1") == noise(BLOCK) + noise(BLOCK, 5)


def test_a_disk_without_a_byte(repository):
    store(repository, "p1", Write(VDA, 0, ()))
    assert restored(repository, "p1") == b""


def test_attachments(repository):
    store(repository, "p1", full(), attachments={"domain.xml": b"<domain/>", "nvram.fd": b""})
    with repository.open("p1") as reader:
        assert reader.attachment("domain.xml") == b"<domain/>"
        assert reader.attachment("nvram.fd") == b""
        with pytest.raises(NotFound):
            reader.attachment("other")


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", ""])
def test_an_attachment_stays_in_its_point(repository, name):
    with repository.begin(machine(), "p1") as writer, pytest.raises(Rejected):
        writer.attach(name, b"")


# --- incrementals ---


@pytest.mark.parametrize("granularity", [512, 4096, 16384, BLOCK, 16 * BLOCK])
def test_a_bitmap_incremental_lies_over_its_parent(repository, granularity):
    size = min(max(granularity, 4096), BLOCK)
    first = full()
    chunks = (data(size, noise(size, 7)), zeroes(3 * BLOCK, size), data(5 * BLOCK, bytes(size)))
    second = Write(VDA, SIZE, chunks, Method.BITMAP, granularity)
    store(repository, "p1", first)
    made = store(repository, "p2", second)
    assert made.disks[0].parent == "p1"
    assert restored(repository, "p2") == content(second, content(first))
    assert restored(repository, "p1") == content(first)


def test_a_compare_incremental_keeps_what_differs(repository):
    first = full()
    whole = bytearray(content(first))
    whole[BLOCK : 2 * BLOCK] = noise(BLOCK, 9)
    whole[3 * BLOCK : 4 * BLOCK] = bytes(BLOCK)
    chunks = (
        data(0, bytes(whole[: 3 * BLOCK])),
        zeroes(3 * BLOCK, 17 * BLOCK),
        data(TAIL, bytes(whole[TAIL:])),
    )
    store(repository, "p1", first)
    store(repository, "p2", Write(VDA, SIZE, chunks, Method.COMPARE))
    assert restored(repository, "p2") == bytes(whole)
    assert restored(repository, "p1") == content(first)


@pytest.mark.parametrize("method", [Method.BITMAP, Method.COMPARE])
@pytest.mark.parametrize("grown", [SIZE + 512, 21 * BLOCK, 40 * BLOCK + 512])
def test_a_disk_that_grew(repository, method, grown):
    first = full()
    store(repository, "p1", first)
    last = grown - grown % BLOCK or grown
    chunks = [data(0, noise(BLOCK, 3))]
    if method is Method.COMPARE:
        old = content(first)
        chunks.append(data(BLOCK, old[BLOCK : 4 * BLOCK]))
        chunks.append(zeroes(4 * BLOCK, 16 * BLOCK))
        end = min(21 * BLOCK, grown)
        chunks.append(data(TAIL, old[TAIL:].ljust(end - TAIL, b"\0")))
        if grown > end:
            chunks.append(zeroes(end, grown - end))
    elif grown > 22 * BLOCK:
        chunks.append(data(last, noise(grown - last, 4)))
    second = Write(VDA, grown, tuple(chunks), method)
    store(repository, "p2", second)
    assert restored(repository, "p2") == content(second, content(first))
    assert restored(repository, "p1") == content(first)
    repository.delete(["p1"])
    assert restored(repository, "p2") == content(second, content(first))


def test_a_base_must_be_the_last_image_of_the_disk(repository):
    store(repository, "p1", full())
    write = Write(VDA, SIZE, (), Method.BITMAP)
    stale = spec_for(repository, write, MACHINE_UUID)
    store(repository, "p2", full())
    with repository.begin(machine(), "p3") as writer, pytest.raises(Rejected):
        writer.disk(stale)


def test_an_incremental_of_a_smaller_disk_is_refused(repository):
    store(repository, "p1", full())
    spec = spec_for(repository, Write(VDA, SIZE - BLOCK, (), Method.BITMAP), MACHINE_UUID)
    with repository.begin(machine(), "p2") as writer, pytest.raises(Rejected):
        writer.disk(spec)


def test_an_incremental_over_a_damaged_point_is_refused(repository):
    store(repository, "p1", full())
    _damage(repository, "p1", 0)
    repository.verify("p1", VerifyLevel.DATA)
    spec = spec_for(repository, Write(VDA, SIZE, (), Method.BITMAP), MACHINE_UUID)
    with repository.begin(machine(), "p2") as writer, pytest.raises(Rejected):
        writer.disk(spec)


def _damage(repository, point_id, offset):
    if isinstance(repository, MemoryRepository):
        repository.damage(point_id, VDA.identity, offset)
        return
    folder = repository._root / "machines" / MACHINE_UUID / point_id
    image = folder / "vda.qcow2"
    raw = bytearray(image.read_bytes())
    place = BLOCK + 100 + offset
    raw[place] ^= 0xFF
    image.write_bytes(raw)


# --- several disks and machines ---


def test_each_disk_has_its_own_chain(repository):
    store(repository, "p1", full())
    wb = full(seed=5, target=VDB)
    change = Write(VDA, SIZE, (data(0, noise(BLOCK, 8)),), Method.BITMAP)
    made = store(repository, "p2", change, wb)
    assert [image.parent for image in made.disks] == ["p1", None]
    only_b = Write(VDB, SIZE, (zeroes(0, BLOCK),), Method.BITMAP)
    store(repository, "p3", only_b)
    again = Write(VDA, SIZE, (data(BLOCK, noise(BLOCK, 9)),), Method.BITMAP)
    made = store(repository, "p4", again)
    assert made.disks[0].parent == "p2"
    expected_a = content(again, content(change, content(full())))
    expected_b = content(only_b, content(wb))
    repository.delete(["p2"])
    assert restored(repository, "p4") == expected_a
    assert restored(repository, "p3", VDB.identity) == expected_b
    repository.delete(["p1"])
    assert restored(repository, "p4") == expected_a
    with repository.open("p4") as reader, pytest.raises(NotFound):
        reader.disk(VDB.identity)


def test_disks_may_be_written_at_the_same_time(repository):
    with repository.begin(machine(MACHINE_UUID, VDA, VDB), "p1") as writer:
        a = writer.disk(spec_for(repository, Write(VDA, SIZE, ()), MACHINE_UUID))
        b = writer.disk(spec_for(repository, Write(VDB, SIZE, ()), MACHINE_UUID))
        for index in range(4):
            a.write(index * BLOCK, noise(BLOCK, index))
            b.write(index * BLOCK, noise(BLOCK, index + 10))
        for item in (a, b):
            item.finish(read_bytes=0, sampled_blocks=0, seconds=0)
        writer.commit(draft(machine(MACHINE_UUID, VDA, VDB)))
    assert restored(repository, "p1", VDB.identity)[:BLOCK] == noise(BLOCK, 10)


def test_a_disk_goes_by_its_identity_and_not_its_target(repository):
    store(repository, "p1", full())
    moved = disk("vdc", VDA.serial)
    change = Write(moved, SIZE, (data(0, noise(BLOCK, 8)),), Method.BITMAP)
    store(repository, "p2", change)
    expected = content(change, content(full()))
    assert restored(repository, "p2") == expected
    repository.delete(["p1"])
    assert restored(repository, "p2") == expected


def test_a_disk_twice_in_a_point_is_refused(repository):
    with repository.begin(machine(), "p1") as writer:
        spec = spec_for(repository, full(), MACHINE_UUID)
        writer.disk(spec)
        with pytest.raises(Rejected):
            writer.disk(spec)


def test_machines_do_not_know_each_other(repository):
    store(repository, "a1", full())
    with repository.begin(machine(), "a2"):
        made = store(repository, "b1", full(seed=9), uuid=OTHER_UUID)
    assert made.sequence == 1
    assert [point.id for point in repository.points()] == ["a1", "b1"]
    assert repository.info().machines == 2


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
    _damage(repository, "p1", 2 * BLOCK)
    found = repository.verify("p1", VerifyLevel.DATA)
    assert [(item.point, item.disk, item.offset) for item in found.findings] == [
        ("p1", VDA.identity, 2 * BLOCK)
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
    again = open_repository(repository.location)
    assert again.points() == repository.points()
    assert again.info().id == repository.info().id
