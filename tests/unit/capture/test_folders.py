"""The folders of a capture: who may use them, what they lie on, and how they are made."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.capture.folders import Account, examine_folders, file_system_of, prepare
from sendense.capture.session import HostSettings
from sendense.model.finding import Finding, Level

QEMU = Account(64055, 64055)


@pytest.fixture
def folder():
    """A folder that every user can reach, which pytest's own is not."""
    path = Path("/dev/shm") / f"sendense-folders-{os.getpid()}"
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(folder):
    return HostSettings(
        socket_dir=str(folder / "s"),
        scratch_dir=str(folder / "c"),
        state_dir=str(folder / "state"),
        scratch_reserve_bytes=0,
    )


def levels(settings: HostSettings, account: Account | None = QEMU) -> dict[str, Level]:
    """The worst level of each check."""
    order = [Level.OK, Level.WARNING, Level.PROBLEM]
    found: dict[str, Level] = {}
    for finding in examine_folders(settings, account):
        worst = max(finding.level, found.get(finding.check, Level.OK), key=order.index)
        found[finding.check] = worst
    return found


def of(check: str, settings: HostSettings, account: Account | None = QEMU) -> list[Finding]:
    return [item for item in examine_folders(settings, account) if item.check == check]


def test_missing_folders_are_problems_with_a_mend(settings):
    found = levels(settings)
    assert found == {"socket-dir": Level.PROBLEM, "scratch-dir": Level.PROBLEM}
    assert of("socket-dir", settings)[0].fix == "sendense doctor --repair"


def test_what_is_made_is_well(settings):
    made = list(prepare(settings, QEMU))
    assert len(made) == 3
    found = levels(settings)
    assert found["socket-dir"] is Level.OK
    assert found["scratch-dir"] is Level.OK
    facts = Path(settings.socket_dir).stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (64055, 64055, 0o770)
    assert Path(settings.state_dir).stat().st_mode & 0o777 == 0o700
    assert list(prepare(settings, QEMU)) == []


def test_a_folder_that_is_there_is_not_changed(settings):
    path = Path(settings.scratch_dir)
    path.mkdir()
    path.chmod(0o700)
    list(prepare(settings, QEMU))
    assert path.stat().st_mode & 0o777 == 0o700
    (finding,) = of("scratch-dir", settings)
    assert finding.level is Level.PROBLEM
    assert finding.fix == f"install -d -o 64055 -g 64055 -m 0770 {path}"


@pytest.mark.parametrize(
    ("mode", "owner", "level"),
    [
        (0o755, (0, 0), Level.PROBLEM),
        (0o777, (0, 0), Level.OK),
        (0o770, (0, 64055), Level.OK),
        (0o750, (0, 64055), Level.PROBLEM),
        (0o700, (64055, 0), Level.OK),
        # The first class that matches decides, as in the kernel.
        (0o077, (64055, 64055), Level.PROBLEM),
    ],
)
def test_who_may_create_sockets(settings, mode, owner, level):
    path = Path(settings.socket_dir)
    path.mkdir()
    os.chown(path, *owner)
    path.chmod(mode)
    assert levels(settings)["socket-dir"] is level


def test_scratch_needs_no_write_because_libvirt_makes_the_file(settings):
    path = Path(settings.scratch_dir)
    path.mkdir()
    path.chmod(0o711)
    assert levels(settings)["scratch-dir"] is Level.OK


def test_a_closed_folder_above_is_named(settings, folder):
    list(prepare(settings, QEMU))
    folder.chmod(0o700)
    finding = of("socket-dir", settings)[0]
    assert finding.level is Level.PROBLEM
    assert finding.fix == f"chmod o+x {folder}"


def test_root_may_everything(settings, folder):
    list(prepare(settings, Account(0, 0)))
    folder.chmod(0o700)
    assert levels(settings, Account(0, 0))["socket-dir"] is Level.OK


def test_an_unknown_user_is_a_warning(settings):
    list(prepare(settings, None))
    assert levels(settings, None)["socket-dir"] is Level.WARNING


def test_a_long_path_is_a_problem(settings, folder):
    long = replace(settings, socket_dir=str(folder / ("x" * 90)))
    list(prepare(long, QEMU))
    assert any("too long" in item.message for item in of("socket-dir", long))


def test_scratch_in_memory_is_a_warning_and_no_room_a_problem(settings):
    list(prepare(settings, QEMU))
    assert levels(settings)["scratch-storage"] is Level.WARNING  # /dev/shm
    full = replace(settings, scratch_reserve_bytes=1 << 60)
    assert levels(full)["scratch-room"] is Level.PROBLEM


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/pool/x", "nfs4"),
        ("/mnt/pool", "nfs4"),
        ("/mnt/pool2", "ext4"),
        ("/mnt/a b/x", "fuse.sshfs"),
        ("/tmp/x", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "22 21 0:1 / /mnt/pool rw shared:1 - nfs4 server:/x rw\n"
        "23 21 0:2 / /mnt/a\\040b rw - fuse.sshfs h: rw\n"
        "24 21 8:2 / /tmp rw - xfs /dev/sda2 rw\n"
        "25 24 0:3 / /tmp rw - tmpfs tmpfs rw\n"
    )
    assert file_system_of(Path(path), mounts) == kind
