"""A directory as a store: what is synced before what, whose files these are, what may go wrong."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from sendense.errors import (
    AlreadyExists,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    Unavailable,
)
from sendense.storage.local import LocalStore, sweep_temporary
from sendense.storage.urls import open_store
from tests.support.memory_folder import memory_folder


@pytest.fixture
def tmp_path():
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def store(tmp_path):
    opened = LocalStore(tmp_path / "store")
    yield opened
    opened.close()


def name_of(fd):
    return Path(f"/proc/self/fd/{fd}").readlink().name


@pytest.fixture
def events(monkeypatch):
    seen: list[tuple[str, ...]] = []
    calls = {name: getattr(os, name) for name in ("fsync", "replace", "link", "mkdir", "unlink")}

    def plain(name):
        return ".tmp" if name.startswith(".tmp-") else name

    def sync(fd):
        calls["fsync"](fd)
        seen.append(("sync", plain(name_of(fd))))

    def of_two(verb):
        def call(source, target, **folders):
            calls[verb](source, target, **folders)
            seen.append((verb, plain(source), target))

        return call

    def of_one(verb):
        def call(path, *arguments, **folders):
            calls[verb](path, *arguments, **folders)
            seen.append((verb, plain(Path(path).name)))

        return call

    monkeypatch.setattr(os, "fsync", sync)
    for verb in ("replace", "link"):
        monkeypatch.setattr(os, verb, of_two(verb))
    for verb in ("mkdir", "unlink"):
        monkeypatch.setattr(os, verb, of_one(verb))
    return seen


# --- the order that a crash may not overtake


def test_the_first_object_makes_its_folders(tmp_path, store, events):
    store.put("packs/3f/a", b"x")
    assert events == [
        ("mkdir", "store"),
        ("sync", tmp_path.name),
        ("mkdir", "packs"),
        ("sync", "store"),
        ("mkdir", "3f"),
        ("sync", "packs"),
        ("sync", ".tmp"),
        ("replace", ".tmp", "a"),
        ("sync", "3f"),
    ]


def test_another_object_of_the_folder(store, events):
    store.put("packs/3f/a", b"x")
    events.clear()
    store.put("packs/3f/b", b"x")
    assert events == [("sync", ".tmp"), ("replace", ".tmp", "b"), ("sync", "3f")]


def test_a_folder_that_another_process_made_is_synced_too(tmp_path, store, events):
    (tmp_path / "store/packs").mkdir(parents=True)
    events.clear()
    store.put("packs/a", b"x")
    assert events == [
        ("sync", "store"),
        ("sync", ".tmp"),
        ("replace", ".tmp", "a"),
        ("sync", "packs"),
    ]


def test_an_object_that_may_not_be_there(store, events):
    store.put("a", b"x", create=True)
    assert events[-4:] == [
        ("sync", ".tmp"),
        ("link", ".tmp", "a"),
        ("unlink", ".tmp"),
        ("sync", "store"),
    ]


def test_removals_are_synced_once_for_each_folder(store, events):
    for name in ("a/1", "a/2", "b/1"):
        store.put(name, b"x")
    events.clear()
    store.delete(["a/1", "b/1", "a/2", "a/3"])
    assert events == [
        ("unlink", "1"),
        ("unlink", "2"),
        ("sync", "a"),
        ("unlink", "1"),
        ("sync", "b"),
    ]


# --- files


def test_only_this_user_may_look(tmp_path, store):
    store.put("packs/3f/a", b"x")
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in sorted(tmp_path.rglob("*"))
    }
    assert modes == {
        "store": 0o700,
        "store/packs": 0o700,
        "store/packs/3f": 0o700,
        "store/packs/3f/a": 0o600,
    }


def test_a_failure_leaves_no_file(tmp_path, store):
    store.put("a", b"old")
    with pytest.raises(AlreadyExists):
        store.put("a", b"new", create=True)
    (tmp_path / "store/folder").mkdir()
    with pytest.raises(NotFound):
        store.put("folder", b"x")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["a", "folder"]


def test_what_is_not_ours_is_not_listed(tmp_path, store):
    store.put("a", b"x")
    for stray in (".tmp-0123", ".nfs0001", "lost+found", "with space"):
        (tmp_path / "store" / stray).write_bytes(b"x")
    (tmp_path / "store/.snapshot").mkdir()
    (tmp_path / "store/.snapshot/b").write_bytes(b"x")
    os.mkfifo(tmp_path / "store/pipe")
    assert [item.name for item in store.list("")] == ["a"]


def test_a_folder_may_lie_elsewhere(tmp_path, store):
    (tmp_path / "large").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/packs").symlink_to(tmp_path / "large")
    store.put("packs/3f/a", b"x")
    assert (tmp_path / "large/3f/a").read_bytes() == b"x"
    assert [item.name for item in store.list("packs/")] == ["packs/3f/a"]


def test_a_folder_is_no_object(store):
    store.put("a/b", b"x")
    store.delete(["a"])
    assert store.get("a/b") == b"x"


def test_what_was_tidied_up_is_made_again(tmp_path, store):
    store.put("packs/3f/a", b"x")
    shutil.rmtree(tmp_path / "store/packs")
    store.put("packs/3f/b", b"x")
    assert [item.name for item in store.list("")] == ["packs/3f/b"]


def test_an_empty_store_that_is_not_there_yet(tmp_path, store):
    assert list(store.list("")) == []
    store.delete(["a"])
    with pytest.raises(NotFound):
        store.get("a")
    assert (store.free_bytes() or 0) > 0
    assert not (tmp_path / "store").exists()


# --- what may go wrong


def test_a_store_that_vanishes_is_not_empty(tmp_path, store):
    store.put("a", b"x")
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(Unavailable):
        list(store.list(""))
    with pytest.raises(Unavailable):
        store.put("b", b"x")
    with pytest.raises(Unavailable):
        store.get("a")


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(Rejected, match="not a directory"):
        list(LocalStore(tmp_path / "file").list(""))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, OutOfSpace),
        (errno.EDQUOT, OutOfSpace),
        (errno.EROFS, NotAllowed),
        (errno.EACCES, NotAllowed),
        (errno.EIO, Unavailable),
        (errno.ESTALE, Unavailable),
    ],
)
def test_what_the_system_refuses(store, monkeypatch, number, kind):
    store.put("a", b"x")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "writev", refuse)
    with pytest.raises(kind) as caught:
        store.put("b", b"x")
    assert caught.value.hint
    monkeypatch.undo()
    assert [item.name for item in store.list("")] == ["a"]


def test_a_sync_that_fails_is_no_success(store, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "no")

    store.put("a", b"x")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unavailable):
        store.put("b", b"x")


def test_short_writes_are_continued(store, monkeypatch):
    original = os.writev

    def short(fd, buffers):
        first = buffers[0][:1000] if buffers[0].nbytes > 1000 else buffers[0]
        return original(fd, [first])

    monkeypatch.setattr(os, "writev", short)
    content = os.urandom(10_500)
    store.put("a", [content[:3], content[3:10_000], content[10_000:]])
    assert store.get("a") == content


def test_a_link_that_nfs_made_twice_is_ours(store, monkeypatch):
    original = os.link

    def twice(source, target, **folders):
        original(source, target, **folders)
        raise FileExistsError(errno.EEXIST, "the answer of the first was lost")

    monkeypatch.setattr(os, "link", twice)
    store.put("a", b"x", create=True)
    assert store.get("a") == b"x"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links(store, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store.put("a", b"x", create=True)
    with pytest.raises(AlreadyExists):
        store.put("a", b"y", create=True)
    assert store.get("a") == b"x"


def test_a_stale_handle_is_opened_again(store, monkeypatch):
    store.put("a", b"0123")
    original, calls = os.preadv, []

    def stale_once(fd, buffers, offset):
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "replaced by another machine")
        return original(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", stale_once)
    target = bytearray(4)
    store.read_into("a", 0, memoryview(target))
    assert target == b"0123"


def test_few_files_stay_open(tmp_path, store):
    def still_open():
        targets = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return len([target for target in targets if target.startswith(f"{tmp_path}/store/p/")])

    for number in range(40):
        store.put(f"p/{number}", b"x")
    target = bytearray(1)

    def read_all():
        for number in range(40):
            store.read_into(f"p/{number}", 0, memoryview(target))

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert still_open() == 16
    store.close()
    assert still_open() == 0


def test_one_that_is_forgotten_holds_nothing_open(tmp_path):
    forgotten = open_store(str(tmp_path / "store"))
    forgotten.put("p/1", b"x")
    assert forgotten.get("p/1") == b"x"
    forgotten.read_into("p/1", 0, memoryview(bytearray(1)))
    place = f"{tmp_path}/store"

    def still_open():
        targets = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return [target for target in targets if target.startswith(place)]

    assert still_open()
    del forgotten
    gc.collect()
    assert still_open() == []


# --- what killed writers leave


def test_old_temporary_files_are_swept(tmp_path):
    store = open_store(str(tmp_path / "store"))
    store.put("packs/3f/a", b"x")
    left = tmp_path / "store/packs/3f/.tmp-0001"
    left.write_bytes(b"half")
    day = timedelta(days=1)
    assert sweep_temporary(store, day) == 0
    old = left.stat().st_mtime - 2 * day.total_seconds()
    os.utime(left, (old, old))
    os.utime(tmp_path / "store/packs/3f/a", (old, old))
    assert sweep_temporary(store, day) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a"]


def test_other_stores_need_no_sweeping(tmp_path):
    assert sweep_temporary(open_store("memory:swept"), timedelta(0)) == 0
    assert sweep_temporary(LocalStore(tmp_path / "none"), timedelta(0)) == 0
