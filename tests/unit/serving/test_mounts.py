"""Folders of mounts: who lives keeps them, and what the dead left goes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.serving.mounts import (
    RECORD,
    Mount,
    MountedDisk,
    MountFolder,
    default_root,
    find_mount,
    list_mounts,
    remove_if_dead,
)
from sendense.serving.processes import Process


def _mount(folder, point="p1", *, since="2026-01-31T12:00:00.000000Z"):
    address = str(folder.socket)
    return Mount(
        folder=str(folder.path),
        point=point,
        machine="web1",
        machine_uuid="u",
        repository="/srv/backup",
        disks=(MountedDisk("vda", 5, f"nbd+unix:///vda?socket={address}"),),
        address=address,
        writable=False,
        detached=True,
        since=since,
        process=Process(1, 2, "boot"),
    )


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mounts"


def _mounted(root, point="p1", **more):
    folder = MountFolder(root, point)
    folder.write(_mount(folder, point, **more))
    return folder


def test_a_mount_is_listed_while_its_lock_is_held(root):
    folder = _mounted(root)
    assert list_mounts(root) == (_mount(folder),)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert root.stat().st_mode & 0o777 == 0o700
    folder.leave()
    assert list_mounts(root) == ()
    assert list(root.iterdir()) == []


def test_a_child_keeps_the_folder(root):
    folder = _mounted(root)
    with subprocess.Popen(["sleep", "60"], pass_fds=[folder.lock]) as child:
        folder.leave()
        assert len(list_mounts(root)) == 1
        child.kill()
        child.wait()
    assert list_mounts(root) == ()


def test_one_that_is_about_to_begin_is_not_listed_and_stays(root):
    folder = MountFolder(root, "p1")
    young = root / ".new-p2"
    young.mkdir()
    assert list_mounts(root) == ()
    assert folder.path.is_dir()
    assert young.is_dir()
    os.utime(young, (0, 0))
    list_mounts(root)
    assert not young.exists()
    folder.remove()
    assert not folder.path.exists()


def test_the_end_removes_all(root):
    folder = _mounted(root)
    (folder.path / "nbd").touch()
    folder.remove()
    assert list(root.iterdir()) == []
    assert remove_if_dead(folder.path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"disks": 5}'])
def test_a_record_that_cannot_be_read_hides_no_other(root, text, caplog):
    first, second = _mounted(root), _mounted(root, "p2")
    (first.path / RECORD).write_text(text)
    assert [item.point for item in list_mounts(root)] == ["p2"]
    assert "cannot be read" in caplog.text
    first.remove()
    second.remove()


def test_a_mount_is_found_by_point_or_place(root, monkeypatch):
    first = _mounted(root, "aa11")
    second = _mounted(root, "aa22", since="2026-01-31T12:00:01.000000Z")
    third = _mounted(root, "aa22", since="2026-01-31T12:00:02.000000Z")
    address = f"nbd+unix:///vda?socket={first.socket}"
    for reference in ("aa11", "aa1", str(first.socket), str(first.path), first.path.name, address):
        assert find_mount(root, reference).folder == str(first.path)
    monkeypatch.chdir(first.path)
    assert find_mount(root, "./nbd").folder == str(first.path)
    assert find_mount(root, str(third.socket)).folder == str(third.path)
    for reference in ("aa22", "aa"):
        with pytest.raises(Rejected, match="means"):
            find_mount(root, reference)
    for reference in ("bb", "", "/run/x"):
        with pytest.raises(NotFound):
            find_mount(root, reference)
    for folder in (first, second, third):
        folder.remove()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path):
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(NotAllowed, match="others"):
        MountFolder(root, "p1")
    with pytest.raises(NotAllowed, match="others"):
        list_mounts(root)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotAllowed):
        MountFolder(tmp_path / "file" / "mounts", "p1")


def test_a_path_that_is_too_long_for_a_socket(tmp_path):
    with pytest.raises(Rejected, match="too long"):
        MountFolder(tmp_path / ("x" * 80), "p1")


def test_where_mounts_are(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == Path("/run/sendense/mounts")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_root() == Path("/run/user/1000/sendense/mounts")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(Rejected):
        default_root()
