"""A pack gives back what was put in, or says what is wrong with it."""

from __future__ import annotations

import os

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sendense.errors import Damaged, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, PackHead
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.packs import (
    HEADER_BYTES,
    LARGEST_DIRECTORY,
    TRAILER_BYTES,
    PackCipher,
    check_entries,
    decode_directory,
    encode_directory,
    header_bytes,
    new_pack_head,
    parse_header,
    parse_trailer,
    read_directory,
    tail_bytes,
)
from tests.support.dedup_records import FixedKeys, chunk, closed, head, leaf, number_id

HEAD = PackHead("000102030405060708090a0b0c0d0e0f", PackKind.META, 258)
# The format: if one of these changes, no repository that was written can be read.
HEADER = "534e445001020201000102030405060708090a0b0c0d0e0f"
ENTRY = Entry(bytes([0xAA]) * 32, 24, 0x0110, 0x1020, True, (1, 2**64 - 1))
ENTRY_BYTES = (
    "aa" * 32 + "18000000" "10010000" "20100000" "01" "02"
    "0100000000000000" "ffffffffffffffff"
)  # fmt: skip
RECORD = "b3e8b3955c32aff068530eb790b404f03b3fcce2cf"
TAIL = (
    "15754d94d98d91376ba5ee6682d83b2387872917ff18db755439fdb414c179b1083e9eee1fe9"
    "b7614fa89e3405339ff4f1af01d7e355516be6445b77b34c1d58e70ec1460f2a460000000100"
    "0000534e4454"
)


def small_pack():
    """Give a pack of a plain, a compressed and an empty-looking record, and its entries."""
    of = PackHead("00" * 16, PackKind.DATA, 1)
    cipher = PackCipher(FixedKeys(), of)
    plain = bytes(range(256)) * 256
    frame = zstandard.ZstdCompressor().compress(bytes(fmt.BLOCK))
    entries = [
        chunk(number_id(1), HEADER_BYTES),
        chunk(number_id(2), HEADER_BYTES + len(plain) + 16, stored=len(frame) + 16),
    ]
    end = entries[-1].offset + entries[-1].stored
    data = bytearray(end)
    data[:HEADER_BYTES] = header_bytes(of)
    for entry, content in zip(entries, (plain, frame), strict=True):
        cipher.encrypt_into(entry, content, memoryview(data))
    return bytes(data) + tail_bytes(cipher, entries), entries, (plain, bytes(fmt.BLOCK))


def read(cipher, entry, pack):
    target = bytearray(entry.length)
    stored = memoryview(pack)[entry.offset : entry.offset + entry.stored]
    cipher.read_into(entry, stored, memoryview(target))
    return bytes(target)


def test_the_bytes_are_what_they_were():
    assert header_bytes(HEAD).hex() == HEADER
    assert encode_directory([ENTRY]).hex() == ENTRY_BYTES
    of = PackHead("00" * 16, PackKind.META, 1)
    entry = leaf(bytes(32), HEADER_BYTES, (7,), length=5)
    target = bytearray(HEADER_BYTES + 21)
    cipher = PackCipher(FixedKeys(), of)
    cipher.encrypt_into(entry, b"hello", memoryview(target))
    assert target[HEADER_BYTES:].hex() == RECORD
    assert tail_bytes(cipher, [entry]).hex() == TAIL


def test_a_record_is_what_the_format_says():
    pack, entries, contents = small_pack()
    aead = AESGCM(FixedKeys().pack_key(pack[:24], 1))
    first = entries[0]
    nonce = first.offset.to_bytes(8, "little") + bytes(4)
    about = first.id + first.length.to_bytes(4, "little") + b"\0"
    record = pack[first.offset : first.offset + first.stored]
    assert aead.decrypt(nonce, record, about) == contents[0]
    length = int.from_bytes(pack[-12:-8], "little")
    directory = pack[-12 - length : -12]
    plain = aead.decrypt(b"\xff" * 12, directory, b"directory")
    assert plain == encode_directory(entries)
    assert pack[-8:] == b"\2\0\0\0SNDT"


def test_a_header_is_read_as_it_was_written():
    assert parse_header(bytes.fromhex(HEADER) + b"records") == HEAD
    assert HEAD.name == "packs/00/000102030405060708090a0b0c0d0e0f"
    made = new_pack_head(PackKind.DATA, 3)
    assert parse_header(header_bytes(made)) == made
    assert made != new_pack_head(PackKind.DATA, 3)


@pytest.mark.parametrize(
    "header",
    [
        HEADER[:-2],
        "",
        "00" + HEADER[2:],
        HEADER[:8] + "00" + HEADER[10:],
        HEADER[:10] + "00" + HEADER[12:],
        HEADER[:10] + "03" + HEADER[12:],
        HEADER[:12] + "0000" + HEADER[16:],
    ],
)
def test_a_header_that_nobody_writes_is_damage(header):
    with pytest.raises(Damaged):
        parse_header(bytes.fromhex(header))


