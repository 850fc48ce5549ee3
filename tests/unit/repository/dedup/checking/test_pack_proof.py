"""Reading a pack through: what authenticates and is wrong all the same is found too."""

from __future__ import annotations

import pytest

from sendense.errors import NotFound, Unavailable
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import indexing
from sendense.repository.dedup.checking.facade import check
from sendense.repository.dedup.checking.findings import CheckLevel, What
from sendense.repository.dedup.checking.pack_proof import RUN, PackTask, Room, prove
from sendense.repository.dedup.entries import Entry, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.identity import chunk_id, digest_blocks, node_id
from sendense.repository.dedup.nodes import Slot, encode_inner, encode_leaf, hooks_of
from sendense.repository.dedup.packs import (
    HEADER_BYTES,
    PackCipher,
    header_bytes,
    new_pack_head,
    tail_bytes,
)
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dict_store import DictStore
from tests.support.points import BLOCK, noise


@pytest.fixture
def parts():
    repository = dedup_repository(DictStore())
    yield repository.parts
    repository.close()


def make(parts, records, *, kind=PackKind.DATA, gap=0):
    """Put a pack of (id, content, hooks), as somebody with the key could; gives its task."""
    head = new_pack_head(kind, 1)
    cipher = PackCipher(parts.ring, head)
    buffer = bytearray(sum(len(content) + 64 + gap for _, content, _ in records) + 64)
    buffer[:HEADER_BYTES] = header_bytes(head)
    end, entries = HEADER_BYTES, []
    for record, content, hooks in records:
        entry = Entry(record, end, len(content) + fmt.TAG_BYTES, len(content), False, hooks)
        cipher.encrypt_into(entry, content, memoryview(buffer))
        entries.append(entry)
        end += entry.stored + gap
    tail = tail_bytes(cipher, entries)
    parts.store.put(head.name, [bytes(buffer[:end]), tail])
    return PackTask(head, end + len(tail), entries)


def chunk(parts, content):
    digests = digest_blocks(parts.ring.block_key, memoryview(content))
    return chunk_id(parts.ring.chunk_key, [digest or b"" for digest in digests]), content, ()


def leaf(parts, *seeds):
    slots = [Slot(bytes([seed]) * 32, 0, bytes([seed]) * 32) for seed in seeds]
    data = encode_leaf(slots)
    return node_id(parts.ring.node_key, data), data, hooks_of(slots)


def proof_of(parts, task):
    return prove(parts, task, Room())


def wrong(proof):
    return [what for what, _ in proof.wrong]


def test_a_good_pack(parts):
    read: list[int] = []
    records = [chunk(parts, noise(number * BLOCK, number)) for number in range(1, 17)]
    task = make(parts, records)
    taken: list[tuple[bytes, int]] = []
    proof = prove(
        parts,
        task,
        Room(),
        progress=read.append,
        take=lambda entry, stored: taken.append((entry.id, len(stored))),
    )
    assert proof.good
    assert sum(read) == task.size
    assert taken == [(entry.id, entry.stored) for entry in task.entries]


def test_a_pack_that_takes_several_requests(parts):
    records = [chunk(parts, noise(MIB, number)) for number in range(20)]
    task = make(parts, records)
    assert task.size > 2 * RUN
    assert proof_of(parts, task).good


def test_a_chunk_under_the_id_of_another(parts):
    """It opens: whoever holds the key, or a program that errs, can write that."""
    (one, _, _), (_, other, _) = chunk(parts, noise(BLOCK, 1)), chunk(parts, noise(BLOCK, 2))
    proof = proof_of(parts, make(parts, [(one, other, ())]))
    assert set(proof.bad) == {one}
    assert wrong(proof) == []


def test_blocks_of_a_chunk_in_another_order(parts):
    content = noise(4 * BLOCK)
    record, _, _ = chunk(parts, content)
    turned = content[BLOCK:] + content[:BLOCK]
    assert set(proof_of(parts, make(parts, [(record, turned, ())])).bad) == {record}


