"""A process that is killed at any step leaves good points, and the next one goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time

import pytest

from sendense import steps
from sendense.errors import OutOfSpace
from sendense.repository.opening import open_repository
from tests.crash.repository_site import (
    NEXT_A,
    SIZE,
    VDA,
    build,
    check_next_backup,
    check_points,
    copy_of,
    in_child,
    is_free,
    killed_at,
    over,
)
from tests.support.memory_folder import memory_folder
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, noise, restored, store

pytestmark = pytest.mark.slow
POINTS = ["p1", "p2", "p3"]


@pytest.fixture(scope="module")
def site():
    with memory_folder() as folder:
        yield folder / "site", build(folder / "site")


def _delete(folder, names):
    return lambda: open_repository(str(folder)).delete(names)


def _back_up(folder):
    return lambda: store(open_repository(str(folder)), "p4", NEXT_A, attachments={"a.xml": b"a"})


def _steps_of(action):
    seen: list[str] = []
    steps.listen(seen.append)
    try:
        action()
    finally:
        steps.unlisten()
    return seen


def test_a_killed_backup(site, tmp_path):
    original, contents = site
    names = _steps_of(_back_up(copy_of(original, tmp_path / "counted")))
    assert "point:manifest-written" in names
    for number, name in enumerate(names, start=1):
        folder = copy_of(original, tmp_path / f"at-{number}")
        assert killed_at(number, _back_up(folder))
        listed = check_points(open_repository(str(folder)), contents)
        assert listed == ([*POINTS, "p4"] if name == "point:visible" else POINTS)
        check_next_backup(folder, {**contents, ("p4", VDA.identity): _next(contents)})


def _next(contents):
    return over(NEXT_A, contents["p3", VDA.identity])


@pytest.mark.parametrize(
    "names", [["p1"], ["p2"], ["p3"], ["p1", "p2"], ["p2", "p3"]], ids="-".join
)
def test_a_killed_deletion(site, tmp_path, names):
    original, contents = site
    count = len(_steps_of(_delete(copy_of(original, tmp_path / "counted"), names)))
    left = [name for name in POINTS if name not in names]
    for number in range(1, count + 1):
        folder = copy_of(original, tmp_path / f"at-{number}")
        assert killed_at(number, _delete(folder, names))
        repository = open_repository(str(folder))
        if number % 2:
            assert set(left) <= set(check_points(repository, contents))
        for name in set(names) & {point.id for point in repository.points()}:
            repository.delete([name])
        if "p3" in left:
            assert check_next_backup(folder, contents) == [*left, "p9"]
        else:
            store(repository, "p9", Write(VDA, SIZE, (data(0, noise(BLOCK)),)))
            assert check_points(repository, contents) == [*left, "p9"]


def test_a_deletion_that_is_killed_again_and_again(site, tmp_path):
    original, contents = site
    folder = copy_of(original, tmp_path / "again")
    assert killed_at(2, _delete(folder, ["p1"]))
    kills = 1
    while killed_at(kills, lambda: _write_anything(folder)):
        kills += 1
    assert kills > 5
    names = check_points(open_repository(str(folder)), contents)
    assert names[:2] == ["p2", "p3"]


def _write_anything(folder):
    """Begin a point, which finishes what was left, and give it up."""
    with open_repository(str(folder)).begin(_machine(folder), "px"):
        pass


def _machine(folder):
    return open_repository(str(folder)).point("p3").machine


def _slow_merge(folder, *, kill_qemu):
    """Kill a deletion in the middle of its commit, with or without the qemu-img that does it."""
    original = subprocess.Popen

    def start(command, **options):
        if command[1] != "commit":
            return original(command, **options)
        process = original([*command[:2], "-r", "384K", *command[2:]], **options)
        threading.Thread(target=fall, args=(process.pid,)).start()
        return process

    def fall(child):
        time.sleep(0.5)
        if kill_qemu:
            os.kill(child, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    subprocess.Popen = start  # type: ignore[assignment, misc]
    open_repository(str(folder)).delete(["p1"])


@pytest.mark.parametrize("kill_qemu", [True, False])
def test_a_deletion_that_is_killed_in_the_middle_of_its_commit(tmp_path, kill_qemu):
    folder = tmp_path / "site"
    contents = build(folder)
    repository = open_repository(str(folder))
    large = Write(VDA, SIZE, (data(0, noise(24 * BLOCK, 8)),))
    repository.delete(["p2", "p3"])
    change = Write(VDA, SIZE, (data(0, noise(20 * BLOCK, 9)),), large.method.BITMAP)
    store(repository, "p2", change)
    contents = {("p2", VDA.identity): over(change, contents["p1", VDA.identity])}
    assert in_child(lambda: _slow_merge(folder, kill_qemu=kill_qemu)) == signal.SIGKILL
    machine = folder / "machines" / MACHINE_UUID
    assert (machine / ".merge.json").exists()
    if not kill_qemu:
        assert not is_free(repository, "p2"), "qemu-img still writes, and holds the lock"
    end = time.monotonic() + 120
    while not is_free(repository, "p2"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert check_points(repository, contents) == ["p2"]
    assert not (machine / ".merge.json").exists()


# --- no room ---


def _with_file_limit(size, action):
    """Run in a child in which no file may grow beyond ``size``, as on a full disk."""

    def act():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OutOfSpace):
            action()

    assert in_child(act) == 0


@pytest.mark.parametrize("limit", [0, 2000, 3 * BLOCK])
def test_a_backup_without_room_leaves_nothing(site, tmp_path, limit):
    original, contents = site
    folder = copy_of(original, tmp_path / "full")
    write = Write(VDA, SIZE + BLOCK, (data(0, noise(10 * BLOCK)),), NEXT_A.method)
    _with_file_limit(limit, lambda: store(open_repository(str(folder)), "p4", write))
    assert check_points(open_repository(str(folder)), contents) == POINTS
    check_next_backup(folder, contents)


def test_a_merge_without_room_goes_on_later(tmp_path):
    folder = tmp_path / "site"
    contents = build(folder)
    repository = open_repository(str(folder))
    big = Write(VDA, SIZE + BLOCK, (data(8 * BLOCK, noise(16 * BLOCK, 8)),), NEXT_A.method)
    store(repository, "p4", big)
    contents["p4", VDA.identity] = over(big, contents["p3", VDA.identity])
    _with_file_limit(4 * BLOCK, lambda: repository.delete(["p3"]))
    assert [point.id for point in repository.points()] == ["p1", "p2", "p4"]
    assert check_points(repository, contents) == ["p1", "p2", "p4"]
    assert restored(repository, "p4") == contents["p4", VDA.identity]