def test_a_pack_of_a_newer_program_is_not_damage():
    with pytest.raises(Unsupported, match="newer program"):
        parse_header(bytes.fromhex(HEADER[:8] + "02" + HEADER[10:]))


def test_a_pack_gives_back_what_was_put_in():
    pack, entries, contents = small_pack()
    of = parse_header(pack)
    cipher = PackCipher(FixedKeys(), of)
    stored, count = parse_trailer(pack[-TRAILER_BYTES:])
    assert count == 2
    for tail in (pack, pack[-stored - TRAILER_BYTES :]):
        assert read_directory(cipher, of, len(pack), tail) == entries
    for entry, content in zip(entries, contents, strict=True):
        assert read(cipher, entry, pack) == content


def test_a_pack_without_records():
    cipher = PackCipher(FixedKeys(), HEAD)
    tail = tail_bytes(cipher, [])
    assert read_directory(cipher, HEAD, HEADER_BYTES + len(tail), tail) == []


def test_every_changed_bit_of_a_record_is_found():
    of = PackHead("11" * 16, PackKind.META, 1)
    cipher = PackCipher(FixedKeys(), of)
    entry = leaf(number_id(1), HEADER_BYTES, length=20)
    pack = bytearray(HEADER_BYTES + entry.stored)
    cipher.encrypt_into(entry, bytes(range(20)), memoryview(pack))
    for bit in range(8 * HEADER_BYTES, 8 * len(pack)):
        pack[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged) as caught:
            read(cipher, entry, pack)
        assert caught.value.data == {"pack": of.id, "offset": 24, "id": entry.id.hex()}
        pack[bit // 8] ^= 1 << bit % 8
    assert read(cipher, entry, pack) == bytes(range(20))


def test_every_changed_bit_of_a_header_directory_or_trailer_is_found():
    cipher = PackCipher(FixedKeys(), HEAD)
    entries = [leaf(number_id(n), HEADER_BYTES + 316 * n, (n, 1)) for n in range(3)]
    tail = tail_bytes(cipher, entries)
    pack = bytearray(header_bytes(HEAD) + bytes(3 * 316) + tail)
    touched = [*range(8 * HEADER_BYTES), *range(8 * (len(pack) - len(tail)), 8 * len(pack))]
    for bit in touched:
        pack[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Damaged, Unsupported)):
            open_directory(pack)
        pack[bit // 8] ^= 1 << bit % 8
    assert open_directory(pack) == entries


def open_directory(pack):
    of = parse_header(bytes(pack[:HEADER_BYTES]))
    return read_directory(PackCipher(FixedKeys(), of), of, len(pack), bytes(pack))


@pytest.mark.parametrize(
    "change",
    [
        {"id": number_id(9)},
        {"offset": 25},
        {"length": 2 * fmt.BLOCK},
        {"compressed": True},
        {"stored": fmt.BLOCK + 15},
        {"stored": fmt.BLOCK + 17},
        {"stored": 0},
    ],
)
def test_a_record_that_is_described_wrongly_does_not_open(change):
    pack, entries, _ = small_pack()
    cipher = PackCipher(FixedKeys(), parse_header(pack))
    first = entries[0]
    told = {name: getattr(first, name) for name in ("id", "offset", "stored", "length")}
    wrong = Entry(**{**told, "compressed": False, **change})
    target = bytearray(4 * fmt.BLOCK)
    stored = memoryview(pack)[first.offset : first.offset + wrong.stored]
    with pytest.raises(Damaged):
        cipher.read_into(wrong, stored, memoryview(target))


def test_a_record_of_another_pack_does_not_open():
    pack, entries, _ = small_pack()
    other = PackCipher(FixedKeys(), head(7))
    with pytest.raises(Damaged, match="authentication"):
        read(other, entries[0], pack)


def frame_of(content, **options):
    return zstandard.ZstdCompressor(**options).compress(content)


def huge():
    """Give a frame of few bytes that says to hold 1 GiB, and does."""
    packer = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(1 << 10)]
    return b"".join([*parts, packer.flush()])


def lying():
    """Give a frame that says to hold one block, and holds two."""
    frame = bytearray(frame_of(bytes(2 * fmt.BLOCK)))
    size = (2 * fmt.BLOCK).to_bytes(4, "little")
    assert frame.count(size) == 1
    return bytes(frame.replace(size, fmt.BLOCK.to_bytes(4, "little")))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no frame",
        frame_of(bytes(fmt.BLOCK))[:-1],
        frame_of(bytes(fmt.BLOCK - 1)),
        frame_of(bytes(fmt.BLOCK + 1)),
        frame_of(bytes(fmt.BLOCK), write_content_size=False),
        huge(),
        lying(),
    ],
    ids=["empty", "none", "cut", "short", "long", "unstated", "huge", "lying"],
)
def test_a_frame_that_does_not_give_what_was_said_is_damage(frame):
    cipher = PackCipher(FixedKeys(), head(1))
    entry = chunk(number_id(1), HEADER_BYTES, stored=len(frame) + fmt.TAG_BYTES)
    pack = bytearray(HEADER_BYTES + entry.stored)
    cipher.encrypt_into(entry, frame, memoryview(pack))
    guarded = bytearray(b"!" * (fmt.BLOCK + 100))
    stored = memoryview(pack)[HEADER_BYTES:]
    with pytest.raises(Damaged):
        cipher.read_into(entry, stored, memoryview(guarded))
    assert guarded[fmt.BLOCK :] == b"!" * 100, "written behind the record"


