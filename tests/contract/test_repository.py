"""What every repository promises of what is stored (``sendense.repository.protocol``)."""

from __future__ import annotations

import pytest

from sendense.errors import NotFound, Rejected
from sendense.model.decision import Method
from sendense.repository.protocol import VerifyLevel
from tests.contract.repository_content import (
    OTHER_UUID,
    SIZE,
    TAIL,
    VDA,
    VDB,
    content,
    damage,
    finest_block,
    full,
)
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
    zeroes,
)

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
    # The last block may be stored filled up with zeroes.
    assert 4 * BLOCK + 1536 <= image.data_bytes <= 5 * BLOCK
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
    size = finest_block(repository, granularity)
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
    damage(repository, "p1", 0)
    repository.verify("p1", VerifyLevel.DATA)
    spec = spec_for(repository, Write(VDA, SIZE, (), Method.BITMAP), MACHINE_UUID)
    with repository.begin(machine(), "p2") as writer, pytest.raises(Rejected):
        writer.disk(spec)


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