def test_a_block_of_zeroes_in_a_chunk(parts):
    record, _, _ = chunk(parts, noise(2 * BLOCK))
    task = make(parts, [(record, noise(BLOCK) + bytes(BLOCK), ())])
    assert set(proof_of(parts, task).bad) == {record}


def test_nodes(parts):
    children = [leaf(parts, 1, 2), leaf(parts, 3)]
    data = encode_inner(1, [children[0][0], None, children[1][0]])
    inner = node_id(parts.ring.node_key, data), data, ()
    assert proof_of(parts, make(parts, [*children, inner], kind=PackKind.META)).good


@pytest.mark.parametrize("what", ["id", "hooks", "no hooks", "no node"])
def test_nodes_that_are_not_what_is_said(parts, what):
    record, data, hooks = leaf(parts, 1, 2)
    if what == "id":
        record = bytes(32)
    elif what == "hooks":
        hooks = (hooks[0], hooks[1] + 1)
    elif what == "no hooks":
        hooks = ()
    else:
        data = b"\x01\x09" + data[2:]
        record = node_id(parts.ring.node_key, data)
    proof = proof_of(parts, make(parts, [(record, data, hooks)], kind=PackKind.META))
    assert set(proof.bad) == {record}


def test_bytes_that_belong_to_nothing(parts):
    task = make(parts, [chunk(parts, noise(BLOCK, 1)), chunk(parts, noise(BLOCK, 2))], gap=7)
    assert What.PACK_DIRECTORY in wrong(proof_of(parts, task))


def test_an_index_that_says_other_than_the_pack(parts):
    task = make(parts, [chunk(parts, noise(BLOCK, 1)), chunk(parts, noise(BLOCK, 2))])
    other = PackTask(task.head, task.size, task.entries[:1])
    assert What.PACK_CONTRADICTED in wrong(proof_of(parts, other))


def test_one_bad_record_does_not_hide_the_next(parts):
    task = make(parts, [chunk(parts, noise(BLOCK, number)) for number in range(5)])
    content = bytearray(parts.store.get(task.head.name))
    for number in (1, 3):
        content[task.entries[number].offset] ^= 1
    parts.store.put(task.head.name, content)
    assert set(proof_of(parts, task).bad) == {task.entries[1].id, task.entries[3].id}


def test_what_is_wrong_once_is_read_again(parts):
    """A bit that flipped on the way is no damage."""
    task = make(parts, [chunk(parts, noise(BLOCK, number)) for number in range(3)])
    read_into = parts.store.read_into
    reads: list[int] = []

    def once(name, offset, target):
        read_into(name, offset, target)
        reads.append(offset)
        if reads.count(offset) == 1 and offset == 0:
            target[100] ^= 1

    parts.store.read_into = once
    assert proof_of(parts, task).good


def test_what_the_store_says_is_passed_on(parts):
    task = make(parts, [chunk(parts, noise(BLOCK))])
    parts.store.delete([task.head.name])
    with pytest.raises(NotFound):
        proof_of(parts, task)

    def fail(name, offset, target):
        raise Unavailable("no")

    parts.store.read_into = fail
    with pytest.raises(Unavailable):
        proof_of(parts, task)


def test_swapped_records_of_a_whole_repository(parts):
    """Both open and are in the index; only what they hold tells."""
    one, other = chunk(parts, noise(BLOCK, 1)), chunk(parts, noise(BLOCK, 2))
    task = make(parts, [(one[0], other[1], ()), (other[0], one[1], ())])
    indexing.put_index(parts, [PackRecord(task.head, task.size, tuple(task.entries))])
    from sendense.repository.dedup.header import read_header
    from sendense.repository.dedup.repository import DedupRepository

    found = check(DedupRepository(parts, read_header(parts.store)), CheckLevel.DATA)
    assert [item.what for item in found.findings] == [What.PACK_RECORDS]