def test_nothing_is_written_behind_a_record():
    pack, entries, contents = small_pack()
    cipher = PackCipher(FixedKeys(), parse_header(pack))
    for entry, content in zip(entries, contents, strict=True):
        target = bytearray(b"!" * (entry.length + 100))
        stored = memoryview(pack)[entry.offset : entry.offset + entry.stored]
        cipher.read_into(entry, stored, memoryview(target))
        assert target == content + b"!" * 100


def test_a_record_that_does_not_fit_its_entry_is_not_written():
    with pytest.raises(ValueError, match="take"):
        PackCipher(FixedKeys(), head(1)).encrypt_into(
            chunk(number_id(1), 24), b"short", memoryview(bytearray(100))
        )


def test_an_id_of_another_length_is_not_written():
    with pytest.raises(ValueError, match="id"):
        encode_directory([chunk(b"short", 24)])


def test_a_directory_is_read_as_it_was_written():
    entries = [ENTRY, chunk(number_id(2), 500, blocks=16), chunk(number_id(3), 9, stored=99)]
    data = encode_directory(entries)
    assert decode_directory(data, 3) == entries
    for wrong, count in ((data, 2), (data, 4), (data[:-1], 3), (data + b"\0", 3), (b"", 1)):
        with pytest.raises(Damaged):
            decode_directory(wrong, count)


@pytest.mark.parametrize(("place", "value"), [(44, 2), (45, 5), (45, 255)])
def test_a_directory_with_unknown_values_is_damage(place, value):
    data = bytearray(encode_directory([chunk(number_id(1), 24)])) + bytes(100)
    data[place] = value
    with pytest.raises(Damaged):
        decode_directory(data, 1)


def test_a_directory_is_bounded():
    with pytest.raises(Damaged):
        decode_directory(b"", LARGEST_DIRECTORY + 1)
    for stored, count in (
        (0, 0),
        (15, 0),
        (16, 1),
        (16 + 79, 1),
        (2**32 - 1, LARGEST_DIRECTORY + 1),
    ):
        trailer = stored.to_bytes(4, "little") + count.to_bytes(4, "little") + b"SNDT"
        with pytest.raises(Damaged):
            parse_trailer(trailer)
    with pytest.raises(Damaged):
        parse_trailer(b"SNDT")


PLACES = (24, 24 + fmt.BLOCK + 16)


@pytest.mark.parametrize(
    "entries",
    [
        [chunk(number_id(1), 23)],
        [chunk(number_id(1), 24), chunk(number_id(2), PLACES[1] - 1)],
        [chunk(number_id(1), PLACES[1]), chunk(number_id(2), 24)],
        [chunk(number_id(1), 24), chunk(number_id(1), PLACES[1])],
        [chunk(number_id(1), 24, blocks=17)],
        [chunk(number_id(1), 24, blocks=0)],
        [chunk(number_id(1), 24, stored=16)],
        [chunk(number_id(1), 24, stored=0)],
        [chunk(number_id(1), 24, stored=fmt.BLOCK + 16)],
        [Entry(number_id(1), 24, 101 + 16, 101, False)],
        [Entry(number_id(1), 24, fmt.BLOCK + 15, fmt.BLOCK, False)],
        [Entry(number_id(1), 24, fmt.BLOCK + 16, fmt.BLOCK, False, (1,))],
    ],
)
def test_a_directory_that_no_writer_makes_is_damage(entries):
    record = closed(head(1), entries)
    with pytest.raises(Damaged, match="directory of pack"):
        check_entries(record.head, record.size, record.entries)


@pytest.mark.parametrize("length", [0, 4236])
def test_a_node_of_an_impossible_length_is_damage(length):
    record = closed(head(1, PackKind.META), [leaf(number_id(1), 24, length=length)])
    with pytest.raises(Damaged, match="impossible length"):
        check_entries(record.head, record.size, record.entries)


@pytest.mark.parametrize("missing", [1, 1000, 10**6])
def test_a_directory_reaches_no_further_than_its_pack(missing):
    record = closed(head(1), [chunk(number_id(1), 24)])
    check_entries(record.head, record.size, record.entries)
    with pytest.raises(Damaged):
        check_entries(record.head, record.size - missing, record.entries)


def test_a_directory_and_a_size_that_disagree_are_damage():
    cipher = PackCipher(FixedKeys(), HEAD)
    tail = tail_bytes(cipher, [leaf(os.urandom(32), 24)])
    for size in (0, len(tail), len(tail) + 24 + 315):
        with pytest.raises(Damaged):
            read_directory(cipher, HEAD, size, tail)
    with pytest.raises(ValueError, match="are not the directory"):
        read_directory(cipher, HEAD, 10**6, tail[1:])
