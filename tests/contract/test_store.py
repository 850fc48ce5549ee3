"""What every store promises: local, in memory, S3, Azure, and behind every wrapper."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import AlreadyExists, Damaged, NotFound, Rejected
from tests.contract import stores

SERVED = ["rclone", "moto", pytest.param("azurite", marks=pytest.mark.slow)]
FOLDERS = {
    "local": stores.local,
    "without-links": stores.without_links,
    "behind-everything": stores.behind_everything,
}
INSIDE = {"memory": stores.memory, "retrying-over-faults": stores.retrying_over_faults}


@pytest.fixture(scope="module")
def servers():
    with ExitStack() as stack:
        yield stores.Servers(stack)


@pytest.fixture(params=[*FOLDERS, *INSIDE, *SERVED])
def store(request, servers):
    if request.param in FOLDERS:
        with FOLDERS[request.param]() as opened:
            yield opened
        return
    opened = INSIDE[request.param]() if request.param in INSIDE else servers.store(request.param)
    yield opened
    opened.close()


def read(store, name, offset, length):
    target = bytearray(length)
    store.read_into(name, offset, memoryview(target))
    return bytes(target)


def names(store, prefix=""):
    found = [item.name for item in store.list(prefix)]
    assert len(found) == len(set(found))
    return sorted(found)


# --- writing


@pytest.mark.parametrize("size", [0, 1, 4096, 3 << 20])
def test_what_was_written_is_read(store, size):
    content = os.urandom(size)
    store.put("packs/3f/object-1.x_Y", content)
    assert store.get("packs/3f/object-1.x_Y") == content
    assert store.info("packs/3f/object-1.x_Y").size == size


def test_an_object_from_many_buffers(store):
    content = bytearray(os.urandom(70_000))
    parts = [memoryview(content)[offset : offset + 7] for offset in range(0, len(content), 7)]
    store.put("a", [*parts, b"", bytearray(b"x"), memoryview(b"wide").cast("H")])
    assert store.get("a") == bytes(content) + b"xwide"


def test_the_buffers_are_not_kept(store):
    buffer = bytearray(b"first" * 1000)
    store.put("a", [memoryview(buffer)])
    buffer[:] = b"later" * 1000
    assert store.get("a") == b"first" * 1000


def test_an_object_is_replaced(store):
    store.put("a/b", b"one of some length")
    assert read(store, "a/b", 0, 3) == b"one"
    store.put("a/b", b"two")
    assert store.get("a/b") == b"two"
    assert read(store, "a/b", 0, 3) == b"two"
    assert store.info("a/b").size == 3


def test_an_object_is_made_once(store):
    store.put("a/b", b"mine", create=True)
    with pytest.raises(AlreadyExists):
        store.put("a/b", b"your", create=True)
    assert store.get("a/b") == b"mine"
    store.delete(["a/b"])
    store.put("a/b", b"your", create=True)
    assert store.get("a/b") == b"your"


def test_one_of_many_makes_it(store):
    if not store.traits.conditional_create:
        pytest.skip("says of itself that it cannot decide")

    def attempt(number):
        try:
            store.put("race", b"%d" % number, create=True)
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(24)) if number is not None]
    assert [store.get("race")] == [b"%d" % number for number in winners]


# --- reading


def test_ranges(store):
    content = os.urandom(200_000)
    store.put("a", content)
    for offset, length in [(0, 200_000), (0, 1), (199_999, 1), (12_345, 65_536), (7, 0)]:
        assert read(store, "a", offset, length) == content[offset : offset + length]


def test_only_the_target_is_written(store):
    store.put("a", b"0123456789")
    around = bytearray(b"." * 12)
    store.read_into("a", 2, memoryview(around)[4:8])
    assert around == b"....2345...."


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (50, 5)])
def test_an_object_that_ends_too_early_is_damaged(store, offset, length):
    store.put("a", b"0123456789")
    with pytest.raises(Damaged):
        read(store, "a", offset, length)


def test_what_is_not_there(store):
    store.put("folder/a", b"x")
    for name in ["b", "folder", "folder/b", "folder/a/b"]:
        with pytest.raises(NotFound):
            store.get(name)
        with pytest.raises(NotFound):
            store.info(name)
        with pytest.raises(NotFound):
            read(store, name, 0, 1)


def test_when_it_was_written(store):
    store.put("a", b"x")
    modified = store.info("a").modified
    assert modified.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - modified) < timedelta(minutes=1)
    (listed,) = store.list("")
    assert abs(listed.modified - modified) < timedelta(seconds=2)


# --- listing


def test_a_listing(store):
    for name in ["index/a", "index/b/c", "index-2/d", "top", "packs/ff/e"]:
        store.put(name, name.encode())
    assert names(store) == ["index-2/d", "index/a", "index/b/c", "packs/ff/e", "top"]
    assert names(store, "index/") == ["index/a", "index/b/c"]
    assert names(store, "packs/ff/") == ["packs/ff/e"]
    assert names(store, "nothing/") == []
    assert names(store, "top/") == []
    assert {item.name: item.size for item in store.list("packs/")} == {"packs/ff/e": 10}


def test_more_than_one_page(store):
    count = 1100
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"many/{number:05}", b"x"), range(count)))
    assert names(store, "many/") == [f"many/{number:05}" for number in range(count)]
    store.delete([f"many/{number:05}" for number in range(1, count + 5)])
    assert names(store) == ["many/00000"]


# --- removing


def test_removing(store):
    for name in ["a/1", "a/2", "b/1"]:
        store.put(name, b"x")
        read(store, name, 0, 1)
    store.delete(["a/1", "b/1", "a/never", "never/was", "a/1"])
    assert names(store) == ["a/2"]
    with pytest.raises(NotFound):
        read(store, "a/1", 0, 1)
    store.delete([])


# --- names


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".hidden", "a/.tmp-1", "ä", "a b"]
)
def test_a_name_that_no_object_has(store, name):
    for call in (store.get, store.info, lambda name: store.put(name, b"x")):
        with pytest.raises(Rejected):
            call(name)
    with pytest.raises(Rejected):
        store.delete(["fine", name])
    with pytest.raises(Rejected):
        read(store, name, 0, 1)


@pytest.mark.parametrize("prefix", ["a", "/", "../", "a//", "a/b", ".tmp-1/"])
def test_a_prefix_that_is_no_folder(store, prefix):
    with pytest.raises(Rejected):
        list(store.list(prefix))


# --- all at once


def test_many_threads(store):
    def work(number):
        name, content = f"t/{number % 5}/{number}", bytes([number]) * (1000 + number)
        store.put(name, [content[:500], content[500:]])
        assert read(store, name, 10, 700) == content[:700]
        assert store.get(name) == content
        store.delete([name])
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(64))) == list(range(64))
    assert names(store) == []


def test_it_says_what_it_is(store):
    assert store.traits.parallel >= 1
    assert store.traits.object_lock is (store.locks is not None)
    assert "secret" not in store.location
    free = store.free_bytes()
    assert free is None or free > 0
