"""A repository to be hurt: three points of two disks, and what each of them must hold.

``vda`` has a full and two incrementals of finer blocks; ``vdb`` is in the first and the
last point only, so that the deletion of the first merges into two different points.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from sendense import steps
from sendense.errors import Busy
from sendense.model.decision import Method
from sendense.repository.opening import create_repository, open_repository
from sendense.repository.protocol import Repository, VerifyLevel
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    data,
    disk,
    noise,
    restored,
    store,
    zeroes,
)

VDA, VDB = disk("vda"), disk("vdb")
SIZE = 24 * BLOCK + 512
FINE = 4096
FULL_A = Write(VDA, SIZE, (data(0, noise(16 * BLOCK)), data(24 * BLOCK, noise(512, 1))))
FULL_B = Write(VDB, SIZE, (data(0, noise(4 * BLOCK, 2)),))
SECOND_A = Write(
    VDA,
    SIZE,
    (data(FINE, noise(FINE, 3)), zeroes(BLOCK, 3 * FINE), data(20 * BLOCK, noise(FINE, 4))),
    Method.BITMAP,
    FINE,
)
THIRD_A = Write(VDA, SIZE + BLOCK, (data(2 * BLOCK, noise(FINE, 5)),), Method.BITMAP, FINE)
THIRD_B = Write(VDB, SIZE, (data(BLOCK, noise(BLOCK, 6)),), Method.BITMAP)
NEXT_A = Write(VDA, SIZE + BLOCK, (data(0, noise(BLOCK, 7)),), Method.BITMAP)

Contents = dict[tuple[str, str], bytes]


def build(folder: Path) -> Contents:
    """Make the repository; give the content of each disk of each point."""
    repository = create_repository(f"qcow2:{folder}")
    store(repository, "p1", FULL_A, FULL_B, attachments={"domain.xml": b"<domain/>"})
    store(repository, "p2", SECOND_A)
    store(repository, "p3", THIRD_A, THIRD_B)
    a1, b1 = over(FULL_A, b""), over(FULL_B, b"")
    a2 = over(SECOND_A, a1)
    return {
        ("p1", VDA.identity): a1,
        ("p1", VDB.identity): b1,
        ("p2", VDA.identity): a2,
        ("p3", VDA.identity): over(THIRD_A, a2),
        ("p3", VDB.identity): over(THIRD_B, b1),
    }


def over(write: Write, base: bytes) -> bytes:
    """Give a disk's content after a write over ``base``."""
    content = bytearray(base.ljust(write.size, b"\0"))
    for chunk in write.chunks:
        content[chunk.offset : chunk.end] = chunk.data or bytes(chunk.length)
    return bytes(content)


def in_child(action: Callable[[], None]) -> int:
    """Run in a process of its own; give the signal that ended it, 0 where it ended well."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run an action in a child that is killed at its ``number``-th step; tell whether it was."""

    def act() -> None:
        left = [number]

        def count(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        steps.listen(count)
        action()

    return in_child(act) == signal.SIGKILL


def copy_of(site: Path, folder: Path) -> Path:
    """Copy the repository, with holes and times."""
    shutil.copytree(site, folder)
    return folder


def check_points(repository: Repository, contents: Contents) -> list[str]:
    """Hold every listed point against its content; give their ids."""
    names = [point.id for point in repository.points()]
    for name in names:
        assert repository.verify(name, VerifyLevel.DATA).findings == ()
    for (name, identity), content in contents.items():
        if name in names:
            assert restored(repository, name, identity) == content
    return names


def check_next_backup(folder: Path, contents: Contents) -> list[str]:
    """Make one more point; it must be right, and nothing half-done may be left."""
    repository = open_repository(str(folder))
    store(repository, "p9", NEXT_A)
    assert restored(repository, "p9") == over(NEXT_A, contents["p3", VDA.identity])
    names = check_points(repository, contents)
    hidden = {path.name for path in (folder / "machines" / MACHINE_UUID).iterdir()} - set(names)
    assert hidden == {".lock", ".readers", ".machine.json", ".catalog.json"}
    return names


def is_free(repository: Repository, point_id: str) -> bool:
    """Tell whether nobody holds the machine's locks."""
    try:
        with repository.open(point_id):
            return True
    except Busy:
        return False
